"""What can be done with runs; the API, the admin and the commands call these.

Nothing here writes a batch's file: that takes seconds for 100,000 examples. A service marks a column as `due`, in its
transaction, and a control worker (`sending`) does the rest. So a request is short, a mark that is set twice has one
effect, and whoever is killed leaves either the mark or the batches.
"""

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet
from django.db.models import Model as Row

from apps.accounts.models import ApiKey, Project
from apps.batches.models import Batch
from apps.batches.services import cancel_batch
from apps.core import bell
from apps.core.errors import Conflict, DomainError
from apps.datasets import items
from apps.datasets.models import (
    Answer,
    Assignment,
    Column,
    Dataset,
    Example,
    Item,
    Judgement,
    Member,
    Preference,
    Rating,
    Run,
    RunBatch,
    Split,
    Star,
    Thumb,
    Version,
)
from apps.datasets.runs import parameters as sampling
from apps.datasets.runs.requests import URL
from apps.datasets.runs.tools import asked_of, check_tools
from apps.events import progress
from apps.events.services import announce
from apps.models.models import Model

TOPIC = "run"
MAX_COLUMNS = 20
NAME_CHARACTERS = 100

_ITEMS = """
INSERT INTO datasets_item (run_id, example_id, number, answered, failed, differs, starred, rejected, edited, reviews)
SELECT %(run)s, e.id, e.number, 0, 0, false, false, false, false, 0 FROM datasets_example e
WHERE e.dataset_id = %(dataset)s AND e.added_in <= %(version)s
    AND (e.removed_in IS NULL OR e.removed_in > %(version)s)
    AND (%(split)s::bigint IS NULL OR EXISTS (
        SELECT FROM datasets_member m WHERE m.split_id = %(split)s AND m.example_id = e.id
            AND (%(part)s = '' OR m.part = %(part)s)
    ))
ORDER BY e.number
"""

# What hangs on a run; what points to a row comes before the row. Django itself would read every answer first.
_PARTS: tuple[tuple[type[Row], str], ...] = (
    (Judgement, "answer__column__run"),
    (Judgement, "judge__run"),
    (Preference, "left__column__run"),
    (Preference, "right__column__run"),
    (Rating, "answer__column__run"),
    (Thumb, "answer__column__run"),
    (Star, "answer__column__run"),
    (Answer, "column__run"),
    (Item, "run"),
    (Assignment, "run"),
    (RunBatch, "column__run"),
    (RunBatch, "judge__run"),
)


def start_run(  # noqa: PLR0913 - keywords only: what a run is made of
    *,
    dataset: Dataset,
    version: Version,
    models: Sequence[Model],
    project: Project,
    parameters: dict[str, Any],
    samples: int = 1,
    split: Split | None = None,
    part: str = "",
    name: str = "",
    created_by: User | None = None,
    api_key: ApiKey | None = None,
) -> Run:
    """Ask every model every example of the version, or of a split's part. Raises `DomainError`."""
    checked = sampling.check(parameters)
    sampling.check_samples(samples)
    _check_examples(dataset, version, project, split, part)
    _check_models(models, project, api_key)
    check_tools(models, asked_of(version, split, part), checked)
    with transaction.atomic():
        run = Run.objects.create(
            project=project,
            dataset=dataset,
            version=version,
            split=split,
            part=part,
            name=_name(name) or default_name(version, models),
            parameters=checked,
            samples=samples,
            created_by=created_by,
        )
        run.items_total = _make_items(run)
        run.save(update_fields=["items_total"])
        for position, model in enumerate(models):
            _make_column(run, position, model, api_key)
        _tell(run)
    run.refresh_from_db()
    return run


def add_column(*, run: Run, model: Model, api_key: ApiKey | None = None) -> Column:
    """Ask one more model everything that the others were asked. Raises `DomainError`."""
    _check_models([model], run.project, api_key)
    check_tools([model], Example.objects.filter(items__run=run), run.parameters)
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run.pk)
        columns = run.columns.all()
        if columns.filter(model=model).exists():
            raise Conflict(f"{model.name!r} is a column of this run already: re-run what is missing.", param="model")
        if columns.count() >= MAX_COLUMNS:
            raise Conflict(f"A run has at most {MAX_COLUMNS} columns: start another one.", param="model")
        position = (columns.aggregate(last=Max("position"))["last"] or 0) + 1 if columns.exists() else 0
        column = _make_column(run, position, model, api_key)
        _tell(run)
    return column


def rerun_missing(*, run: Run, api_key: ApiKey | None = None) -> int:
    """Ask again for every example that has no answer, or a failed one. How many columns there were to ask.

    Columns whose batches still run are left alone. Raises `Conflict` when there is nothing to ask again, `DomainError`.
    """
    missing = run.columns.filter(answered__lt=run.items_total, model__isnull=False, due=False)
    ready = missing.exclude(Exists(unsettled(RunBatch.objects.filter(column=OuterRef("pk")))))
    if api_key is not None:
        _check_allowed([column.model_name for column in ready], api_key)
    _check_tools_again(run, ready)
    with transaction.atomic():
        columns = Column.objects.filter(pk__in=ready.values("pk")).update(due=True, api_key=api_key)
        if columns:
            _tell(run)
    if not columns:
        raise Conflict(_why_nothing_is_missing(run))
    return columns


def cancel_run(*, run: Run) -> bool:
    """Send nothing more, and stop its batches, judges' too; answers are kept. False when there was nothing to stop."""
    with transaction.atomic():
        stopped = run.columns.filter(due=True).update(due=False) + run.judges.filter(due=True).update(due=False)
        stopped += cancel_batches(unsettled(RunBatch.objects.filter(Q(column__run=run) | Q(judge__run=run))))
        if stopped:
            progress.hint(TOPIC, run.uid)
    return bool(stopped)


def delete_run(*, run: Run) -> None:
    """Stop it and forget its answers, with the stars and ratings that they have. Files of its batches expire."""
    with transaction.atomic():
        Run.objects.select_for_update().filter(pk=run.pk).first()  # whoever takes over answers is done, or waits
        cancel_run(run=run)
        starred = list(Star.objects.filter(answer__column__run=run).values_list("example_id", flat=True))
        for model, way in _PARTS:
            model._default_manager.filter(**{way: run})._raw_delete("default")
        run.delete()
        items.refresh_reviews(starred)


def tell_if_complete(run: Run) -> None:
    """Announce it, in the caller's transaction, once the last of its columns has ended."""
    Run.objects.select_for_update(no_key=True).filter(pk=run.pk).first()  # two that end at once see each other
    open_ = unsettled(RunBatch.objects.filter(column__run=run)).exists()
    if not open_ and not run.columns.filter(due=True).exists():
        announce(type="run.completed", project=run.project, data={"id": run.uid})


def unsettled(batches: QuerySet[RunBatch]) -> QuerySet[RunBatch]:
    """Those whose results are not all taken over yet."""
    return batches.filter(settled=False)


def unanswered(column: Column) -> QuerySet[Item]:
    """Those of its run that the column has no answer to, or a failed one."""
    answered = Answer.objects.filter(column=column, example=OuterRef("example"), sample=0, edit_of=None, error="")
    return Item.objects.filter(~Exists(answered), run=column.run_id)


def default_name(version: Version, models: Sequence[Model]) -> str:
    """ "capitals v1, 2 models"."""
    what = models[0].name if len(models) == 1 else f"{len(models)} models"
    return f"{version}"[: NAME_CHARACTERS - len(what) - 2] + f", {what}" if len(what) < 60 else f"{version}"[:100]


def asks_chat(models: QuerySet[Model]) -> QuerySet[Model]:
    """Those of the models that can be columns or judges."""
    return models.filter(runner=Model.Runner.GENERATE)


def _check_examples(dataset: Dataset, version: Version, project: Project, split: Split | None, part: str) -> None:
    if dataset.project_id != project.pk:
        raise DomainError("The dataset belongs to another project.", param="dataset")
    if version.dataset_id != dataset.pk:
        raise DomainError("The version belongs to another dataset.", param="version")
    if split is not None and split.version_id != version.pk:
        raise DomainError(f"The split {split.name!r} belongs to another version.", param="split")
    if part and split is None:
        raise DomainError("A part needs the split that it is of.", param="split")
    if part and part not in Member.Part.values:
        raise DomainError(f"A split has the parts {', '.join(Member.Part.values)}; not {part[:20]!r}.", param="part")


def _check_models(models: Sequence[Model], project: Project, api_key: ApiKey | None) -> None:
    if not 1 <= len(models) <= MAX_COLUMNS:
        raise DomainError(f"Choose 1 to {MAX_COLUMNS} models.", param="models")
    if len({model.pk for model in models}) < len(models):
        raise DomainError("Each model can be chosen once.", param="models")
    usable = set(Model.objects.usable_by(project).values_list("pk", flat=True))
    for model in models:
        if model.pk not in usable:
            raise _unknown(model.name)
        if URL not in model.endpoints:
            raise DomainError(f"The model {model.name!r} does not answer chats.", param="models")
    if api_key is not None:
        _check_allowed([model.name for model in models], api_key)


def check_model(model: Model, project: Project, api_key: ApiKey | None) -> None:
    """Raises `DomainError` unless the project, and its key, may ask it in chats."""
    _check_models([model], project, api_key)


def _check_allowed(names: Sequence[str], api_key: ApiKey) -> None:
    for name in names:
        if not api_key.allows_model(name):
            raise _unknown(name)


def _check_tools_again(run: Run, columns: QuerySet[Column]) -> None:
    """As when the run was started: a model's engine settings may have changed since. Raises `DomainError`."""
    for column in columns.select_related("model__base"):
        if column.model:
            check_tools([column.model], Example.objects.filter(items__in=unanswered(column)), run.parameters)


def _unknown(name: str) -> DomainError:
    message = f"The model {name!r} does not exist or you do not have access to it."
    return DomainError(message, param="models", code="model_not_found")


def _name(text: str) -> str:
    name = " ".join(text.split())
    if len(name) > NAME_CHARACTERS or "\0" in name:
        raise DomainError(f"A name has at most {NAME_CHARACTERS} characters.", param="name")
    return name


def _make_items(run: Run) -> int:
    values = {
        "run": run.pk,
        "dataset": run.dataset_id,
        "version": run.version.number,
        "split": run.split_id,
        "part": run.part,
    }
    with connection.cursor() as cursor:
        cursor.execute(_ITEMS, values)
        made: int = cursor.rowcount
    if not made:
        raise DomainError("There is no example to ask: choose another version or part.", param="version")
    return made


def _make_column(run: Run, position: int, model: Model, api_key: ApiKey | None) -> Column:
    return Column.objects.create(
        run=run,
        position=position,
        label=model.name,
        model=model,
        model_name=model.name,
        revision=model.revision,
        due=True,
        api_key=api_key,
    )


def cancel_batches(batches: QuerySet[RunBatch]) -> int:
    """How many were stopped."""
    going = batches.filter(batch__status__in=Batch.PREDECESSORS[Batch.Status.CANCELLING])
    return sum(cancel_batch(batch=each.batch) for each in going.select_related("batch"))


def _why_nothing_is_missing(run: Run) -> str:
    asked = run.columns.filter(model__isnull=False)
    going = unsettled(RunBatch.objects.filter(column__run=run)).exists() or asked.filter(due=True).exists()
    if going:
        return "It still goes on: wait until its batches have ended, or cancel it."
    if run.columns.filter(answered__lt=F("run__items_total"), model=None).exclude(model_name="").exists():
        return "What is missing cannot be asked again: its model is gone."
    return "Every model has answered every example: nothing is missing."


def _tell(run: Run) -> None:
    bell.ring("control")
    progress.hint(TOPIC, run.uid)
