"""Alpaca's columns, with the one for a system prompt that trainers agree on:
https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md.

Every column is text in every line: a list of earlier turns, which is empty in most, gets no type from `datasets` when
the first 10 MB have none, and then the file cannot be read. So earlier turns are part of the instruction.
"""

from typing import Any

from apps.datasets.exports.formats.format import Format, Row
from apps.datasets.exports.formats.jsonl import lines
from apps.datasets.exports.formats.plain import transcript, turns


def _line(row: Row) -> dict[str, Any]:
    said = turns(row)
    system = said.pop(0)[1] if said and said[0][0] == "system" else ""
    return {"instruction": transcript(said), "input": "", "output": row.answer, "system": system}


FORMAT = Format(
    name="alpaca",
    title="Alpaca",
    what_for="Instruction and output, as Unsloth, LLaMA-Factory and axolotl take it.",
    suffix=".jsonl",
    purpose="user_data",
    answers=True,
    pairs=False,
    write=lines(_line),
)
