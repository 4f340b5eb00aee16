"""What the buttons and small forms on the page of a run do: each calls a service and says what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.urls import reverse

from apps.accounts.tenant_admin import signed_in
from apps.batches.models import File
from apps.batches.services import create_file
from apps.core.errors import DomainError
from apps.datasets import services
from apps.datasets.models import Run
from apps.datasets.runs import judging
from apps.datasets.runs import services as runs
from apps.models.models import Model

if TYPE_CHECKING:
    from apps.datasets.admin.run import RunAdmin


class RunVerbs:
    """Its view, for the admin of runs."""

    def __init__(self, pages: RunAdmin) -> None:
        self._pages = pages
        self._verbs = {
            "cancel": self._cancel,
            "rerun": self._rerun,
            "delete": self._delete,
            "add": self._add,
            "judge": self._judge,
            "cancel-judge": self._cancel_judge,
            "import": self._import,
        }

    def view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponseRedirect:
        run = self._pages.find(request, pk)
        if verb not in self._verbs or not self._pages.may_change(request, run):
            raise Http404("No such action.")
        try:
            messages.success(request, self._verbs[verb](request, run))
        except DomainError as error:
            messages.error(request, error.message)
        else:
            if verb == "delete":
                return HttpResponseRedirect(reverse("admin:datasets_run_changelist"))
        return HttpResponseRedirect(reverse("admin:datasets_run_change", args=[pk]))

    def _cancel(self, _request: HttpRequest, run: Run) -> str:
        if not runs.cancel_run(run=run):
            raise DomainError("Nothing of this run goes on: there is nothing to cancel.")
        return "It is being stopped. Answers are kept."

    def _rerun(self, _request: HttpRequest, run: Run) -> str:
        columns = runs.rerun_missing(run=run)
        return f"What is missing is asked again, of {columns} model{'s' * (columns > 1)}."

    def _delete(self, _request: HttpRequest, run: Run) -> str:
        runs.delete_run(run=run)
        return f"{run.name} is deleted."

    def _add(self, request: HttpRequest, run: Run) -> str:
        column = runs.add_column(run=run, model=_model(request, run))
        return f"{column.label} is asked too."

    def _judge(self, request: HttpRequest, run: Run) -> str:
        judge = judging.start_judge(
            run=run,
            model=_model(request, run),
            rubric=request.POST.get("rubric", ""),
            only_unrated="only_unrated" in request.POST,
            created_by=signed_in(request),
        )
        return f"{judge.model_name} judges {judge.total:,} answers."

    def _cancel_judge(self, request: HttpRequest, run: Run) -> str:
        judge = run.judges.filter(uid=request.POST.get("id", "").replace("\0", "")).first()
        if judge is None or not judging.cancel_judge(judge=judge):
            raise DomainError("This judge has ended: there is nothing to cancel.")
        return "The judge is being stopped. Scores are kept."

    def _import(self, request: HttpRequest, run: Run) -> str:
        upload = request.FILES.get("file")
        if upload is None:
            raise DomainError("Choose a file of answers.")
        file = create_file(
            project=run.project, filename=upload.name or "answers", purpose=File.Purpose.USER_DATA, upload=upload
        )
        label, skip = request.POST.get("label", "").strip(), "skip_bad" in request.POST
        services.start_answers_import(run=run, file=file, label=label, skip_bad=skip, created_by=signed_in(request))
        return f"{file.filename} is being imported."


def _model(request: HttpRequest, run: Run) -> Model:
    name = request.POST.get("model", "")
    model = Model.objects.usable_by(run.project).filter(name=name).first() if "\0" not in name else None
    if model is None:
        raise DomainError("Choose a model.")
    return model
