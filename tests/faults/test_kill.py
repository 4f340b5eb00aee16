"""kill -9 of every part of the site, in every status of a batch: nothing is lost, nothing is doubled."""

import os
from collections.abc import Iterator

import pytest

from tests.faults.site import PARTS, Recovery, Site, assert_sound, prompts, strike

pytestmark = [pytest.mark.live, pytest.mark.quiet]
STATUSES = ("validating", "in_progress", "finalizing", "cancelling")
SEEDS = int(os.environ.get("SOAK_SEEDS", "20"))
SHORT = [(part, "in_progress") for part in PARTS] + [
    ("control", "validating"),
    ("control", "finalizing"),
    ("control", "cancelling"),
    ("gpu", "cancelling"),
    ("postgres", "validating"),
    ("postgres", "finalizing"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site")) as site:
        site.warm()
        yield site


def test_it_works(site: Site) -> None:
    batch = site.submit(prompts("calm", 2_000))
    site.follow(batch, 60)
    assert assert_sound(site, batch, tag="calm", lines=2_000) == 0


@pytest.mark.parametrize(("part", "status"), SHORT)
def test_it_survives_kill_nine(site: Site, part: str, status: str) -> None:
    report(part, status, strike(site, part, status, seed=0))


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("part", PARTS)
def test_it_survives_kill_nine_at_any_moment(site: Site, part: str, status: str, seed: int) -> None:
    report(part, status, strike(site, part, status, seed))


def report(part: str, status: str, recovery: Recovery) -> None:
    print(f"\n{part:12} {status:12} stood still {recovery.standstill:5.2f} s, {recovery.repeated} calls repeated")
