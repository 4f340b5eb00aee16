"""An engine that misbehaves, a broker that forgets or stutters, workers that stop: nothing is lost or doubled."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from math import log2

import pytest

from apps.core.leases import TTL
from tests.faults.site import BACK_SECONDS, WINDOW, Site, assert_sound, prompts
from tests.stack.live import REPOSITORY

pytestmark = [pytest.mark.live, pytest.mark.quiet]
LINES = 3_000


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two GPU slots: what one loses, the other takes."""
    with Site(tmp_path_factory.mktemp("site"), GPU_SLOTS="0;1", REQUEST_ATTEMPTS="3") as site:
        site.warm()
        yield site


def errors(site: Site, batch: str) -> list[tuple[int, int | None, str]]:
    return [
        (line, status, code)
        for line, status, code in site.query(
            "SELECT r.line, r.status_code, r.error_code FROM batches_result r JOIN batches_batch b ON b.id = r.batch_id"
            " WHERE b.uid = %s AND r.failed ORDER BY r.line",
            batch,
        )
    ]


def test_it_works(site: Site) -> None:
    batch = site.submit(prompts("calm", LINES))
    site.follow(batch, 60)
    assert assert_sound(site, batch, tag="calm", lines=LINES, slots=2) == 0


def test_it_survives_flushall(site: Site) -> None:
    batch = site.submit(prompts("flush", LINES))
    for done in (1, LINES // 3, LINES // 2):
        site.wait_for(batch, ["in_progress"], done=done)
        site.redis().flushall()
    assert site.follow(batch, 40) <= BACK_SECONDS
    assert assert_sound(site, batch, tag="flush", lines=LINES, slots=2) == 0
    later = site.submit(prompts("later", 200))
    assert site.follow(later, 40) <= BACK_SECONDS


def test_it_survives_a_thousand_doorbells(site: Site) -> None:
    batch = site.submit(prompts("bells", LINES))
    script = (
        "import django; django.setup()\n"
        "from apps.models.slots import Slot\n"
        "from batchserver.celery import app\n"
        "for number in range(500):\n"
        "    slot = Slot.here(str(number % 2))\n"
        "    app.send_task('gpu.work', args=[slot.devices], queue=slot.queue)\n"
        "    app.send_task('control.work', args=[f'control:{number % 2}'], queue='control')\n"
    )
    env = {**site.live.env, "DJANGO_SETTINGS_MODULE": "batchserver.settings"}
    subprocess.run([sys.executable, "-c", script], env=env, cwd=REPOSITORY, check=True, timeout=60)
    site.follow(batch, 60)
    assert assert_sound(site, batch, tag="bells", lines=LINES, slots=2) == 0


def test_it_isolates_a_line_that_kills_the_engine(site: Site) -> None:
    texts = prompts("poison", 500)
    texts[321] += " !die"
    batch = site.submit(texts)
    site.follow(batch, 120)
    assert_sound(site, batch, tag="poison", lines=500, slots=2, faults=round(log2(WINDOW)) + 3)
    assert errors(site, batch) == [(322, None, "engine_crash")]


def test_it_survives_one_per_cent_of_flaky_answers(site: Site) -> None:
    texts = prompts("flaky", LINES)
    chance = random.Random(1)
    for number in chance.sample(range(LINES), LINES // 100):
        texts[number] += chance.choice([" !500-once", " !429-once"])
    batch = site.submit(texts)
    site.follow(batch, 60)
    assert assert_sound(site, batch, tag="flaky", lines=LINES, slots=2) == LINES // 100
    assert errors(site, batch) == []


def test_it_makes_garbage_an_error_line(site: Site) -> None:
    texts = prompts("garbage", 300)
    for number in (7, 150, 299):
        texts[number] += " !garbage"
    batch = site.submit(texts)
    site.follow(batch, 60)
    assert assert_sound(site, batch, tag="garbage", lines=300, slots=2) == 6  # two more attempts each
    assert [(line, code) for line, _, code in errors(site, batch)] == [(n + 1, "engine_error") for n in (7, 150, 299)]


def test_it_gives_a_stopped_worker_s_work_away_at_once(site: Site) -> None:
    batch = site.submit(prompts("term", 8_000))
    site.wait_for(batch, ["in_progress"], done=500)
    os.kill(site.live.pid_of("gpu-0"), signal.SIGTERM)
    began = time.monotonic()
    while site.query("SELECT 1 FROM core_lease WHERE key LIKE %s AND expires_at > clock_timestamp()", "gpu:%:0"):
        assert time.monotonic() - began < 10
        time.sleep(0.02)
    print(f"\nSIGTERM: the slot is free after {time.monotonic() - began:.2f} s")
    assert site.follow(batch, 60) < 5
    assert assert_sound(site, batch, tag="term", lines=8_000, slots=2) == 0


@pytest.mark.parametrize(
    "within_a_transaction",
    [pytest.param(False, marks=pytest.mark.soak), True],
    ids=["anywhere", "within a transaction"],
)
def test_it_fences_a_worker_that_was_frozen(site: Site, within_a_transaction: bool) -> None:
    """For two lives of a lease: the other worker takes its shards and ends the batch; its late answers are refused."""
    tag = f"frozen{within_a_transaction:d}"
    batch = site.submit(prompts(tag, 12_000))
    frozen, _ = site.slot("0")
    site.wait_for(batch, ["in_progress"], done=3_000)
    freeze(site, frozen, within_a_transaction=within_a_transaction)
    began = time.monotonic()
    try:
        standstill = site.follow(batch, 60)
        time.sleep(max(began + 2 * TTL - time.monotonic(), 0))
    finally:
        os.kill(frozen, signal.SIGCONT)
    time.sleep(3)  # it has something to say
    print(f"\nfrozen: stood still {standstill:.2f} s")
    assert standstill <= BACK_SECONDS
    assert_sound(site, batch, tag=tag, lines=12_000, slots=2)
    assert site.slot("0")[0] == frozen
    after = site.submit(prompts(f"thawed{within_a_transaction:d}", LINES))
    site.follow(after, 60)
    assert_sound(site, after, tag=f"thawed{within_a_transaction:d}", lines=LINES, slots=2)


def freeze(site: Site, pid: int, *, within_a_transaction: bool) -> None:
    """Stop the process; if asked for, at a moment when it holds locks in the database."""
    idle = "SELECT xact_start FROM pg_stat_activity WHERE state = 'idle in transaction'"
    for _ in range(500):
        os.kill(pid, signal.SIGSTOP)
        if not within_a_transaction:
            return
        time.sleep(0.02)
        before = set(site.query(idle))
        time.sleep(0.1)
        if before & set(site.query(idle)):
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.013)
    raise AssertionError("The worker was never caught within a transaction.")
