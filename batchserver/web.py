"""The web process: one uvicorn server on the API's port and the web's. `python -m batchserver.web`."""

import errno
import socket
import sys
import tempfile

import uvicorn
from django.conf import settings
from django.core.checks import run_checks
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from batchserver.asgi import application

GRACE = 3  # seconds that open streams and sockets get when we stop
HEADERS_BYTES = 64 * 1024
MESSAGE_BYTES = 64 * 1024  # of a WebSocket message
BACKLOG = 1024


class BoundedHeaders(HttpToolsProtocol):
    """httptools parses twice as fast as h11, but sets no limit to a request's head: this one does."""

    _head = 0  # bytes of a head that has not come as a whole
    _in_head = True

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._head = self._head + len(data) if self._in_head else 0
        if self._head > HEADERS_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's headers are too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False


def main() -> None:
    refuse_nonsense()
    spool_uploads_beside_files()
    sockets = [listen(port) for port in sorted({settings.API_PORT, settings.WEB_PORT})]
    config = uvicorn.Config(
        application,
        http=BoundedHeaders,
        ws_max_size=MESSAGE_BYTES,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE,
    )
    uvicorn.Server(config).run(sockets=sockets)


def refuse_nonsense() -> None:
    """End the process where a setting cannot work, with the cure."""
    if wrong := [problem for problem in run_checks() if problem.is_serious()]:
        sys.exit("\n".join(f"{problem.msg} {problem.hint}" for problem in wrong))


def listen(port: int) -> socket.socket:
    """A bound socket; ends the process with a sentence when that is not possible."""
    address = settings.BIND_ADDRESS
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            sys.exit(f"Port {port} on {address} is in use: stop what listens there, or set API_PORT and WEB_PORT.")
        sys.exit(f"Cannot listen on {address}:{port} ({error.strerror}): set BIND_ADDRESS, API_PORT and WEB_PORT.")
    return listener


def spool_uploads_beside_files() -> None:
    """A rename needs one file system, and the usual place may be memory."""
    folder = settings.FILE_UPLOAD_TEMP_DIR
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(folder)


if __name__ == "__main__":
    main()
