from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.models.hubs import RunningHub, running_hub
from tests.models.installs import ControlWorker, control_worker


@pytest.fixture
def hub(tmp_path: Path, settings: Any) -> Iterator[RunningHub]:
    """The hub that models come from, and an empty folder for them."""
    with running_hub(tmp_path / "hub") as hub:
        settings.HF_ENDPOINT = hub.endpoint
        settings.MODELS_DIR = tmp_path / "models"
        settings.MODELS_DIR.mkdir()
        yield hub


@pytest.fixture
def control(transactional_db: None) -> Iterator[ControlWorker]:
    with control_worker() as worker:
        yield worker
