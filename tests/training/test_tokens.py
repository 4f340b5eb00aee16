"""Counting tokens as the trainer will."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from apps.training.files import tokens
from apps.training.files.tokens import Count, count_tokens
from tests.training.tiny import DEMO_MODEL, chat, pair, write_rows

CHAT = chat("What is the capital of Peru?", "It is Lima.")
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "Peru"}'}}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo model's tokenizer, which a test may spoil."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DEMO_MODEL / name, folder)
    return folder


def count(tmp_path: Path, model: Path, *rows: dict[str, Any]) -> Count:
    return count_tokens(write_rows(tmp_path / "rows.jsonl", rows), model=model, rows=len(rows))


def test_it_works(tmp_path: Path, model: Path) -> None:
    """As `transformers` counts: measured with the demo model's tokenizer."""
    assert count(tmp_path, model, CHAT) == Count(43, exact=True)
    assert count(tmp_path, model, CHAT, CHAT) == Count(86, exact=True)
    assert str(Count(1234, exact=True)) == "1,234 tokens"


def test_a_pair_counts_twice(tmp_path: Path, model: Path) -> None:
    row = pair("What is the capital of Peru?", "It is Lima.", "It is Lima.")
    assert count(tmp_path, model, row) == Count(86, exact=True)


def test_a_prompt_and_its_completion(tmp_path: Path, model: Path) -> None:
    assert count(tmp_path, model, {"prompt": "It is", "completion": " Lima."}) == Count(5, exact=True)


def test_a_template_in_the_tokenizers_settings_sees_tools_and_calls(tmp_path: Path, model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    template = "{{ tools | tojson }}{% for m in messages %}{{ m.tool_calls[0].function.arguments.q }}{% endfor %}"
    for given in (template, [{"name": "default", "template": template}]):
        settings = {"bos_token": {"content": "<|im_start|>"}, "chat_template": given}
        (model / "tokenizer_config.json").write_text(json.dumps(settings))
        row = {"messages": [{"role": "assistant", "content": "", "tool_calls": [CALL]}], "tools": []}
        assert count(tmp_path, model, row) == Count(4, exact=True)


def test_a_long_text_is_counted_in_pieces(tmp_path: Path, model: Path) -> None:
    words = "one  two three\n" * 10_000
    alone, empty = (count(tmp_path, model, chat("", text)) for text in ("one  two three\n", ""))
    whole = count(tmp_path, model, chat("", words))
    assert whole == Count((alone.tokens - empty.tokens) * 10_000 + empty.tokens, exact=True)


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja"])
def test_it_survives_a_tokenizer_that_cannot_be_used(tmp_path: Path, model: Path, name: str) -> None:
    """Then the file's size has to do."""
    (model / name).write_text("{% for")
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
    assert 0.9 < found.tokens / (43 * 20_000) < 1.1


def test_it_survives_a_missing_trainer(tmp_path: Path, model: Path, settings: Any) -> None:
    settings.TRAINER_PYTHON = Path("/nowhere/python")
    assert not count(tmp_path, model, CHAT).exact
