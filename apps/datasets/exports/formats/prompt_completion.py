"""Prompt and completion as plain texts: https://huggingface.co/docs/trl/dataset_formats#prompt-completion."""

from typing import Any

from apps.datasets.exports.formats.format import Format, Row
from apps.datasets.exports.formats.jsonl import lines
from apps.datasets.exports.formats.plain import transcript, turns


def _line(row: Row) -> dict[str, Any]:
    return {"prompt": transcript(turns(row)), "completion": row.answer}


FORMAT = Format(
    name="prompt_completion",
    title="Prompt and completion",
    what_for="Base models and classic completions; a conversation becomes one text.",
    suffix=".jsonl",
    purpose="user_data",
    answers=True,
    pairs=False,
    write=lines(_line),
)
