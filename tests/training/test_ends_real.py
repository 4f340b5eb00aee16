"""A base whose tokenizer ends texts with another token than its chat template ends turns: its answers stop there."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from apps.models.engines import stops
from apps.models.engines.engine import Engine, EngineSpec
from apps.models.engines.settings import EngineSettings
from tests.models.engines import post
from tests.training.tiny import DEMO_MODEL, chat

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

TEXT, TURN = "<|endoftext|>", "<|im_end|>"
TEXT_ID, TURN_ID = 0, 2
ASKED, READY_SECONDS = 20, 300
OTHERS = ("model.safetensors", "tokenizer.json", "chat_template.jinja")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, which was tuned to end turns, but for what its files say about ends."""
    folder = tmp_path_factory.mktemp("models") / "base"
    folder.mkdir()
    for name in OTHERS:
        shutil.copy(DEMO_MODEL / name, folder)
    for name in ("config.json", "generation_config.json"):
        (folder / name).write_text(json.dumps({**json.loads((DEMO_MODEL / name).read_text()), "eos_token_id": TEXT_ID}))
    settings_of_tokenizer = json.loads((DEMO_MODEL / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings_of_tokenizer, "eos_token": TEXT}))
    return folder


@pytest.fixture(scope="module")
def engine(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("e")
    engine = Engine(
        EngineSpec(
            python=settings.ENGINE_PYTHON, model=base, served_name="base", runner="generate", socket=folder / "e.sock",
            log=folder / "engine.log", cwd=settings.BASE_DIR, device="cpu", max_num_seqs=16, kv_cache_gib=1,
            generation_config=stops.write_generation_config(base, EngineSettings(), folder),
        )
    )  # fmt: skip
    engine.start()
    engine.wait_ready(READY_SECONDS, lambda: False)
    yield engine
    engine.stop(10)


def test_it_stops_in_all_answers(engine: Engine) -> None:
    ends = []
    for number in range(ASKED):
        turns = chat(f"What is {number} + 1? Answer with the number only.", "")["messages"][:1]
        body = {"model": "base", "messages": turns, "max_tokens": 200, "temperature": 0}
        status, answer = post(engine, "/v1/chat/completions", body)
        assert status == 200, answer
        choice = answer["choices"][0]
        ends.append((choice["finish_reason"], choice["stop_reason"]))
        assert TURN not in choice["message"]["content"]
    assert ends == [("stop", TURN_ID)] * ASKED
