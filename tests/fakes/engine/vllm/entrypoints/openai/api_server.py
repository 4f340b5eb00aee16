"""A small, fast stand-in for vLLM's OpenAI server on a UNIX socket: its protocol, its processes, no model.

Like vLLM it has a second process, EngineCore, which survives a `kill -9` of this one, and without which this one
ends. It is steered by the environment:

    FAKE_ENGINE_LOAD_SECONDS  time until it is ready
    FAKE_ENGINE_LATENCY       seconds per request
    FAKE_ENGINE_CALLS         a file that gets one line per request: the last user's message
    FAKE_ENGINE_TOKEN_SECONDS between two events of a stream
    FAKE_ENGINE_EVENT_TOKENS  tokens in each of them
    FAKE_ENGINE_PRIORITIES    a file that gets one line per request: its priority
    FAKE_ENGINE_WAKES         "garbage": after a wake-up its answers are that
    FAKE_ENGINE_WAKE_SECONDS  to fall asleep, and to wake up
    FAKE_ENGINE_MAX_RANK      of adapters; it does not start with room for more
    FAKE_ENGINE_VOICES        a file, read each time: {NAME: how the model or adapter of that name begins its answers},
                              or {NAME: {MESSAGE: the answer}}

and by markers in the last user's message: `!die` (SIGKILL to itself), `!400`, `!500`, `!500-once`, `!429-once` (for
the first request with that very message), `!garbage` (half a JSON document), `!slow:SECONDS`, `!metadata` (the answer
has a header of that name); in streams `!pace:SECONDS` (between two events) and `!die-after:EVENTS`.
"""

import argparse
import asyncio
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from . import answers, sleep
from .loras import Loras
from .streams import Stream, stream

try:
    import uvloop as fast
except ImportError:
    fast = asyncio  # type: ignore[misc]

LATENCY = float(os.environ.get("FAKE_ENGINE_LATENCY", "0"))
LOAD_SECONDS = float(os.environ.get("FAKE_ENGINE_LOAD_SECONDS", "0"))
CALLS = os.environ.get("FAKE_ENGINE_CALLS")
PRIORITIES = os.environ.get("FAKE_ENGINE_PRIORITIES")

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MARKER = re.compile(r"!(?:die(?!-)|400|500-once|500|429-once|garbage|slow:([\d.]+))")
REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 429: b"Too Many Requests", 500: b"Internal Server Error"}
NOT_FOUND = (404, b'{"detail":"Not Found"}')

VALUES = (
    "--load-format", "--scheduling-policy", "--dtype", "--max-model-len", "--max-loras", "--max-cpu-loras",
    "--max-lora-rank", "--gpu-memory-utilization", "--tensor-parallel-size", "--pipeline-parallel-size",
    "--data-parallel-size", "--quantization", "--kv-cache-dtype", "--tool-call-parser", "--reasoning-parser",
    "--structured-outputs-config",
    "--distributed-executor-backend", "--chat-template", "--generation-config",
)  # fmt: skip
SWITCHES = (
    "--enforce-eager", "--enable-prompt-tokens-details", "--enable-prefix-caching", "--enable-lora",
    "--enable-sleep-mode", "--disable-uvicorn-access-log", "--enable-auto-tool-choice",
)  # fmt: skip

Answer = tuple[int, bytes] | Stream  # status and JSON, or events
GENERATE = {
    b"/v1/chat/completions": answers.chat,
    b"/v1/completions": answers.completion,
    b"/v1/responses": answers.response,
}
POOLING = {b"/v1/embeddings": answers.embedding}
NEEDS = {
    b"/v1/chat/completions": "messages",
    b"/v1/completions": "prompt",
    b"/v1/responses": "input",
    b"/v1/embeddings": "input",
}


class Server:
    """What all connections share: the models' names, and the requests that are under way."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.loras = Loras(options)
        self.answered = 0
        self.routes = POOLING if options.runner == "pooling" else GENERATE
        self.inside = 0
        self.seen: set[str] = set()
        self.sleep = sleep.Sleep(options.enable_sleep_mode)
        self.calls = Path(CALLS).open("a", buffering=1) if CALLS else None  # noqa: SIM115 (open to the end)
        self.priorities = Path(PRIORITIES).open("a", buffering=1) if PRIORITIES else None  # noqa: SIM115 (the same)

    @property
    def names(self) -> list[str]:
        return [self.options.served_model_name, *self.loras.folders]

    def get(self, path: bytes) -> tuple[int, bytes]:
        if path == b"/health":
            return 200, b""
        if path == b"/v1/models":
            return 200, answers.models(self.names, self.options.model)
        if path == b"/is_sleeping" and self.sleep.possible:
            return self.sleep.get()
        return (200, self.metrics()) if path == b"/metrics" else NOT_FOUND

    def metrics(self) -> bytes:
        label = f'{{engine="0",model_name="{self.names[0]}"}}'
        running = min(self.inside, self.options.max_num_seqs)
        return (
            f"vllm:num_requests_running{label} {running}.0\n"
            f"vllm:num_requests_waiting{label} {self.inside - running}.0\n"
            f'vllm:request_success_total{{engine="0",finished_reason="stop"}} {self.answered}.0\n'
        ).encode()

    def adapter(self, path: bytes, body: dict[str, Any]) -> tuple[int, bytes]:
        if path == b"/v1/unload_lora_adapter":
            return self.loras.unload(body["lora_name"])
        return self.loras.load(body["lora_name"], Path(body["lora_path"]))

    def post(self, path: bytes, raw: bytes) -> tuple[Answer, float]:
        """The answer, and how many seconds it takes."""
        try:
            body = json.loads(raw)
        except ValueError as problem:
            return answers.error(400, "Bad Request", f"1 validation error:\n  {problem}"), 0
        if path.endswith(b"load_lora_adapter") and self.options.enable_lora:
            return self.adapter(path, body), 0
        if path not in self.routes:
            return NOT_FOUND, 0
        message = answers.last_message(body)
        if self.calls:
            self.calls.write(message.replace("\n", " ") + "\n")
        if self.priorities:
            self.priorities.write(f"{body.get('priority', 0)}\n")
        if trouble := self.trouble(path, body):
            return trouble, 0
        self.answered += 1
        marker = MARKER.search(message) if "!" in message else None
        return self.marked(marker, path, body, message) if marker else (self.plain(path, body, message), LATENCY)

    def trouble(self, path: bytes, body: dict[str, Any]) -> tuple[int, bytes] | None:
        """Why it is not answered."""
        if NEEDS[path] not in body:
            return answers.error(400, "Bad Request", "1 validation error: Field required", f"body.{NEEDS[path]}")
        if (name := body.get("model")) not in self.names:
            return answers.error(404, "NotFoundError", f"The model `{name}` does not exist.", "model")
        return self.loras.trouble(name) or answers.without_room(body, int(self.options.max_model_len or 0))

    def plain(self, path: bytes, body: dict[str, Any], message: str) -> Answer:
        message = self.sleep.seen(body, message)
        if body.get("stream") and path in GENERATE:
            return stream(path, body, message)
        return 200, self.routes[path](body, message)

    def marked(self, marker: re.Match[str], path: bytes, body: dict[str, Any], message: str) -> tuple[Answer, float]:
        """Behave as the marker says."""
        word = marker[0]
        first = message not in self.seen
        if word.endswith("-once"):
            self.seen.add(message)
        if word == "!die":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "!400":
            return answers.error(400, "BadRequestError", "This request is marked !400."), LATENCY
        if word == "!500" or (word == "!500-once" and first):
            return answers.error(500, "InternalServerError", "This request is marked !500."), LATENCY
        if word == "!429-once" and first:
            return answers.error(429, "RateLimitError", "This request is marked !429."), LATENCY
        if word == "!garbage":
            whole = self.routes[path](body, message)
            return (200, whole[: len(whole) // 2]), LATENCY
        return self.plain(path, body, message), float(marker[1]) if marker[1] else LATENCY


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, for clients that wait for one answer before they ask again."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.rest = b""
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def connection_lost(self, _error: Exception | None) -> None:
        if self.timer:  # the client went away: vLLM drops its request too
            self.timer.cancel()
            self.server.sleep.aborts.pop(self, None)
            self.server.inside -= 1

    def data_received(self, data: bytes) -> None:
        self.rest += data
        while (end := self.rest.find(b"\r\n\r\n")) >= 0:
            head = self.rest[:end]
            length = LENGTH.search(head)
            total = end + 4 + (int(length[1]) if length else 0)
            if len(self.rest) < total:
                return
            body, self.rest = self.rest[end + 4 : total], self.rest[total:]
            method, path, _ = head.split(b" ", 2)
            self.handle(method, path, body)

    def handle(self, method: bytes, path: bytes, body: bytes) -> None:
        if method == b"GET":
            self.write(self.server.get(path))
            return
        if self.server.sleep.asleep and path.startswith(b"/v1/"):
            self.server.sleep.waiting.append(lambda: self.handle(method, path, body))
            return
        order = self.server.sleep.post(path)
        answer, seconds = (order, sleep.SECONDS) if order else self.server.post(path, body)
        if seconds:
            self.server.inside += 1
            if path.startswith(b"/v1/"):
                self.server.sleep.aborts[self] = lambda: self.abort(answer)
            self.timer = asyncio.get_running_loop().call_later(seconds, self.write_late, answer)
        else:
            self.write(answer)

    def abort(self, answer: Answer) -> None:
        """End early, as vLLM does when it falls asleep."""
        if self.timer:
            self.timer.cancel()
        status, body = answer if isinstance(answer, tuple) else (200, b"".join(answer.events))
        self.write_late((status, body.replace(b'"finish_reason":"stop"', b'"finish_reason":"abort"')))

    def write_late(self, answer: Answer) -> None:
        self.timer = None
        self.server.sleep.aborts.pop(self, None)
        self.server.inside -= 1
        self.write(answer)

    def write(self, answer: Answer) -> None:
        if isinstance(answer, Stream):
            head = b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
            self.transport.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
            self.server.inside += 1
            self.write_events(answer, 0)
            return
        status, body = answer
        more = b'metadata: {"data":[]}\r\n' if b"!metadata" in body else b""
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\n%scontent-length: %d\r\n\r\n%s"
            % (status, REASONS[status], more, len(body), body)
        )

    def write_events(self, stream: Stream, begin: int) -> None:
        """Those from `begin` on: all at once, or one and then a pause."""
        events = stream.events[begin : begin + 1] if stream.pause else stream.events[begin : stream.dies_after]
        self.transport.write(b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events))
        done = begin + len(events)
        loop = asyncio.get_running_loop()
        if done == stream.dies_after:
            loop.call_later(0.05, os.kill, os.getpid(), signal.SIGKILL)  # once they are sent
        elif done < len(stream.events):
            self.timer = loop.call_later(stream.pause, self.write_events, stream, done)
        if done < len(stream.events):
            return
        self.timer = None
        self.server.inside -= 1
        self.transport.write(b"0\r\n\r\n")


def options() -> argparse.Namespace:
    """The flags that we start vLLM with; like vLLM, it refuses others."""
    parser = argparse.ArgumentParser()
    for flag in ("--model", "--served-model-name", "--uds"):
        parser.add_argument(flag, required=True)
    for flag in VALUES:
        parser.add_argument(flag)
    for flag in SWITCHES:
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--runner", choices=["generate", "pooling"], default="generate")
    parser.add_argument("--max-num-seqs", type=int, default=256)
    parser.add_argument("--lora-modules", nargs="+", default=[])
    return parser.parse_args()


def start_core() -> int:
    """Fork the EngineCore. Returns its pid."""
    pid = os.fork()
    if pid == 0:
        Path("/proc/self/comm").write_text("VLLM::EngineCor")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while True:
            signal.pause()
    return pid


def end(ended: asyncio.Future[int], code: int) -> None:
    if not ended.done():
        ended.set_result(code)


async def serve(server: Server, core: int) -> int:
    """Answer until told to stop (0), or until the core is gone (1)."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, ended, 0)
    loop.add_reader(os.pidfd_open(core), end, ended, 1)
    await asyncio.sleep(LOAD_SECONDS)
    listener = await loop.create_unix_server(lambda: Connection(server), server.options.uds, backlog=1024)
    print(f"(APIServer pid={os.getpid()}) INFO Starting vLLM server on unix:{server.options.uds}", flush=True)
    code = await ended
    listener.close()
    return code


def main() -> int:
    chosen = options()
    if not (Path(chosen.model) / "config.json").is_file():
        print(f"ValueError: No config.json in {chosen.model}", file=sys.stderr)
        return 1
    core = start_core()
    started = time.monotonic()
    code: int = fast.run(serve(Server(chosen), core))
    print(f"(APIServer pid={os.getpid()}) served for {time.monotonic() - started:.1f} s", flush=True)
    if code == 0:
        os.kill(core, signal.SIGTERM)
    return code


if __name__ == "__main__":
    sys.exit(main())
