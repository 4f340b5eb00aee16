"""Whether the tokens that a model's files name have a place in the model.

vLLM 0.32 looks up whatever id the tokenizer gives, and forbids the tokens at which answers end by their ids until
`min_tokens` are written: an id that is too large ends the engine, whoever sends the request.
"""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from apps.models.admission.documents import read_json
from apps.models.admission.refusal import Refused

TOKENIZER = "tokenizer.json"
ENDS = "eos_token_id"
MAX_BEYOND = 1_000  # added tokens that are kept
PADDING = 64  # to a multiple of which vLLM fills embeddings up


def check_ends(path: Path, config: Mapping[str, Any]) -> None:
    """Raises `Refused` where a file, generation_config.json or config.json itself, names an end beyond `config`'s
    vocabulary."""
    size = _size(config)
    for end in _as_list(read_json(path).get(ENDS)):
        if size and type(end) is int and not 0 <= end < size:
            raise Refused(
                f"{ENDS}: it names the token {end}, and the model has {size} (vocab_size of config.json): correct the "
                "file in a copy, or look for another version of the model."
            )


def check_tokenizer(path: Path, config: Mapping[str, Any]) -> None:
    """Raises `Refused` where ordinary text becomes tokens that the model does not have."""
    size, tokenizer = _size(config), read_json(path)
    if not isinstance(tokenizer, dict) or not isinstance(tokenizer.get("model"), dict):
        return  # said already
    if size and (last := max(_vocabulary(tokenizer), default=0)) >= _padded(size):
        raise Refused(
            f"It makes tokens up to {last}, and the model has {size} (vocab_size of config.json): it is the tokenizer "
            "of another model."
        )


def tokens_beyond(folder: Path) -> dict[str, int]:
    """Added tokens, text -> id, for which the model has no embeddings. Of a folder that was admitted."""
    path = folder / TOKENIZER
    size = _size(read_json(folder / "config.json"))
    if not size or not path.is_file():
        return {}
    added = [entry for entry in _as_list(read_json(path).get("added_tokens")) if isinstance(entry, dict)]
    ids = {str(entry.get("content")): entry.get("id") for entry in added}
    beyond = {text: number for text, number in ids.items() if type(number) is int and number >= _padded(size)}
    return dict(itertools.islice(beyond.items(), MAX_BEYOND))


def _size(config: Mapping[str, Any]) -> int:
    text = config.get("text_config")
    size = (text if isinstance(text, dict) else config).get("vocab_size")
    return size if type(size) is int and size > 0 else 0


def _padded(size: int) -> int:
    return -(-size // PADDING) * PADDING


def _vocabulary(tokenizer: Mapping[str, Any]) -> Iterable[int]:
    """The ids of its words, added ones apart: written down, or their places in a list."""
    words = tokenizer["model"].get("vocab")
    found = words.values() if isinstance(words, dict) else range(len(words) if isinstance(words, list) else 0)
    added = {entry.get("id") for entry in _as_list(tokenizer.get("added_tokens")) if isinstance(entry, dict)}
    return (number for number in found if type(number) is int and number not in added)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
