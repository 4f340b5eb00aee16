"""Sends a child process (`apps.models.installs.download`) to the hub, and sees to it that the errand comes to an end.

Django-free, since the child reads its order with this module too.
"""

import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from apps.core.errors import Stopped
from apps.core.process import ManagedProcess

TICK = 0.25  # seconds between two looks at the child
START_SECONDS = 20.0  # for which a child may say nothing before it says anything: its start is no silence of the hub
STOP_SECONDS = 2.0
PAUSES = (0, 2, 10, 30, 60)  # seconds before the first, second … new try in a row that brought nothing
MOST_TRIES = 100  # children for one order, whatever they bring
MOST_WAITED_SECONDS = 3600.0  # for a hub that asks to be left alone, in all
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
"""A line of the child: `event` is "progress" (with `bytes`, `step` and `total`, or a `note` for people; `waits` while
another process fetches), "item", or how it ended: "done", "refused", "failed" or "interrupted" (with `wait`). Lines are
short; what is long comes as items, and the end gets their list."""


def tell(event: str, **values: Any) -> None:
    """The child's side: a line of news."""
    sys.stdout.buffer.write(msgspec.json.encode({"event": event, **values}) + b"\n")
    sys.stdout.buffer.flush()


def run(
    order: Order,
    *,
    cwd: Path,
    stall: float,
    on_news: Callable[[News], None],
    go_on: Callable[[], bool],
    tries: int = 5,
    floor: float = 0,
) -> News:
    """Have the order carried out; blocks. Returns the child's last news.

    A child that dies, loses the hub, brings nothing for `stall` seconds, or less than `floor` bytes a second in that
    time, is followed by another, which goes on where it was; after `tries` in a row that brought no more than that,
    and after MOST_TRIES in all, it fails. A hub that asks to wait is waited for, and does not use up a try. Each wait
    is told by `on_news`, as a `note`. Raises Refused, Failed; Stopped once `go_on()` is false.
    """
    fruitless, waited = 0, 0.0
    for _ in range(MOST_TRIES):
        child = _Child(order, cwd, on_news, stall=stall, floor=floor)
        last = child.watch(go_on)
        match last.get("event"):
            case "done":
                return last
            case "refused":
                raise Refused(last["message"], last["items"])
            case "failed":
                raise Failed(last["message"])
        trouble, wait = last["message"], last.get("wait")
        fruitless = 0 if child.brought_enough else fruitless + (wait is None)
        if fruitless >= tries:
            break
        if wait is None:
            _pause(PAUSES[min(fruitless, len(PAUSES) - 1)], trouble, on_news, go_on)
        elif (waited := waited + wait) <= MOST_WAITED_SECONDS:
            _pause(wait, f"{trouble} It asks to wait.", on_news, go_on)
        else:
            raise Failed(f"{trouble} It asks to wait {_duration(wait)}: try again then. What is here is kept.")
    raise Failed(f"{trouble} What is here is kept: try again.")


def _pause(seconds: float, why: str, on_news: Callable[[News], None], go_on: Callable[[], bool]) -> None:
    """Say what is waited for, for how long still, and wait."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        on_news({"event": "progress", "note": f"{why} It goes on in {_duration(left)}."})
        if not go_on():
            raise Stopped
        time.sleep(min(TICK, left))
    on_news({"event": "progress", "note": ""})


def _duration(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < 120 else f"{math.ceil(seconds / 60)} min"


class _Child:
    """One process, from its start to its end."""

    def __init__(self, order: Order, cwd: Path, on_news: Callable[[News], None], *, stall: float, floor: float) -> None:
        self._on_news = on_news
        self._stall, self._floor = stall, floor
        self._bytes: int | None = None
        self._brought = 0
        self._lock = threading.Lock()  # the reader's thread writes what follows
        self._moved = time.monotonic() + START_SECONDS  # when something was heard that is no mere repetition
        self._window: deque[tuple[float, int]] = deque()  # moments and bytes of a download, not older than `stall`
        self._last: News = {}
        self._items: list[Any] = []
        self._process = ManagedProcess(
            [sys.executable, "-m", "apps.models.installs.download"], name=f"{order.verb} {order.repo or order.folder}",
            env=environment(os.environ), cwd=cwd, on_line=self._hear, stdin=msgspec.json.encode(order),
        )  # fmt: skip

    @property
    def brought_enough(self) -> bool:
        """Whether it was worth while: a trickle is not, or it would be followed by trickles for ever."""
        return self._brought > self._floor * self._stall

    def watch(self, go_on: Callable[[], bool]) -> News:
        """Wait for its end, or make one."""
        self._process.start()
        try:
            while self._process.wait(TICK) is None:
                if not go_on():
                    raise Stopped
                if trouble := self._trouble():
                    return {"event": "interrupted", "message": trouble}
        finally:
            self._process.stop(STOP_SECONDS)
        if "event" in self._last and self._last["event"] not in ("progress", "item"):
            return {**self._last, "items": self._items}
        tail = " ".join(self._process.tail(3))[-500:]
        return {"event": "interrupted", "message": f"The process that downloads ended ({self._process.poll()}). {tail}"}

    def _trouble(self) -> str:
        with self._lock:
            return self._pace(time.monotonic())

    def _pace(self, now: float) -> str:
        """Empty while enough comes."""
        if now - self._moved > self._stall:
            return f"Nothing came for {self._stall:g} s."
        while len(self._window) > 1 and self._window[1][0] <= now - self._stall:
            self._window.popleft()
        if not self._window or now - self._window[0][0] < self._stall:
            return ""
        came = (self._bytes or 0) - self._window[0][1]
        if came >= self._floor * self._stall:
            return ""
        return f"Only {came:,} bytes came in {self._stall:g} s, fewer than MODEL_MIN_BYTES_PER_SECOND asks for."

    def _hear(self, line: str) -> None:
        """In the reader's thread."""
        try:
            news = msgspec.json.decode(line, type=News)
        except msgspec.DecodeError:
            return  # a warning of a library; the tail keeps it
        self._last = news
        if news.get("event") == "item":
            self._items.append(news["item"])
        with self._lock:
            self._measure(news)
        if news.get("event") == "progress":
            self._on_news(news)

    def _measure(self, news: News) -> None:
        if news.get("event") != "progress":
            self._moved = time.monotonic()
            return
        count = news.get("bytes", self._bytes)
        if count != self._bytes or "step" in news or news.get("waits"):
            self._moved = time.monotonic()
        if "step" in news or news.get("waits"):
            self._window.clear()  # what is read of a disk, and what another process fetches, has no floor
        elif self._window or "note" in news:
            self._window.append((time.monotonic(), count or 0))
        if self._bytes is not None and count is not None and "step" not in news:
            self._brought += max(count - self._bytes, 0)
        self._bytes = count


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    return {name: ours[name] for name in PASSED if name in ours} | ALWAYS
