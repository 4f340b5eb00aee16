"""What `manage.py up` runs: the site's processes, in the stages in which they start."""

import errno
import http.client
import os
import signal
import socket
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from django.conf import settings

from apps.models import slots
from batchserver import embedded
from batchserver.embedded import StartError
from batchserver.embedded.postgres import Postgres
from batchserver.embedded.valkey import Valkey
from batchserver.supervisor import Service

CELERY = ("-m", "celery", "--quiet", "-A", "batchserver")
QUICK = {"CELERY_SKIP_CHECKS": "1"}  # its checks load every page of the site; the web process runs them
CONTROL_PROCESSES = 3  # two own the control slots, one answers short tasks


def stages(*, gpu: bool = True) -> list[list[Service]]:
    """The site of this machine, without GPU workers unless `gpu`. Raises StartError."""
    workers = [_gpu_worker(slots.Slot.here(devices)) for devices in _slots()] if gpu else []
    return [servers(), [_migrate()], [_web(), _control_worker(), *workers, _beat()]]


def servers() -> list[Service]:
    """The embedded servers that stand in for real ones. Raises StartError."""
    postgres = [postgres_service(settings.VAR_DIR)] if settings.EMBEDDED_POSTGRES else []
    valkey = [valkey_service(settings.VAR_DIR)] if settings.EMBEDDED_VALKEY else []
    return postgres + valkey


def postgres_service(var: Path) -> Service:
    """Raises StartError where it cannot run."""
    postgres = Postgres(var)
    return Service(
        name="postgres",
        command=postgres.command,
        cwd=Path("/"),
        stop_signal=signal.SIGINT,
        user=postgres.identity.user,
        group=postgres.identity.group,
        prepare=postgres.prepare,
        ready=postgres.ready,
    )


def valkey_service(var: Path) -> Service:
    """Raises StartError where it cannot run."""
    valkey = Valkey(var)
    return Service(name="valkey", command=valkey.command, cwd=Path("/"), prepare=valkey.prepare, ready=valkey.ready)


def check_ports() -> None:
    """Raises StartError, naming the setting, for a port that another program has."""
    for name in ("API_PORT", "WEB_PORT"):
        port = getattr(settings, name)
        with socket.socket(socket.AF_INET6 if ":" in settings.BIND_ADDRESS else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.BIND_ADDRESS, port))
            except OSError as error:
                raise StartError(_port_trouble(name, port, error)) from error


def api_url() -> str:
    """Where clients on this machine reach the API."""
    return f"http://{_local_host()}:{settings.API_PORT}/v1"


def web_url() -> str:
    """Where browsers on this machine reach the pages."""
    return f"http://{_local_host()}:{settings.WEB_PORT}"


def web_answers() -> bool:
    """Whether the web process serves."""
    connection = http.client.HTTPConnection(_local_host(), settings.API_PORT, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _slots() -> list[str]:
    return settings.GPU_SLOTS or slots.detect()


def _migrate() -> Service:
    return replace(_python("migrate", "manage.py", "migrate", "--no-input"), once=True)


def _web() -> Service:
    make_static = partial(settings.STATIC_ROOT.mkdir, parents=True, exist_ok=True)
    return replace(_python("web", "-m", "batchserver.web"), prepare=make_static, ready=web_answers)


def _control_worker() -> Service:
    return _celery("control", "-Q", "control", "-c", str(CONTROL_PROCESSES))


def _gpu_worker(slot: slots.Slot) -> Service:
    name = "gpu-" + slot.devices.replace(",", "+")
    return _celery(name, "-Q", slot.queue, "-c", "1", env={"GPU_SLOT": slot.devices})


def _beat() -> Service:
    schedule = str(embedded.run_dir(settings.VAR_DIR) / "beat")
    return _python("beat", *CELERY, "beat", "--pidfile=", "--schedule", schedule, *_log_level(), env=QUICK)


def _celery(name: str, *options: str, env: dict[str, str] | None = None) -> Service:
    """A Celery worker. Prefork, since children die with the thread that started them."""
    common = ("-P", "prefork", "-n", f"{name}@%h", "--without-gossip", "--without-mingle", *_log_level())
    quiet = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser"}  # it accepts no pickles
    return _python(name, *CELERY, "worker", *common, *options, env=quiet | QUICK | (env or {}))


def _log_level() -> tuple[str, str]:
    return "--loglevel", os.environ.get("LOG_LEVEL", "INFO")


def _python(name: str, *arguments: str, env: dict[str, str] | None = None) -> Service:
    return Service(
        name=name,
        command=[sys.executable, *arguments],
        cwd=settings.BASE_DIR,
        env={"PYTHONUNBUFFERED": "1", **(env or {})},
    )


def _local_host() -> str:
    """The address of ours that this machine can connect to."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.BIND_ADDRESS, settings.BIND_ADDRESS)  # noqa: S104


def _port_trouble(name: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use: stop what listens there, or set {name} to another port."
    return f"Cannot listen on {settings.BIND_ADDRESS}:{port} ({error.strerror}): set {name} or BIND_ADDRESS."
