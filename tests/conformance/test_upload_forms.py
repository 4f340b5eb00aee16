"""Every form in which the stock clients take a file, and what other clients send for one without a name."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import openai
import pytest

from tests.conformance.lines import CHAT, chats, jsonl
from tests.conformance.site import Site

pytestmark = pytest.mark.live
CONTENT = jsonl(chats("one", "two"))
UNNAMED = "upload"


class Named(os.PathLike[str]):
    """A path that is no `Path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def temporary(_: Path) -> Any:
    """A file that has a number for a name."""
    file = TemporaryFile()  # noqa: SIM115 - the client reads it
    file.write(CONTENT)
    file.seek(0)
    return file


FORMS: dict[str, tuple[Callable[[Path], Any], str | None]] = {
    "path": (lambda path: path, "in put.jsonl"),
    "path-like": (Named, "in put.jsonl"),
    "bytes": (lambda _: CONTENT, UNNAMED),
    "file": (lambda path: path.open("rb"), "in put.jsonl"),
    "bytes in memory": (lambda _: io.BytesIO(CONTENT), UNNAMED),
    "temporary file": (temporary, None),
    "name and bytes": (lambda _: ("a.jsonl", CONTENT), "a.jsonl"),
    "name and file": (lambda path: ("b.jsonl", path.open("rb")), "b.jsonl"),
    "name and path": (lambda path: ("c", path), "c"),
    "with a type": (lambda _: ("d.jsonl", CONTENT, "application/jsonl"), "d.jsonl"),
    "with headers": (lambda _: ("e.jsonl", CONTENT, "text/plain", {"X-Part": "1"}), "e.jsonl"),
    "no name": (lambda _: (None, CONTENT), UNNAMED),
    "an empty name": (lambda _: ("", CONTENT), UNNAMED),
    "blob": (lambda _: ("blob", CONTENT), "blob"),
    "a path for a name": (lambda _: ("/tmp/x/in.jsonl", CONTENT), "in.jsonl"),
    "a folder for a name": (lambda _: ("..", CONTENT), UNNAMED),
    "quotes": (lambda _: ('say "hi".jsonl', CONTENT), 'say "hi".jsonl'),
    "unicode": (lambda _: ("质问 ä.jsonl", CONTENT), "质问 ä.jsonl"),
    "long": (lambda _: ("x" * 300 + ".jsonl", CONTENT), "x" * 249 + ".jsonl"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "in put.jsonl"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_it_works(client: openai.OpenAI, path: Path, form: str) -> None:
    make, name = FORMS[form]
    file = client.files.create(file=make(path), purpose="batch")
    assert name is None or file.filename == name
    content = client.files.content(file.id)
    assert content.read() == CONTENT
    assert content.response.headers["content-disposition"].startswith("attachment; filename")


@pytest.mark.parametrize("form", FORMS)
async def test_it_works_asynchronously(site: Site, path: Path, form: str) -> None:
    make, name = FORMS[form]
    async with site.async_client() as client:
        file = await client.files.create(file=make(path), purpose="batch")
        assert name is None or file.filename == name
        assert (await client.files.content(file.id)).read() == CONTENT


def test_a_batch_of_bytes_runs(site: Site, client: openai.OpenAI) -> None:
    file = client.files.create(file=CONTENT, purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    ended = site.wait(batch.id)
    assert ended.status == "completed"
    assert len(site.lines(ended.output_file_id)) == 2


@pytest.mark.parametrize("name", ["in.csv", "in.zip", "in.jsonl.gz", "in.xlsx"])
def test_it_rejects_a_name_of_another_kind(site: Site, name: str) -> None:
    before = site.belongings()
    with pytest.raises(openai.BadRequestError, match=r"end in \.jsonl") as caught:
        site.client().files.create(file=(name, CONTENT), purpose="batch")
    assert (caught.value.param, caught.value.code) == ("file", "invalid_file_format")
    assert site.has_only(before)
