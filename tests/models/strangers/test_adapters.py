"""Each adapter of the corpus is admitted, or refused with a file, a key or a module."""

from pathlib import Path

import pytest
from django.conf import settings

from apps.models.admission import inspect_folder
from apps.models.admission.findings import look_at_adapter
from apps.models.models import Model
from tests.models.strangers.adapters import Shapes, Stranger, corpus, made, pairs, write

BASE = settings.BASE_DIR / "var" / "models" / "smollm2-135m-instruct"  # made by `make setup`


@pytest.mark.parametrize("stranger", list(corpus()), ids=lambda stranger: stranger.name)
def test_it_works(stranger: Stranger, tmp_path: Path) -> None:
    found = inspect_folder(write(stranger, tmp_path), BASE)
    said = " ".join(f"{refusal.file}: {refusal.reason}" for refusal in found)
    assert bool(found) == bool(stranger.refusal), said
    assert stranger.refusal in said
    assert str(tmp_path) not in said, "no path of the server's"


def test_a_template_that_is_not_used_is_named(tmp_path: Path) -> None:
    strangers = {stranger.name: stranger for stranger in corpus()}
    folder = write(strangers["good-with-its-own-template"], tmp_path)
    findings = look_at_adapter(folder, BASE)
    model = Model(name="lora", base=Model(pk=1, name="base"), findings=findings)
    assert ["It brings a chat template of its own" in note for note in model.notes] == [True]
    (folder / "chat_template.jinja").write_bytes((BASE / "chat_template.jinja").read_bytes())
    assert look_at_adapter(folder, BASE) == {}
    assert look_at_adapter(write(strangers["good-r8"], tmp_path), BASE) == {}


@pytest.mark.parametrize(
    ("pattern", "admitted"),
    [
        ("layers.0.self_attn.q_proj", True), (r".*\.0\..*q_proj", True),
        ("(a+)+b", False), (".*.*.*.*.*", False), ("(", False),
    ],
)  # fmt: skip
def test_patterns_that_could_keep_the_engine_busy_are_refused(pattern: str, admitted: bool, tmp_path: Path) -> None:
    adapter = made(rank_pattern={pattern: 16}, shapes=pairs(layers=[0], rank=16) | pairs(layers=range(1, 8)))
    found = inspect_folder(write(Stranger("pattern", adapter.files()), tmp_path), BASE)
    assert (not found) == admitted, found
    assert admitted or "rank_pattern" in found[0].reason


def test_a_base_whose_weights_are_packed_gives_sizes_by_its_configuration(tmp_path: Path) -> None:
    narrow: Shapes = {name: (8, 64) if "A" in name else (64, 8) for name in pairs()}
    stranger = Stranger("wrong", made(shapes=narrow).files())
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_bytes((BASE / "config.json").read_bytes())
    packed: Shapes = {f"model.layers.{layer}.self_attn.q_proj.qweight": (72, 576) for layer in range(30)}
    (base / "model.safetensors").write_bytes(made(shapes=packed).files()["adapter_model.safetensors"])
    assert inspect_folder(write(Stranger("good", made().files()), tmp_path), base) == []
    (refusal,) = inspect_folder(write(stranger, tmp_path), base)
    assert "64 wide, the base model's 576" in refusal.reason
