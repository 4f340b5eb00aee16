"""One live site for all tests of this folder, with the fake engine and the fake trainer behind it."""

import json
from collections.abc import Iterator

import openai
import pytest

from tests.conformance.site import Site
from tests.stack.live import REPOSITORY, LiveStack

ENGINE = REPOSITORY / "tests/fakes/engine/python"
TRAINER = REPOSITORY / "tests/fakes/trainer/python"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    var = tmp_path_factory.mktemp("conformance")
    env = {"ENGINE_PYTHON": str(ENGINE), "TRAINER_PYTHON": str(TRAINER), "GPU_SLOTS": "cpu"}
    with LiveStack(var, env=env) as stack:
        made = stack.manage("shell", "-v", "0", "-c", "from tests.conformance.cast import main; main()")
        assert made.returncode == 0, made.stderr
        site = Site(stack, json.loads(made.stdout))
        yield site
        site.close()


@pytest.fixture
def client(site: Site) -> openai.OpenAI:
    """The owner's client."""
    return site.client()
