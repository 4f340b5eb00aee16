import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.db import connection, transaction

from apps.core import leases
from apps.core.db import connect
from apps.core.owner import is_dead, owner

pytestmark = pytest.mark.django_db(transaction=True)

OTHER = "elsewhere:1 started 1 in another world"


def claim(key: str = "job:1", owner: str = "me") -> leases.Held | None:
    with connection.cursor() as cursor:
        return leases.claim(cursor, key, owner)


def claimed(key: str = "job:1", owner: str = "me") -> leases.Held:
    held = claim(key, owner)
    assert held is not None
    return held


def expire(key: str = "job:1") -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_lease SET expires_at = clock_timestamp() - interval '1 ms' WHERE key = %s", [key])


def expired() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT expires_at < clock_timestamp() FROM core_lease")
        late: bool = cursor.fetchone()[0]
    return late


def fence(held: leases.Held) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        leases.fence(cursor, held)


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[leases.Keeper]:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.2)
    keeper = leases.Keeper()
    yield keeper
    keeper.close()


def test_it_works() -> None:
    held = claimed()
    assert claim(owner="another") is None
    fence(held)
    with connection.cursor() as cursor:
        assert leases.renew(cursor, [held]) == {held}
        leases.release(cursor, held)
    assert claimed(owner="another").epoch != held.epoch


def test_it_expires_by_the_clock_of_the_database() -> None:
    late = claimed()
    expire()
    fence(late)  # nobody took it: it is still ours
    fresh = claimed(owner="another")
    fence(fresh)
    with pytest.raises(leases.Fenced):
        fence(late)


def test_it_lives_for_ttl_seconds() -> None:
    claimed()
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM core_lease")
        assert leases.TTL - 2 < cursor.fetchone()[0] <= leases.TTL


def test_it_can_be_taken_anew_by_the_process_that_lost_track_of_it() -> None:
    first = claimed()
    second = claimed()
    fence(second)
    with pytest.raises(leases.Fenced):
        fence(first)


def test_it_rejects_writes_after_a_revocation() -> None:
    held = claimed()
    with connection.cursor() as cursor:
        leases.revoke(cursor, ["job:1", "job:2"])
        assert leases.renew(cursor, [held]) == set()
    with pytest.raises(leases.Fenced):
        fence(held)


def test_it_rejects_a_release_by_a_late_owner() -> None:
    late = claimed()
    expire()
    fresh = claimed(owner="another")
    with connection.cursor() as cursor:
        leases.release(cursor, late)
    fence(fresh)


def test_it_gives_every_claim_an_epoch_of_its_own() -> None:
    epochs = set()
    for _ in range(5):
        held = claimed()
        epochs.add(held.epoch)
        with connection.cursor() as cursor:
            leases.release(cursor, held)
    assert len(epochs) == 5


def test_it_tells_several_leases_apart() -> None:
    mine, lost = claimed("job:1"), claimed("job:2")
    expire("job:2")
    claimed("job:2", owner="another")
    with transaction.atomic(), connection.cursor() as cursor:
        assert leases.fence_all(cursor, [mine, lost]) == {mine}
        assert leases.renew(cursor, [mine, lost]) == {mine}


def test_a_fence_holds_off_whoever_would_take_over_until_the_commit() -> None:
    held = claimed()
    expire()
    taken: list[float] = []

    def take_over() -> None:
        with connect() as other, other.cursor() as cursor:
            leases.claim(cursor, "job:1", "another")
        taken.append(time.monotonic())

    thread = threading.Thread(target=take_over)
    with transaction.atomic(), connection.cursor() as cursor:
        leases.fence(cursor, held)
        thread.start()
        time.sleep(0.5)
        assert not taken
    thread.join(10)
    assert taken


def test_two_that_hold_several_leases_never_wait_for_each_other() -> None:
    held = [claimed(f"job:{number}") for number in range(1, 21)]
    errors: list[psycopg.Error] = []

    def renew(order: list[leases.Held]) -> None:
        try:
            with connect() as own, own.cursor() as cursor:
                for _ in range(100):
                    leases.renew(cursor, order)
                    with own.transaction():
                        leases.fence_all(cursor, order[::-1])
        except psycopg.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=renew, args=[held[::step]]) for step in (1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []


def test_it_hands_on_what_the_owner_before_left_behind() -> None:
    held = claimed()
    with transaction.atomic(), connection.cursor() as cursor:
        leases.record_process_groups(cursor, held, ["host boot 1 2", "host boot 3 4"])
    expire()
    second = claimed(owner="another")
    assert second.left_behind == "host boot 1 2\nhost boot 3 4"
    expire()
    assert claimed(owner="a third").left_behind == "host boot 1 2\nhost boot 3 4"  # the second may not have come to it
    with pytest.raises(leases.Fenced), transaction.atomic(), connection.cursor() as cursor:
        leases.record_process_groups(cursor, held, ["host boot 5 6"])


def test_the_dead_of_this_machine_hold_nothing() -> None:
    script = "from apps.core.owner import owner; print(owner(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout
        name = process.stdout.readline().strip()
        held = claimed(owner=name)
        with transaction.atomic(), connection.cursor() as cursor:
            leases.record_process_groups(cursor, held, ["host boot 1 2", "host boot 3 4"])
        claimed("job:2", owner=OTHER)
        assert not is_dead(name)
        with connection.cursor() as cursor:
            leases.free_dead(cursor)
        assert claim(owner=owner()) is None
        os.kill(process.pid, signal.SIGKILL)
        assert eventually(lambda: is_dead(name))  # a zombie is dead enough
        with connection.cursor() as cursor:
            leases.free_dead(cursor)
    assert claimed(owner=owner()).left_behind == "host boot 1 2\nhost boot 3 4"
    assert claim("job:2", owner=owner()) is None
    with pytest.raises(leases.Fenced):
        fence(held)


def test_nobody_is_dead_who_cannot_be_seen_from_here() -> None:
    assert not is_dead(OTHER)
    assert not is_dead("me")
    assert not is_dead(owner())
    assert is_dead(owner().replace(f":{os.getpid()} ", ":4194999 "))
    assert is_dead(owner().replace(" started ", " started 9"))


def test_a_keeper_renews(keeper: leases.Keeper) -> None:
    held = claimed()
    keeper.add(held)
    expire()
    assert eventually(lambda: not expired())
    assert keeper.holds(held)
    assert not keeper.lost(held)


def test_a_keeper_notices_a_take_over(keeper: leases.Keeper) -> None:
    held, other = claimed(), claimed("job:2")
    keeper.add(held)
    keeper.add(other)
    with connection.cursor() as cursor:
        leases.revoke(cursor, ["job:1"])
    assert eventually(lambda: keeper.lost(held))
    assert not keeper.holds(held)
    assert keeper.holds(other)


def test_a_keeper_that_cannot_renew_neither_holds_nor_has_lost(
    keeper: leases.Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = claimed()
    monkeypatch.setattr(leases, "GIVE_UP", 0.0)
    keeper.add(held)
    assert not keeper.holds(held)
    assert not keeper.lost(held)


def test_a_keeper_survives_the_loss_of_its_connection(keeper: leases.Keeper) -> None:
    held = claimed()
    keeper.add(held)
    with connection.cursor() as cursor:
        for _ in range(3):
            time.sleep(0.4)
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    expire()
    assert eventually(lambda: not expired())
    assert keeper.holds(held)
