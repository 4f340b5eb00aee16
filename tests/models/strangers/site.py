"""A live site to which strangers bring adapters, while an honest client chats with their base model."""

import http.client
import json
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.models.hubs import running_hub
from tests.models.strangers.adapters import Stranger
from tests.stack.live import LiveStack

BASE = "smol"
INSTALL_SECONDS = 300.0
LOOK_SECONDS = 0.2
PROMPT = "Count: one, two, three, four,"
SCRIPT = """
from pathlib import Path
from apps.accounts.services import create_api_key, create_project
from apps.models.services import register_model
register_model(name="{base}", path=Path({folder!r}))
print("KEY", create_api_key(project=create_project(name="Strangers"), name="key")[1])
"""


@dataclass(frozen=True, slots=True)
class Answer:
    began: float
    """Monotonic seconds."""
    pause: float
    """The longest time without a word, to the first one or between two."""
    problem: str
    """Empty where it ended as it should."""
    text: str = ""


@dataclass
class Client:
    """Streams short chats from one model, one after the other, until it is stopped."""

    api: "Api"
    model: str
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(INSTALL_SECONDS)

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.problem]

    def pauses(self, seconds: float) -> list[float]:
        """Those that were longer."""
        return [answer.pause for answer in self.answers if answer.pause > seconds]

    def _talk(self) -> None:
        while not self._stop.is_set():
            self.answers.append(self.api.chat(self.model))


class Api:
    """What a client sees of the site."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._headers = port, {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        connection = self._connect()
        connection.request(method, path, json.dumps(body) if body is not None else None, self._headers)
        response = connection.getresponse()
        status, content = response.status, response.read()
        connection.close()
        return status, json.loads(content)

    def chat(self, model: str) -> Answer:
        """One short answer, streamed."""
        messages = [{"role": "user", "content": "Say hello."}]
        body = {"model": model, "messages": messages, "max_tokens": 8, "temperature": 0, "stream": True}
        began = last = time.monotonic()
        pause, problem, lines = 0.0, "", b""
        connection = self._connect()
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), self._headers)
            response = connection.getresponse()
            while chunk := response.read1():
                pause, last = max(pause, time.monotonic() - last), time.monotonic()
                lines += chunk
            if response.status != 200 or not lines.rstrip().endswith(b"[DONE]") or b'"error"' in lines:
                problem = f"{response.status}: {lines[-500:].decode(errors='replace')}"
        except (OSError, http.client.HTTPException) as error:
            problem = repr(error)
        connection.close()
        return Answer(began, max(pause, time.monotonic() - last), problem, _text(lines))

    def answer(self, model: str) -> tuple[int, str]:
        """What a model says to one prompt, with its log probabilities, as one text; or an error."""
        body = {"model": model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0, "logprobs": 0}
        status, answer = self.send("POST", "/v1/completions", body)
        return status, json.dumps(answer["choices"][0]["logprobs"] if status == 200 else answer["error"])

    def install(self, source: str, name: str) -> dict[str, Any]:
        """The install, once it has ended."""
        status, install = self.send("POST", "/v1/models/install", {"source": source, "name": name, "base": BASE})
        assert status == 200, install
        deadline = time.monotonic() + INSTALL_SECONDS
        while install["status"] not in ("ready", "refused", "failed"):
            assert time.monotonic() < deadline, install
            time.sleep(LOOK_SECONDS)
            _, install = self.send("GET", f"/v1/models/installs/{install['id']}")
        found: dict[str, Any] = install
        return found

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=INSTALL_SECONDS)


def _text(lines: bytes) -> str:
    """What the events of a stream say together."""
    events = [json.loads(line[6:]) for line in lines.splitlines() if line.startswith(b"data: {")]
    choices = [choice for event in events for choice in event.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


class Site:
    """A context manager: the site with the base model, and a hub that has what is added."""

    def __init__(self, folder: Path, model: Path, **env: str) -> None:
        self._model, self._hub_context = model, running_hub(folder / "hub")
        self._folder, self._env = folder, env

    def __enter__(self) -> Self:
        self.hub = self._hub_context.__enter__()
        var = self._folder / "var"
        self.live = LiveStack(var, env={"GPU_SLOTS": "cpu", "HF_ENDPOINT": self.hub.endpoint, **self._env})
        self.live.start()
        out = self.live.manage("shell", "-c", SCRIPT.format(base=BASE, folder=str(self._model)))
        keys = [line.split()[1] for line in out.stdout.splitlines() if line.startswith("KEY")]
        assert keys, out.stderr
        self.api = Api(self.live.api_port, keys[0])
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()
        self._hub_context.__exit__(None, None, None)
        shutil.rmtree(self._folder / "var" / "models", ignore_errors=True)

    def bring(self, stranger: Stranger) -> dict[str, Any]:
        """Put it on the hub, and install it."""
        self.hub.add(f"acme/{stranger.name}", {**stranger.files, **stranger.beside})
        return self.api.install(f"acme/{stranger.name}", stranger.name)

    def engines_log(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in (self._folder / "var" / "log").glob("engine*"))
