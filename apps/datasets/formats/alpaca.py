"""Alpaca's columns, with those for a system prompt and earlier turns that LLaMA-Factory added:
https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md. All of them are in every line, always of one type.
"""

from typing import Any

from apps.datasets.formats.format import Format, Row, Unfit
from apps.datasets.formats.jsonl import lines
from apps.datasets.formats.plain import turns


def _line(row: Row) -> dict[str, Any]:
    said = turns(row)
    system = said.pop(0)[1] if said and said[0][0] == "system" else ""
    if [role for role, _ in said] != ["user", "assistant"] * (len(said) // 2) + ["user"]:
        raise Unfit
    texts = [text for _, text in said]
    history = [list(pair) for pair in zip(texts[0:-1:2], texts[1:-1:2], strict=True)]
    return {"instruction": texts[-1], "input": "", "output": row.answer, "system": system, "history": history}


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
