"""The site's own engine, behind the site's back: what fails there in the same way is not the site's doing."""

import os
import socket
import threading
from pathlib import Path

import requests


class BareEngine:
    """A port of this machine that leads to the socket of the engine that serves a model, without the site."""

    def __init__(self, model: str) -> None:
        sockets = Path(os.environ["PEER_RUN_DIR"]).rglob("engine.sock")
        self._socket = next(path for path in sockets if serves(path, model))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.root = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            caller, _ = self._server.accept()
            engine = connected(self._socket)
            for source, target in ((caller, engine), (engine, caller)):
                threading.Thread(target=copy, args=(source, target), daemon=True).start()


def connected(path: Path) -> socket.socket:
    engine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    engine.connect(str(path))
    return engine


def copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()


def serves(path: Path, model: str) -> bool:
    try:
        with connected(path) as engine:
            engine.settimeout(10)
            engine.sendall(b"GET /v1/models HTTP/1.0\r\nHost: engine\r\n\r\n")
            answer = b""
            while data := engine.recv(65536):
                answer += data
    except OSError:
        return False
    return f'"id":"{model}"'.encode() in answer


def wake(url: str, key: str, model: str, *, embeds: bool) -> None:
    """Have the site load the model."""
    path, body = ("/embeddings", {"input": "one"}) if embeds else ("/completions", {"prompt": "one", "max_tokens": 1})
    answer = requests.post(
        url + path, json={"model": model, **body}, headers={"Authorization": f"Bearer {key}"}, timeout=600
    )
    answer.raise_for_status()
