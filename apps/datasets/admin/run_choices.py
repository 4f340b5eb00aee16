"""What the page of a new run offers, and what was chosen on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict

from apps.accounts.tenant_admin import CURATORS, projects_where, signed_in
from apps.core.errors import DomainError
from apps.datasets.models import Dataset, Member, Run, Split, Version
from apps.datasets.runs import estimates, parameters
from apps.datasets.runs import services as runs
from apps.datasets.runs.estimates import Estimate
from apps.models.models import Model

OFFERED = 200  # datasets, versions and splits in a list
NUMBERS = ("temperature", "top_p", "max_tokens", "seed")  # those that have a field of their own
TEXTS = ("system", "stop", "more", "name", "samples", *NUMBERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Of the query of a link, or of the form; `texts` is what was typed, as it was typed."""

    dataset: Dataset | None
    version: Version | None
    split: Split | None
    part: str
    models: list[Model] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def start(self, request: HttpRequest) -> Run:
        """Raises `DomainError`."""
        dataset, _ = self._what()
        return runs.start_run(
            dataset=dataset,
            project=dataset.project,
            name=self.texts["name"],
            created_by=signed_in(request),
            **self._asked(),
        )

    def estimate(self) -> Estimate:
        """Raises `DomainError`."""
        asked = self._asked()
        if not self.models:
            raise DomainError("Choose a model to see what the run will take.", param="models")
        parameters.check_samples(asked["samples"])
        return estimates.estimate(**{**asked, "parameters": parameters.check(asked["parameters"])})

    def _asked(self) -> dict[str, Any]:
        return {
            "version": self._what()[1],
            "models": self.models,
            "parameters": self.parameters(),
            "samples": _number("samples", self.texts["samples"] or "1"),
            "split": self.split,
            "part": self.part,
        }

    def parameters(self) -> dict[str, Any]:
        """Raises `DomainError` for what is not even a number, or no JSON."""
        values: dict[str, Any] = _more(self.texts["more"])
        values |= {name: _number(name, self.texts[name]) for name in NUMBERS if self.texts[name]}
        if stop := [line for line in self.texts["stop"].splitlines() if line]:
            values["stop"] = stop
        return values | ({"system": self.texts["system"]} if self.texts["system"].strip() else {})

    def _what(self) -> tuple[Dataset, Version]:
        if self.dataset is None:
            raise DomainError("Choose a dataset.", param="dataset")
        if self.version is None:
            raise DomainError("The dataset has no version yet: upload a file first.", param="version")
        return self.dataset, self.version


def read(request: HttpRequest, query: QueryDict) -> Chosen:
    """What is not the user's to run is not there."""
    dataset = _one(datasets(request).select_related("project"), uid=query.get("dataset", ""))
    number = query.get("version", "")
    versions = Version.objects.filter(dataset=dataset).select_related("dataset")
    version = _one(versions, number=number) if number.isdecimal() else None
    name, _, part = query.get("split", "").partition(":")
    version = version or (versions.first() if dataset else None)
    return Chosen(
        dataset=dataset,
        version=version,
        split=_one(Split.objects.filter(version=version), uid=name) if version else None,
        part=part,
        models=list(usable(dataset).filter(name__in=[name for name in query.getlist("models") if "\0" not in name])),
        texts={name: query.get(name, "").replace("\r\n", "\n").strip(" ") for name in TEXTS},
    )


def offer(request: HttpRequest, chosen: Chosen) -> dict[str, Any]:
    """The page's choices, in a constant number of queries."""
    picked = {model.pk for model in chosen.models}
    splits = Split.objects.filter(version=chosen.version)[:OFFERED] if chosen.version else []
    return {
        "chosen": chosen,
        "datasets": datasets(request).select_related("project")[:OFFERED],
        "versions": chosen.dataset.versions.all()[:OFFERED] if chosen.dataset else [],
        "splits": [
            (split, [(f"{split.uid}:{part}", label, split.counts.get(part, 0)) for part, label in Member.Part.choices])
            for split in splits
        ],
        "chosen_split": f"{chosen.split.uid}:{chosen.part}" if chosen.split else "",
        "models": [(model, model.pk in picked) for model in usable(chosen.dataset)],
        "most": parameters.MAX_SAMPLES,
    }


def datasets(request: HttpRequest) -> QuerySet[Dataset]:
    """Those that the user may run."""
    return Dataset.objects.filter(project__in=projects_where(request, CURATORS))


def usable(dataset: Dataset | None) -> QuerySet[Model]:
    if dataset is None:
        return Model.objects.none()
    return runs.asks_chat(Model.objects.usable_by(dataset.project))


def _one(rows: QuerySet[Any], **wanted: str) -> Any:
    ((name, value),) = wanted.items()
    sane = value and "\0" not in value and (name != "number" or len(value) < 10)
    return rows.filter(**wanted).first() if sane else None


def _number(name: str, text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise DomainError(f"{name} must be a number, not {text[:20]!r}.", param=name) from None


def _more(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise DomainError(f"More parameters are one JSON object: {error}.", param="more") from error
    if not isinstance(value, dict):
        raise DomainError('More parameters are one JSON object, as {"top_k": 20}.', param="more")
    return value
