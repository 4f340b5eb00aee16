"""The job that writes an export: rows to a file, the file to the storage, perhaps to the hub, and at last the rows
that say so. Killed before that, it leaves bytes that no row names, and is begun again.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg
from django.conf import settings
from django.db import transaction
from django.utils.text import slugify

from apps.batches import storage
from apps.batches.models import File
from apps.batches.storage import Stored
from apps.core.db import connect
from apps.core.errors import DomainError
from apps.core.ids import new_id
from apps.datasets.exports import manifest
from apps.datasets.exports.formats import FORMATS, Row, Setting
from apps.datasets.exports.left_out import UNFIT, LeftOut, owned
from apps.datasets.exports.manifest import Tally
from apps.datasets.exports.pushing import push
from apps.datasets.exports.selection import TIE, Selection, selection_of
from apps.datasets.jobs import Kind, Work
from apps.datasets.models import Export
from apps.events.services import announce

TOPIC = "export"
WORDS = {"cut_off": "cut off", "content_filter": "filtered"}
NAMED = 5  # reasons in a sentence
BESIDE = (".manifest.json", ".left-out.jsonl")
"""Of the names of the files that come with an export."""
NOTHING = (
    "There is nothing to export: no example that was asked for has such an answer. Star some, choose other answers, "
    "or take filters away."
)


def perform(work: Work[Export]) -> None:
    export, selection = work.job, selection_of(work.job)
    about = manifest.describe(export.dataset, selection, export.format)
    prefix = f"{export.project.uid}/{new_id(f'{export.uid}.')}"  # never the name that another worker writes
    stored: list[Stored] = []
    try:
        with scratch() as folder, (folder / "left_out").open("w+b") as listed:
            tally = Tally(LeftOut(listed))
            setting = Setting(
                scratch=folder,
                about=lambda: about | {"counts": tally.counts()},
                kind=selection.kind,
                leave_out=tally.leave_out,
            )
            stored.append(_write(work, selection, setting, tally, prefix))
            if not tally.rows:
                raise DomainError(_nothing(tally.left_out) + left_out_sentence(tally.incomplete))
            url = push(work, stored[0].name, folder) if export.repository else ""
            name = filename(export, selection.version.number)
            whole = manifest.complete(setting.about(), stored[0], name)
            stored.append(storage.write(f"{prefix}.manifest", [manifest.encoded(whole)]))
            if len(tally.left_out.reasons):
                stored.append(storage.write(f"{prefix}.left_out", tally.left_out.lines(export.dataset_id)))
        _seal(work, stored, whole, _sentence(tally, selection, url))
    except BaseException:
        for each in stored:
            storage.delete(each.name)
        raise


def _write(work: Work[Export], selection: Selection, setting: Setting, tally: Tally, prefix: str) -> Stored:
    """The file's bytes, in the storage; the rows are those of one moment."""
    chosen = FORMATS[work.job.format]
    with connect(autocommit=False) as source:
        source.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        total, uses = selection.look(source)
        tally.incomplete, why = selection.left_out(source), selection.reasons(source)
        setting = replace(setting, uses=uses, special=partial(selection.special_rows, source))
        rows = _told(work, selection.rows(source), tally, total, lambda: tally.left_out.add_missing(selection, why))
        return storage.write(f"{prefix}{chosen.suffix}", chosen.write(rows, setting))


def _told(
    work: Work[Export], rows: Iterable[Row], tally: Tally, total: int, finish: Callable[[], None]
) -> Iterator[Row]:
    """The rows, counted, with their progress told; in the end, what has none."""
    for done, row in enumerate(rows):
        work.report(done, total)
        tally.read(row)
        yield row
    finish()


def _seal(work: Work[Export], stored: list[Stored], whole: dict[str, Any], sentence: str) -> None:
    export, counts, name = work.job, whole["counts"], whole["file"]["name"]
    files = [
        _file(export, stored[0], name, FORMATS[export.format].purpose),
        *(
            _file(export, each, f"{name}{suffix}", File.Purpose.USER_DATA)
            for each, suffix in zip(stored[1:], BESIDE, strict=False)
        ),
    ]
    with transaction.atomic():
        work.fence()
        for file in files:
            file.save()
        ended = export.end(
            Export.Status.COMPLETED,
            sentence,
            rows=counts["rows"],
            done=counts["rows"] + counts["left_out"],
            total=counts["rows"] + counts["left_out"],
            manifest=whole,
            file=files[0],
            manifest_file=files[1],
            left_out_file=files[2] if len(files) > 2 else None,
        )
        if not ended:
            raise DomainError("The export was ended by somebody else meanwhile.")
        announce(type="export.completed", project=export.project, data={"id": export.uid})


def _file(export: Export, stored: Stored, name: str, purpose: str) -> File:
    return File(
        project=export.project, filename=name, purpose=purpose, bytes=stored.bytes, sha256=stored.sha256,
        content=stored.name,
    )  # fmt: skip


def filename(export: Export, version: int) -> str:
    """The same for the same export made again."""
    chosen, part = FORMATS[export.format], export.spec.get("part")
    words = [slugify(export.dataset.name)[:100] or "dataset", f"v{version}", chosen.name.replace("_", "-")]
    return "-".join(words + ([part] if part else [])) + chosen.suffix


def _nothing(left_out: LeftOut) -> str:
    return _unfit(left_out) if left_out.count else NOTHING


def _sentence(tally: Tally, selection: Selection, url: str) -> str:
    left_out, incomplete = tally.left_out, left_out_sentence(tally.incomplete).strip()
    have = left_out.examples - left_out.missing
    missing = f"{have:,} of {left_out.examples:,} examples have {owned(selection)}." if left_out.missing else ""
    unfit = _unfit(left_out) if left_out.count else ""
    return " ".join(filter(None, [url and f"It is at {url}.", missing, unfit, incomplete]))


def left_out_sentence(found: Mapping[str, int]) -> str:
    """Of `Selection.left_out`, with a space before it; "" for nothing."""
    ties = found.get(TIE, 0)
    incomplete = {WORDS.get(code, code): rows for code, rows in found.items() if code != TIE}
    told = ", ".join(f"{rows:,} {word}" for word, rows in incomplete.items())
    total = sum(incomplete.values())
    parts = [
        f" {total:,} chosen answers were left out since they are not whole ({told}): edit them, choose others, or "
        "export them with incomplete: include, which takes all but blank ones."
        if total
        else "",
        f" {ties:,} answers have as many thumbs up as down, and were left out." if ties else "",
    ]
    return "".join(parts)


def _unfit(left_out: LeftOut) -> str:
    """With the most frequent reasons, where formats gave any."""
    prefix = f"{UNFIT}: "
    named = [
        f"{each['message'].removeprefix(prefix)} in {each['rows']:,}"
        for each in left_out.reasons.listed()
        if each["message"].startswith(prefix)
    ]
    why = ", ".join(named[:NAMED]) or "images, calls of tools, or turns out of order"
    return (
        f"{left_out.count:,} of the rows were left out: this format has no place for what they hold ({why}). OpenAI"
        " chat has."
    )


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder on the disk that files are kept on, gone afterwards."""
    settings.FILE_UPLOAD_TEMP_DIR.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(dir=settings.FILE_UPLOAD_TEMP_DIR, prefix="export."))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


KIND = Kind(TOPIC, Export, perform)
