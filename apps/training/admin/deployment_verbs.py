"""What the buttons on the page of a deployment do: each calls a service and says what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseRedirect
from django.urls import reverse

from apps.accounts.tenant_admin import signed_in
from apps.core.errors import Conflict, DomainError
from apps.datasets.models import Dataset
from apps.training.deployments import evaluation
from apps.training.deployments import services as deployments
from apps.training.models import Deployment

if TYPE_CHECKING:
    from apps.training.admin.deployment import DeploymentAdmin


class DeploymentVerbs:
    """Its view, for the admin of deployments."""

    def __init__(self, pages: DeploymentAdmin) -> None:
        self._pages = pages
        self._verbs = {"accept": _accept, "undeploy": _undeploy, "roll-back": _roll_back, "evaluate": _evaluate}

    def view(self, request: HttpRequest, pk: int, verb: str) -> HttpResponseRedirect:
        deployment = self._pages.find(request, pk)
        if verb not in self._verbs or not self._pages.may_change(request, deployment):
            raise Http404("No such action.")
        back = reverse("admin:training_deployment_change", args=[pk])
        try:
            address, said = self._verbs[verb](request, deployment)
            messages.success(request, said)
        except DomainError as error:
            messages.error(request, error.message)
            address = back
        return HttpResponseRedirect(address or back)


def verbs_of(deployment: Deployment) -> dict[str, bool]:
    """What has a button now."""
    served = deployment.status == Deployment.Status.READY
    return {
        "accept": deployment.status == Deployment.Status.UNPROVEN,
        "undeploy": served or deployment.status in Deployment.OPEN,
        "roll_back": served and _has_earlier(deployment),
        "evaluate": served,
    }


def datasets_of(deployment: Deployment) -> QuerySet[Dataset]:
    """What base and tuned model can be asked, besides the job's own examples."""
    return Dataset.objects.filter(project=deployment.project_id, versions__isnull=False).distinct().order_by("name")


def _has_earlier(deployment: Deployment) -> bool:
    earlier = Deployment.objects.filter(project=deployment.project_id, name=deployment.name, pk__lt=deployment.pk)
    return earlier.filter(status=Deployment.Status.UNDEPLOYED).exists()


def _accept(request: HttpRequest, deployment: Deployment) -> tuple[str, str]:
    if not deployments.accept(deployment=deployment, accepted_by=signed_in(request)):
        raise Conflict(f"It is {deployment.status}: there is nothing to accept.")
    return "", f"{deployment.name} is served."


def _undeploy(_request: HttpRequest, deployment: Deployment) -> tuple[str, str]:
    if not deployments.undeploy(deployment=deployment):
        raise Conflict(f"It is {deployment.status}: there is nothing to take back.")
    return "", f"{deployment.name} is served no more."


def _roll_back(_request: HttpRequest, deployment: Deployment) -> tuple[str, str]:
    earlier = deployments.roll_back(deployment=deployment)
    return reverse("admin:training_deployment_change", args=[earlier.pk]), "The one before is served again."


def _evaluate(request: HttpRequest, deployment: Deployment) -> tuple[str, str]:
    uid = request.POST.get("dataset", "")
    dataset = None if "\0" in uid else datasets_of(deployment).filter(uid=uid).first()
    if uid and dataset is None:
        raise DomainError("There is no such dataset in the project, or it has no examples yet.")
    made = evaluation.evaluate(deployment=deployment, dataset=dataset, created_by=signed_in(request))
    return reverse("admin:datasets_run_change", args=[made.run_id]), "Base and tuned model answer the same examples."
