"""A base whose tokenizer ends texts with another token than its chat template ends turns: the tuned model stops."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from apps.models.engines import stops
from apps.models.engines.engine import Adapter, Engine, EngineSpec
from apps.models.engines.settings import EngineSettings
from tests.models.engines import post
from tests.training.runs import make_spec, run
from tests.training.tiny import DEMO_MODEL, chat, write_rows

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

TEXT, TURN = "<|endoftext|>", "<|im_end|>"
TEXT_ID, TURN_ID = 0, 2
STEPS, ASKED, READY_SECONDS = 16, 20, 300
OPTIONS = {"max_steps": STEPS, "learning_rate": 2e-3, "rank": 8, "gradient_checkpointing": False}
OTHERS = ("model.safetensors", "tokenizer.json", "chat_template.jinja")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, but for what its files say about the end of a text."""
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
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    """Learned in a few steps to repeat a word, and to end there."""
    folder = tmp_path_factory.mktemp("job")
    rows = [chat(f"Repeat: town{number}", f"town{number}.") for number in range(24)]
    told = run(
        make_spec(
            base, folder, backend="plain", train_file=str(write_rows(folder / "rows.jsonl", rows)),
            stops=tuple(stops.stops_of(base)), options=OPTIONS,
        )
    )  # fmt: skip
    assert told.code == 0, told.lines
    return Adapter("tuned", Path(told.saved[STEPS].folder))


@pytest.fixture(scope="module")
def engine(base: Path, adapter: Adapter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("e")
    engine = Engine(
        EngineSpec(
            python=settings.ENGINE_PYTHON, model=base, served_name="base", runner="generate", socket=folder / "e.sock",
            log=folder / "engine.log", cwd=settings.BASE_DIR, device="cpu", max_num_seqs=16, kv_cache_gib=1,
            max_loras=1, max_lora_rank=8,
            generation_config=stops.write_generation_config(base, EngineSettings(), folder),
        )
    )  # fmt: skip
    engine.start()
    engine.wait_ready(READY_SECONDS, lambda: False)
    engine.load_adapter(adapter)
    yield engine
    engine.stop(10)


def test_it_stops_in_all_answers(engine: Engine) -> None:
    """Of words that it has learned, and of others."""
    ends = []
    for number in range(14, 14 + ASKED):
        body = {"model": "tuned", "messages": chat(f"Repeat: town{number}", "")["messages"][:1], "max_tokens": 40}
        status, answer = post(engine, "/v1/chat/completions", {**body, "temperature": 0})
        assert status == 200, answer
        choice = answer["choices"][0]
        ends.append((choice["finish_reason"], choice["stop_reason"]))
        assert TURN not in choice["message"]["content"]
    assert ends == [("stop", TURN_ID)] * ASKED
