"""ShareGPT's conversations: https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md."""

from typing import Any

from apps.datasets.exports.formats.format import Format, Row
from apps.datasets.exports.formats.jsonl import lines
from apps.datasets.exports.formats.plain import turns

NAMES = {"system": "system", "user": "human", "assistant": "gpt"}


def _line(row: Row) -> dict[str, Any]:
    said = [{"from": NAMES[role], "value": text} for role, text in turns(row)]
    return {"conversations": [*said, {"from": "gpt", "value": row.answer}]}


FORMAT = Format(
    name="sharegpt",
    title="ShareGPT",
    what_for="Conversations of human and gpt, for trainers that grew up with it.",
    suffix=".jsonl",
    purpose="user_data",
    answers=True,
    pairs=False,
    write=lines(_line),
)
