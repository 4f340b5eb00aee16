"""The playground: one conversation, up to four models side by side, streamed as they answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from apps.accounts.models import Project
from apps.accounts.tenant_admin import CURATORS, projects_where, signed_in
from apps.models.admin.page import PagesAdmin
from apps.models.gateway import ask
from apps.models.models import ExampleSet, Model, TriedPrompt

COLUMNS = 4
ENDPOINT = "/v1/chat/completions"
PARAMETERS = {"temperature": float, "top_p": float, "max_tokens": int, "seed": int}
MAX_BODY = 1024 * 1024
MAX_NAME = 100


class BadRequest(Exception):
    """The message is for the person in front of the page."""


class Playground:
    """Its views. Who may run batches in a project may ask the models that it may use; viewers may look."""

    def __init__(self, pages: PagesAdmin) -> None:
        self._pages = pages

    def urls(self) -> list[URLPattern]:
        def view(route: str, function: Any, name: str) -> URLPattern:
            return path(f"playground/{route}", self._pages.admin_site.admin_view(function), name=f"models_{name}")

        return [
            view("", self.show, "playground"),
            view("ask/", require_POST(self.ask), "playground_ask"),
            view("save/", require_POST(self.save), "playground_save"),
        ]

    def show(self, request: HttpRequest) -> TemplateResponse:
        projects = self._projects(request)
        models = usable(request, projects).filter(runner=Model.Runner.GENERATE, ready=True).select_related("base")
        chats = [model for model in models if ENDPOINT in model.endpoints]
        offered = [{"name": model.name, "samples": model.sample_prompts} for model in chats]
        setup = {
            "models": offered,
            "sets": list(ExampleSet.objects.filter(project__in=projects).values("name")),
            "columns": COLUMNS,
            "api": request.build_absolute_uri("/v1"),
            "urls": {name: reverse(f"admin:models_playground_{name}") for name in ("ask", "save")},
        }
        context = {"models": offered, "projects": list(projects.values()), "setup": setup}
        return self._pages.page(request, "../playground/page", "Playground", context)

    def ask(self, request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
        """Server-sent events of one model's answer. Errors are events too."""
        try:
            body = _body(request)
            project = self._project(request, body)
        except BadRequest as error:
            return JsonResponse({"error": str(error)}, status=400)
        wanted: dict[str, Any] = {
            "model": str(body.get("model", "")),
            "messages": _messages(body),
            "stream_options": {"include_usage": True},
            **_parameters(body),
        }
        events = ask.stream(project=project, endpoint=ENDPOINT, body=wanted)
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingHttpResponse(_relay(events), content_type="text/event-stream", headers=headers)

    def save(self, request: HttpRequest) -> JsonResponse:
        """Keep the conversation and its answers in a set, which is made when there is none of that name."""
        try:
            body = _body(request)
            project = self._project(request, body)
            name = str(body.get("set", "")).strip()
            answers = body.get("answers")
            if not 0 < len(name) <= MAX_NAME:
                raise BadRequest(f"Give the set a name of 1 to {MAX_NAME} characters.")
            if not isinstance(answers, dict) or not answers:
                raise BadRequest("There is no answer to save yet.")
        except BadRequest as error:
            return JsonResponse({"error": str(error)}, status=400)
        examples, _ = ExampleSet.objects.get_or_create(project=project, name=name)
        TriedPrompt.objects.create(
            example_set=examples,
            messages=_messages(body),
            parameters=_parameters(body),
            answers={str(model): str(answer) for model, answer in answers.items()},
        )
        return JsonResponse({"url": reverse("admin:models_exampleset_change", args=[examples.pk])})

    def _projects(self, request: HttpRequest) -> dict[int, Project]:
        return projects_where(request, CURATORS)

    def _project(self, request: HttpRequest, body: dict[str, Any]) -> Project:
        """In whose name it is asked."""
        project = self._projects(request).get(int(body["project"]) if str(body.get("project")).isdecimal() else 0)
        if project is None:
            raise BadRequest("There is no project of yours in which you may ask models.")
        return project


def usable(request: HttpRequest, projects: dict[int, Project]) -> QuerySet[Model]:
    models = Model.objects.all()
    return models if signed_in(request).is_superuser else models.filter(Q(project=None) | Q(project__in=projects))


def _body(request: HttpRequest) -> dict[str, Any]:
    try:
        body = json.loads(request.body) if len(request.body) <= MAX_BODY else None
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise BadRequest("The request is malformed, or too large.")
    return body


def _messages(body: dict[str, Any]) -> list[dict[str, str]]:
    system = str(body.get("system") or "")
    messages = [{"role": "system", "content": system}] if system.strip() else []
    return [*messages, {"role": "user", "content": str(body.get("prompt") or "")}]


def _parameters(body: dict[str, Any]) -> dict[str, Any]:
    """Those that were filled in; the engine judges their values."""
    found: dict[str, Any] = {}
    for name, kind in PARAMETERS.items():
        try:
            found[name] = kind(body[name])
        except (KeyError, TypeError, ValueError):
            continue
    if stop := [text for text in str(body.get("stop") or "").split("\n") if text]:
        found["stop"] = stop
    return found


async def _relay(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for event in events:
        yield event
