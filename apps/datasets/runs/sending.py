"""The duty that turns what is due into batches: a column's missing examples, a judge's answers.

The files are written and stored first, which takes seconds and holds no lock. Then one fenced transaction makes the
batches and takes the mark away. Killed before, nothing is left but files that nobody names, and the next one to send
removes those; killed after, all is done. So whatever is due is sent once, wholly.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models import Exists, OuterRef, QuerySet

from apps.accounts.models import ApiKey, Project
from apps.batches.models import Batch, File, Result
from apps.batches.services import create_batch, create_file, delete_file
from apps.core import bell, leases
from apps.core.crew import Crew
from apps.core.errors import DomainError, Stopped
from apps.datasets.models import Column, Judge, RunBatch
from apps.datasets.runs import answers, judging, requests
from apps.datasets.runs import services as runs
from apps.events import progress

WINDOW = "7d"  # a run of days on one GPU should not expire; what is sent with a nearer end goes first
FETCH = 50  # rows in memory at a time: a prompt may have megabytes
TOO_LONG = "The prompt is too long: a request may have {:,} bytes."

log = logging.getLogger(__name__)


@dataclass
class Sending:
    """What is due of one column or judge."""

    held: leases.Held
    keeper: leases.Keeper
    project: Project
    api_key: ApiKey | None
    prefix: str
    """Of the files' names: no other column or judge has it."""
    metadata: dict[str, str]
    sent: list[tuple[File, int, int]] = field(default_factory=list)
    """With the first and the last number in each."""
    too_long: list[int] = field(default_factory=list)
    lines: int = 0

    def store(self, lines: Iterable[requests.Line]) -> None:
        """Write the files. Raises `Stopped`."""
        self._forget_leftovers()
        for piece in requests.pieces(self._short_enough(lines)):
            name = f"{self.prefix}{len(self.sent) + 1}.jsonl"
            file = create_file(project=self.project, filename=name, purpose=File.Purpose.BATCH, upload=piece)
            self.sent.append((file, piece.first, piece.last))
            if self.keeper.lost(self.held):
                raise Stopped

    def create_batches(self, **owner: Any) -> None:
        """In the caller's transaction, which is fenced by this."""
        with connection.cursor() as cursor:
            leases.fence(cursor, self.held)
        latest = Result.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        for file, first, last in self.sent:
            batch = create_batch(
                project=self.project,
                input_file=file,
                endpoint=requests.URL,
                completion_window=WINDOW,
                metadata=self.metadata,
                created_by=self.api_key,
            )
            RunBatch.objects.create(batch=batch, first=first, last=last, seen=latest, **owner)

    def undo(self) -> None:
        """Our files only, since another may be sending by now; and none that a batch names: it was made after all."""
        with contextlib.suppress(Error):  # the next one to send removes what is left
            for file in _unused(File.objects.filter(pk__in=[file.pk for file, _, _ in self.sent])):
                delete_file(file=file)

    def _short_enough(self, lines: Iterable[requests.Line]) -> Iterator[requests.Line]:
        """A batch with one line that is too long would be refused as a whole."""
        for line in lines:
            self.lines += 1
            if len(line.content) > settings.BATCH_LINE_MAX_BYTES:
                self.too_long.append(line.number)
            else:
                yield line

    def _forget_leftovers(self) -> None:
        for file in _unused(File.objects.of(self.project).filter(filename__startswith=self.prefix)):
            delete_file(file=file)


def _unused(files: QuerySet[File]) -> QuerySet[File]:
    return files.filter(~Exists(Batch.objects.filter(input_file_id=OuterRef("uid"))))


def send_columns(keeper: leases.Keeper) -> bool:
    """Take on one column that is due. Whether there was one."""
    return column_crew.take_next(keeper, Column.objects.filter(due=True))


def send_judges(keeper: leases.Keeper) -> bool:
    """Take on one judge that is due. Whether there was one."""
    return judge_crew.take_next(keeper, Judge.objects.filter(due=True))


def _send_column(pk: int, held: leases.Held, keeper: leases.Keeper) -> None:
    column = Column.objects.select_related("run__project", "model", "api_key").filter(pk=pk, due=True).first()
    if column is None:
        return
    run = column.run
    metadata = {"run": run.uid, "column": column.label}
    sending = Sending(held, keeper, run.project, column.api_key, f"{run.uid}.{column.pk}.", metadata)

    def finish() -> None:
        if not Column.objects.filter(pk=pk, due=True).update(due=False):
            raise Stopped
        sending.create_batches(column=column)
        for number in sending.too_long:
            answers.fail_missing(column, number, number, TOO_LONG.format(settings.BATCH_LINE_MAX_BYTES))
        if not sending.sent:
            runs.tell_if_complete(run)

    if column.model is None:
        _refuse(column, "The model was deleted before it was asked.")
    else:
        _send(sending, _column_lines(column), finish, lambda why: _refuse(column, why))
    progress.hint(runs.TOPIC, run.uid)


def _send_judge(pk: int, held: leases.Held, keeper: leases.Keeper) -> None:
    judge = Judge.objects.select_related("run__project", "model", "api_key").filter(pk=pk, due=True).first()
    if judge is None:
        return
    metadata = {"run": judge.run.uid, "judge": judge.uid}
    sending = Sending(held, keeper, judge.project, judge.api_key, f"{judge.uid}.", metadata)

    def finish() -> None:
        if not Judge.objects.filter(pk=pk, due=True).update(due=False):
            raise Stopped
        sending.create_batches(judge=judge)
        judging.count(judge, sending.lines, _left_out(sending))

    _send(sending, judging.lines(judge), finish, lambda why: judging.refuse(judge, why))
    judging.hint(judge)


def _send(
    sending: Sending, lines: Iterable[requests.Line], finish: Callable[[], None], refuse: Callable[[str], None]
) -> None:
    """All of it, or nothing: raises what `Crew` expects of its work."""
    try:
        sending.store(lines)
        with transaction.atomic():
            finish()
            bell.ring("control")
    except DomainError as error:
        sending.undo()
        log.warning("%s cannot be sent: %s", sending.prefix, error.message)
        refuse(error.message)
    except BaseException:
        sending.undo()
        raise


def _left_out(sending: Sending) -> str:
    """Of a judge, which has no place for an error beside each answer."""
    if not sending.too_long:
        return ""
    return f"{len(sending.too_long):,} of {sending.lines:,} answers are too long to be judged with their prompts: " + (
        f"a request may have {settings.BATCH_LINE_MAX_BYTES:,} bytes."
    )


def _column_lines(column: Column) -> Iterator[requests.Line]:
    """A line for each example that the column has no answer to."""
    prompt = requests.Prompt(column.model_name, column.run.parameters, column.run.samples)
    rows = runs.unanswered(column).order_by("number").values_list("number", "example__messages", "example__request")
    for number, messages, beside in rows.iterator(chunk_size=FETCH):
        yield requests.line(number, prompt.body(messages, beside))


def _refuse(column: Column, why: str) -> None:
    """It can never be sent: every example that it lacks says why."""
    with transaction.atomic():
        if Column.objects.filter(pk=column.pk, due=True).update(due=False):
            answers.fail_missing(column, 0, 2**31 - 1, why)
            runs.tell_if_complete(column.run)


def _give_up_column(pk: int, why: str) -> None:
    if column := Column.objects.select_related("run").filter(pk=pk).first():
        _refuse(column, why)
        progress.hint(runs.TOPIC, column.run.uid)


def _give_up_judge(pk: int, why: str) -> None:
    if judge := Judge.objects.select_related("run").filter(pk=pk).first():
        judging.refuse(judge, why)
        judging.hint(judge)


column_crew = Crew("column", _send_column, _give_up_column)
judge_crew = Crew("judge", _send_judge, _give_up_judge)
