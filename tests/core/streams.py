"""Every route that streams, with something to stream, and clients that read as slowly as a test likes."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from apps.accounts.models import Project
from apps.batches.models import Result
from apps.datasets.exports.services import start_export
from apps.datasets.models import DuplicateSearch, Export, Import, Judge
from apps.models.models import ExampleSet, Install, Model
from apps.training.deployments.files import folder_of, served_form
from apps.training.models import Deployment
from batchserver.asgi import application
from tests.batches.cast import make_file, make_running
from tests.datasets.cast import make_run, make_version
from tests.fakes.hostile.folders import tiny_adapter, write_files
from tests.training.deploying import make_base, make_checkpoint

TOKEN = "c" * 32  # against forged requests
METHODS = ("get", "post", "put", "patch", "delete")
STREAMS = ("StreamingHttpResponse", "FileResponse", "HttpResponseBase")
ANSWERS = {"small": ["Paris", "Lima", "Accra"], "large": ["Paris.", "Lima", "It is Accra."]}
SOON = 20.0  # seconds


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, as ASGI carries it."""

    path: str
    headers: Mapping[str, str]
    body: bytes | None = None
    query: str = ""

    @property
    def scope(self) -> dict[str, Any]:
        fields = {"host": "testserver", **self.headers}
        return {
            "type": "http", "method": "GET" if self.body is None else "POST", "path": self.path,
            "query_string": self.query.encode(), "client": ("127.0.0.1", 1), "server": ("testserver", 80),
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        }  # fmt: skip


@dataclass(eq=False)
class Reader:
    """A client that takes the head of its answer, and each message after it when it is told to."""

    ask: Ask
    status: int = 0
    body: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.began, self._going_on = asyncio.Event(), asyncio.Event()
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "http.request", "body": self.ask.body or b"", "more_body": False})
        self.task = asyncio.create_task(self._run())

    async def all(self) -> bytes:
        """Read on, to the end."""
        self._going_on.set()
        await self.task
        return bytes(self.body)

    async def hang_up(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})
        self._going_on.set()
        await asyncio.wait([self.task])

    async def _run(self) -> None:
        await application(self.ask.scope, self._inbox.get, self._take)

    async def _take(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        self.body += message.get("body", b"")
        self.began.set()
        await self._going_on.wait()


@asynccontextmanager
async def slow_readers(ask: Ask, count: int) -> AsyncIterator[list[Reader]]:
    """As many at once, each after its answer's first piece. Raises `TimeoutError` when they do not get that far."""
    readers = [Reader(ask) for _ in range(count)]
    try:
        async with asyncio.timeout(SOON):
            await asyncio.gather(*(reader.began.wait() for reader in readers))
        yield readers
    finally:
        await asyncio.gather(*(reader.hang_up() for reader in readers))


def routes() -> Iterator[str]:
    """Those of Django's whose view may stream, by what it says that it returns."""
    for route, pattern in _patterns(get_resolver().url_patterns):
        view = getattr(pattern.callback, "view_class", None) or getattr(pattern.callback, "cls", None)
        functions = [getattr(view, name) for name in METHODS if hasattr(view, name)] if view else [pattern.callback]
        told = (str(inspect.unwrap(each).__annotations__.get("return")) for each in functions)
        if any(name in each for each in told for name in STREAMS):
            yield route


def _patterns(patterns: list[Any], before: str = "") -> Iterator[tuple[str, URLPattern]]:
    for each in patterns:
        if isinstance(each, URLResolver):
            yield from _patterns(each.url_patterns, before + str(each.pattern))
        else:
            yield before + str(each.pattern), each


def asks(project: Project, key: str, model: Model, folder: Path) -> dict[str, Ask]:
    """A request to each route that streams. `model` is served, or its playground waits."""
    user = User.objects.create_superuser("root")
    browser = Client()
    browser.force_login(user)
    cookie = f"sessionid={browser.cookies['sessionid'].value}; csrftoken={TOKEN}"
    api = {"authorization": f"Bearer {key}"}
    page = {"cookie": cookie, "x-csrftoken": TOKEN, "content-type": "application/json"}
    return {
        **{f"v1/{route}": Ask(f"/v1/{path}", api) for route, path in _api_paths(project, model, folder).items()},
        **{f"admin/{route}": Ask(f"/admin/{path}", page) for route, path in _admin_paths(project).items()},
        "admin/models/model/playground/ask/": Ask(
            "/admin/models/model/playground/ask/", page,
            json.dumps({"project": project.pk, "model": model.name, "prompt": "Hi"}).encode(),
        ),
    }  # fmt: skip


def _api_paths(project: Project, model: Model, folder: Path) -> dict[str, str]:
    batch = make_running(project, model)
    Result.objects.create(batch=batch, line=1, custom_id="a1", failed=False, status_code=200, body="{}")
    deployment = _deployment(project, make_base(folder))
    data = _data_paths(project)
    return {
        "files/<uid:file_id>/content": f"files/{make_file(project).uid}/content",
        "batches/<uid:batch_id>/output": f"batches/{batch.uid}/output",
        "batches/<uid:batch_id>/events": f"batches/{batch.uid}/events",
        "models/installs/<uid:install_id>/events": f"models/installs/{_install(project).uid}/events",
        "fine_tuning/jobs/<uid:job_id>/progress": f"fine_tuning/jobs/{deployment.checkpoint.job.uid}/progress",
        "deployments/<uid:deployment_id>/package": f"deployments/{deployment.uid}/package",
        "deployments/<uid:deployment_id>/progress": f"deployments/{deployment.uid}/progress",
        **data,
    }


def _data_paths(project: Project) -> dict[str, str]:
    version = make_version(project)
    run, dataset = make_run(version, ANSWERS), version.dataset
    made = Import.objects.create(project=project, dataset=dataset, file_id="file-gone", filename="a", format="jsonl")
    search = DuplicateSearch.objects.create(project=project, version=version)
    judge = Judge.objects.create(project=project, run=run, model_name="judge", rubric="Right?")
    export = start_export(dataset=dataset, format="chat", run=run, answers="column:large")
    return {
        "datasets/<uid:dataset_id>/imports/<uid:import_id>/events": f"datasets/{dataset.uid}/imports/{made.uid}/events",
        "datasets/<uid:dataset_id>/duplicates/<uid:search_id>/events": (
            f"datasets/{dataset.uid}/duplicates/{search.uid}/events"
        ),
        "runs/<uid:run_id>/events": f"runs/{run.uid}/events",
        "judges/<uid:judge_id>/events": f"judges/{judge.uid}/events",
        "exports/<uid:export_id>/events": f"exports/{export.uid}/events",
    }


def _admin_paths(project: Project) -> dict[str, str]:
    batch = Result.objects.get().batch
    file = make_file(project)
    export = Export.objects.get()
    Export.objects.filter(pk=export.pk).update(file=file)
    kept = ExampleSet.objects.create(project=project, name="kept")
    kept.prompts.create(messages=[{"role": "user", "content": "Hi"}], answers={"m": "Ho"})
    return {
        "models/exampleset/<int:pk>/download/": f"models/exampleset/{kept.pk}/download/",
        "batches/file/<int:pk>/download/": f"batches/file/{file.pk}/download/",
        "batches/batch/<int:pk>/download/<str:kind>/": f"batches/batch/{batch.pk}/download/output/",
        "datasets/export/<int:pk>/download/<str:kind>/": f"datasets/export/{export.pk}/download/file/",
    }


def _install(project: Project) -> Install:
    return Install.objects.create(project=project, source="acme/tiny", name="tiny")


def _deployment(project: Project, base: Model) -> Deployment:
    checkpoint = make_checkpoint(project, base)
    deployment = Deployment.objects.create(
        project=project, checkpoint=checkpoint, kind="adapter", name="tuned", status="ready"
    )
    write_files(folder_of(deployment, served_form(deployment)), tiny_adapter())
    return deployment
