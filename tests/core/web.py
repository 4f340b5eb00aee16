"""A web process of its own on the test's database, and ways to talk to it."""

import contextlib
import http.client
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings

MIB = 1024**2


class Web:
    """A running web process and ways to talk to it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.port = _free_port()
        ports = {"API_PORT": str(self.port), "WEB_PORT": str(_free_port())}
        command = [sys.executable, "-m", "batchserver.web"]
        self.process = subprocess.Popen(command, env={**env, **ports}, cwd=settings.BASE_DIR)
        self._await()

    def runs(self) -> bool:
        return self.process.poll() is None

    def _await(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.request("GET", "/healthz")[0] == 200:
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("the web process does not start")

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        connection = self.connect()
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    @property
    def peak(self) -> int:
        """The most memory that it held since `forget_peak`, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def send(self, *pieces: bytes, wait_for: bytes = b"") -> tuple[int, bytes]:
        """Raw bytes on a connection of their own, and the answer's status and body. Before the second piece `wait_for`
        is read, 100 Continue for example. A server that refuses may hang up before it has all of them."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(pieces[0])
                if wait_for:
                    assert client.recv(len(wait_for)) == wait_for
                for piece in pieces[1:]:
                    client.sendall(piece)
            response = http.client.HTTPResponse(client)
            response.begin()
            return response.status, response.read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
