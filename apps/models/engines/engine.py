"""Drives vLLM's own OpenAI server as a child process."""

import contextlib
import http.client
import json
import os
import re
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from apps.core.process import ManagedProcess, ProcessGroup
from apps.models.engines import canary
from apps.models.engines.canary import Canary
from apps.models.engines.causes import last_cause, without_paths
from apps.models.engines.command import Adapter, EngineSpec, command, environment
from apps.models.engines.comparison import changes_nothing

__all__ = [
    "Adapter",
    "AdapterOverflows",
    "AdapterRefused",
    "CanaryDiffers",
    "Engine",
    "EngineFailed",
    "EngineSpec",
    "FilesDamaged",
]

POLL_SECONDS = 0.25  # between looks at an engine that loads or drains
HEALTH_SECONDS = 5.0
ADAPTER_SECONDS = 120.0
SLEEP_SECONDS = 120.0  # for falling asleep or waking up: large weights cross the bus
CANARY_SECONDS = 60.0
FAILURE_LINES = 15  # of the log, in the message of a failure
CAUSE_LINES = 200  # of the log, in which the cause is looked for: two processes print a traceback each
SAID_CHARACTERS = 2_000  # of an engine's error
NOT_FINITE = b"Out of range float values"  # what vLLM says where it cannot write a number down
BROKEN_OFF = re.compile(r'finished_reason="(abort|error)"')  # of requests that were not answered

CURES = (  # a phrase of vLLM's, or of Python's, and what to do
    ("did not start: ", "Run `make setup`, or set ENGINE_PYTHON to an interpreter that has vLLM."),
    ("No module named", "Run `make setup`, or install the engine's requirements into ENGINE_PYTHON."),
    ("out of memory", "Use a smaller model, a shorter context, or more GPUs together (GPU_SLOTS)."),
    ("Free memory on device", "Something else uses this GPU: stop it, or give the slot another GPU (GPU_SLOTS)."),
    ("No available memory for the cache", "Use a smaller model, or more GPUs together (GPU_SLOTS)."),
    ("KV cache is needed", "Set a shorter context on the model, or raise ENGINE_KV_CACHE_GIB (CPU)."),
    ("Cannot find any model weights", "The model's folder must hold its weights as safetensors."),
    ("not initialized from checkpoint", "Weights are missing: fetch the model again."),
    ("There is no module or parameter named", "Weights of another model, or of another layout, lie in the folder."),
    ("SafetensorError", "A file of the weights is damaged: fetch the model again."),
    ("are not supported for now", "This version of vLLM does not know the model: choose another."),
    ("backend tokenizer", "The model's tokenizer is missing or damaged: fetch it again."),
    ("Repo id must be", "The model's folder is gone: put it back, or register the model in another."),
)
NO_CURE = "The log's last lines say why."


class EngineFailed(Exception):
    """The engine did not get ready. The message's first line says why and what to do, without a path of this server;
    the log's last lines follow it.
    """

    def __init__(self, message: str, *, explained: bool = False) -> None:
        super().__init__(message)
        self.explained = explained
        """Whether a cause is known, which trying again does not cure."""


class FilesDamaged(EngineFailed):
    """The model's files are not what was installed, so no engine is started: nothing but other files cures it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, explained=True)


class AdapterRefused(Exception):
    """The engine did not take an adapter, or has none of that name. The message is the engine's."""


class AdapterOverflows(AdapterRefused):
    """Its numbers are not finite, and are in the engine's KV cache now, where other requests read them: stop it."""


class CanaryDiffers(EngineFailed):
    """The engine woke up and answers differently from before it slept: it must be started anew."""


class UnixHTTPConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("engine", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Engine:
    """One vLLM server, from its start to its end.

    Not in charge of: which model runs and when (`apps.models.plan`), who may use the device (leases), sending
    requests (each job kind has its client; they go to `spec.socket`), and starting again after a crash.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.adapters: frozenset[Adapter] = frozenset()
        self._canary: Canary | None = None
        self._own = 0  # requests that we sent, and that it answered
        self._process = ManagedProcess(
            command(spec), name=f"engine of {spec.served_name}", env=environment(spec, os.environ),
            cwd=spec.cwd, log=spec.log,
        )  # fmt: skip

    @property
    def group(self) -> ProcessGroup:
        """What to record on the lease, for the next owner of the device to reap. Only after `start()`."""
        return self._process.group

    def start(self) -> None:
        """Start the process. Returns at once; the model is loaded when `wait_ready()` returns."""
        self.spec.socket.unlink(missing_ok=True)
        self._process.start()

    def wait_ready(self, timeout: float, should_stop: Callable[[], bool]) -> None:
        """Return when requests are answered. Raises EngineFailed: it died, is late, or was told to stop."""
        deadline = time.monotonic() + timeout
        while not self.healthy():
            if not self.alive():
                cure = self._cure()
                what = self._explain(f"ended with code {self._process.wait(1)}", cure)
                raise EngineFailed(what, explained=cure != NO_CURE)
            if should_stop():
                message = f"The engine of {self.spec.served_name} was told to stop while it loaded."
                raise EngineFailed(message, explained=True)
            if time.monotonic() > deadline:
                cure = "If the log shows that it still loads, raise ENGINE_START_SECONDS."
                raise EngineFailed(self._explain(f"is not ready after {timeout:g} s", cure))
            time.sleep(POLL_SECONDS)
        if self.spec.can_sleep:
            self._canary = self._sing()

    def alive(self) -> bool:
        """Whether the process runs; it ends by itself when its EngineCore dies."""
        return self._process.poll() is None

    def healthy(self) -> bool:
        """Whether it runs and says that it can answer. Takes at most HEALTH_SECONDS."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.alive() and self._request("GET", "/health", timeout=HEALTH_SECONDS)[0] == 200
        return False

    @property
    def served(self) -> frozenset[str]:
        """The names that requests may ask for: the model's and its loaded adapters'."""
        return frozenset({self.spec.served_name, *(adapter.name for adapter in self.adapters)})

    def load_adapter(self, adapter: Adapter) -> None:
        """Serve `adapter` under its name from now on. Raises AdapterRefused, OSError."""
        self._change_adapter("load", {"lora_name": adapter.name, "lora_path": str(adapter.path)}, adapter.path)
        self.adapters |= {adapter}

    def try_adapter(self, adapter: Adapter) -> None:
        """Load it, and compare its answers with the base model's. Raises AdapterRefused, with it unloaded again.

        Raises OSError, http.client.HTTPException where the engine does not answer; see `ends_within`.
        """
        self.load_adapter(adapter)
        try:
            if sentence := changes_nothing(partial(self._answer, adapter), adapter.name, self.spec.served_name):
                raise AdapterRefused(sentence)
        except AdapterRefused:
            self.unload_adapter(adapter.name)
            raise

    def ends_within(self, timeout: float) -> bool:
        """Whether the process, which does not answer, is gone; one that lives and is well was only late."""
        deadline = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() > deadline or self.healthy():
                return False
            time.sleep(POLL_SECONDS)
        return True

    def answered(self) -> int:
        """Requests of others that it has answered since it started. Raises OSError, http.client.HTTPException."""
        return self._count("vllm:request_success_total{") - self._own

    def unload_adapter(self, name: str) -> None:
        """Serve it no more. Raises AdapterRefused, OSError."""
        self._change_adapter("unload", {"lora_name": name}, self.spec.model)
        self.adapters = frozenset(adapter for adapter in self.adapters if adapter.name != name)

    def drain(self, timeout: float, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Wait until no request runs or waits in the engine. False when some do after `timeout` seconds.

        Raises OSError, http.client.HTTPException when the engine is gone.
        """
        deadline = time.monotonic() + timeout
        while self._requests_inside():
            if time.monotonic() > deadline or should_stop():
                return False
            time.sleep(POLL_SECONDS)
        return True

    @property
    def can_sleep(self) -> bool:
        """Whether the platform can, and there is an answer to compare with after the wake-up."""
        return self._canary is not None

    def sleep(self) -> None:
        """Move the weights to the machine's memory and drop the KV cache (level 1); what is in flight is aborted.

        Raises EngineFailed, with the engine in an unknown state: stop it.
        """
        self._order("/sleep?level=1&mode=abort")

    def wake(self) -> None:
        """Take the weights back. Raises EngineFailed or CanaryDiffers: stop the engine and start it anew."""
        self._order("/wake_up")
        if self.is_sleeping():
            raise EngineFailed(f"The engine of {self.spec.served_name} does not wake up.")
        song = self._sing()
        if self._canary and (difference := self._canary.difference(song)):
            name = self.spec.served_name
            raise CanaryDiffers(f"The engine of {name} answers differently after it slept: {difference}")

    def is_sleeping(self) -> bool:
        """Raises EngineFailed."""
        try:
            answer = self._request("GET", "/is_sleeping", timeout=HEALTH_SECONDS)[1]
            return bool(json.loads(answer)["is_sleeping"])
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise EngineFailed(f"The engine of {self.spec.served_name} does not say if it sleeps: {error!r}") from error

    def stop(self, timeout: float) -> None:
        """End the engine and everything it started: politely, after `timeout` seconds by force."""
        self._process.stop(timeout)
        self.spec.socket.unlink(missing_ok=True)

    def tail(self, lines: int = FAILURE_LINES) -> list[str]:
        """The last lines that it printed, the latest last."""
        return self._process.tail(lines)

    def cause(self, folder: Path) -> str:
        """The last exception that it printed, as one sentence; empty where there is none. `folder`: whose it is."""
        return last_cause(self.tail(CAUSE_LINES), folder)

    def _order(self, path: str) -> None:
        try:
            status, answer = self._request("POST", path, timeout=SLEEP_SECONDS)
        except (OSError, http.client.HTTPException) as error:
            raise EngineFailed(self._explain(f"did not answer {path}: {error!r}", self._cure())) from error
        if status != 200:
            raise EngineFailed(self._explain(f"refused {path}: {answer.decode()}", self._cure()))

    def _sing(self) -> Canary | None:
        """What the canary answers; None when this model cannot be asked, and therefore should not sleep."""
        route, body = canary.request(self.spec.runner)
        try:
            status, answer = self._request(
                "POST", route, {"model": self.spec.served_name, **body}, timeout=CANARY_SECONDS
            )
        except (OSError, http.client.HTTPException):
            return None
        self._own += status == 200
        return canary.read(self.spec.runner, answer) if status == 200 else None

    def _answer(self, adapter: Adapter, name: str, prompt: str) -> Canary:
        """What the adapter, or its base, answers. Raises AdapterRefused for what is no answer, OSError."""
        route, body = canary.request(self.spec.runner, prompt)
        status, answer = self._request("POST", route, {"model": name, **body}, timeout=ADAPTER_SECONDS)
        if NOT_FINITE in answer:
            raise AdapterOverflows("Its numbers overflow: its answer to a first prompt is NaN or infinite.")
        if status != 200:
            raise AdapterRefused(f"It does not answer a first prompt: {_said(answer, adapter.path)}")
        self._own += 1
        found = canary.read(self.spec.runner, answer)
        if found is None or not found.is_finite:
            raise AdapterOverflows("It answers a first prompt with nothing of use: its numbers are not finite.")
        return found

    def _requests_inside(self) -> int:
        """Raises OSError when the engine is gone."""
        return self._count("vllm:num_requests_running{", "vllm:num_requests_waiting{")

    def _count(self, *gauges: str) -> int:
        text = self._request("GET", "/metrics", timeout=HEALTH_SECONDS)[1].decode()
        lines = [line for line in text.splitlines() if line.startswith(gauges) and not BROKEN_OFF.search(line)]
        return int(sum(float(line.split()[-1]) for line in lines))

    def _change_adapter(self, verb: str, body: dict[str, str], folder: Path) -> None:
        status, answer = self._request("POST", f"/v1/{verb}_lora_adapter", body, timeout=ADAPTER_SECONDS)
        if status != 200:
            raise AdapterRefused(f"The engine does not {verb} it: {_said(answer, folder)}")

    def _request(self, method: str, path: str, body: Any = None, *, timeout: float) -> tuple[int, bytes]:
        connection = UnixHTTPConnection(self.spec.socket, timeout)
        with contextlib.closing(connection):
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()

    def _cure(self) -> str:
        text = "\n".join(self.tail(CAUSE_LINES))
        return next((cure for phrase, cure in CURES if phrase in text), NO_CURE)

    def _explain(self, what: str, cure: str) -> str:
        cause = last_cause(self.tail(CAUSE_LINES), self.spec.model)
        told = f"{what}: {cause}." if cause else f"{what}."
        if not cause or cure != NO_CURE:
            told += f" {cure}"
        lines = "\n".join(self.tail())
        return f"The engine of {self.spec.served_name} {told}\nLog: {self.spec.log}\n{lines}"


def _said(answer: bytes, folder: Path) -> str:
    """The message of an error, as vLLM wrote it, without the server's paths. `folder` is the adapter's."""
    try:
        message = str(json.loads(answer)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        message = answer.decode(errors="replace")
    return without_paths(message, folder)[:SAID_CHARACTERS]
