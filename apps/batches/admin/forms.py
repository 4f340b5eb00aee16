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
    UnfoldAdminTextInputWidget,
)

from apps.accounts.models import Project
from apps.batches.models import Batch, File
from apps.batches.services import ENDPOINTS, PRIORITIES, create_batch, create_file, window
from apps.core.errors import DomainError


class NewBatchForm(forms.Form):
    """Upload and start in one step."""

    file = forms.FileField(
        label="Input file",
        widget=UnfoldAdminFileFieldWidget(attrs={"accept": ".jsonl"}),
        help_text=f"JSONL, one request a line, up to {filesizeformat(settings.BATCH_FILE_MAX_BYTES)} "
        f"and {settings.BATCH_MAX_REQUESTS:,} lines, all for one model.",
    )
    endpoint = forms.ChoiceField(
        choices=[(endpoint, endpoint) for endpoint in ENDPOINTS],
        widget=UnfoldAdminSelectWidget,
        help_text="The url that every line names.",
    )
    project = forms.ModelChoiceField(Project.objects.none(), widget=UnfoldAdminSelectWidget, empty_label=None)
    completion_window = forms.CharField(
        initial="24h",
        widget=UnfoldAdminTextInputWidget,
        help_text="What is not done by then expires: 24h, 7d, up to 30d.",
    )
    priority = forms.IntegerField(
        initial=0,
        min_value=PRIORITIES[0],
        max_value=PRIORITIES[1],
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Higher runs first.",
    )

    def __init__(self, *args: Any, projects: QuerySet[Project], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = self.fields["project"]
        assert isinstance(chosen, forms.ModelChoiceField)  # noqa: S101 - for the type checker
        chosen.queryset = projects

    def clean_completion_window(self) -> str:
        text: str = self.cleaned_data["completion_window"]
        try:
            window(text)
        except DomainError as error:
            raise ValidationError(error.message) from error
        return text

    def create(self) -> Batch | None:
        """The new batch; None when a service refused, which the form then says beside the field."""
        data = self.cleaned_data
        try:
            file = create_file(
                project=data["project"],
                filename=data["file"].name,
                purpose=File.Purpose.BATCH,
                upload=data["file"],
            )
            return create_batch(
                project=data["project"],
                input_file=file,
                endpoint=data["endpoint"],
                completion_window=data["completion_window"],
                priority=data["priority"],
            )
        except DomainError as error:
            self.add_error(error.param if error.param in self.fields else "file", error.message)
            return None
