"""Counting tokens as the trainer will."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from apps.training.files import tokens
from apps.training.files.tokens import Count, check_files, count_tokens
from apps.training.options import parse
from apps.training.spec import Checked, Failed, TrainingSpec
from tests.training.tiny import DEMO_MODEL, chat, pair, write_rows

CHAT = chat("What is the capital of Peru?", "It is Lima.")
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "Peru"}'}}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo model's tokenizer, which a test may spoil."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DEMO_MODEL / name, folder)
    return folder


def check(tmp_path: Path, model: Path, *rows: dict[str, Any], **changes: Any) -> Checked | Failed | None:
    path = write_rows(tmp_path / "rows.jsonl", rows)
    values: dict[str, Any] = {
        "method": "dpo" if "input" in rows[0] else "sft",
        "technique": "lora",
        "backend": "auto",
        "device": "cpu",
    }
    values |= {"model": str(model), "train_file": str(path), "folder": str(tmp_path), "options": parse({})} | changes
    return check_files(TrainingSpec(**values))


def count(tmp_path: Path, model: Path, *rows: dict[str, Any]) -> Count:
    checked = check(tmp_path, model, *rows)
    assert not isinstance(checked, Failed), checked
    return count_tokens(checked, tmp_path / "rows.jsonl", rows=len(rows))


def test_it_works(tmp_path: Path, model: Path) -> None:
    """As `transformers` counts: measured with the demo model's tokenizer."""
    assert count(tmp_path, model, CHAT) == Count(42, exact=True)
    assert count(tmp_path, model, CHAT, CHAT) == Count(84, exact=True)
    assert str(Count(1234, exact=True)) == "1,234 tokens"


def test_a_pair_counts_twice(tmp_path: Path, model: Path) -> None:
    row = pair("What is the capital of Peru?", "It is Lima.", "It is Lima!")
    assert count(tmp_path, model, row) == Count(84, exact=True)


def test_a_prompt_and_its_completion(tmp_path: Path, model: Path) -> None:
    assert count(tmp_path, model, {"prompt": "It is", "completion": " Lima."}) == Count(5, exact=True)


def test_a_template_in_the_tokenizers_settings_sees_tools_and_calls(tmp_path: Path, model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    template = (
        "{{ tools | map(attribute='function.name') | join }}:{% for m in messages %}{{ m.content }}"
        "{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments.q }}{% endfor %}{% endfor %}"
    )
    for given in (template, [{"name": "default", "template": template}]):
        settings = {"eos_token": "<|im_end|>", "chat_template": given}
        (model / "tokenizer_config.json").write_text(json.dumps(settings))
        tools = [{"type": "function", "function": {"name": "look_up"}}]
        row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": [CALL]}]}
        assert count(tmp_path, model, {**row, "tools": tools}) == Count(11, exact=True)


def test_it_rejects_chats_for_a_model_without_a_template(tmp_path: Path, model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    checked = check(tmp_path, model, CHAT)
    assert isinstance(checked, Failed)
    assert "has no chat template" in checked.message


def test_a_template_that_cannot_be_used_leaves_all_out(tmp_path: Path, model: Path) -> None:
    (model / "chat_template.jinja").write_text("{% for")
    checked = check(tmp_path, model, CHAT)
    assert isinstance(checked, Checked)
    assert (checked.training.examples, checked.training.left_out_count) == (0, 1)
    assert "refuses it" in checked.training.left_out[0][1]


@pytest.mark.parametrize(("kind", "file"), [("gpt_oss", ""), ("mistral", "tekken.json")])
def test_it_rejects_a_model_whose_prompts_the_engine_writes_itself(
    tmp_path: Path, model: Path, kind: str, file: str
) -> None:
    """Its chat template says nothing about what is served; plain texts can be learned all the same."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "model_type": kind if not file else config["model_type"]}))
    for name in filter(None, (file, file and "consolidated.safetensors")):
        (model / name).touch()
    checked = check(tmp_path, model, CHAT)
    assert isinstance(checked, Failed)
    assert checked.message.startswith("The engine builds this model's prompts with")


def test_it_survives_a_tokenizer_that_cannot_be_used(tmp_path: Path, model: Path) -> None:
    """Then the file's size has to do."""
    (model / "tokenizer.json").write_text("{% for")
    found = count(tmp_path, model, CHAT)
    assert found == Count(round(len(json.dumps(CHAT) + "\n") / 4), exact=False)
    assert str(found).startswith("about ")


def test_it_survives_a_template_without_an_end(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "SECONDS", 1.0)
    monkeypatch.setattr(tokens, "START_SECONDS", 3.0)
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    (model / "chat_template.jinja").write_text(endless)
    assert not count(tmp_path, model, CHAT).exact


def test_what_there_is_no_time_for_is_taken_to_be_alike(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "SECONDS", 0.2)
    found = count(tmp_path, model, *[CHAT] * 20_000)
    assert not found.exact
    assert 0.9 < found.tokens / (42 * 20_000) < 1.1


def test_it_survives_a_missing_trainer(tmp_path: Path, model: Path, settings: Any) -> None:
    settings.TRAINER_PYTHON = Path("/nowhere/python")
    assert not count(tmp_path, model, CHAT).exact
