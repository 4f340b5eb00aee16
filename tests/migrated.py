"""A database with every migration, made once and copied by whoever needs one."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from django.conf import settings

from batchserver import stack
from batchserver.supervisor import running
from tests.state import SHARED


def copy_migrated(var: Path) -> None:
    """Give a site that has no database yet one that is new and migrated, and the password that opens it."""
    (var / "secrets").mkdir(mode=0o700, exist_ok=True)
    for name in ("postgres", "secrets/postgres"):  # `-p`: as root, PostgreSQL's files are another user's
        subprocess.run(["cp", "-RpT", _migrated() / name, var / name], check=True)


def _migrated() -> Path:
    """The state folder of a site that never served."""
    var = SHARED / "migrated"
    with (SHARED / "migrated.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not var.exists():
            making = SHARED / "making"
            making.mkdir(0o711)
            with running([[stack.postgres_service(making)]], var=making, say=lambda name, line: None):
                command = [sys.executable, "manage.py", "migrate", "--no-input", "-v", "0"]
                env = {**os.environ, "VAR_DIR": str(making), "DATABASE_URL": "", "REDIS_URL": ""}
                subprocess.run(command, env=env, cwd=settings.BASE_DIR, check=True)
            making.rename(var)
    return var
