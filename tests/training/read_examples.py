"""What the trainer makes of rows: cases in on the standard input, columns and learned texts out.

    python -m tests.training.read_examples MODEL

It runs in the trainer's interpreter. A case has "rows", "method" and "options"; it may have a "template", in "stops"
tokens at which the engine ends an answer, and in "then" more of the file.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from transformers import AutoTokenizer

from apps.training.child.examples import Counts, read
from apps.training.child.failures import Refused
from apps.training.child.rendering import Renderer
from apps.training.options import parse


def answer(case: dict[str, Any], tokenizer: Any, folder: Path) -> dict[str, Any]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in case["rows"]) + case.get("then", ""))
    counts, failed = Counts(), ""
    made: list[dict[str, Any]] = []
    try:
        stops = tokenizer.convert_tokens_to_ids(case.get("stops", []))
        renderer = Renderer(tokenizer, stops=stops, date=case.get("date", ""))
        rows = read(path, renderer, case["method"], parse(case["options"]), counts)
        made.extend(
            {"columns": columns, "texts": texts(columns, tokenizer), "pieces": pieces(columns, tokenizer)}
            for columns in rows
        )
    except Refused as error:
        failed = f"{error.failed.code}: {error}"
    except msgspec.DecodeError as error:
        failed = f"broken: {error}"
    told = {name: value for name, value in asdict(counts).items() if name != "until"}
    return {"made": made, "failed": failed, **told, "left_out": counts.left_out.first}


def texts(columns: dict[str, list[int]], tokenizer: Any) -> dict[str, str]:
    """What the numbers say; of labels, only what is learned."""
    return {
        name: tokenizer.decode([token for token in ids if token >= 0], clean_up_tokenization_spaces=False)
        for name, ids in columns.items()
        if isinstance(ids, list)
    }


def pieces(columns: dict[str, list[int]], tokenizer: Any) -> dict[str, list[str]]:
    """The same, token by token."""
    return {
        name: [tokenizer.decode([token]) for token in ids if token >= 0]
        for name, ids in columns.items()
        if isinstance(ids, list)
    }


def main(model: str) -> None:
    usual = AutoTokenizer.from_pretrained(model).chat_template
    tokenizer = AutoTokenizer.from_pretrained(model)
    with TemporaryDirectory() as name:
        for case in json.load(sys.stdin):
            tokenizer.chat_template = case.get("template", usual)
            print(json.dumps(answer(case, tokenizer, Path(name))))


if __name__ == "__main__":
    main(sys.argv[1])
