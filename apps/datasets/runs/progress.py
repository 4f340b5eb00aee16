"""What can be seen of a run, and of a judge, while it goes on."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.db.models import OuterRef, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils.text import Truncator

from apps.accounts.models import Project
from apps.batches.models import Batch
from apps.core.waiting import with_reasons
from apps.datasets.models import Column, Judge, Judgement, Run, RunBatch
from apps.datasets.runs import judging
from apps.datasets.runs import services as runs
from apps.events.progress import Snapshot, Topic

MESSAGE_CHARACTERS = 500
QUEUED, GOING, PAUSED, COMPLETED = "queued", "in_progress", "paused", "completed"
FAILED, CANCELLED = "failed", "cancelled"
LABELS = {
    QUEUED: "Its requests are being written",
    "validating": "Its requests are being read",
    GOING: "Answers come in, or it waits for a GPU",
    PAUSED: "Paused; it goes on when its batches are resumed",
    "finalizing": "Every request has ended; the last answers are being taken over",
    "cancelling": "Being stopped; what is done is kept",
    COMPLETED: "Every request has ended",
    FAILED: "Nothing was answered",
    CANCELLED: "Stopped; what was done is kept",
}


class RunTopic:
    """The progress topic of runs, by their public id; see `apps.events.progress.Topic`."""

    def authorize(self, who: User | Project, uid: str) -> bool:
        found = Run.objects.of(who) if isinstance(who, Project) else Run.objects.visible_to(who)
        return found.filter(uid=uid).exists()

    def snapshot(self, uid: str) -> Snapshot | None:
        run = Run.objects.filter(uid=uid).first()
        return None if run is None else snapshots_of([run])[run.pk]


class JudgeTopic:
    """The progress topic of judges, by their public id."""

    def authorize(self, who: User | Project, uid: str) -> bool:
        found = Judge.objects.of(who) if isinstance(who, Project) else Judge.objects.visible_to(who)
        return found.filter(uid=uid).exists()

    def snapshot(self, uid: str) -> Snapshot | None:
        judge = Judge.objects.filter(uid=uid).first()
        return None if judge is None else judges_of([judge])[0]


def snapshots_of(found: Sequence[Run]) -> dict[int, Snapshot]:
    """Of each run, by its key. Five queries, however many there are, and one for judges that failed."""
    columns = list(Column.objects.filter(run__in=found).order_by("position"))
    judges = judges_of(Judge.objects.filter(run__in=found))
    batches = _batches("column", [column.pk for column in columns])
    by_run = {run.pk: run for run in found}
    told = with_reasons(
        [
            (_column_snapshot(by_run[column.run_id], column, mine), (f"column:{column.pk}", *_keys_of(mine)))
            for column in columns
            for mine in [batches.get(column.pk, [])]
        ]
    )
    return {
        run.pk: _snapshot(
            run,
            [each for column, each in zip(columns, told, strict=True) if column.run_id == run.pk],
            [batch for column in columns if column.run_id == run.pk for batch in batches.get(column.pk, [])],
            [judge for judge in judges if judge["run"] == run.pk],
        )
        for run in found
    }


def judges_of(found: Iterable[Judge]) -> list[Snapshot]:
    judges = list(found)
    batches = _batches("judge", [judge.pk for judge in judges])
    told = [_judge_snapshot(judge, batches.get(judge.pk, [])) for judge in judges]
    failed = [judge.pk for judge, each in zip(judges, told, strict=True) if each["final"] and each["failed"]]
    reasons = _unscored(failed) if failed else {}
    for judge, each in zip(judges, told, strict=True):
        each["message"] = judge.message or reasons.get(judge.pk, "")
    return with_reasons(
        [
            (each, (f"judge:{judge.pk}", *_keys_of(batches.get(judge.pk, []))))
            for judge, each in zip(judges, told, strict=True)
        ]
    )


def _unscored(judges: list[int]) -> dict[int, str]:
    """What came in place of the first score that each of these lacks."""
    lacking = Judgement.objects.filter(judge=OuterRef("pk"), score=None).order_by("answer_id").values("reason")[:1]
    rows = Judge.objects.filter(pk__in=judges).values_list("pk", Subquery(lacking))
    return {pk: Truncator(reason or "").chars(MESSAGE_CHARACTERS) for pk, reason in rows}


def _keys_of(batches: list[Any]) -> list[str]:
    """Under which their results are taken over."""
    return [f"answers:{batch.pk}" for batch in batches if not batch.settled]


def _batches(owner: str, keys: Sequence[int]) -> dict[int, list[Any]]:
    """The batches of each column or judge, with the sums of their tokens, oldest first."""
    rows = RunBatch.objects.filter(**{f"{owner}__in": keys}).select_related("batch").order_by("pk")
    sums = {
        "input_tokens": Coalesce(Sum("batch__shards__input_tokens"), 0),
        "output_tokens": Coalesce(Sum("batch__shards__output_tokens"), 0),
    }
    found: dict[int, list[Any]] = {}
    for row in rows.annotate(**sums):
        found.setdefault(getattr(row, f"{owner}_id"), []).append(row)
    return found


def _snapshot(run: Run, told: list[Snapshot], every: list[Any], judges: list[Snapshot]) -> Snapshot:
    """Of its columns' snapshots, all their batches, and its judges' snapshots."""
    asked = [column for column in told if column["model"]]
    over = all(column["final"] for column in told)
    status = _status_of_all([column["status"] for column in asked]) if asked else COMPLETED
    return {
        "id": run.uid,
        "object": "run.progress",
        "status": status,
        "status_label": LABELS[status],
        "paused": status == PAUSED,
        "final": over and all(judge["final"] for judge in judges),
        "total": run.items_total * len(asked),
        "completed": sum(column["answered"] for column in asked),
        "failed": sum(column["failed"] for column in asked),
        "items": run.items_total,
        "input_tokens": sum(column["input_tokens"] for column in told),
        "output_tokens": sum(column["output_tokens"] for column in told),
        "created_at": _unix(run.created_at),
        "in_progress_at": _unix(min(_moments(every, "in_progress_at"), default=None)),
        "ended_at": _unix(max(_moments(every, "finalizing_at", "cancelling_at", "failed_at"), default=None))
        if over
        else None,
        "columns": told,
        "judges": [{name: value for name, value in judge.items() if name != "run"} for judge in judges],
    }


def _column_snapshot(run: Run, column: Column, batches: list[Any]) -> Snapshot:
    imported = not column.model_name
    status = COMPLETED if imported else _status(column.due, batches, column.answered)
    return {
        "id": column.pk,
        "label": column.label,
        "model": column.model_name,
        "revision": column.revision,
        "status": status,
        "status_label": LABELS[status],
        "final": not column.due and all(batch.settled for batch in batches),
        "total": run.items_total,
        "answered": column.answered,
        "failed": column.failed,
        "incomplete": column.incomplete,
        "blank": column.blank,
        **_tokens(batches),
        "batches": [{"id": batch.batch.uid, "status": batch.batch.status} for batch in batches],
    }


def _judge_snapshot(judge: Judge, batches: list[Any]) -> Snapshot:
    over = not judge.due and all(batch.settled for batch in batches)
    status = _status(judge.due, batches, judge.scored)
    return {
        "id": judge.uid,
        "object": "judge.progress",
        "run": judge.run_id,
        "model": judge.model_name,
        "status": status,
        "status_label": LABELS[status],
        "paused": status == PAUSED,
        "final": over,
        "total": judge.total,
        "completed": judge.scored,
        "failed": judge.failed,
        **_tokens(batches),
        "in_progress_at": _unix(min(_moments(batches, "in_progress_at"), default=None)),
        "ended_at": _unix(max(_moments(batches, "finalizing_at", "cancelling_at", "failed_at"), default=None))
        if over
        else None,
        "batches": [{"id": batch.batch.uid, "status": batch.batch.status} for batch in batches],
    }


def _tokens(batches: list[Any]) -> dict[str, int]:
    return {name: sum(getattr(batch, name) for batch in batches) for name in ("input_tokens", "output_tokens")}


def _status(due: bool, batches: list[Any], answered: int) -> str:
    """Of one column or judge, from those of its batches that still matter."""
    going = [batch.batch for batch in batches if not batch.settled]
    if going:
        open_ = [batch for batch in going if batch.status in Batch.OPEN]
        if open_ and all(batch.paused_at for batch in open_):
            return PAUSED
        states = {batch.status for batch in open_}
        order = (GOING, "validating", "cancelling", "finalizing")
        return next((status for status in order if status in states), "finalizing")
    if due:
        return QUEUED
    if batches[-1].batch.status == Batch.Status.CANCELLED if batches else not answered:
        return CANCELLED
    return COMPLETED if answered else FAILED


def _status_of_all(statuses: Sequence[str]) -> str:
    """The one that says most about the whole."""
    order = (GOING, "validating", QUEUED, PAUSED, "cancelling", "finalizing", CANCELLED, COMPLETED)
    return next((status for status in order if status in statuses), FAILED)


def _moments(batches: Sequence[Any], *fields: str) -> list[datetime]:
    return [moment for batch in batches for field in fields if (moment := getattr(batch.batch, field))]


def _unix(moment: datetime | None) -> int | None:
    return int(moment.timestamp()) if moment else None


TOPICS: dict[str, Topic] = {runs.TOPIC: RunTopic(), judging.TOPIC: JudgeTopic()}
