"""Reads exports with Hugging Face's `datasets`, and looks at their rows with TRL's own checks; prints what it saw.

    python -m tests.datasets.consumers.read_export PATH…

A PATH is a .jsonl or .parquet file, or a folder with a dataset card. It runs in the trainer's interpreter.
"""

import json
import sys
from pathlib import Path
from typing import Any

import datasets

try:
    from trl import data_utils as trl
except ImportError:  # an interpreter with another version of `datasets`, and nothing else
    trl = None

SHOWN = 1000  # characters of a text


def load(path: Path) -> Any:
    if path.is_dir():
        return datasets.load_dataset(str(path))
    kind = {".jsonl": "json", ".parquet": "parquet"}[path.suffix]
    return datasets.load_dataset(kind, data_files=str(path))


def seen_by_trl(row: dict[str, Any]) -> dict[str, Any]:
    """A preference with an explicit prompt comes back from `maybe_extract_prompt` as it is; ShareGPT's is not TRL's."""
    if trl is None or isinstance(row.get("chosen"), dict):
        return {}
    return {
        "conversational": is_conversational(row),
        "as_chatml": trl.maybe_convert_to_chatml(dict(row)),
        "extracted": trl.maybe_extract_prompt(dict(row)),
    }


def is_conversational(row: dict[str, Any]) -> bool | None:
    return None if trl is None else bool(trl.is_conversational(row) or trl.is_conversational_from_value(row))


def shown(value: Any) -> Any:
    if isinstance(value, str):
        return value[:SHOWN]
    if isinstance(value, dict):
        return {key: shown(each) for key, each in value.items()}
    return [shown(each) for each in value] if isinstance(value, list) else value


def seen(path: Path) -> dict[str, Any]:
    return {
        part: {
            "rows": list(map(shown, rows)), "trl": shown(seen_by_trl(rows[0])),
            "conversational": sorted(set(map(is_conversational, rows))),
        }
        for part, rows in load(path).items()
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps([seen(Path(path)) for path in sys.argv[1:]]))
