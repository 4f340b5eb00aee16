"""At which tokens a model's answers end: those that its files name, and the end of a turn in its chat template.

Many base models come with a chat template whose end of turn is no end for their tokenizer and generation_config.json.
A model that was tuned with such a template writes it, and an engine that does not know it goes on to the next turn:
the engine is given a generation_config.json that knows it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from apps.models.admission.chat_template import try_template
from apps.models.admission.documents import read_json
from apps.models.admission.findings import templates_in_force
from apps.models.admission.generation import INHERITED, NAME
from apps.models.admission.refusal import Refused
from apps.models.admission.vocabulary import TOKENIZER
from apps.models.engines.settings import EngineSettings

EOS = "eos_token_id"


class _Token(msgspec.Struct):
    id: int
    content: str


class _Tokenizer(msgspec.Struct):
    added_tokens: list[_Token] = []


def stops_of(folder: Path, chat_template: str | None = None) -> list[int]:
    """The ids, without the tokenizer's own eos_token: of generation_config.json, or else config.json, and the end of a
    turn. `chat_template` is the one that is set for the model."""
    end = end_of_turn(folder, chat_template)
    return _named(folder) + ([] if end is None else [end])


def end_of_turn(folder: Path, chat_template: str | None = None) -> int | None:
    """The token that the chat template writes after an answer; None where it writes none, or one that is known."""
    template = chat_template or templates_in_force(folder).get("default")
    end = try_template(template).end if template else ""
    if not end.strip():
        return None
    written = _tokens_at_begin(end.lstrip(), _added_tokens(folder))
    known = {*_named(folder), *_eos_of_tokenizer(folder)}
    return written[-1] if written and not known.intersection(written) else None


def _tokens_at_begin(text: str, added: Mapping[str, int]) -> list[int]:
    """The added tokens that the text begins with, one right after the other."""
    found = []
    while fitting := [token for token in added if text.startswith(token)]:
        longest = max(fitting, key=len)
        found.append(added[longest])
        text = text[len(longest) :]
    return found


def generation_config(folder: Path, chat_template: str | None = None) -> dict[str, Any] | None:
    """What generation_config.json has to say; None: what the folder's own says will do."""
    end = end_of_turn(folder, chat_template)
    if end is None:
        return None
    config, whole = _read(folder / NAME), _read(folder / "config.json")
    others = config if (folder / NAME).is_file() else {key: whole[key] for key in INHERITED if key in whole}
    return {**others, EOS: list(dict.fromkeys([*_eos_of_tokenizer(folder), *_named(folder), end]))}


def write_generation_config(folder: Path, settings: EngineSettings, target: Path) -> Path | None:
    """A folder in `target` with a generation_config.json for the engine; None where it needs none. Raises OSError."""
    config = generation_config(folder, settings.chat_template)
    if config is None:
        return None
    made = target / "generation"
    made.mkdir(exist_ok=True)
    kept = {EOS: config[EOS]} if settings.ignore_generation_config else config
    (made / NAME).write_text(json.dumps(kept))
    return made


def _named(folder: Path) -> list[int]:
    """By the file that vLLM reads."""
    path = folder / NAME if (folder / NAME).is_file() else folder / "config.json"
    found = _read(path).get(EOS)
    return [number for number in (found if isinstance(found, list) else [found]) if type(number) is int]


def _eos_of_tokenizer(folder: Path) -> list[int]:
    token = _read(folder / "tokenizer_config.json").get("eos_token")
    text = str(token.get("content") if isinstance(token, dict) else token)
    return [number for known, number in _added_tokens(folder).items() if known == text]


def _added_tokens(folder: Path) -> dict[str, int]:
    """Text -> id. A tokenizer has megabytes: all else is skipped."""
    try:
        found = msgspec.json.decode((folder / TOKENIZER).read_bytes(), type=_Tokenizer)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return {}
    return {token.content: token.id for token in found.added_tokens if token.content}


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = read_json(path) if path.is_file() else {}
    except Refused:
        return {}
    return found if isinstance(found, dict) else {}
