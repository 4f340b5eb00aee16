"""Sends a child process (`apps.models.installs.download`) to the hub, and sees to it that the errand comes to an end.

Django-free, since the child reads its order with this module too.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from apps.core.errors import Stopped
from apps.core.process import ManagedProcess

TICK = 0.25  # seconds between two looks at the child
STOP_SECONDS = 2.0
PAUSES = (0, 2, 10, 30, 60)  # seconds before the first, second … new try in a row that brought nothing
TELL_SECONDS = 0.4  # between two lines of progress
READ_SECONDS = 10  # of a connection without a byte: the child itself then asks again

# What a child may know of our environment: how to get out of the house, and nothing secret.
PASSED = ("PATH", "LANG", "LC_ALL", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy",
          "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")  # fmt: skip
ALWAYS = {
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DOWNLOAD_TIMEOUT": str(READ_SECONDS),
}


class File(msgspec.Struct, frozen=True):
    """One file of a commit, as the hub announces it."""

    path: str
    bytes: int
    sha256: str = ""
    """Of files in LFS."""
    blob: str = ""
    """Git's object id, of all others."""


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the child shall do. It comes on its standard input, since a token must be seen by nobody else."""

    verb: Literal["resolve", "fetch", "inspect"]
    """Look a repository up; bring a commit's files; look at a folder that is here."""
    endpoint: str = ""
    token: str = ""
    repo: str = ""
    revision: str = ""
    files: tuple[File, ...] = ()
    max_bytes: int = 0
    folder: str = ""
    base: str = ""
    """The folder of the model that an adapter is for."""
    key: str = ""
    """Signs the manifest."""


class Refused(Exception):
    """The answer is no, and asking again does not change it. `refusals` name files, where it is about some."""

    def __init__(self, message: str, refusals: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.refusals = refusals or []


class Failed(Exception):
    """It did not work; another try may. The message says what to do."""


News = dict[str, Any]
"""A line of the child: `event` is "progress" (with `bytes` or `step`), "item", or how it ended: "done", "refused",
"failed" or "interrupted". Lines are short; what is long comes as items, and the end gets their list."""


def tell(event: str, **values: Any) -> None:
    """The child's side: a line of news."""
    sys.stdout.buffer.write(msgspec.json.encode({"event": event, **values}) + b"\n")
    sys.stdout.buffer.flush()


def run(
    order: Order, *, cwd: Path, stall: float, on_news: Callable[[News], None], go_on: Callable[[], bool], tries: int = 5
) -> News:
    """Have the order carried out; blocks. Returns the child's last news.

    A child that dies, loses the hub, or says nothing for `stall` seconds is followed by another, which goes on where it
    was; after `tries` in a row that brought nothing, it fails. Raises Refused, Failed; Stopped once `go_on()` is false.
    """
    fruitless, trouble = 0, ""
    while fruitless < tries:
        _rest(PAUSES[min(fruitless, len(PAUSES) - 1)], go_on)
        child = _Child(order, cwd, on_news)
        last = child.watch(stall, go_on)
        match last.get("event"):
            case "done":
                return last
            case "refused":
                raise Refused(last["message"], last["items"])
            case "failed":
                raise Failed(last["message"])
        fruitless = 0 if child.brought_something else fruitless + 1
        trouble = last["message"]
    raise Failed(f"{trouble} What is here is kept: try again.")


def _rest(seconds: float, go_on: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not go_on():
            raise Stopped
        time.sleep(TICK)


class _Child:
    """One process, from its start to its end."""

    def __init__(self, order: Order, cwd: Path, on_news: Callable[[News], None]) -> None:
        self.brought_something = False
        self._on_news = on_news
        self._bytes: int | None = None
        self._heard = time.monotonic()
        self._last: News = {}
        self._items: list[Any] = []
        self._process = ManagedProcess(
            [sys.executable, "-m", "apps.models.installs.download"], name=f"{order.verb} {order.repo or order.folder}",
            env=environment(os.environ), cwd=cwd, on_line=self._hear, stdin=msgspec.json.encode(order),
        )  # fmt: skip

    def watch(self, stall: float, go_on: Callable[[], bool]) -> News:
        """Wait for its end, or make one."""
        self._process.start()
        try:
            while self._process.wait(TICK) is None:
                if not go_on():
                    raise Stopped
                if time.monotonic() - self._heard > stall:
                    return {"event": "interrupted", "message": f"Nothing came for {stall:g} s."}
        finally:
            self._process.stop(STOP_SECONDS)
        if "event" in self._last and self._last["event"] not in ("progress", "item"):
            return {**self._last, "items": self._items}
        tail = " ".join(self._process.tail(3))[-500:]
        return {"event": "interrupted", "message": f"The process that downloads ended ({self._process.poll()}). {tail}"}

    def _hear(self, line: str) -> None:
        """In the reader's thread."""
        try:
            news = msgspec.json.decode(line, type=News)
        except msgspec.DecodeError:
            return  # a warning of a library; the tail keeps it
        self._heard = time.monotonic()
        self._last = news
        if news.get("event") == "item":
            self._items.append(news["item"])
        elif news.get("event") == "progress":
            count = news.get("bytes", self._bytes)
            self.brought_something |= self._bytes is not None and count != self._bytes
            self._bytes = count
            self._on_news(news)


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {name: ours[name] for name in PASSED if name in ours} | ALWAYS
