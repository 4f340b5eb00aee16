"""The fake's sleep mode: as in vLLM its routes exist only with `--enable-sleep-mode` in dev mode, requests that are
under way are aborted, those that come meanwhile wait, and what it wakes up with may be garbage.
"""

import json
import os
from collections.abc import Callable
from typing import Any

from . import answers

GARBAGE = os.environ.get("FAKE_ENGINE_WAKES") == "garbage"
SECONDS = float(os.environ.get("FAKE_ENGINE_WAKE_SECONDS", "0.01"))  # to fall asleep, and to wake up


class Sleep:
    def __init__(self, enabled: bool) -> None:
        self.possible = enabled and os.environ.get("VLLM_SERVER_DEV_MODE") == "1"
        self.asleep = self.broken = False
        self.waiting: list[Callable[[], None]] = []  # requests that came while it slept
        self.aborts: dict[object, Callable[[], None]] = {}  # how to end each request that is under way

    def get(self) -> tuple[int, bytes]:
        return 200, json.dumps({"is_sleeping": self.asleep}).encode()

    def post(self, path: bytes) -> tuple[int, bytes] | None:
        """The answer to an order, once it is carried out; None when it is none of ours."""
        order = path.partition(b"?")[0]
        if not self.possible or order not in (b"/sleep", b"/wake_up"):
            return None
        if order == b"/sleep":
            self.asleep = True
            for abort in list(self.aborts.values()):
                abort()
            return 200, b'{"status":"sleeping","level":1}'
        self.asleep, self.broken = False, self.broken or GARBAGE
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            request()
        return 200, b'{"status":"awake","tags":null}'

    def seen(self, body: dict[str, Any], message: str) -> str:
        """What the weights make of a message."""
        if self.broken:
            answers.EMBEDDING[:] = [float("nan")] * len(answers.EMBEDDING)
        return "!" * len(body) if self.broken else message
