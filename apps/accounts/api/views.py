from collections.abc import Callable
from functools import partial, wraps
from typing import Any, cast

from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import ApiKey, Project
from apps.core.api.repeats import answer_once
from apps.core.api.views import ApiView


class ProjectView(ApiView):
    """A route that an API key opens, to what is its project's.

    A POST that a client sends again by itself has one effect, without a word of the view.
    """

    repeats_are_harmless = False
    """Its POST may run as often as it is sent: it changes nothing, or has the same effect and answer each time."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "post" in vars(cls) and not cls.repeats_are_harmless:
            cls.post = _with_one_effect(vars(cls)["post"])  # type: ignore[attr-defined] # it has just been seen

    @property
    def key(self) -> ApiKey:
        return cast(ApiKey, self.request.auth)

    @property
    def project(self) -> Project:
        return self.key.project


def _with_one_effect(post: Callable[..., Response]) -> Callable[..., Response]:
    @wraps(post)
    def once(self: ProjectView, request: Request, *args: Any, **parameters: Any) -> Response:
        run = partial(post, self, request, *args, **parameters)
        return answer_once(request, owner=f"key {self.key.pk}", run=run)

    once.has_one_effect = True  # type: ignore[attr-defined] # a test asks every route for it
    return once
