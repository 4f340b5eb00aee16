"""Fine-tuning on a terminal, for the management commands: what is meant, bars, tables, and errors with what to do."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from django.core.files.base import File as Upload
from django.core.management.base import CommandError
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from apps.accounts.console import project_or_oldest
from apps.accounts.models import Project
from apps.batches.models import File
from apps.batches.services import create_file
from apps.core.console import show, terminal
from apps.datasets.exports import console as exports
from apps.datasets.exports.services import start_export
from apps.datasets.models import Dataset, Export
from apps.datasets.runs.services import asks_chat
from apps.events.console import follow, one_bar
from apps.events.progress import Snapshot
from apps.models.models import Model
from apps.training import services
from apps.training.deployments import services as deployments
from apps.training.deployments.progress import COLUMNS
from apps.training.deployments.prompts import last_words
from apps.training.models import Checkpoint, Deployment, TrainingJob

DROP = ("created", "how", "project", "steps")  # columns of the jobs' table, on a narrow terminal
SHOWN = 3  # prompts of a comparison
SHOWN_CHARACTERS = 300

Write = Callable[[str], object]


def find_job(uid: str) -> TrainingJob:
    """Raises `CommandError`."""
    job = TrainingJob.objects.select_related("project", "base").filter(uid=uid).first()
    if job is None:
        raise CommandError(f"There is no job {uid!r}. `manage.py training_jobs` lists them.")
    return job


def find_checkpoint(job: TrainingJob, step: int | None) -> Checkpoint:
    """Of a step, or without one the job's result. Raises `CommandError`."""
    found = job.result if step is None else job.checkpoints.filter(step=step).first()
    if found is None:
        steps = ", ".join(str(each) for each in job.checkpoints.values_list("step", flat=True)[:20]) or "none yet"
        what = f"is {job.status}, and has no result" if step is None else f"has no checkpoint of step {step}"
        raise CommandError(f"{job.uid} {what}. Checkpoints for --step: {steps}.")
    return found


def find_judge(job: TrainingJob, name: str) -> Model:
    """A model that the job's project may use, and that answers chats. Raises `CommandError`."""
    models = asks_chat(Model.objects.usable_by(job.project))
    found = models.filter(name=name).first()
    if found is None:
        names = ", ".join(models.order_by("name").values_list("name", flat=True)[:20]) or "none"
        raise CommandError(f"There is no model {name!r} that could judge. Models: {names}.")
    return found


def find_deployment(name: str) -> Deployment:
    """By id, or of that name the one that is served or on its way, or else the latest. Raises `CommandError`."""
    named = Deployment.objects.filter(name=name)
    current = named.filter(status__in=(*Deployment.OPEN, Deployment.Status.READY))
    found = Deployment.objects.filter(uid=name).first() or current.first() or named.first()
    if found is None:
        names = ", ".join(Deployment.objects.values_list("name", flat=True)[:20]) or "none; make one with deploy_model"
        raise CommandError(f"There is no deployment {name!r}. Deployments: {names}.")
    return found


def training_file(source: str, *, project: str | None, method: str, run: str) -> File:
    """Of a path, a file's or an export's id, or a dataset's name, which is exported.

    `run` names the dataset's run whose answers are learned; empty: the latest. Raises `CommandError`, `DomainError`.
    """
    if found := File.objects.filter(uid=source).first():
        return found
    if export := Export.objects.select_related("file").filter(uid=source).first():
        return _file_of(export)
    if Path(source).is_file():
        return upload(Path(source), project_or_oldest(project))
    return _file_of(_exported(exports.find_dataset(source, project), method, run))


def upload(path: Path, project: Project) -> File:
    """Raises `CommandError`, DomainError."""
    try:
        with path.open("rb") as content:
            return create_file(
                project=project, filename=path.name, purpose=File.Purpose.FINE_TUNE, upload=Upload(content)
            )
    except OSError as error:
        raise CommandError(f"Cannot read {path}: {error.strerror}.") from error


def chosen(pairs: Iterable[str]) -> dict[str, Any]:
    """ "rank=8" and so on: a value is JSON where it can be, a text otherwise. Raises `CommandError`."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise CommandError(f"--set takes KEY=VALUE, not {pair!r}.")
        try:
            found[name.strip()] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            found[name.strip()] = text
    return found


def wait_for_job(job: TrainingJob) -> None:
    """Show what it is trained with and why, and a bar until it has ended.

    Raises `CommandError` unless it succeeded; Ctrl-C lets it go on.
    """
    follow(services.TOPIC, job.uid, MofNCompleteColumn(), TimeRemainingColumn(), show=_show_job)
    job.refresh_from_db()
    for sentence in _told(job):
        terminal(stderr=True).print(sentence, markup=False, highlight=False)
    if job.status != TrainingJob.Status.SUCCEEDED:
        raise CommandError(f"{job.uid} is {job.status}. {job.message}")


def write_list(file: File | None, job: TrainingJob, out: Write) -> None:
    """A list of rows, as it is. Raises `CommandError` where there is none."""
    if file is None:
        raise CommandError(f"{job.uid} has no such list: there are no such rows, or the list was deleted.")
    try:
        with file.content.open("rb") as lines:
            for line in lines:
                out(line.decode())
    except OSError as error:
        raise CommandError(f"Cannot read the list of {job.uid}: {error.strerror}.") from error


def wait_for_deployment(deployment: Deployment) -> None:
    """Show a bar until it has ended, then what was compared. Raises `CommandError` unless it is served."""
    follow(deployments.TOPIC, deployment.uid, MofNCompleteColumn())
    deployment.refresh_from_db()
    if deployment.parity.get("base"):
        show(parity_table(deployment), console=terminal(stderr=True))
        show(figures_table(deployment), console=terminal(stderr=True))
    if deployment.status == Deployment.Status.READY:
        return
    accept = f" Accept it: manage.py accept_deployment {deployment.uid}"
    more = accept if deployment.status == Deployment.Status.UNPROVEN else ""
    raise CommandError(f"{deployment.name} is {deployment.status}. {deployment.message}{more}")


def jobs_table(jobs: Iterable[TrainingJob]) -> Table:
    """A row for each job; its `project` is fetched with it."""
    table = Table(Column("job", no_wrap=True), "project", "base", "how", "state", "steps", "created", "")
    for job in jobs:
        how, steps = f"{job.method} {job.technique}", f"{job.step:,}/{job.steps:,}" if job.steps else ""
        table.add_row(
            job.uid, Text(job.project.name), Text(job.base_name), how, job.status, steps,
            f"{job.created_at:%Y-%m-%d %H:%M}", Text(job.message.partition("\n")[0]),
        )  # fmt: skip
    return table


def parity_table(deployment: Deployment) -> Table:
    """Its verdict, and the first prompts with what each model said; nothing of it is markup."""
    parity = deployment.parity
    models = [column for column in COLUMNS if parity.get(column)]
    title = Text(str(parity.get("sentence") or deployment.message).partition("\n")[0])
    table = Table("prompt", *models, title=title, title_justify="left", show_lines=True)
    for number, prompt in enumerate(parity["prompts"][:SHOWN]):
        answers = [_short(parity[column][number]) for column in models if number < len(parity[column])]
        table.add_row(_short(_question(prompt)), *answers)
    return table


def figures_table(deployment: Deployment) -> Table:
    """How base and tuned model did, of the questions that were not trained on and of those that were."""
    judge = deployment.judge_name and ["the judge, of 5"]
    table = Table("asked", "model", "as taught", "exact", "loss of the references", *judge, "without end")
    for part, title in (("unseen", "kept apart"), ("trained", "trained on")):
        for model in ("base", "tuned") if deployment.parity.get(part) else ():
            score, asked = deployment.parity[part][model], deployment.parity[part]["asked"]
            loss = "" if score["loss"] is None else f"{score['loss']:.3f}"
            right = f"{score['matched']} of {asked}"
            mean = judge and ["" if score.get("judged") is None else f"{score['judged']:.2f}"]
            table.add_row(f"{asked} {title}", model, right, str(score["exact"]), loss, *mean, str(score["unended"]))
    return table


def _show_job(bars: Progress, snapshot: Snapshot) -> None:
    one_bar(bars, snapshot)
    (task,) = bars.tasks
    if snapshot["plan"] and not task.fields.get("planned"):
        bars.console.print(Text(snapshot["plan"]))
        bars.update(task.id, planned=True)


def _told(job: TrainingJob) -> Iterator[str]:
    """What is wrong with its files, and where all of it is."""
    for error in job.errors or ():
        line = f", line {error['line']}" if error.get("line") else ""
        yield f"  {error['file']}{line}: {error['message']}"
    if job.bad_rows > len(job.errors or ()):
        yield f"  The first of {job.bad_rows:,}. All of them: manage.py training_jobs --bad-rows {job.uid}"
    if job.left_out:
        rows = f"{job.left_out:,} row{'s were' if job.left_out != 1 else ' was'} left out"
        yield f"  {rows}. Which, and why: manage.py training_jobs --left-out {job.uid}"


def _question(prompt: dict[str, Any]) -> str:
    return last_words(prompt)


def _short(text: str) -> Text:
    return Text(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")


def _exported(dataset: Dataset, method: str, run: str) -> Export:
    """Its starred answers, or its preferences. Raises `CommandError`, DomainError."""
    runs = dataset.runs.order_by("-pk")
    found = (runs.filter(uid=run).first() or runs.filter(name=run).first()) if run else runs.first()
    if run and found is None:
        names = ", ".join(dataset.runs.values_list("name", flat=True)[:20]) or "none; start one with run_dataset"
        raise CommandError(f"{dataset} has no run {run!r}. Runs: {names}.")
    export = start_export(dataset=dataset, run=found, format=services.EXPORT_FORMATS[method])
    exports.wait_for(export)
    return export


def _file_of(export: Export) -> File:
    if export.file is None:
        raise CommandError(f"{export.uid} is {export.status}, or its file was deleted: export again.")
    return export.file
