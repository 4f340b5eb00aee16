"""Puts a Hugging Face folder on the hub, by a child process that ends when its time or its job does."""

import os
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.files.storage import default_storage

from apps.core.errors import DomainError
from apps.core.process import ManagedProcess
from apps.datasets.exports.push import Order
from apps.datasets.jobs import Work
from apps.datasets.models import Export
from apps.models.installs.errand import environment
from apps.models.models import HubToken

LONGEST = 3600.0  # seconds
TICK = 0.25
STOP_SECONDS = 2.0

NO_LOGIN = (
    "The project has no token of the hub: save one that may write, on the page of a new install or by "
    "`manage.py install_model --token-file`."
)


def token_of(project_id: int) -> str:
    """Raises `DomainError`, with what to do."""
    saved = HubToken.objects.filter(project=project_id).first()
    if saved is None:
        raise DomainError(NO_LOGIN, param="repository", code="no_hub_token")
    return saved.token


def push(work: Work[Export], stored: str, scratch: Path) -> str:
    """Send the stored .zip's files to the export's repository; the commit's URL. Blocks.

    Raises `DomainError` when the hub refuses, and what `Work.report` raises when the job shall stop.
    """
    folder = scratch / "folder"
    with default_storage.open(stored, "rb") as file, zipfile.ZipFile(file) as packed:
        packed.extractall(folder)
    order = Order(
        endpoint=settings.HF_ENDPOINT,
        token=token_of(work.job.project_id),
        repository=work.job.repository,
        folder=str(folder),
        message=f"{work.job.dataset.name} from vLLM Batch Server"[:200],
    )
    return send(order, lambda: work.report(work.job.done))


def send(order: Order, look: Callable[[], None]) -> str:
    """Have a folder on the hub; the commit's URL. Blocks, and calls `look` meanwhile, which may raise to end it.

    Raises `DomainError` when the hub refuses.
    """
    news = _Child(order).watch(look)
    if news.get("event") != "done":
        raise DomainError(f"It was not pushed to the hub, and nothing was kept. {news['message']}", param="repository")
    return str(news["url"])


class _Child:
    def __init__(self, order: Order) -> None:
        self._news: dict[str, Any] = {}
        self._process = ManagedProcess(
            [sys.executable, "-m", "apps.datasets.exports.push"], name=f"push {order.repository}",
            env=environment(os.environ), cwd=settings.BASE_DIR, on_line=self._hear, stdin=msgspec.json.encode(order),
        )  # fmt: skip

    def watch(self, look: Callable[[], None]) -> dict[str, Any]:
        """Its last words."""
        deadline = time.monotonic() + LONGEST
        self._process.start()
        try:
            while self._process.wait(TICK) is None:
                look()
                if time.monotonic() > deadline:
                    return {"message": f"It took longer than {LONGEST / 60:g} minutes. Try again later."}
        finally:
            self._process.stop(STOP_SECONDS)
        if self._news:
            return self._news
        tail = " ".join(self._process.tail(3))[-500:]
        return {"message": f"The process that sends ended ({self._process.poll()}). {tail}"}

    def _hear(self, line: str) -> None:
        """In the reader's thread."""
        try:
            self._news = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            return  # a warning of a library; the tail keeps it
