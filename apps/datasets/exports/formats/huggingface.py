"""A folder that `datasets.load_dataset` reads, as one .zip: Parquet per part of the split, a card, the manifest.

https://huggingface.co/docs/hub/datasets-manual-configuration says how the card names the files.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from apps.conversations.codecs import CannotHold
from apps.datasets.exports.formats.format import Format, Kind, Row, Setting
from apps.datasets.exports.formats.parquet import Table

PARTS = ("train", "validation", "test")
FILE_BYTES = 256 * 1024**2  # of one Parquet file, about
BLOCK = 1024**2
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$&:@])")


class _Part:
    """The Parquet files of one part of the split, as far as they are written."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.name, self.files = name, list[Path]()
        self._setting = setting
        self._table: Table | None = None
        self._file: BinaryIO | None = None

    def add(self, row: Row) -> None:
        """Raises `CannotHold`."""
        if self._table is None or self._file is None:
            self.files.append(self._setting.scratch / f"{self.name}-{len(self.files)}")
            self._table, self._file = Table(self._setting), self.files[-1].open("wb")
        self._table.add(row)
        self._file.write(self._table.taken())
        if self._file.tell() >= FILE_BYTES:
            self.close()

    def close(self) -> None:
        if self._table is None or self._file is None:
            return
        self._table.close()
        self._file.write(self._table.taken())
        self._file.close()
        self._table = self._file = None

    def named(self) -> Iterator[tuple[str, Path]]:
        for index, file in enumerate(self.files):
            yield f"data/{self.name}-{index:05d}-of-{len(self.files):05d}.parquet", file


def _write(rows: Iterable[Row], setting: Setting) -> Iterator[bytes]:
    parts = {name: _Part(name, setting) for name in PARTS}
    for row in rows:
        try:
            parts[row.part].add(row)
        except CannotHold as error:
            setting.leave_out(row, str(error))
        yield b""  # a chance to stop
    for part in parts.values():
        part.close()
    files = [entry for part in parts.values() for entry in part.named()]
    about = setting.about() | {"files": {name: _facts(path) for name, path in files}}
    draft = setting.scratch / "folder.zip"
    _pack(draft, card(about, [part.name for part in parts.values() if part.files]), about, files)
    yield from _blocks(draft)


def _pack(draft: Path, card: str, about: dict[str, Any], files: list[tuple[str, Path]]) -> None:
    with zipfile.ZipFile(draft, "w") as folder:
        folder.writestr(_entry("README.md"), card)
        folder.writestr(_entry("manifest.json"), json.dumps(about, indent=2, sort_keys=True))
        for name, path in files:
            entry = _entry(name)
            entry.file_size = path.stat().st_size
            with folder.open(entry, "w") as target:
                for block in _blocks(path):
                    target.write(block)
            path.unlink()


def _entry(name: str) -> zipfile.ZipInfo:
    """Nothing of it depends on when and where it is made."""
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    return entry


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def card(about: dict[str, Any], parts: list[str]) -> str:
    """The README: YAML for the hub, and a few sentences. Names that people gave are quoted: they are data."""
    name, counts = about["dataset"]["name"], about["counts"]
    files = "".join(f"  - split: {part}\n    path: data/{part}-*\n" for part in parts)
    shares = ", ".join(f"{count:,} {part}" for part, count in counts["parts"].items())
    models = "".join(f"* {plain(model['label'])} {plain(model['revision'])}\n" for model in about["models"])
    printable = "".join(filter(str.isprintable, name))
    return "\n".join(
        [
            f"---\npretty_name: {json.dumps(printable, ensure_ascii=False)}",
            f"configs:\n- config_name: default\n  data_files:\n{files}---\n",
            f"# {plain(name)}\n\n{plain(about['dataset']['description'])}\n",
            f"Version {about['version']}, {counts['rows']:,} rows ({shares}). Answers: {plain(about['answers'])}.\n",
            *([f"Models:\n\n{models}"] if models else []),
            "`manifest.json` says how the rows were chosen.\n",
        ]
    )


def plain(text: str) -> str:
    """A line of Markdown that shows just this text."""
    return MARKUP.sub(r"\\\1", " ".join(text.split()))


FORMAT = Format(
    name="huggingface",
    title="Hugging Face folder",
    what_for="For datasets.load_dataset and the hub: Parquet per split, a card, the manifest, as one .zip.",
    suffix=".zip",
    purpose="user_data",
    kinds=frozenset(Kind),
    write=_write,
)
