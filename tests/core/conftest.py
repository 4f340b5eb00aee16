from collections.abc import Iterator

import pytest

from tests.core.web import Web


@pytest.fixture(scope="module")
def started() -> Iterator[list[Web]]:
    started: list[Web] = []
    yield started
    for web in started:
        web.process.kill()
        web.process.wait()


@pytest.fixture
def web(process_env: dict[str, str], started: list[Web]) -> Web:
    """One for all tests, unless one of them stopped it."""
    if not started or not started[-1].runs():
        started.append(Web(process_env))
    started[-1].forget_peak()
    return started[-1]
