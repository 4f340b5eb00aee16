"""The import job: a file's rows become examples of a new version, or answers of a new column.

Examples are copied in chunks, a transaction each, under the number of a version that is made in the last one. So it
shows how far it is, can be cancelled, and a server that is killed leaves nothing that anybody could see.
"""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from apps.batches.line_lists import saved
from apps.conversations.conversation import encode
from apps.conversations.errors import RowError
from apps.core import leases
from apps.core.errors import DomainError, Stopped
from apps.datasets import versions
from apps.datasets.imports import answers as answering
from apps.datasets.imports.accounting import FieldCounter
from apps.datasets.imports.flaws import Flaws, recorded
from apps.datasets.imports.pairing import is_thumb_down, pair
from apps.datasets.imports.readers import Flaw
from apps.datasets.imports.shapes import Draft, stored
from apps.datasets.imports.sources import Reading, Source, find_file, opened, sample
from apps.datasets.imports.staged import Staged
from apps.datasets.jobs import Work
from apps.datasets.models import Import
from apps.datasets.prompts import fingerprint
from apps.events.services import announce

TOPIC = "import"
LOOK_EVERY = 100  # rows between two looks at whether somebody cancelled
MANY_ROWS = 1_000  # that the planner should know of at once: autovacuum tells it within a minute
CHUNK_ROWS, CHUNK_BYTES = 2_000, 8 * 1024**2  # that are copied at once; a chunk is held in memory

COPY = (
    "COPY datasets_example (dataset_id, number, added_in, key, messages, prompt, reference, rejected, data,"
    " fingerprint, tags, reference_messages, rejected_messages, request, line) FROM STDIN"
)


class ImportKind(Staged[Import]):
    """Imports, one at a time for each dataset."""

    def duty(self, keeper: leases.Keeper) -> bool:
        going = Import.objects.filter(status__in=Import.GOING)
        before = going.filter(dataset=OuterRef("dataset"), pk__lt=OuterRef("pk"))
        return self.crew.take_next(keeper, going.exclude(Exists(before)))


def perform(work: Work[Import]) -> None:
    """Raises `Cancelled`, `Stopped`, and `DomainError` for a file that cannot be used."""
    if work.job.kind == Import.Kind.ANSWERS:
        answering.import_answers(work)
    else:
        _import_examples(work)


def discard(job: Import) -> None:
    """Delete what a try wrote that did not come to its end."""
    if job.kind == Import.Kind.EXAMPLES:
        versions.discard_coming(job.dataset_id)


KIND = ImportKind(TOPIC, Import, perform, discard)


def _import_examples(work: Work[Import]) -> None:
    job = work.job
    file = find_file(job.project, job.file_id)
    reading = Reading(sample(file), shape=job.shape, mapping=job.mapping)
    version, number = versions.next_numbers(job.dataset)
    fields, added, thumbs_down = reading.counter(), 0, 0
    with opened(file) as source, recorded(job, fields) as flaws:
        flaws.notes = source.notes
        for chunk in _chunks(_drafts(source, reading, fields, flaws, work)):
            if not flaws.fatal:
                _copy(work, chunk, version, number + added)
                added += len(chunk)
                thumbs_down += sum(is_thumb_down(made.conversation) for made in chunk)
            work.report(min(source.done, source.size), source.size)
        flaws.settle(added)
        _finish(work, version, added, flaws, file.bytes, paired=bool(thumbs_down))


def _drafts(
    source: Source, reading: Reading, fields: FieldCounter, flaws: Flaws, work: Work[Import]
) -> Iterator[Draft]:
    """The rows that can be used. Raises `DomainError` for too many rows."""
    for count, row in enumerate(source.rows(), start=1):
        if count > settings.DATASET_MAX_ROWS:
            message = f"The file holds more than {settings.DATASET_MAX_ROWS:,} rows: split it."
            raise DomainError(message, param="file")
        if count % LOOK_EVERY == 0:
            work.report(min(source.done, source.size), source.size)
        if isinstance(row, Flaw):
            flaws.add(row.line, row.message)
            continue
        try:
            made = reading.draft(row)
        except RowError as error:
            flaws.add(row.line, str(error))
            continue
        fields.add(row, made.conversation, made.unused)
        yield made


def _chunks(drafts: Iterator[Draft]) -> Iterator[list[Draft]]:
    chunk: list[Draft] = []
    size = 0
    for made in drafts:
        chunk.append(made)
        size += len(made.data)
        if len(chunk) == CHUNK_ROWS or size > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _copy(work: Work[Import], chunk: list[Draft], version: int, first: int) -> None:
    """The fence comes last, and is held for a moment only: our own heartbeat needs the same row."""
    with transaction.atomic(), connection.cursor() as cursor:
        with cursor.copy(COPY) as copy:
            for number, made in enumerate(chunk, start=first):
                copy.write_row(_columns(made, work.job.dataset_id, number, version))
        work.fence()


def _columns(made: Draft, dataset_id: int, number: int, version: int) -> tuple[Any, ...]:
    row = made.conversation
    return (
        dataset_id, number, version, row.key, encode(row.messages).decode(), row.question, made.reference,
        made.rejected, made.data, fingerprint(row.messages), list(row.tags), stored(row.chosen), stored(row.rejected),
        made.request(), made.line,
    )  # fmt: skip


def _finish(work: Work[Import], number: int, added: int, flaws: Flaws, size: int, *, paired: bool) -> None:
    job = work.job
    if added >= MANY_ROWS:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE datasets_example")  # till then plans expect one row, and join all with all
    with flaws.listed_file() as file, transaction.atomic():
        pairs = pair(job.dataset_id, number) if paired else 0
        made = versions.make(
            dataset=job.dataset, number=number, added=added - pairs, replace=job.replace,
            note=f"{job.filename} {'took the place of all' if job.replace else 'was added'}",
            created_by=job.created_by,
        )  # fmt: skip
        values = {"version": made, "rows": added, "done": size, "total": size, "errors_file": saved(file)}
        if not job.end(
            Import.Status.COMPLETED, flaws.sentence(added, _as_pairs(added, pairs)), **values, **flaws.facts()
        ):
            raise Stopped
        announce(type="dataset.imported", project=job.project, data={"id": job.uid})
        work.fence()


def _as_pairs(rows: int, pairs: int) -> str:
    if not pairs:
        return ""
    examples = f"{rows - pairs:,} example{'s' * (rows - pairs != 1)}"
    return f" as {examples} ({pairs:,} pair{'s' * (pairs != 1)} of a thumb up with a thumb down)"
