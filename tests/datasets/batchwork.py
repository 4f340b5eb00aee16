"""Runs whose batches go all the way without an engine: the control duties, and results made straight as rows."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from django.db.models import Count, Q

from apps.batches.finalize import finalize_next, notice_ended
from apps.batches.models import Batch, Request, Result, Shard
from apps.batches.validate import validate_next
from apps.core.leases import Keeper
from apps.datasets.models import Run, Version
from apps.datasets.runs import collecting, sending
from apps.datasets.runs import services as runs
from apps.models.models import Model

Say = Callable[[Request], dict[str, Any]]
"""What becomes of a request, as values of its `Result`."""


def start(version: Version, *models: Model, **more: Any) -> Run:
    values: dict[str, Any] = {"parameters": {}, "project": version.dataset.project, "dataset": version.dataset} | more
    return runs.start_run(version=version, models=models, **values)


def send(keeper: Keeper) -> None:
    """Everything that is due becomes batches, and they are validated."""
    for duty, crew in ((sending.send_columns, sending.column_crew), (sending.send_judges, sending.judge_crew)):
        while duty(keeper):
            assert crew.wait(30)
    while validate_next(keeper):
        pass


def completion(*texts: str, **more: Any) -> dict[str, Any]:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for index, text in enumerate(texts)
    ]
    values = {"failed": False, "status_code": 200, "body": json.dumps({"choices": choices})}
    return values | {"input_tokens": 5, "output_tokens": 3, "latency_ms": 40, "attempts": 1} | more


def refusal(message: str = "Too long.") -> dict[str, Any]:
    body = json.dumps({"error": {"message": message, "type": "BadRequestError", "code": 400}})
    return {"failed": True, "status_code": 400, "body": body, "attempts": 1}


def prompt_of(request: Request) -> str:
    return str(json.loads(request.body)["messages"][-1]["content"])


def echo(request: Request) -> dict[str, Any]:
    """The model and the prompt, in as many choices as were asked for."""
    body = json.loads(request.body)
    return completion(*[f"{body['model']}: {prompt_of(request)}"] * body.get("n", 1))


def answer(requests: Iterable[Request], say: Say = echo) -> None:
    """Give these requests their results, and count them."""
    rows = [
        Result(batch_id=request.batch_id, line=request.line, custom_id=request.custom_id, **say(request))
        for request in requests
    ]
    Result.objects.bulk_create(rows)
    for shard in Shard.objects.filter(batch__in={row.batch_id for row in rows}):
        lines = Q(line__gte=shard.first_line, line__lte=shard.last_line)
        counts = Result.objects.filter(lines, batch=shard.batch_id).aggregate(
            completed=Count("pk", filter=Q(failed=False)), failed=Count("pk", filter=Q(failed=True))
        )
        Shard.objects.filter(pk=shard.pk).update(**counts, output_tokens=3 * counts["completed"])


def waiting() -> list[Request]:
    answered = Result.objects.values_list("batch_id", "line")
    known = set(answered)
    open_ = Request.objects.filter(batch__status=Batch.Status.IN_PROGRESS).order_by("batch_id", "line")
    return [request for request in open_ if (request.batch_id, request.line) not in known]


def end(keeper: Keeper) -> None:
    """Finalize the batches whose lines have all ended, or that were cancelled."""
    while notice_ended(keeper) or finalize_next(keeper):
        pass


def collect(keeper: Keeper) -> None:
    while collecting.collect_answers(keeper):
        pass


def finish(keeper: Keeper, say: Say = echo) -> None:
    """From what is due to the answers."""
    send(keeper)
    answer(waiting(), say)
    end(keeper)
    collect(keeper)


def table(run: Run) -> list[list[str]]:
    """A row for each example, a cell for each column: the text of the first sample, or the error after a dash."""
    columns = list(run.columns.order_by("position"))
    rows = {item.example_id: ["" for _ in columns] for item in run.items.order_by("number")}
    for at, column in enumerate(columns):
        for found in column.answers.filter(edit_of=None, sample=0):
            rows[found.example_id][at] = f"- {found.error}" if found.error else found.text
    return list(rows.values())
