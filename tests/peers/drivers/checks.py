"""What every driver in Python is made of: named checks, run one after the other, told as lines of JSON.

Drivers run in the interpreter of their client, and import nothing of the server's.
"""

import asyncio
import inspect
import json
import os
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

URL = os.environ["OPENAI_BASE_URL"]
KEY = os.environ["OPENAI_API_KEY"]
MODEL = os.environ["PEER_MODEL"]
EMBEDDING_MODEL = os.environ["PEER_EMBEDDING_MODEL"]
ENDED = ("completed", "failed", "expired", "cancelled")
PATIENCE = 180.0  # seconds until a batch has ended

_told = os.fdopen(os.dup(1), "w", buffering=1)  # clients that capture or redirect standard output do not get this

_checks: dict[str, Callable[[], Any]] = {}


def check(name: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """A function, or a coroutine function, that raises when the check fails."""

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        assert name not in _checks, name
        _checks[name] = function
        return function

    return register


def run(package: str) -> None:
    """Run every check, and tell how each went."""
    _tell(peer="version", version=version(package) if package else "")
    run_checks()


def run_checks() -> None:
    for name, function in _checks.items():
        try:
            outcome = function()
            if inspect.isawaitable(outcome):
                asyncio.run(_finish(outcome))
        except BaseException as error:
            traceback.print_exc()
            tell_check(name, f"{type(error).__name__}: {error}")
        else:
            tell_check(name, None)


def tell_check(name: str, problem: str | None) -> None:
    _tell(peer="check", check=name, ok=problem is None, detail=(problem or "")[:2000])


def tell_left_out(reason: str) -> None:
    """A check that says nothing about this server is not run."""
    _tell(peer="left out", reason=reason)


def tell_version(text: str) -> None:
    _tell(peer="version", version=text)


def lines(*texts: str, **body: Any) -> bytes:
    """A batch's input file of chats."""
    return b"".join(
        json.dumps(
            {
                "custom_id": f"r{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": MODEL,
                    "messages": [{"role": "user", "content": text}],
                    "max_tokens": 8,
                    **body,
                },
            }
        ).encode()
        + b"\n"
        for number, text in enumerate(texts or ("one", "two"), 1)
    )


def wait(ask: Callable[[], Any], *statuses: str) -> Any:
    """What `ask` gives, once its status is one of these (or it has ended)."""
    deadline = time.monotonic() + PATIENCE
    while (found := ask()).status not in (statuses or ENDED):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


async def _finish(awaitable: Any) -> None:
    await awaitable


def _tell(**facts: Any) -> None:
    print(json.dumps(facts), file=_told)
