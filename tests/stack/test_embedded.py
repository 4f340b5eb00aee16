import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from batchserver import embedded, stack, supervisor
from batchserver.embedded import StartError, postgres
from batchserver.embedded.postgres import Postgres
from tests.stack.live import children_of


@contextmanager
def servers(var: Path) -> Iterator[supervisor.Supervisor]:
    stages = [[stack.postgres_service(var), stack.valkey_service(var)]]
    with supervisor.running(stages, var=var, say=lambda _name, _line: None) as running:
        yield running


def query(var: Path, statement: str) -> object:
    with psycopg.connect(embedded.database_url(var), connect_timeout=2) as connection:
        row = connection.execute(statement).fetchone()
        return row and row[0]


def test_it_works(tmp_path: Path) -> None:
    with servers(tmp_path):
        assert query(tmp_path, "SHOW server_version_num") >= "180000"  # type: ignore[operator]
        with redis.Redis.from_url(embedded.redis_url(tmp_path)) as client:
            assert client.ping()


def test_it_keeps_data_over_a_restart(tmp_path: Path) -> None:
    with servers(tmp_path), psycopg.connect(embedded.database_url(tmp_path)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    with servers(tmp_path):
        assert query(tmp_path, "SELECT number FROM kept") == 7


def test_it_listens_on_no_port(tmp_path: Path) -> None:
    with servers(tmp_path), redis.Redis.from_url(embedded.redis_url(tmp_path)) as client:
        assert query(tmp_path, "SHOW listen_addresses") == ""
        assert client.config_get("port") == {"port": "0"}


def test_its_password_is_for_the_owner_only(tmp_path: Path) -> None:
    embedded.database_url(tmp_path)
    assert stat.S_IMODE((tmp_path / "secrets" / "postgres").stat().st_mode) == 0o600


def test_it_rejects_a_login_without_the_password(tmp_path: Path) -> None:
    with servers(tmp_path), pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(embedded.database_url(tmp_path), password="wrong")


def test_it_rejects_a_folder_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9\n")
    sentence = r"made by PostgreSQL 9, and this is .* 18\..*restore it here"
    with pytest.raises(StartError, match=sentence), servers(tmp_path):
        pass


def test_it_rejects_a_folder_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    with pytest.raises(StartError, match="no PostgreSQL data folder: move it away"), servers(tmp_path):
        pass


def test_it_rejects_a_folder_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "HOLDER_SECONDS", 0.1)
    with servers(tmp_path), pytest.raises(StartError, match=r"Another PostgreSQL \(process \d+\)"):
        Postgres(tmp_path).prepare()


def test_it_survives_a_pid_file_whose_number_is_another_process_now(tmp_path: Path) -> None:
    with servers(tmp_path):
        pass
    (tmp_path / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}/postgres\n")
    with servers(tmp_path):
        assert query(tmp_path, "SELECT 1") == 1


def test_it_survives_a_start_that_was_killed_half_way(tmp_path: Path) -> None:
    (tmp_path / "postgres.new" / "data").mkdir(parents=True)
    (tmp_path / "postgres.new" / "data" / "PG_VERSION").write_text("18\n")
    with servers(tmp_path):
        assert query(tmp_path, "SELECT 1") == 1


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_it_survives_kill_nine(tmp_path: Path, name: str) -> None:
    said: list[str] = []
    stages = [[stack.postgres_service(tmp_path), stack.valkey_service(tmp_path)]]
    with supervisor.running(stages, var=tmp_path, say=lambda name, line: said.append(f"{name} {line}")) as site:
        (program,) = children_of(site.pids()[name])
        os.kill(program, signal.SIGKILL)
        while not any("It is started again" in line for line in said):
            site.tick()
        service = next(service for service in stages[0] if service.name == name)
        while not (service.ready and service.ready()):
            site.tick()
    assert any(line.startswith(f"up {name}: It was killed by SIGKILL.") for line in said)


def test_it_finds_room_for_its_sockets_below_a_long_path(tmp_path: Path) -> None:
    var = tmp_path / ("long" * 25)
    assert str(embedded.run_dir(var)).startswith("/tmp/batchserver-")
    with servers(var):
        assert query(var, "SELECT 1") == 1
    assert embedded.run_dir(var) != embedded.run_dir(var / "other")
    shutil.rmtree(embedded.run_dir(var))


@pytest.mark.skipif(os.getuid() != 0, reason="only root needs another identity")
def test_it_works_as_root_in_a_folder_that_others_may_not_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert Postgres(closed / "var").identity.prefix[:2] == ("unshare", "--user")
    with servers(closed / "var"):
        assert query(closed / "var", "SELECT 1") == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another account")
def test_it_works_as_root_in_a_folder_that_others_may_enter() -> None:
    with tempfile.TemporaryDirectory() as folder:
        var = Path(folder)
        var.chmod(0o755)
        assert Postgres(var).identity.user not in (None, 0)
        with servers(var):
            assert query(var, "SELECT 1") == 1
        var.chmod(0o700)
        with servers(var):
            assert query(var, "SELECT 1") == 1


def test_it_rejects_a_run_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(StartError, match="belongs to user"):
        embedded.make_run_dir(tmp_path)
