"""What the tests of the workbench share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.core.leases import Keeper
from apps.models.models import Model
from apps.models.services import register_model


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    yield keeper
    keeper.close()


@pytest.fixture
def other(db: None, tmp_path: Path) -> Model:
    """A second model that everybody may use."""
    (tmp_path / "config.json").write_text("{}")
    return register_model(name="other-model", path=tmp_path)
