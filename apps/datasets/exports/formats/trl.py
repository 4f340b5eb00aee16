"""TRL's conversational preference pairs: https://huggingface.co/docs/trl/dataset_formats#preference."""

from typing import Any

from apps.datasets.exports.formats.format import Format, Row
from apps.datasets.exports.formats.jsonl import lines, reply


def _line(row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {
        "prompt": row.messages,
        "chosen": [reply(row.answer)],
        "rejected": [reply(row.rejected)],
    }
    return line | {"tools": row.tools} if row.tools else line


FORMAT = Format(
    name="trl",
    title="TRL preference pairs",
    what_for="DPO, ORPO, KTO and reward models with TRL and Unsloth.",
    suffix=".jsonl",
    purpose="user_data",
    answers=False,
    pairs=True,
    write=lines(_line),
)
