"""Which tests run in one process, and in what order, when several processes run them. Loaded by `-p`."""

from collections import defaultdict
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARE_A_SITE = ("tests/browser/", "tests/conformance/")  # most of their modules
REAL = ("live", "engine", "browser")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    scheduling = LoadScopeScheduling(config, log)
    scheduling._split_scope = group
    return scheduling


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real processes compute, most others wait: at every time some of both. First what takes longest: what
    says so, and what has most tests."""
    groups = defaultdict[str, list[pytest.Item]](list)
    for item in items:
        groups[group(item.nodeid)].append(item)
    longest_first = sorted(groups, key=lambda name: (-max(map(_seconds, groups[name])), -len(groups[name])))
    place: dict[str, float] = {}
    for real in (True, False):
        alike = [name for name in longest_first if any(map(_is_real, groups[name])) == real]
        place |= {name: at / len(alike) for at, name in enumerate(alike)}
    items.sort(key=lambda item: place[group(item.nodeid)])


def group(nodeid: str) -> str:
    """What one process runs: a module, or all modules that share a site."""
    return next(filter(nodeid.startswith, SHARE_A_SITE), nodeid.partition("::")[0])


def _is_real(item: pytest.Item) -> bool:
    return any(map(item.get_closest_marker, REAL))


def _seconds(item: pytest.Item) -> float:
    """That it may take, if it says so."""
    limit = item.get_closest_marker("timeout")
    return limit.args[0] if limit else 0
