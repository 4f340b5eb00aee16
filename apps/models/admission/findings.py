"""What admission found out about a model that does not speak against it, and that its users have to know."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from apps.models.admission.chat_template import CONVERSATIONS, PLAIN, try_template
from apps.models.admission.documents import read_json
from apps.models.admission.generation import sampling_defaults, sentences
from apps.models.admission.refusal import Refused
from apps.models.admission.vocabulary import tokens_beyond

NAMED = "additional_chat_templates"
# vLLM writes the prompts of these itself, or has a template for them, whatever lies in the folder.
OWN_PROMPTS = frozenset({
    "gpt_oss", "deepseek_v32", "deepseek_v4", "deepseek_v41", "kimi_audio", "blip-2", "clip", "colpali",
    "deepseek_ocr", "deepseek_ocr2", "deepseek_vl_v2", "minicpmv", "minicpmv4_6", "minicpmv4_7", "paligemma",
    "siglip", "siglip2", "unlimited-ocr", "unlimited_ocr",
})  # fmt: skip
FOLLOWS = {"system and turns": ("system", "turns"), "tool results": ("tools",)}
PHRASES = {
    "system": "a system message",
    "turns": "more than one turn",
    "system and turns": "a system message before more than one turn",
    "tool results": "results of tools",
}
SHOWN = 3  # tokens that the model does not know
NO_TEMPLATE = "It has no chat template"

Findings = dict[str, Any]
"""`sampling_defaults`: parameter -> value; `chat`: `offered`, `problem` (why not), `refused` (kind of conversation ->
what the template says). `tokens_beyond`: text -> id of those for which it has no embeddings.

Of an adapter: `unused_template`, whether it brings another chat template than its base's."""


def look(folder: Path) -> Findings:
    """Of a whole model that was admitted."""
    found = {"sampling_defaults": sampling_defaults(folder), "chat": _chat(folder)}
    return found | ({"tokens_beyond": beyond} if (beyond := tokens_beyond(folder)) else {})


def look_at_adapter(folder: Path, base: Path) -> Findings:
    """Of an adapter that was admitted, and the folder of its base model."""
    own = templates_in_force(folder).get("default")
    return {"unused_template": True} if own and own != templates_in_force(base).get("default") else {}


def notes_of_adapter(findings: Mapping[str, Any]) -> list[str]:
    """What it brings that nobody uses, besides what is to be said of its base model."""
    if not findings.get("unused_template"):
        return []
    return [
        "It brings a chat template of its own, which is not used: its base model's is. Where it was trained with its "
        "own, set chat_template on the base model, or send its prompts to /v1/completions."
    ]


def notes(findings: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Sentences about what the model does that nobody asked for, or does not. `settings` are its engine's."""
    told = [] if settings.get("ignore_generation_config") else sentences(findings.get("sampling_defaults") or {})
    if beyond := findings.get("tokens_beyond"):
        shown = ", ".join([*beyond][:SHOWN]) + (" and others" if len(beyond) > SHOWN else "")
        told.append(f"Its tokenizer knows tokens that the model does not ({shown}): a request with one is refused.")
    chat = findings.get("chat")
    if not chat or settings.get("chat_template"):
        return told
    if not chat["offered"]:
        return [
            *told,
            f"{chat['problem']}: it answers /v1/completions only, until the engine setting chat_template gives it one.",
        ]
    for kind, reason in _main(chat["refused"]).items():
        told.append(f"Its chat template does not take {PHRASES.get(kind, kind)}: {reason.rstrip('.')}.")
    return told


def _main(refused: Mapping[str, str]) -> dict[str, str]:
    """Without what follows from something else that is refused."""
    follow = {kind for kind, others in FOLLOWS.items() if any(other in refused for other in others)}
    return {kind: reason for kind, reason in refused.items() if kind not in follow}


def _chat(folder: Path) -> dict[str, Any]:
    templates = templates_in_force(folder)
    if "default" not in templates:
        own = _model_type(folder) in OWN_PROMPTS
        return {"offered": own, "problem": "" if own else NO_TEMPLATE, "refused": {}}
    refused = dict(try_template(templates["default"]).refused)
    if "tool_use" in templates:
        with_tools = try_template(templates["tool_use"]).refused
        refused = {kind: reason for kind, reason in refused.items() if CONVERSATIONS[kind][1] is None}
        refused |= {kind: reason for kind, reason in with_tools.items() if CONVERSATIONS[kind][1] is not None}
    said = refused.get(PLAIN, "")
    problem = f"Its chat template refuses every conversation ({said.rstrip('.')})" if said else ""
    return {"offered": not problem, "problem": problem, "refused": {} if problem else refused}


def templates_in_force(folder: Path) -> dict[str, str]:
    """By name; "default" is what every request without tools gets. A file of its own comes before what the tokenizer's
    configuration says, as in transformers."""
    found: dict[str, str] = {}
    for name in ("tokenizer_config.json", "processor_config.json", "chat_template.json"):
        found |= _named(folder / name)
    if (own := folder / "chat_template.jinja").is_file():
        found = {"default": own.read_text(errors="replace")}
        found |= {path.stem: path.read_text(errors="replace") for path in sorted((folder / NAMED).glob("*.jinja"))}
    return found


def _named(path: Path) -> dict[str, str]:
    try:
        document = read_json(path) if path.is_file() else {}
    except Refused:
        return {}
    found = document.get("chat_template") if isinstance(document, dict) else None
    if isinstance(found, str):
        return {"default": found}
    if isinstance(found, list):
        entries = [entry for entry in found if isinstance(entry, dict)]
        found = {str(entry.get("name")): entry.get("template") for entry in entries}
    return {name: text for name, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}


def _model_type(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_bytes()).get("model_type"))
    except (OSError, ValueError, AttributeError):
        return ""
