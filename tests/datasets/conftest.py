"""What the tests of the workbench share."""

from collections.abc import Iterator

import pytest

from apps.core.leases import Keeper


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    yield keeper
    keeper.close()
