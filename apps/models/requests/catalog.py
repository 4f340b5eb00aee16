"""The tables that apply now: those of the engine that this site runs, or the tree's own until one was read.

A GPU worker reads its engine's when it starts (`read_engine`) and leaves them in a row, for every process of every
host. The tree has the tables of vLLM 0.32, so that there is never a moment without any.
"""

import json
import logging
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models.functions import Now

from apps.models.engines.command import public
from apps.models.models import RequestTables
from apps.models.requests.rules import Rules
from apps.models.requests.tables import Tables, reduced

LOOK_SECONDS = 10.0  # between two looks at the row
READ_SECONDS = 300  # importing vLLM from a cold disk
OWN = Path(__file__).parent / "vllm.json"

log = logging.getLogger(__name__)


class NotReadable(Exception):
    """The interpreter has no vLLM whose request models can be read."""


class _Current:
    def __init__(self) -> None:
        self.use("", json.loads(OWN.read_text()))
        self.looked = float("-inf")
        self.lock = threading.Lock()

    def use(self, fingerprint: str, tables: Tables) -> None:
        self.rules = {endpoint: Rules(table) for endpoint, table in tables.items()}
        self.fingerprint = fingerprint


_current = _Current()


def rules(endpoint: str) -> Rules:
    """Of one of the generating or embedding endpoints. Asks no database: see `refresh`."""
    return _current.rules[endpoint]


def refresh() -> None:
    """Take over what a GPU worker has read, if that is news; looks at most every LOOK_SECONDS. Asks the database."""
    with _current.lock:
        if time.monotonic() - _current.looked < LOOK_SECONDS:
            return
        _current.looked = time.monotonic()
    newest = RequestTables.objects.order_by("-used_at").values("fingerprint").first()
    if newest and newest["fingerprint"] != _current.fingerprint:
        row = RequestTables.objects.filter(**newest).first()
        if row is not None:
            _current.use(row.fingerprint, row.tables)


def forget() -> None:
    """Start again from the tree's own tables."""
    _current.use("", json.loads(OWN.read_text()))
    _current.looked = float("-inf")


def read_engine(python: Path) -> RequestTables:
    """Leave the tables of the vLLM that `python` has in a row. Takes seconds once, a tenth of one after that.

    Raises `NotReadable`.
    """
    known = RequestTables.objects.order_by("-used_at").values_list("fingerprint", flat=True).first()
    told = _ask(python, known or "")
    values: dict[str, Any] = {"used_at": Now()}
    if "schemas" in told:
        values |= {"tables": reduced(told["schemas"], told["answers"], told["items"]), "version": told["version"][:50]}
    row, _ = RequestTables.objects.update_or_create(fingerprint=told["fingerprint"], defaults=values)
    return row


def _ask(python: Path, known: str) -> dict[str, Any]:
    """What `apps.models.requests.dump` says in the engine's interpreter."""
    environment = public(os.environ) | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(python), "-m", "apps.models.requests.dump", *([known] if known else [])]
    try:
        done = subprocess.run(
            command, cwd=settings.BASE_DIR, env=environment, capture_output=True, timeout=READ_SECONDS, check=True
        )
        told: dict[str, Any] = json.loads(done.stdout.strip().rpartition(b"\n")[2])
    except subprocess.CalledProcessError as error:
        raise NotReadable(error.stderr.decode(errors="replace").strip().rpartition("\n")[2]) from error
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise NotReadable(str(error)) from error
    return told
