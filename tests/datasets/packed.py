"""Rows in every container that imports read."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

Rows = Sequence[Mapping[str, Any]]


def lines(rows: Rows) -> bytes:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode()


def array(rows: Rows, indent: int | None = None) -> bytes:
    return json.dumps(list(rows), indent=indent, ensure_ascii=False).encode()


def wrapped(rows: Rows, name: str = "data") -> bytes:
    return json.dumps({"about": {"data": [1]}, name: list(rows), "count": len(rows)}).encode()


def viewer(rows: Rows) -> bytes:
    entries = [{"row_idx": at, "row": row, "truncated_cells": []} for at, row in enumerate(rows)]
    return json.dumps({"features": [{"feature_idx": 0, "name": "a"}], "rows": entries, "partial": False}).encode()


def splits(rows: Rows) -> bytes:
    half = len(rows) // 2
    return json.dumps({"train": list(rows[:half]), "test": list(rows[half:])}, indent=1).encode()


def pretty(rows: Rows) -> bytes:
    return b"\n".join(json.dumps(row, indent=2).encode() for row in rows)


TEXTS: dict[str, Callable[[Rows], bytes]] = {
    "rows.jsonl": lines, "rows.json": array, "indented.json": lambda rows: array(rows, 2), "wrapped.json": wrapped,
    "viewer.json": viewer, "splits.json": splits, "pretty.json": pretty,
}  # fmt: skip


def zst(raw: bytes) -> bytes:
    return bytes(pa.compress(raw, "zstd", asbytes=True))


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, raw in files.items():
            archive.writestr(name, raw)
    return sink.getvalue()


def _halves(raw: bytes) -> dict[str, bytes]:
    """JSONL as a folder of two shards, with what lies about in one."""
    rows = raw.splitlines(keepends=True)
    half = len(rows) // 2
    return {
        "README.md": b"# Rows",
        "dataset_infos.json": b"{}",
        "data/train-00000-of-00002.jsonl": b"".join(rows[:half]),
        "data/train-00001-of-00002.jsonl.gz": gzip.compress(b"".join(rows[half:])),
    }


PACKS: dict[str, Callable[[str, bytes], tuple[str, bytes]]] = {
    "plain": lambda name, raw: (name, raw),
    "mark": lambda name, raw: (name, b"\xef\xbb\xbf" + raw),
    "utf-16": lambda name, raw: (name, raw.decode().encode("utf-16")),
    "gzip": lambda name, raw: (f"{name}.gz", gzip.compress(raw)),
    "gzips": lambda name, raw: (
        f"{name}.gz",
        gzip.compress(raw[: len(raw) // 2]) + gzip.compress(raw[len(raw) // 2 :]),
    ),
    "zstd": lambda name, raw: (f"{name}.zst", zst(raw)),
    "zstds": lambda name, raw: (name, zst(raw[:99]) + zst(raw[99:])),
    "zip": lambda name, raw: ("rows.zip", zipped({f"folder/{name}": raw})),
    "stored": lambda name, raw: ("rows.zip", zipped({name: raw, "README.md": b"# x"}, zipfile.ZIP_STORED)),
}

EVERY = [(text, pack) for text in TEXTS for pack in PACKS]


def packed(rows: Rows, text: str, pack: str) -> tuple[str, bytes]:
    """Name and content."""
    return PACKS[pack](text, TEXTS[text](rows))


def folder(rows: Rows) -> bytes:
    return zipped(_halves(lines(rows)))
