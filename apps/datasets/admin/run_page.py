"""What the page of one run shows, as plain values for its templates."""

from __future__ import annotations

from typing import Any

from django.urls import NoReverseMatch, reverse

from apps.batches.models import Batch
from apps.datasets.jobs import currents
from apps.datasets.models import Import, Run
from apps.datasets.runs.progress import snapshots_of
from apps.datasets.runs.services import asks_chat
from apps.events.rates import Rates
from apps.models.models import Model

IMPORTS = 5


def progress_of(runs: list[Run]) -> dict[int, dict[str, Any]]:
    """The first state of the bars of each run, which static/js/runs.js then moves on."""
    return {pk: _shown(snapshot) for pk, snapshot in snapshots_of(runs).items()}


def detail(run: Run) -> dict[str, Any]:
    progress = progress_of([run])[run.pk]
    taken = {column["model"] for column in progress["columns"]}
    usable = asks_chat(Model.objects.usable_by(run.project))
    imports = Import.objects.filter(run=run).select_related("errors_file")[:IMPORTS]
    return {
        "run": run,
        "progress": progress,
        "batches": _pages_of_batches(progress),
        "imports": currents(imports, "import"),
        "judge_models": usable,
        "new_models": [model for model in usable if model.name not in taken],
        "missing": progress["total"] - progress["completed"],
        "goes_on": any(not each["final"] for each in (*progress["columns"], *progress["judges"])),
        "answered": any(column["answered"] for column in progress["columns"]),
        "review": _if_there("admin:datasets_run_review", run),
        "results": _if_there("admin:datasets_run_results", run),
    }


def _shown(snapshot: dict[str, Any]) -> dict[str, Any]:
    for part in (*snapshot["columns"], *snapshot["judges"]):
        done = part["answered"] if "answered" in part else part["completed"]
        _add_shares(part, done)
    _add_shares(snapshot, snapshot["completed"])
    return {**snapshot, **Rates().of(snapshot)}


def _add_shares(part: dict[str, Any], completed: int) -> None:
    total = part["total"] or 1
    part["completed_share"] = f"{100 * completed / total:.2f}"
    part["failed_share"] = f"{100 * part['failed'] / total:.2f}"


def _pages_of_batches(progress: dict[str, Any]) -> dict[str, str]:
    """A batch's id -> its page."""
    parts = (*progress["columns"], *progress["judges"])
    uids = [batch["id"] for part in parts for batch in part["batches"]]
    pages = Batch.objects.filter(uid__in=uids).values_list("uid", "pk")
    return {uid: reverse("admin:batches_batch_change", args=[pk]) for uid, pk in pages}


def _if_there(name: str, run: Run) -> str:
    try:
        return reverse(name, args=[run.pk])
    except NoReverseMatch:
        return ""
