import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from django.db import OperationalError, connection, connections

from apps.core import bell, drain, leases
from apps.core.drain import Flag
from apps.core.duties import ControlWorker
from apps.core.owner import owner
from apps.core.tasks import unowned

pytestmark = pytest.mark.django_db(transaction=True)
SLOT = "test:0"


class Counter:
    """A worker that notes what happens to it."""

    def __init__(self, held: leases.Held, keeper: leases.Keeper) -> None:
        self.held, self.keeper = held, keeper
        self.steps, self.closed = 0, False
        self.fault: Exception | None = None

    def step(self) -> bool:
        self.steps += 1
        if self.fault:
            raise self.fault
        return False

    def close(self) -> None:
        self.closed = True


class Drain:
    """A drain in a thread of its own."""

    def __init__(self, start: Callable[[leases.Held, leases.Keeper], drain.Worker] | None = None) -> None:
        self.worker: Counter | None = None
        self._start = start or self._count
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            drain.drain(SLOT, "test", self._start)
        except ZeroDivisionError:
            pass
        finally:
            connections.close_all()

    def _count(self, held: leases.Held, keeper: leases.Keeper) -> Counter:
        self.worker = Counter(held, keeper)
        return self.worker

    def wait_for(self, condition: Callable[[Counter], bool], seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while not (self.worker and condition(self.worker)):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Flag:
    flag = Flag()
    monkeypatch.setattr(drain, "STOP", flag)
    return flag


def rows() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM core_lease WHERE expires_at > clock_timestamp()")
        count: int = cursor.fetchone()[0]
    return count


def test_it_works(stop: Flag) -> None:
    running = Drain()
    running.wait_for(lambda worker: worker.steps > 0)
    assert unowned((SLOT, "test:1")) == ["test:1"]
    stop.set()
    running.thread.join(5)
    assert running.worker
    assert running.worker.closed
    assert rows() == 0


def test_the_bell_wakes_it(stop: Flag) -> None:
    running = Drain()
    running.wait_for(lambda worker: worker.steps > 1)
    assert running.worker
    before, began = running.worker.steps, time.monotonic()
    bell.ring("test")
    running.wait_for(lambda worker: worker.steps > before)
    assert time.monotonic() - began < 2
    stop.set()
    running.thread.join(5)


def test_a_second_one_leaves_at_once(stop: Flag) -> None:
    """However many doorbells ring, they keep nobody busy."""
    first = Drain()
    first.wait_for(lambda worker: worker.steps > 0)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_lease SET owner = 'elsewhere'")
    second = Drain()
    second.thread.join(2)
    assert not second.thread.is_alive()
    assert second.worker is None
    stop.set()
    first.thread.join(5)
    assert rows() == 0


@pytest.mark.parametrize("fault", [OperationalError("away"), RuntimeError("a bug")])
def test_it_survives_a_step_that_fails(stop: Flag, fault: Exception) -> None:
    running = Drain()
    running.wait_for(lambda worker: worker.steps > 0)
    assert running.worker
    running.worker.fault = fault
    before = running.worker.steps
    for _ in range(2):
        bell.ring("test")
        time.sleep(0.7)
    assert running.worker.steps > before
    stop.set()
    running.thread.join(5)
    assert rows() == 0


def test_it_stops_when_the_slot_is_taken_away(stop: Flag, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.2)
    running = Drain()
    running.wait_for(lambda worker: worker.steps > 0)
    with connection.cursor() as cursor:
        leases.revoke(cursor, [SLOT])
        leases.claim(cursor, SLOT, "elsewhere")
    running.thread.join(10)
    assert not running.thread.is_alive()
    assert running.worker
    assert running.worker.closed
    assert rows() == 1  # the other's lease is left alone


def test_it_gives_the_slot_back_when_the_worker_does_not_start(stop: Flag) -> None:
    Drain(lambda held, keeper: 1 // 0).thread.join(10)  # type: ignore[arg-type,return-value]
    assert rows() == 0


def test_a_dead_owner_s_slot_is_free_at_once(stop: Flag) -> None:
    with connection.cursor() as cursor:
        leases.claim(cursor, SLOT, owner().replace(f":{os.getpid()} ", ":4194999 "))
    began = time.monotonic()
    running = Drain()
    running.wait_for(lambda worker: worker.steps > 0)
    assert time.monotonic() - began < 2
    stop.set()
    running.thread.join(5)


def _look_for_ever(flag: Flag) -> None:
    while True:
        flag.is_set()


def _look_until_set(flag: Flag) -> None:
    while not flag.is_set():
        time.sleep(0.01)


def test_the_flag_survives_the_death_of_whoever_looks_at_it() -> None:
    flag = Flag()
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        process = context.Process(target=_look_for_ever, args=[flag])
        process.start()
        time.sleep(0.02)
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert not flag.is_set()
    watcher = context.Process(target=_look_until_set, args=[flag])
    watcher.start()
    flag.set()
    watcher.join(5)
    assert watcher.exitcode == 0
    assert flag.is_set()


def test_a_duty_that_fails_keeps_no_other_from_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def bad(_keeper: leases.Keeper) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        return True

    def good(_keeper: leases.Keeper) -> bool:
        done.append("good")
        return False

    monkeypatch.setattr("apps.core.duties._duties", {"bad": bad, "good": good})
    keeper = leases.Keeper()
    try:
        assert ControlWorker(leases.Held("x", 1), keeper).step() is False
    finally:
        keeper.close()
    assert done == ["good"]
