import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchserver import embedded, stack
from batchserver.supervisor import running
from tests.stack.live import REPOSITORY, LiveStack, alive

pytestmark = pytest.mark.live
BACK_SECONDS = 3  # half a second on an idle machine


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    with LiveStack(tmp_path_factory.mktemp("site"), env={"GPU_SLOTS": "cpu"}, fresh=True) as live:
        yield live


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310  our own address
            return bool(response.status == 200)
    except OSError:
        return False


def test_it_works(site: LiveStack) -> None:
    assert answers(f"{site.web_url}/healthz")
    assert answers(f"{site.base_url.removesuffix('/v1')}/healthz")
    assert site.names() == {"postgres", "valkey", "web", "control", "gpu-cpu", "beat"}
    assert all((site.var / "log" / f"{name}.log").exists() for name in ("postgres", "migrate", "up"))


def test_every_line_of_its_log_says_which_process_it_is_from(site: LiveStack) -> None:
    names = {line.partition("|")[0].strip() for line in site.output()}
    assert names <= site.names() | {"up", "migrate"}


@pytest.mark.parametrize("name", ["web", "control", "gpu-cpu", "beat", "valkey", "postgres"])
def test_it_survives_kill_nine_of(site: LiveStack, name: str) -> None:
    before = site.pid_of(name)
    os.kill(before, signal.SIGKILL)
    killed = time.monotonic()
    assert site.pid_of(name, other_than=before) != before
    assert time.monotonic() - killed < BACK_SECONDS
    while not answers(f"{site.web_url}/healthz"):
        assert time.monotonic() - killed < 30
        time.sleep(0.1)


def test_it_rejects_a_second_one_on_the_same_folder(site: LiveStack) -> None:
    done = site.manage("up")
    assert done.returncode == 1
    assert "runs already" in done.stderr
    assert "make down" in done.stderr


def test_it_rejects_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = LiveStack(tmp_path, env={"API_PORT": str(port)}).manage("up")
    assert done.returncode == 1
    assert f"Port {port} is in use: stop what listens there, or set API_PORT to another port." in done.stderr


def test_it_says_when_the_engine_is_missing(tmp_path: Path) -> None:
    with LiveStack(tmp_path, env={"ENGINE_PYTHON": "/nowhere/python"}) as site:
        assert any("No engine at /nowhere/python: batches wait. `make setup`" in line for line in site.output())


def test_it_uses_the_servers_that_are_named(tmp_path: Path) -> None:
    other = tmp_path / "other"
    with running([[stack.postgres_service(other), stack.valkey_service(other)]], var=other, say=lambda *_: None):
        named = {"DATABASE_URL": embedded.database_url(other), "REDIS_URL": embedded.redis_url(other)}
        with LiveStack(tmp_path / "site", env=named) as site:
            assert site.names() == {"web", "control", "gpu-cpu", "beat"}
            assert answers(f"{site.web_url}/healthz")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_within_ten_seconds(tmp_path: Path, number: signal.Signals) -> None:
    up = start_alone(LiveStack(tmp_path))
    pids = [up.pid, *(LiveStack(tmp_path).pid_of(name) for name in LiveStack(tmp_path).names())]
    began = time.monotonic()
    up.send_signal(number)
    assert up.wait(20) == 0
    assert time.monotonic() - began < 10
    assert not any(map(alive, pids))
    assert "database system is shut down" in (tmp_path / "log" / "postgres.log").read_text()


def test_it_survives_its_own_kill_nine(tmp_path: Path) -> None:
    """Its children end with it, and the next one starts as if nothing had happened."""
    site = LiveStack(tmp_path)
    up = start_alone(site)
    pids = [site.pid_of(name) for name in site.names()]
    up.kill()
    up.wait(5)
    with site:
        assert answers(f"{site.web_url}/healthz")
        assert not any(map(alive, pids))


def test_down_stops_it(tmp_path: Path) -> None:
    site = LiveStack(tmp_path)
    up = start_alone(site)
    assert site.manage("down").stdout == "Stopped.\n"
    assert up.wait(5) == 0
    assert site.manage("down").stdout == "Nothing runs.\n"


def start_alone(site: LiveStack) -> "subprocess.Popen[bytes]":
    """An `up` of its own, without the guard that would clear up after it."""
    command = ["env", "--default-signal=INT", sys.executable, "manage.py", "up"]  # a script's `&` ignores SIGINT
    up = subprocess.Popen(command, env=site.env, cwd=REPOSITORY, stdout=subprocess.DEVNULL, start_new_session=True)
    began = time.monotonic()
    while not answers(f"{site.web_url}/healthz"):
        assert up.poll() is None
        assert time.monotonic() - began < 60
        time.sleep(0.1)
    return up
