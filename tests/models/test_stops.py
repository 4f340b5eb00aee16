"""At which tokens a model's answers end, and what its engine is told about it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from apps.models.engines import stops
from apps.models.engines.settings import EngineSettings, parse
from tests.training.tiny import DEMO_MODEL

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
TEXT, END = 0, 2  # the ids of <|endoftext|> and <|im_end|>


def model(folder: Path, *, template: str = CHATML, eos: str = "<|endoftext|>", **generation: Any) -> Path:
    """As many base models are: they know a template for chats, and not its end."""
    shutil.copy(DEMO_MODEL / "tokenizer.json", folder)
    (folder / "chat_template.jinja").write_text(template)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    (folder / "config.json").write_text(json.dumps({"eos_token_id": TEXT, "min_p": 0.1}))
    if generation:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def test_it_works(tmp_path: Path) -> None:
    folder = model(tmp_path, eos_token_id=TEXT, temperature=0.6)
    assert stops.end_of_turn(folder) == END
    assert stops.stops_of(folder) == [TEXT, END]
    made = stops.write_generation_config(folder, EngineSettings(), tmp_path)
    assert made
    assert json.loads((made / "generation_config.json").read_text()) == {
        "temperature": 0.6,
        "eos_token_id": [TEXT, END],
    }


@pytest.mark.parametrize(
    "known",
    [{"eos": "<|im_end|>", "eos_token_id": TEXT}, {"eos_token_id": [TEXT, END]}, {"eos_token_id": END}],
)
def test_an_end_that_is_known_needs_nothing(tmp_path: Path, known: dict[str, Any]) -> None:
    folder = model(tmp_path, **known)
    assert stops.end_of_turn(folder) is None
    assert stops.write_generation_config(folder, EngineSettings(), tmp_path) is None


@pytest.mark.parametrize(
    "template",
    [
        CHATML.replace("<|im_end|>", "{{ eos_token }}"),
        CHATML.replace("<|im_end|>", "</turn>"),  # no token of this tokenizer
        CHATML.replace("<|im_end|>", ""),
        "{{ raise_exception('no') }}",
        "{% for",
    ],
)
def test_without_a_token_of_its_own_at_the_end_there_is_nothing_to_tell(tmp_path: Path, template: str) -> None:
    folder = model(tmp_path, template=template, eos_token_id=TEXT)
    assert stops.stops_of(folder) == [TEXT]
    assert stops.generation_config(folder) is None


def test_of_several_tokens_the_last_ends_the_turn_unless_one_is_known(tmp_path: Path) -> None:
    two = CHATML.replace("<|im_end|>", "<repo_name><|im_end|>")
    assert stops.end_of_turn(model(tmp_path, template=two, eos_token_id=TEXT)) == END
    assert stops.end_of_turn(model(tmp_path, template=two, eos_token_id=[TEXT, END])) is None


def test_contents_in_parts(tmp_path: Path) -> None:
    template = CHATML.replace("{{ m.content }}", "{% for part in m.content %}{{ part.text }}{% endfor %}")
    assert stops.end_of_turn(model(tmp_path, template=template, eos_token_id=TEXT)) == END


def test_the_template_that_is_set_for_the_model_counts(tmp_path: Path) -> None:
    folder = model(tmp_path, template=CHATML.replace("<|im_end|>", ""), eos_token_id=TEXT)
    assert stops.stops_of(folder, CHATML) == [TEXT, END]
    assert stops.write_generation_config(folder, parse({"chat_template": CHATML}), tmp_path)


def test_the_rest_of_the_models_defaults_stays_unless_it_is_ignored(tmp_path: Path) -> None:
    folder = model(tmp_path)
    assert stops.generation_config(folder) == {"min_p": 0.1, "eos_token_id": [TEXT, END]}
    made = stops.write_generation_config(folder, EngineSettings(ignore_generation_config=True), tmp_path)
    assert made
    assert json.loads((made / "generation_config.json").read_text()) == {"eos_token_id": [TEXT, END]}


def test_it_survives_a_folder_without_any_of_it(tmp_path: Path) -> None:
    assert stops.stops_of(tmp_path) == []
    assert stops.generation_config(tmp_path, CHATML) is None
