"""What the views of the review page share: the run that is asked about, and how they refuse."""

from __future__ import annotations

from django.http import Http404, HttpRequest, JsonResponse

from apps.accounts.tenant_admin import signed_in
from apps.core.errors import Conflict, DomainError
from apps.datasets.models import Run
from apps.datasets.reviews.services import NeedsConsent


class Outdated(Conflict):
    """The text that somebody edited is not the text that they saw. Both are kept: theirs in the box, this one here."""

    def __init__(self, text: str, base: str) -> None:
        super().__init__("This answer was edited meanwhile. Your text is still in the box; saving it replaces theirs.")
        self.text, self.base = text, base


def run_of(request: HttpRequest, pk: int) -> Run:
    """Or a 404."""
    run = (
        Run.objects.visible_to(signed_in(request)).select_related("dataset", "version", "project").filter(pk=pk).first()
    )
    if run is None:
        raise Http404("No such run.")
    return run


def refused(error: DomainError, status: int | None = None) -> JsonResponse:
    """A sentence for the page's toast."""
    more: dict[str, object] = {"theirs": error.text, "base": error.base} if isinstance(error, Outdated) else {}
    more |= {"consent": True} if isinstance(error, NeedsConsent) else {}
    status = status or (409 if isinstance(error, Conflict) else 400)
    return JsonResponse({"error": error.message, "param": error.param, "code": error.code, **more}, status=status)
