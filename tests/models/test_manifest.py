"""Manifests: what was admitted is what is there."""

import json
from pathlib import Path

import pytest

from apps.models.installs import manifest

KEY = "k"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "sub" / "b.safetensors").write_bytes(bytes(5_000_000))
    (tmp_path / ".cache").write_text("not of the model")
    return tmp_path


def test_it_works(folder: Path) -> None:
    read: list[int] = []
    digest = manifest.write(folder, KEY, read.append)
    assert len(digest) == 40
    assert sum(read) == 5_000_002
    manifest.verify(folder, KEY)
    assert manifest.write(folder, "other key") == digest  # of what is there, whoever signs it


@pytest.mark.parametrize(
    ("name", "content"), [("a.json", "[]"), ("a.json", "{} "), ("new.json", "{}"), ("sub/c.json", "{}")]
)
def test_it_notices_a_change(folder: Path, name: str, content: str) -> None:
    manifest.write(folder, KEY)
    (folder / name).write_text(content)
    with pytest.raises(manifest.Changed, match=name):
        manifest.verify(folder, KEY)


def test_it_notices_what_is_gone(folder: Path) -> None:
    manifest.write(folder, KEY)
    (folder / "a.json").unlink()
    with pytest.raises(manifest.Changed, match=r"a\.json was added or removed"):
        manifest.verify(folder, KEY)


def test_it_rejects_a_manifest_of_somebody_else(folder: Path) -> None:
    manifest.write(folder, "theirs")
    with pytest.raises(manifest.Changed, match="not signed by this server"):
        manifest.verify(folder, KEY)


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"files": {}})])
def test_it_rejects_what_is_no_manifest(folder: Path, text: str) -> None:
    (folder / manifest.NAME).write_text(text)
    with pytest.raises(manifest.Changed, match="no readable"):
        manifest.verify(folder, KEY)
