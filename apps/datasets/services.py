"""What can be done with datasets; the API, the admin and the commands call these.

Runs, reviews and exports have modules of their own: `runs`, `judging`, `reviews`, `exports`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from apps.accounts.models import Project
from apps.batches.models import File
from apps.conversations.errors import RowError
from apps.core import bell
from apps.core.errors import Conflict, DomainError
from apps.datasets import deletion, duplicates, splits, versions
from apps.datasets.imports import job as importing
from apps.datasets.imports.accounting import FieldUse, would_lose
from apps.datasets.imports.readers import Flaw
from apps.datasets.imports.shapes import Draft
from apps.datasets.imports.sources import Reading, Sample, sample
from apps.datasets.models import Dataset, Duplicate, DuplicateSearch, Import, Run, Split, Version
from apps.events import progress

PREVIEW_ROWS = 5
MAX_OVERLAP = 20
THRESHOLDS = (0.5, 1.0)

NewJob = TypeVar("NewJob", Import, DuplicateSearch)


@dataclass(frozen=True, slots=True)
class Preview:
    """What an import of a file would do with its first rows."""

    format: str
    shape: str
    columns: list[str]
    mapping: dict[str, str]
    """The templates that are used; guessed where none were given, empty for shapes that need none."""
    drafts: list[Draft]
    errors: list[Flaw]
    uses: list[FieldUse]
    """What becomes of each column and key, in the rows that were looked at."""
    rows: int
    """That were looked at."""
    notes: list[str]
    """Sentences on what is read of the file and what is not."""

    @property
    def losses(self) -> list[FieldUse]:
        return [each for each in self.uses if each.loss]


def create_dataset(
    *,
    project: Project,
    name: str,
    description: str = "",
    star_policy: str = Dataset.StarPolicy.SHARED,
    overlap: int = 1,
    created_by: User | None = None,
) -> Dataset:
    """Raises `DomainError`, and `Conflict` for a name that the project uses already."""
    dataset = Dataset(project=project, created_by=created_by)
    _fill(dataset, name=name, description=description, star_policy=star_policy, overlap=overlap)
    return _save(dataset)


def update_dataset(*, dataset: Dataset, **changes: Any) -> Dataset:
    """Change name, description, star_policy or overlap. Raises `DomainError` and `Conflict`."""
    _fill(dataset, **changes)
    return _save(dataset)


def delete_dataset(*, dataset: Dataset) -> None:
    """With its examples, runs, answers and reviews. Raises `Conflict` while something goes on in it."""
    deletion.delete(dataset)


def preview(*, file: File, shape: str = "", mapping: dict[str, str] | None = None) -> Preview:
    """Raises `DomainError`, for a mapping that cannot be used too."""
    seen = sample(file)
    return _preview(seen, Reading(seen, shape=shape, mapping=mapping))


def _preview(seen: Sample, reading: Reading) -> Preview:
    drafts: list[Draft] = []
    errors, fields = list(seen.flaws), reading.counter()
    for row in seen.rows:
        try:
            made = reading.draft(row)
        except RowError as error:
            errors.append(Flaw(row.line, str(error)))
            continue
        fields.add(row, made.conversation, made.unused)
        drafts.append(made)
    errors.sort(key=lambda flaw: flaw.line)
    return Preview(
        seen.format, reading.shape, seen.columns, reading.mapping, drafts[:PREVIEW_ROWS], errors[:PREVIEW_ROWS],
        fields.uses(), len(seen.rows), seen.notes,
    )  # fmt: skip


def columns_of(*, file: File) -> list[str]:
    """What a mapping may name. Raises `DomainError`."""
    return sample(file).columns


def start_import(
    *,
    dataset: Dataset,
    file: File,
    shape: str = "",
    mapping: dict[str, str] | None = None,
    replace: bool = False,
    skip_bad: bool = False,
    accept_losses: bool = False,
    created_by: User | None = None,
) -> Import:
    """Add a file's rows to the dataset, or put them in place of all others: a new version, once it is done.

    Raises `DomainError` for what can be seen from the file's first rows, `Conflict` for what would be lost of them
    unless `accept_losses`.
    """
    _check_file(dataset.project_id, file)
    seen = sample(file)
    reading = Reading(seen, shape=shape, mapping=mapping)
    if not accept_losses and (losses := _preview(seen, reading).losses):
        message = would_lose(losses, "Nothing is imported")
        raise Conflict(message, param="accept_losses", code="import_would_lose_data")
    return _start(
        Import(
            project=dataset.project, dataset=dataset, file_id=file.uid, filename=file.filename, format=seen.format,
            shape=reading.shape, mapping=reading.mapping, replace=replace, skip_bad=skip_bad,
            accept_losses=accept_losses, created_by=created_by, total=file.bytes,
        )
    )  # fmt: skip


def start_answers_import(
    *, run: Run, file: File, label: str = "", skip_bad: bool = False, created_by: User | None = None
) -> Import:
    """Make a file of answers a column of the run. A row names its example by `custom_id`, `number` or `prompt`."""
    _check_file(run.project_id, file)
    if len(label) > 200 or (label and not label.isprintable()):
        raise DomainError("A column's label has at most 200 printable characters.", param="label")
    return _start(
        Import(
            project=run.project, dataset=run.dataset, kind=Import.Kind.ANSWERS, run=run, label=label, file_id=file.uid,
            filename=file.filename, format=sample(file).format, skip_bad=skip_bad, created_by=created_by,
            total=file.bytes,
        )
    )  # fmt: skip


def cancel_import(*, job: Import) -> bool:
    """False when it has ended, or was cancelled before."""
    return importing.KIND.cancel(job)


def make_split(
    *,
    version: Version,
    name: str,
    shares: Mapping[str, int] = splits.SHARES,
    seed: int = 0,
    created_by: User | None = None,
) -> Split:
    """Divide a version, for good. Raises `DomainError` and `Conflict`."""
    return splits.make(version=version, name=name, shares=shares, seed=seed, created_by=created_by)


def find_duplicates(*, version: Version, threshold: float = 0.85, created_by: User | None = None) -> DuplicateSearch:
    """Look for examples that say the same, or nearly. Raises `DomainError`."""
    if not THRESHOLDS[0] <= threshold <= THRESHOLDS[1]:
        message = f"The threshold is a similarity from {THRESHOLDS[0]} to {THRESHOLDS[1]}; 1 finds exact ones only."
        raise DomainError(message, param="threshold")
    project = version.dataset.project
    search = DuplicateSearch(
        project=project, version=version, threshold=threshold, created_by=created_by, total=version.examples
    )
    return _start(search)


def cancel_search(*, search: DuplicateSearch) -> bool:
    """False when it has ended, or was cancelled before."""
    return duplicates.KIND.cancel(search)


def remove_examples(
    *, dataset: Dataset, numbers: Sequence[int], note: str = "", created_by: User | None = None
) -> Version:
    """A new version without them. Raises `DomainError`, and `Conflict` while an import goes on."""
    words = note or f"{len(numbers):,} example{'s' * (len(numbers) != 1)} removed"
    return versions.remove(dataset=dataset, numbers=numbers, note=words, created_by=created_by)


def remove_duplicates(*, search: DuplicateSearch, created_by: User | None = None) -> Version:
    """A new version without the duplicates that were found. Raises `DomainError` and `Conflict`."""
    if search.status != DuplicateSearch.Status.COMPLETED:
        raise Conflict(f"The search is {search.status}: its duplicates can be removed once it is completed.")
    dataset, note = search.version.dataset, f"{search.found:,} duplicates removed"
    numbers = Duplicate.objects.filter(search=search).values("example__number")
    return versions.remove(dataset=dataset, numbers=numbers, note=note, created_by=created_by)


def _fill(dataset: Dataset, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(dataset, name, value)
    dataset.name = dataset.name.strip()
    if not 1 <= len(dataset.name) <= 100 or not dataset.name.isprintable():
        raise DomainError("A dataset's name has 1 to 100 printable characters.", param="name")
    if "\0" in dataset.description or any("\ud800" <= char <= "\udfff" for char in dataset.description):
        raise DomainError("The description must not hold NUL characters or lone surrogates.", param="description")
    if dataset.star_policy not in Dataset.StarPolicy.values:
        choices = ", ".join(Dataset.StarPolicy.values)
        raise DomainError(f"star_policy must be one of {choices}.", param="star_policy", code="invalid_value")
    if not 1 <= dataset.overlap <= MAX_OVERLAP:
        raise DomainError(f"overlap must be from 1 to {MAX_OVERLAP} reviewers.", param="overlap", code="invalid_value")


def _save(dataset: Dataset) -> Dataset:
    try:
        with transaction.atomic():
            dataset.save()
    except IntegrityError as error:
        raise Conflict(f"The project has a dataset {dataset.name!r} already.", param="name") from error
    dataset.refresh_from_db()
    return dataset


def _check_file(project_id: int, file: File) -> None:
    if file.project_id != project_id:
        raise DomainError("The file belongs to another project.", param="file")


def _start(job: NewJob) -> NewJob:
    with transaction.atomic():
        job.save()
        bell.ring("control")
    job.refresh_from_db()
    progress.hint(importing.TOPIC if isinstance(job, Import) else duplicates.TOPIC, job.uid)
    return job
