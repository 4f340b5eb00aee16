"""OpenAI's preference pairs: https://platform.openai.com/docs/guides/direct-preference-optimization."""

from typing import Any

from apps.datasets.exports.formats.format import Format, Row
from apps.datasets.exports.formats.jsonl import lines, reply


def _line(row: Row) -> dict[str, Any]:
    asked: dict[str, Any] = {"messages": row.messages}
    if row.tools:
        asked["tools"] = row.tools
    return {
        "input": asked,
        "preferred_output": [reply(row.answer)],
        "non_preferred_output": [reply(row.rejected)],
    }


FORMAT = Format(
    name="dpo",
    title="OpenAI preference pairs",
    what_for="Direct preference optimization at OpenAI, and wherever its files are taken.",
    suffix=".jsonl",
    purpose="fine-tune",
    answers=False,
    pairs=True,
    write=lines(_line),
)
