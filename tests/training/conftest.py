from pathlib import Path

import pytest

from tests.training.tiny import make_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model. Nobody writes there."""
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
