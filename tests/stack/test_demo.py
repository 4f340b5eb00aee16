import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.hostile.folders import tiny_model, write_files
from tests.stack.live import REPOSITORY, LiveStack

pytestmark = pytest.mark.live
MODEL = "smollm2-135m-instruct"
FAKE_ENGINE = REPOSITORY / "tests" / "fakes" / "engine" / "python"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[LiveStack]:
    """A machine on which nothing runs yet, with a fast engine and a model of no weight."""
    folder = tmp_path / "models" / MODEL
    folder.mkdir(parents=True)
    write_files(folder, tiny_model())
    site = LiveStack(tmp_path, env={"ENGINE_PYTHON": str(FAKE_ENGINE), "GPU_SLOTS": "cpu"})
    yield site
    site.manage("down")


def note(site: LiveStack) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (site.var / "demo.env").read_text().splitlines())


def test_it_works(machine: LiveStack) -> None:
    done = machine.manage("demo")
    assert done.returncode == 0, done.stderr
    assert "What is the capital city of France?" in done.stdout
    assert "24/24" in done.stdout
    wanted = {"BASE_URL": machine.base_url, "WEB_URL": machine.web_url, "ADMIN_USER": "admin", "MODEL": MODEL}
    assert wanted.items() <= note(machine).items()
    assert note(machine)["ADMIN_PASSWORD"] in done.stdout
    assert note(machine)["API_KEY"] in done.stdout
    assert stat.S_IMODE((machine.var / "demo.env").stat().st_mode) == 0o600


def test_it_keeps_site_login_and_key_the_second_time(machine: LiveStack) -> None:
    assert machine.manage("demo").returncode == 0
    before, pid = note(machine), machine.pid_of("web")
    assert machine.manage("demo").returncode == 0
    assert note(machine) == before
    assert machine.pid_of("web") == pid


def test_it_says_in_one_sentence_why_the_site_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    done = LiveStack(tmp_path).manage("demo")
    assert done.returncode == 1
    assert done.stderr.startswith(f"CommandError: {tmp_path / 'postgres'} is no PostgreSQL data folder: move it away")
    assert len(done.stderr.splitlines()) == 1
