"""The files of `tests/cases` that are batches: what was passed over in silence is translated, or refused by name."""

import json
from pathlib import Path

from apps.batches.ingest import Limits, Line, Reader

CASES = Path(__file__).resolve().parent.parent / "cases"
LIMITS = Limits(requests=100, line_bytes=10_000, embedding_inputs=10, custom_id=1_024)


def read(name: str) -> list[Line]:
    with (CASES / name).open("rb") as file:
        reader = Reader(file, "/v1/chat/completions", LIMITS)
        lines = list(reader.lines())
    assert reader.errors == []
    return lines


def test_01_older_names_of_guided_decoding() -> None:
    *guided, typo = read("01-guided-json-ignored.jsonl")
    bodies = [json.loads(line.body) for line in guided]
    assert [list(body["structured_outputs"]) for body in bodies] == [["json"], ["choice"], ["regex"], ["grammar"]]
    assert not any(key.startswith("guided") for body in bodies for key in body)
    assert typo.refusal
    assert "responce_format" in str(typo.refusal)
    assert "response_format" in str(typo.refusal)


def test_02_extra_body() -> None:
    nested, flat = read("02-extra-body-in-line.jsonl")
    assert nested.refusal
    assert "put its keys into the body" in str(nested.refusal)
    assert flat.refusal is None


def test_07_long_ids() -> None:
    lines = read("07-long-custom-id.jsonl")
    assert len(lines) == 4
    assert not any(line.refusal for line in lines)
    assert max(len(line.custom_id) for line in lines) > 64


def test_08_separators() -> None:
    assert [line.custom_id for line in read("08-line-separators.jsonl")] == [
        "id\u2028LS",
        "id\u2029PS",
        "id\u0085NEL",
        "FS",
    ]
