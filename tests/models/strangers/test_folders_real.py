"""The folders of the corpus that are served, each by a real engine, which answers as admission said."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from apps.models.admission import inspect_folder
from apps.models.engines import canary
from apps.models.engines.engine import Engine, EngineFailed, EngineSpec
from apps.models.engines.settings import EngineSettings
from tests.fakes.hostile.folders import write_files
from tests.models import engines
from tests.models.strangers.folders import ModelFolder, model_folders

pytestmark = [pytest.mark.engine, pytest.mark.soak]

READY_SECONDS = 240
UNKNOWN = [folder for folder in model_folders() if folder.cause]
SERVED = [folder for folder in model_folders() if folder.boots]
NAMED = {folder.name: folder for folder in model_folders()}
IGNORING = EngineSettings(ignore_generation_config=True)
# Not the bare message: a first prompt of one or two tokens ends an engine of this tiny model by an illegal instruction
# in its matrix library on some CPUs.
TEMPLATE = EngineSettings(chat_template="Question: {{ messages[0].content }} Answer:")


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """Of the folder that the test names, and with its settings, which come second."""
    folder, chosen = request.param
    write_files(tmp_path / "model", folder.files)
    spec = EngineSpec(
        python=settings.ENGINE_PYTHON, model=tmp_path / "model", served_name="m", runner="generate",
        socket=tmp_path / "e.sock", log=tmp_path / "engine.log", cwd=settings.BASE_DIR, device="cpu", max_num_seqs=4,
        kv_cache_gib=1, cpu_cores=min(len(os.sched_getaffinity(0)), 2), settings=chosen,
    )  # fmt: skip
    engine = Engine(spec)
    engine.start()
    yield engine
    engine.stop(10)


def say(engine: Engine, *roles: str, **more: Any) -> tuple[int, Any]:
    messages = [{"role": role, "content": "Hi"} for role in roles]
    return engines.post(engine, "/v1/chat/completions", {"model": "m", "messages": messages, **more})


@pytest.mark.parametrize(
    "engine", [pytest.param((folder, EngineSettings()), id=folder.name) for folder in SERVED], indirect=True
)
def test_it_is_served_as_admission_says(request: pytest.FixtureRequest, engine: Engine) -> None:
    folder: ModelFolder = request.node.callspec.params["engine"][0]
    assert inspect_folder(engine.spec.model) == []
    engine.wait_ready(READY_SECONDS, lambda: False)
    route, body = canary.request("generate")
    assert engines.post(engine, route, {"model": "m", **body})[0] == 200
    status, answer = say(engine, "user", **({} if "bound" in folder.name else {"max_tokens": 7}))
    assert (status == 200) == folder.chats
    if "bound" in folder.name:
        assert answer["usage"]["completion_tokens"] <= 5
    if "no-system" in folder.name:
        assert say(engine, "system", "user", max_tokens=2)[0] == 400


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param((NAMED["generation-bound"], IGNORING), id="defaults-ignored"),
        pytest.param((NAMED["template-none"], TEMPLATE), id="template"),
    ],
    indirect=True,
)
def test_what_it_lacks_can_be_set(engine: Engine) -> None:
    engine.wait_ready(READY_SECONDS, lambda: False)
    bound = {"max_tokens": 6} if engine.spec.settings.chat_template else {}
    status, answer = say(engine, "user", min_tokens=6, temperature=0, **bound)
    assert status == 200, answer
    assert answer["usage"]["completion_tokens"] > 5


@pytest.mark.parametrize(
    ("engine", "cause"),
    [
        pytest.param((NAMED["layer-missing"], EngineSettings()), "not initialized from checkpoint", id="layer-missing"),
        pytest.param((NAMED["copy-consolidated"], EngineSettings()), "no module or parameter named", id="other-layout"),
        pytest.param((NAMED["generation-bound-of-text"], EngineSettings()), "TypeError: ", id="wrong-type"),
        pytest.param((NAMED["other-vocabulary"], EngineSettings()), "AssertionError: at `assert", id="vocabulary"),
    ],
    indirect=["engine"],
)
def test_what_admission_refuses_the_engine_cannot_load_and_says_why(engine: Engine, cause: str) -> None:
    assert inspect_folder(engine.spec.model)
    with pytest.raises(EngineFailed) as failed:
        engine.wait_ready(READY_SECONDS, lambda: False)
    sentence = str(failed.value).partition("\n")[0]
    assert cause in sentence
    assert str(engine.spec.model) not in sentence


@pytest.mark.parametrize(
    "engine", [pytest.param((folder, EngineSettings()), id=folder.name) for folder in UNKNOWN], indirect=True
)
def test_what_only_the_engine_knows_is_said_in_a_sentence(request: pytest.FixtureRequest, engine: Engine) -> None:
    folder: ModelFolder = request.node.callspec.params["engine"][0]
    assert inspect_folder(engine.spec.model) == []
    with pytest.raises(EngineFailed) as failed:
        engine.wait_ready(READY_SECONDS, lambda: False)
    sentence = str(failed.value).partition("\n")[0]
    assert folder.cause in sentence
    assert str(engine.spec.model) not in sentence


@pytest.mark.parametrize(
    "engine", [pytest.param((NAMED["generation-end-beyond-the-vocabulary"], EngineSettings()), id="end")], indirect=True
)
def test_an_end_beyond_the_vocabulary_ends_the_engine_with_one_request(engine: Engine) -> None:
    """Why admission looks at it. Where this fails, vLLM has mended it."""
    engine.wait_ready(READY_SECONDS, lambda: False)
    messages = [{"role": "user", "content": "Hi"}]
    body = {"model": "m", "messages": messages, "max_tokens": 4, "min_tokens": 3}
    assert engines.post(engine, "/v1/chat/completions", body)[0] == 500
    assert engine.ends_within(READY_SECONDS)
    assert "IndexError" in engine.cause(engine.spec.model)
