"""What the page of a new fine-tuning offers, and what was chosen on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.http import HttpRequest, QueryDict
from django.urls import reverse

from apps.accounts.models import Project
from apps.accounts.tenant_admin import CURATORS, projects_where, signed_in
from apps.batches.models import File
from apps.core.errors import DomainError
from apps.datasets.admin.links import Link
from apps.datasets.exports.formats import FORMATS
from apps.datasets.models import Export
from apps.models.models import Model
from apps.training import presets, services
from apps.training.admin import option_fields
from apps.training.admin.counting import data_of, lines_of
from apps.training.estimates import parameters_of
from apps.training.files.preparing import parts_of
from apps.training.models import TrainingJob
from apps.training.options import OptionsRefused, parse
from apps.training.presets import Data, Plan

OFFERED = 200  # files and models in a list
TEXTS = ("file", "validation_file", "model", "method", "technique", "suffix")

KINDS = {"sft": "answers", "dpo": "preference pairs", "kto": "thumbs up and down"}
"""What a method learns from."""
Method, Technique = TrainingJob.Method, TrainingJob.Technique


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A training file, less what is kept for validation."""

    rows: int
    validation: int
    exact: bool
    """Whether all lines were counted."""
    data: Data
    held_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Of the query of a link, or of the form; `texts` and `typed` are what was written, as it was written."""

    file: File | None
    export: Export | None
    """The file's, where it is one."""
    validation: File | None
    base: Model | None
    parameters: int
    """The base model's; without one, none."""
    method: str
    technique: str
    suffix: str
    typed: dict[str, Any]
    texts: dict[str, str]

    def options(self) -> dict[str, Any]:
        return option_fields.chosen(self.typed)

    def problems(self) -> dict[str, str]:
        """What is wrong with it as it stands, a sentence for each field. Nothing is said about what is still empty."""
        found: dict[str, str] = {}
        if self.texts["file"] and self.file is None:
            found["file"] = "This file is not there any more: choose another."
        if self.texts["validation_file"] and self.validation is None:
            found["validation_file"] = "This file is not there any more: choose another, or none."
        elif self.validation and self.validation == self.file:
            found["validation_file"] = "Validation needs other examples than training: choose another file, or none."
        if self.texts["model"] and self.base is None:
            found["model"] = "This model is not there any more: choose another."
        if self.export and self.export.format != services.EXPORT_FORMATS.get(self.method):
            title = FORMATS[self.export.format].title
            other = KINDS.get(self.method, "answers")
            found["method"] = f"The export is in the format {title}: choose another method, or an export of {other}."
        return found | _problems_of_options(self.usual() | self.options())

    def are_options_sound(self) -> bool:
        return not _problems_of_options(self.usual() | self.options())

    def counted(self) -> Counted | None:
        """What the file holds; None without one."""
        if self.file is None:
            return None
        rows, exact = (self.export.rows, True) if self.export else lines_of(self.file)
        if self.validation:
            return Counted(
                rows=rows, validation=lines_of(self.validation)[0], exact=exact, data=data_of(self.file, rows, rows)
            )
        valid = held_out = 0
        if self.are_options_sound():
            job = TrainingJob(chosen=self.options())
            valid, held_out = parts_of(job, rows, parse(self.usual() | self.options())) if rows else (0, 0)
        left = rows - valid - held_out
        return Counted(rows=left, validation=valid, held_out=held_out, exact=exact, data=data_of(self.file, rows, left))

    def plan(self, counted: Counted | None) -> Plan | None:
        """What it would be trained with; None before there is a model and a file, or while an option is wrong."""
        if counted is None or self.base is None or not counted.rows or not self.are_options_sound():
            return None
        method, technique = self.method, self.technique
        return presets.plan(self.parameters, counted.data, chosen=self.options(), method=method, technique=technique)  # type: ignore[arg-type] # what others are is refused

    def usual(self, plan: Plan | None = None) -> dict[str, Any]:
        """Every option's value, where nothing is chosen."""
        fits = presets.usual(self.parameters, self.method, self.technique)  # type: ignore[arg-type]
        return option_fields.whole(plan.options if plan else fits)

    def start(self, request: HttpRequest) -> TrainingJob:
        """Raises `DomainError`."""
        if self.file is None:
            raise DomainError("Choose what the model learns from.", param="file")
        if self.base is None:
            raise DomainError("Choose a base model.", param="model")
        return services.create_job(
            project=self.file.project,
            base=self.base,
            training_file=self.file,
            validation_file=self.validation,
            method=self.method,
            technique=self.technique,
            options=self.options(),
            suffix=self.suffix,
            created_by=signed_in(request),
        )


def read(request: HttpRequest, query: QueryDict) -> Chosen:
    """What is not the user's to train on is not there."""
    like = _like(request, query.get("like", ""))
    texts = (like and _texts_of(like)) or dict.fromkeys(TEXTS, "")
    texts |= {name: query.get(name, "").strip()[:300] for name in TEXTS if name in query}
    mine = files(request)
    file = _file_of(request, mine, texts["file"], query.get("export", ""))
    if file is not None:
        texts["file"] = file.uid
    export = training_exports(request).filter(file=file).select_related("dataset").first() if file else None
    base = _one(models(request, file.project if file else None), name=texts["model"])
    typed, parameters = option_fields.read(query), parameters_of(base) if base else 0
    if like and base and "model" not in query:
        typed = option_fields.typed_of(like.chosen) | typed
    return Chosen(
        file=file,
        export=export,
        validation=_one(mine.filter(project=file.project), uid=texts["validation_file"]) if file else None,
        base=base,
        parameters=parameters,
        method=texts["method"] or (services.method_of(export.format) if export else Method.SFT),
        technique=texts["technique"] or Technique.LORA,
        suffix=texts["suffix"],
        typed=typed,
        texts=texts,
    )


def offer(request: HttpRequest, chosen: Chosen, problems: dict[str, str]) -> dict[str, Any]:
    """The page's choices, in a constant number of queries."""
    usual = chosen.usual(chosen.plan(chosen.counted()))
    fields = option_fields.fields(chosen.typed, usual, problems)
    return {
        "chosen": chosen,
        "problems": problems,
        "exports": training_exports(request).select_related("dataset", "project", "file")[:OFFERED],
        "files": uploaded(request).select_related("project")[:OFFERED],
        "projects": list(projects_where(request, CURATORS).values()),
        "models": [
            (model, _about(model), _reason(model, chosen.file.project if chosen.file else model.project))
            for model in models(request, chosen.file.project if chosen.file else None)[:OFFERED]
        ],
        "methods": Method.choices,
        "techniques": [(value, _capital(label.rpartition(": ")[2])) for value, label in Technique.choices],
        "first_options": [field for field in fields if field.name in option_fields.FIRST],
        "more_options": [field for field in fields if field.name not in option_fields.FIRST],
        "open_options": any(field.is_set or field.error for field in fields if field.name not in option_fields.FIRST),
    }


def files(request: HttpRequest) -> QuerySet[File]:
    """Those that the user may train on."""
    mine = File.objects.filter(project__in=projects_where(request, CURATORS), purpose=File.Purpose.FINE_TUNE)
    return mine.unexpired().select_related("project")


def uploaded(request: HttpRequest) -> QuerySet[File]:
    """Those of them that are no exports."""
    return files(request).filter(~Exists(Export.objects.filter(file=OuterRef("pk"))))


def training_exports(request: HttpRequest) -> QuerySet[Export]:
    """Completed ones in a format of training."""
    done = Export.objects.filter(status=Export.Status.COMPLETED, format__in=services.EXPORT_FORMATS.values())
    return done.filter(project__in=projects_where(request, CURATORS), file__isnull=False)


def models(request: HttpRequest, project: Project | None) -> QuerySet[Model]:
    """Those that the project may use, or without one the user, the ones that cannot be trained last."""
    projects = [project] if project else projects_where(request, CURATORS).values()
    rows = Model.objects.filter(Q(project=None) | Q(project__in=projects)).select_related("base", "project")
    return rows.order_by("runner", F("base__name").asc(nulls_first=True), "name")


def train_on_this(request: HttpRequest, export: Export) -> Link | None:
    """On the page of an export that can be trained on, for those who may."""
    fits = export.format in services.EXPORT_FORMATS.values() and export.file_id is not None
    if not fits or not (signed_in(request).is_superuser or export.project_id in projects_where(request, CURATORS)):
        return None
    return Link("Train on this", "school", f"{reverse('admin:training_trainingjob_add')}?export={export.uid}")


def _reason(model: Model, project: Project | None) -> str:
    """Why it cannot be trained; empty: it can."""
    try:
        services.check_base(model, project or model.project or Project())
    except DomainError as error:
        return error.message if model.ready else "Its install has not ended."
    return ""


def _about(model: Model) -> str:
    """Its size, by its bytes in 16 bits where these are known, and what is usual for that."""
    count = model.bytes / 2 or parameters_of(model)
    usual = presets.usual(count)
    size = f"{count / 1e9:.1f} B" if count >= 1e9 else f"{count / 1e6:.0f} M"
    first = f"About {size} parameters" if count else "Its size is not known"
    return f"{first}: rank {usual['rank']}, learning rate {usual['learning_rate']:g} of LoRA."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _problems_of_options(options: dict[str, Any]) -> dict[str, str]:
    try:
        parse(options)
    except OptionsRefused as error:
        return error.problems
    return {}


def _like(request: HttpRequest, uid: str) -> TrainingJob | None:
    """The job whose settings are begun with."""
    jobs = TrainingJob.objects.visible_to(signed_in(request)).select_related("base", "training_file", "validation_file")
    found: TrainingJob | None = _one(jobs, uid=uid)
    return found


def _texts_of(job: TrainingJob) -> dict[str, str]:
    return {
        "file": job.training_file_uid,
        "validation_file": job.validation_file_uid,
        "model": job.base_name,
        "method": job.method,
        "technique": job.technique,
        "suffix": job.suffix,
    }


def _file_of(request: HttpRequest, mine: QuerySet[File], uid: str, export: str) -> File | None:
    if export:
        found = _one(training_exports(request), uid=export)
        return found.file if found else None
    file: File | None = _one(mine, uid=uid)
    return file


def _one(rows: QuerySet[Any], **wanted: str) -> Any:
    ((_, value),) = wanted.items()
    return rows.filter(**wanted).first() if value and "\0" not in value else None
