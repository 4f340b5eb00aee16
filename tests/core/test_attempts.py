"""Attempts are counted under the lease's key: what is the row's fault, and what is not."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.conf import settings
from django.db import DataError, InternalError, OperationalError, connection

from apps.core import attempts, leases
from apps.core.errors import Stopped
from apps.core.faults import is_excused, plain
from apps.core.models import Attempt, Lease

pytestmark = pytest.mark.django_db(transaction=True)

KEY = "thing:1"


@pytest.fixture
def keeper() -> Iterator[leases.Keeper]:
    keeper = leases.Keeper()
    yield keeper
    keeper.close()


@pytest.fixture
def ended() -> list[str]:
    """The sentences with which the row was given up."""
    return []


def work(keeper: leases.Keeper, ended: list[str], do: Callable[[], object] = lambda: None, key: str = KEY) -> bool:
    def perform(_: leases.Held) -> None:
        do()

    return attempts.work_on(keeper, key, perform, ended.append)


def raising(error: BaseException) -> Callable[..., None]:
    def do(*_: object) -> None:
        raise error

    return do


def count() -> int:
    found = Attempt.objects.filter(key=KEY).first()
    return found.attempts if found else 0


def rests() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM core_attempt WHERE next_at > clock_timestamp()")
        found: int = cursor.fetchone()[0]
    return found > 0


def begin(key: str = KEY) -> attempts.Begun | None:
    with connection.cursor() as cursor:
        return attempts.begin(cursor, key)


def die(key: str = KEY) -> None:
    """A process begins, and is killed before it can say how it ended."""
    assert begin(key)
    attempts._here.clear()


def test_it_works(keeper: leases.Keeper, ended: list[str]) -> None:
    assert work(keeper, ended)
    assert (ended, Attempt.objects.count(), Lease.objects.count()) == ([], 0, 0)


def test_a_row_that_always_fails_is_given_up_with_the_error(keeper: leases.Keeper, ended: list[str]) -> None:
    for number in range(1, settings.WORK_ATTEMPTS):
        assert work(keeper, ended, raising(PermissionError(13, "Permission denied", "/secret/path")))
        assert (count(), rests()) == (number, True)
    assert not ended
    work(keeper, ended, raising(PermissionError(13, "Permission denied", "/secret/path")))
    assert len(ended) == 1
    assert "tried 5 times" in ended[0]
    assert "may not open a file" in ended[0]
    assert "/secret" not in ended[0]
    assert (Attempt.objects.count(), Lease.objects.count()) == (0, 0)


def test_each_rest_is_longer_than_the_one_before(keeper: leases.Keeper, ended: list[str]) -> None:
    waits = []
    for _ in range(1, settings.WORK_ATTEMPTS):
        work(keeper, ended, raising(ValueError()))
        with connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM next_at - clock_timestamp())::float FROM core_attempt")
            waits.append(cursor.fetchone()[0])
    assert waits == pytest.approx(list(attempts.BACK_OFF), abs=5)


def test_success_makes_it_begin_anew(keeper: leases.Keeper, ended: list[str]) -> None:
    for _ in range(3):
        work(keeper, ended, raising(ValueError()))
    work(keeper, ended)
    assert count() == 0


@pytest.mark.parametrize(
    "error",
    [
        Stopped(),
        leases.Fenced("x"),
        OperationalError("away"),
        psycopg.OperationalError("away"),
        psycopg.errors.AdminShutdown(),
        psycopg.errors.ReadOnlySqlTransaction(),
        psycopg.errors.DiskFull(),
        psycopg.errors.DeadlockDetected(),
        OSError(28, "No space left on device"),
        ExceptionGroup("group", [psycopg.OperationalError("away")]),
        KeyboardInterrupt(),
        SystemExit(),
    ],
    ids=repr,
)
def test_what_is_no_fault_of_the_row_does_not_count(
    keeper: leases.Keeper, ended: list[str], error: BaseException
) -> None:
    raised = () if isinstance(error, Stopped | leases.Fenced) else (type(error),)
    for _ in range(settings.WORK_ATTEMPTS + 3):
        with contextlib.suppress(*raised):
            assert work(keeper, ended, raising(error))
            assert not raised
    assert (count(), ended, Lease.objects.count()) == (0, [], 0)
    assert rests() == ("space" in repr(error) or "DiskFull" in repr(error))  # whatever else is tried again at once


@pytest.mark.parametrize(
    "error",
    [
        DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"),
        psycopg.errors.ProgramLimitExceeded(),
        psycopg.errors.QueryCanceled(),
        InternalError("invalid memory alloc request size"),
        MemoryError(),
        RecursionError(),
        ExceptionGroup("group", [psycopg.DataError("NUL")]),
    ],
    ids=repr,
)
def test_what_the_row_brings_about_counts(keeper: leases.Keeper, ended: list[str], error: Exception) -> None:
    assert work(keeper, ended, raising(error))
    assert count() == 1


def test_a_death_counts(keeper: leases.Keeper, ended: list[str]) -> None:
    for _ in range(settings.WORK_ATTEMPTS):
        die()
    assert work(keeper, ended, raising(AssertionError("it is tried no more")))
    assert len(ended) == 1
    assert "died" in ended[0]


def test_a_killed_process_counts_and_rests_only_from_the_second_time(process_env: dict[str, str]) -> None:
    script = (
        "import django, os, signal; django.setup()\n"
        "from django.db import connection\nfrom apps.core import attempts\n"
        f"with connection.cursor() as cursor: assert attempts.begin(cursor, {KEY!r})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**process_env, "DJANGO_SETTINGS_MODULE": "batchserver.settings"}
    for number, rested in ((1, False), (2, True)):
        ended = subprocess.run([sys.executable, "-c", script], env=env, cwd=settings.BASE_DIR, check=False)
        assert (ended.returncode, count(), rests()) == (-9, number, rested)


def test_what_killed_its_worker_twice_is_tried_alone(keeper: leases.Keeper, ended: list[str]) -> None:
    die()
    die()
    other = begin("thing:2")
    assert other
    assert not work(keeper, ended)  # it could take thing:2 along
    assert Lease.objects.count() == 0
    attempts.settle(other)
    assert work(keeper, ended, lambda: begin("thing:3") is not None and pytest.fail("it was not alone"))


def test_others_wait_for_it_no_longer_than_a_while(
    keeper: leases.Keeper, ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "ALONE_SECONDS", 0.0)
    die()
    die()
    assert work(keeper, ended, lambda: begin("thing:3") or pytest.fail("others wait for ever"))
    attempts._here.clear()


def test_it_is_taken_back_once_the_database_is_there_again(
    keeper: leases.Keeper, ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise OperationalError("away")

    taken = attempts.take(keeper, KEY)
    assert taken
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "_pay_first", away)
        with pytest.raises(OperationalError):
            attempts.attempt(taken[1], raising(OperationalError("away")), ended.append)
    attempts.let_go(keeper, taken[0])
    assert count() == 1  # nobody could be told
    assert work(keeper, ended, key="thing:2")
    assert count() == 0


def test_what_was_taken_over_is_not_forgotten_by_the_late_one(keeper: leases.Keeper, ended: list[str]) -> None:
    late = begin()
    assert late
    assert begin()  # another worker's
    attempts.settle(late)
    assert count() == 2
    attempts.take_back(late)
    found = Attempt.objects.get()
    assert (found.attempts, found.began) == (1, True)


def test_an_end_that_fails_is_tried_again(keeper: leases.Keeper, ended: list[str]) -> None:
    def broken(_: str) -> None:
        raise RuntimeError("the table is gone")

    for _ in range(settings.WORK_ATTEMPTS):
        attempts.work_on(keeper, KEY, raising(ValueError()), broken)
    assert rests()
    assert work(keeper, ended, raising(AssertionError("it is tried no more")))
    assert len(ended) == 1


def test_two_threads_take_back_each_once(keeper: leases.Keeper) -> None:
    begun = [begin(f"thing:{number}") for number in range(8)]
    threads = [threading.Thread(target=_take_back, args=[each]) for each in begun]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with connection.cursor() as cursor:
        attempts.pay(cursor)
    assert Attempt.objects.count() == 0


def _take_back(begun: attempts.Begun) -> None:
    attempts.take_back(begun)
    connection.close()


def test_old_counts_are_forgotten(keeper: leases.Keeper) -> None:
    die()
    attempts.forget_old(keeper)
    assert count() == 1
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_attempt SET at = at - interval '31 days'")
    attempts.forget_old(keeper)
    assert count() == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (IsADirectoryError(21, "Is a directory", "/var/x"), "folder where a file should be"),
        (FileNotFoundError(2, "No such file", "/var/x"), "a file that it needs is gone"),
        (OSError(5, "Input/output error", "/var/x"), "a file could not be used (Input/output error)"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), "broken characters"),
        (ValueError("A string literal cannot contain NUL (0x00) characters."), "NUL character"),
        (KeyError("secret"), "the server made a mistake (KeyError)"),
    ],
)
def test_a_sentence_names_no_path_and_no_value(error: Exception, words: str) -> None:
    assert words in plain(error)
    assert not any(hidden in plain(error) for hidden in ("/var", "secret", "Traceback"))
    assert not is_excused(error)
