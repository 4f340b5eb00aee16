"""The web process: one uvicorn server on the API's port and the web's. `python -m batchserver.web`."""

import asyncio
import errno
import socket
import sys
import tempfile

import uvicorn
from django.conf import settings
from django.core.checks import run_checks

from batchserver.asgi import application
from batchserver.eviction import look_at
from batchserver.garbage import collect_less
from batchserver.http_protocol import BoundedHttp
from batchserver.websocket_protocol import BoundedWebSocket

GRACE = 3  # seconds that open streams and sockets get when we stop
TICKS_A_SECOND = 10  # uvicorn's
MESSAGE_BYTES = 64 * 1024  # of a WebSocket message
BACKLOG = 1024


class Server(uvicorn.Server):
    """Looks at its connections once a second."""

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_A_SECOND == 0:
            look_at(self.server_state.connections, asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def main() -> None:
    refuse_nonsense()
    spool_uploads_beside_files()
    sockets = [listen(port) for port in sorted({settings.API_PORT, settings.WEB_PORT})]
    config = uvicorn.Config(
        application,
        http=BoundedHttp,
        ws=BoundedWebSocket,
        ws_max_size=MESSAGE_BYTES,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=GRACE,
    )
    collect_less()
    Server(config).run(sockets=sockets)


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
