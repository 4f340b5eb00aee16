"""The engine's driver against the fake engine, a small program that speaks vLLM's protocol."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from apps.models.engines.engine import Adapter, AdapterRefused, CanaryDiffers, Engine, EngineFailed, EngineSpec
from tests.fakes.hostile.folders import tiny_adapter, write_files
from tests.models import engines
from tests.models.engines import NO_ORPHAN_SECONDS, all_gone, eventually

FAKE = Path(__file__).parents[1] / "fakes" / "engine" / "python"

Make = Callable[..., Engine]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes engines on the fake, which end with the test. `load` is the time that it takes to get ready."""
    made: list[Engine] = []
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")

    def make(*, load: float = 0, **changes: Any) -> Engine:
        monkeypatch.setenv("ENGINE_PASS_ENV", "FAKE_ENGINE_*")
        monkeypatch.setenv("FAKE_ENGINE_LOAD_SECONDS", str(load))
        values: dict[str, Any] = {
            "python": FAKE, "model": model, "served_name": "smol", "runner": "generate", "device": "cpu",
            "socket": tmp_path / "e.sock", "log": tmp_path / "engine.log", "cwd": settings.BASE_DIR, "max_num_seqs": 4,
        }  # fmt: skip
        made.append(Engine(EngineSpec(**(values | changes))))
        return made[-1]

    yield make
    for engine in made:
        engine.stop(1)


@pytest.fixture
def engine(make: Make) -> Engine:
    """One that is ready."""
    engine = make()
    start(engine)
    return engine


def start(engine: Engine, seconds: float = 20) -> None:
    engine.start()
    engine.wait_ready(seconds, lambda: False)


def make_adapter(folder: Path) -> Adapter:
    write_files(folder, tiny_adapter())
    return Adapter(folder.name, folder)


def test_it_works(engine: Engine, tmp_path: Path) -> None:
    assert engine.alive()
    assert engine.healthy()
    assert engines.ask(engine, "hello") == "Answer to: hello"
    assert "Starting vLLM server" in engine.tail()[-1]
    engine.stop(5)
    assert not engine.alive()
    assert not engine.healthy()
    assert not engine.spec.socket.exists()
    assert "Starting vLLM server" in (tmp_path / "engine.log").read_text()


def test_it_works_for_embeddings(make: Make) -> None:
    engine = make(runner="pooling")
    start(engine)
    status, answer = engines.post(engine, "/v1/embeddings", {"model": "smol", "input": ["a", "b"]})
    assert status == 200
    assert len(answer["data"]) == 2


def test_it_starts_over_the_socket_of_a_killed_engine(make: Make) -> None:
    engine = make()
    engine.spec.socket.touch()
    start(engine)
    assert engine.healthy()


def test_it_gives_the_engine_no_secrets(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary-1")
    monkeypatch.setenv("DATABASE_URL", "postgres://canary-2")
    engine = make()
    start(engine)
    for pid in engines.family(engine):
        assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_it_rejects_an_interpreter_that_is_not_there(make: Make) -> None:
    engine = make(python=Path("/no/such/python"))
    with pytest.raises(
        EngineFailed, match=r"(?s)ended with code 127\. Run `make setup`.*/no/such/python did not start"
    ):
        start(engine)


def test_it_rejects_a_folder_without_a_model(make: Make, tmp_path: Path) -> None:
    engine = make(model=tmp_path)
    with pytest.raises(
        EngineFailed, match=r"ended with code 1: .*No config\.json in the model.s folder\.\nLog: .*engine\.log"
    ):
        start(engine)


def test_it_rejects_an_engine_that_is_late(make: Make) -> None:
    engine = make(load=60)
    with pytest.raises(EngineFailed, match=r"is not ready after 0\.5 s\. .*ENGINE_START_SECONDS"):
        start(engine, 0.5)
    assert engine.alive()  # whoever started it stops it


def test_it_stops_waiting_when_told(make: Make) -> None:
    engine = make(load=60)
    engine.start()
    with pytest.raises(EngineFailed, match="was told to stop"):
        engine.wait_ready(60, lambda: True)


def test_it_loads_and_unloads_adapters(make: Make, tmp_path: Path) -> None:
    engine = make(max_loras=2)
    start(engine)
    for name in ("first", "second"):
        engine.load_adapter(make_adapter(tmp_path / name))
    assert engines.ask(engine, "a", model="first") == engines.ask(engine, "a", model="second") == "Answer to: a"
    engine.unload_adapter("second")
    assert engines.post(engine, "/v1/completions", {"model": "second", "prompt": "a"})[0] == 404


def test_it_rejects_adapters_that_are_not_there(make: Make, tmp_path: Path) -> None:
    engine = make(max_loras=1)
    start(engine)
    with pytest.raises(AdapterRefused, match="No adapter found for the model's folder"):
        engine.load_adapter(Adapter("nothing", tmp_path / "nothing"))
    with pytest.raises(AdapterRefused, match="'nothing' cannot be found"):
        engine.unload_adapter("nothing")


def test_it_drains(engine: Engine) -> None:
    assert engine.drain(0)
    asking = threading.Thread(target=engines.ask, args=[engine, "!slow:0.5"])
    asking.start()
    assert eventually(lambda: not engine.drain(0))
    assert engine.drain(10)
    asking.join()


def test_it_sleeps_and_wakes_on_a_gpu(make: Make) -> None:
    engine = make(device="0")
    start(engine)
    assert engine.can_sleep
    assert not engine.is_sleeping()
    slow = threading.Thread(target=engines.ask, args=[engine, "!slow:60"])
    slow.start()
    assert eventually(lambda: not engine.drain(0))
    engine.sleep()
    slow.join(5)
    assert not slow.is_alive()  # it was aborted
    assert engine.is_sleeping()
    assert engine.alive()
    engine.wake()
    assert not engine.is_sleeping()
    assert engines.ask(engine, "hello") == "Answer to: hello"


@pytest.mark.parametrize("runner", ["generate", "pooling"])
def test_it_rejects_weights_that_woke_up_wrong(make: Make, monkeypatch: pytest.MonkeyPatch, runner: str) -> None:
    monkeypatch.setenv("FAKE_ENGINE_WAKES", "garbage")
    engine = make(device="0", runner=runner)
    start(engine)
    engine.sleep()
    with pytest.raises(CanaryDiffers, match="answers differently after it slept: the canary"):
        engine.wake()


def test_it_does_not_sleep_on_a_cpu(engine: Engine) -> None:
    assert not engine.can_sleep
    with pytest.raises(EngineFailed, match="refused /sleep"):
        engine.sleep()


def test_it_rejects_to_wake_an_engine_that_was_killed(make: Make) -> None:
    engine = make(device="0")
    start(engine)
    engine.sleep()
    os.kill(engines.api_server(engine), signal.SIGKILL)
    assert eventually(lambda: not engine.alive())
    with pytest.raises(EngineFailed, match="did not answer /wake_up"):
        engine.wake()


@pytest.mark.parametrize("victim", [engines.api_server, engines.engine_core, lambda engine: engine.group.pgid])
def test_it_survives_kill(engine: Engine, victim: Callable[[Engine], int]) -> None:
    pids = engines.family(engine)
    assert len(pids) == 3
    os.kill(victim(engine), signal.SIGKILL)
    assert eventually(lambda: all_gone(pids) and not engine.alive())


def test_it_survives_a_request_that_kills_it(engine: Engine) -> None:
    pids = engines.family(engine)
    began = time.monotonic()
    with pytest.raises(OSError):  # noqa: PT011 (reset or closed, as it happens)
        engines.ask(engine, "!die")
    assert eventually(lambda: all_gone(pids))
    assert time.monotonic() - began < NO_ORPHAN_SECONDS


@pytest.mark.parametrize(
    ("message", "statuses"),
    [("!400", [400]), ("!500", [500, 500]), ("!500-once", [500, 200]), ("!429-once", [429, 200])],
)
def test_the_fake_follows_its_markers(engine: Engine, message: str, statuses: list[int]) -> None:
    body = {"model": "smol", "messages": [{"role": "user", "content": f"please {message}"}]}
    assert [engines.post(engine, "/v1/chat/completions", body)[0] for _ in statuses] == statuses
