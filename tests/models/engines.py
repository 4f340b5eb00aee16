"""What the tests of engines share: looking at an engine's processes, and asking it."""

import http.client
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apps.core import guard
from apps.models.engines.engine import Engine, UnixHTTPConnection

NO_ORPHAN_SECONDS = 10


def eventually(condition: Callable[[], Any], seconds: float = NO_ORPHAN_SECONDS) -> bool:
    """Whether the condition becomes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def family(engine: Engine) -> set[int]:
    """The pids of the guard, the API server, EngineCore and what else the engine runs."""
    return guard.family(engine.group.pgid)


def only_child(engine: Engine, parent: int) -> int:
    """The one child of a process of the engine: the guard's is the API server, whose is EngineCore."""
    rows = [row for pid in family(engine) if (row := guard.read_process(pid))]
    (pid,) = [row.pid for row in rows if row.parent == parent and "resource_tracker" not in name(row.pid)]
    return pid


def name(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def api_server(engine: Engine) -> int:
    return only_child(engine, engine.group.pgid)


def engine_core(engine: Engine) -> int:
    return only_child(engine, api_server(engine))


def all_gone(pids: set[int]) -> bool:
    return all((row := guard.read_process(pid)) is None or row.zombie for pid in pids)


def post(engine: Engine, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and decoded answer of one request."""
    status, answer = _post(engine, path, body)
    return status, json.loads(answer)


def post_raw(engine: Engine, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    """Status and answer as it came."""
    return _post(engine, path, body)


def raw(engine: Engine, path: str, body: dict[str, Any]) -> bytes:
    """The bytes of one answer, for streams."""
    return _post(engine, path, body)[1]


def _post(engine: Engine, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    return _send(engine, "POST", path, json.dumps(body))


def _send(engine: Engine, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
    connection = UnixHTTPConnection(engine.spec.socket, timeout=60)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response: http.client.HTTPResponse = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, answer


def cached_tokens(engine: Engine) -> int:
    """How many tokens its KV cache holds, as the engine itself says."""
    metrics = _send(engine, "GET", "/metrics")[1].decode()
    (line,) = [line for line in metrics.splitlines() if line.startswith("vllm:cache_config_info{")]
    labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
    return int(labels["num_gpu_blocks"]) * int(labels["block_size"])


def ask(engine: Engine, question: str, **options: Any) -> str:
    """The answer's text. Fails unless the engine answers with 200."""
    messages = [{"role": "user", "content": question}]
    body = {"model": engine.spec.served_name, "messages": messages, "max_tokens": 16, "temperature": 0, **options}
    status, answer = post(engine, "/v1/chat/completions", body)
    assert status == 200, answer
    return str(answer["choices"][0]["message"]["content"])
