"""OpenAI's chat JSONL: https://platform.openai.com/docs/guides/supervised-fine-tuning."""

from typing import Any

from apps.datasets.exports.formats.format import Format, Row
from apps.datasets.exports.formats.jsonl import lines, reply


def _line(row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {"messages": [*row.messages, reply(row.answer)]}
    return line | {"tools": row.tools} if row.tools else line


FORMAT = Format(
    name="chat",
    title="OpenAI chat",
    what_for="Fine-tuning here, at OpenAI, and with nearly every trainer; keeps tools and images.",
    suffix=".jsonl",
    purpose="fine-tune",
    answers=True,
    pairs=False,
    write=lines(_line),
)
