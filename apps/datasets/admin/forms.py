"""The forms of the pages of datasets; what they do is done by services, which say what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.template.defaultfilters import filesizeformat
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from apps.accounts.models import Project
from apps.core.errors import DomainError
from apps.datasets.imports.formats import SUFFIXES
from apps.datasets.imports.shapes import NAMES
from apps.datasets.imports.templates import FIELDS, MAX_SOURCE
from apps.datasets.models import Dataset
from apps.datasets.services import MAX_OVERLAP

LABELS = {
    "prompt": "Prompt",
    "system": "System message",
    "reference": "Expected answer",
    "rejected": "Worse answer",
    "key": "Row's own id",
    "tags": "Tags",
}


class ServiceForm(forms.Form):
    """A form whose verb may refuse: the sentence then stands beside the field that it is about."""

    def attempt(self, verb: Callable[..., Any], **more: Any) -> Any | None:
        """What the service gives for the form's values; None when it refused."""
        try:
            return verb(**self.cleaned_data, **more)
        except DomainError as error:
            self.add_error(error.param if error.param in self.fields else None, ValidationError(error.message))
            return None


class DatasetForm(ServiceForm):
    name = forms.CharField(max_length=100, widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True}))
    description = forms.CharField(
        required=False, max_length=10_000, widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="What the examples are for, and where they are from.",
    )  # fmt: skip
    star_policy = forms.ChoiceField(
        label="Gold stars", choices=Dataset.StarPolicy.choices, widget=UnfoldAdminSelectWidget
    )
    overlap = forms.IntegerField(
        label="Reviewers for each example", min_value=1, max_value=MAX_OVERLAP, initial=1,
        widget=UnfoldAdminIntegerFieldWidget,
    )  # fmt: skip


class NewDatasetForm(DatasetForm):
    project = forms.ModelChoiceField(Project.objects.none(), widget=UnfoldAdminSelectWidget, empty_label=None)

    def __init__(self, *args: Any, projects: QuerySet[Project], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["project"].queryset = projects  # type: ignore[attr-defined]


class UploadForm(forms.Form):
    file = forms.FileField(
        widget=UnfoldAdminFileFieldWidget(attrs={"accept": ",".join(SUFFIXES)}),
        help_text="JSONL, JSON, CSV with a header, or Parquet, as it is, in .gz or .zst, or a .zip of them, up to "
        f"{filesizeformat(settings.FILE_MAX_BYTES)} and "
        f"{settings.DATASET_MAX_ROWS:,} rows. Nothing is imported yet: the next page shows what would be.",
    )


class ImportForm(forms.Form):
    """How a file's rows become examples; the templates count for plain columns only."""

    shape = forms.ChoiceField(choices=list(NAMES.items()), required=False)
    replace = forms.BooleanField(required=False)
    skip_bad = forms.BooleanField(required=False)
    accept_losses = forms.BooleanField(required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in FIELDS:
            self.fields[f"map_{field}"] = forms.CharField(required=False, max_length=MAX_SOURCE, strip=False)

    def values(self) -> dict[str, Any]:
        """As `services.start_import` takes them."""
        data = self.cleaned_data
        mapping = {field: data[f"map_{field}"] for field in FIELDS if data[f"map_{field}"].strip()}
        plain = data["shape"] == "columns"
        return {"shape": data["shape"], "mapping": mapping if plain and mapping else None}

    def options(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in ("replace", "skip_bad", "accept_losses")}


class SplitForm(ServiceForm):
    name = forms.CharField(max_length=100)
    train = forms.IntegerField(min_value=0, max_value=100)
    validation = forms.IntegerField(min_value=0, max_value=100)
    test = forms.IntegerField(min_value=0, max_value=100)
    seed = forms.IntegerField(min_value=0, max_value=2**63 - 1)

    def clean(self) -> dict[str, Any]:
        data = dict(self.cleaned_data)
        shares = {part: data.pop(part) for part in ("train", "validation", "test") if part in data}
        return {**data, "shares": shares}


class SearchForm(ServiceForm):
    threshold = forms.FloatField(min_value=0.5, max_value=1)


def first_error(form: forms.Form) -> str:
    """The first sentence about a form that has no page of its own."""
    field, errors = next(iter(form.errors.items()), ("", ["It cannot be read."]))
    return str(errors[0]) if field in ("", "__all__") else f"{field.capitalize()}: {errors[0]}"
