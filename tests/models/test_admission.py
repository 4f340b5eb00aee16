"""What is admitted and what is not, and that each refusal names the file and says why."""

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from apps.models.admission import RepoFile, choose_files, inspect_folder
from apps.models.admission.refusal import Refused
from apps.models.admission.safetensors import BITS, read_tensors
from tests.fakes.hostile.corpus import HostileRepo, corpus
from tests.fakes.hostile.folders import TOKENIZER, entries, safetensors, tiny_adapter, tiny_model, write_files

GIGABYTE = 10**9
DEMO = settings.BASE_DIR / "var" / "models" / "smollm2-135m-instruct"

# In the manner of well-known families.
TEMPLATES = {
    "no system": "{% if messages[0].role == 'system' %}{{ raise_exception('No system messages') }}{% endif %}x",
    "loop controls": "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "tools": "{% if tools is defined %}{{ tools | tojson(indent=4) }}{% endif %}{{ messages[0].content | trim }}",
    "date": "Today is {{ strftime_now('%d %b %Y') }}.{{ bos_token }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "macro": "{% macro line(m) %}{{ m['role'].upper() + ': ' + m['content'] }}{% endmacro %}{{ line(messages[0]) }}",
    "more variables": "{{ documents[0].title }}",
}


def files(folder: Path) -> list[RepoFile]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [RepoFile(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]


def write(folder: Path, content: dict[str, Any]) -> Path:
    write_files(folder, content)
    return folder


def test_it_works(tmp_path: Path) -> None:
    folder = write(tmp_path, tiny_model())
    choice = choose_files(files(folder), max_bytes=GIGABYTE)
    assert (len(choice.wanted), choice.ignored, choice.refusals) == (5, (), ())
    assert inspect_folder(folder) == []


def test_it_admits_the_demo_model() -> None:
    assert inspect_folder(DEMO) == []


def test_it_admits_an_adapter_for_its_base(tmp_path: Path) -> None:
    base = write(tmp_path / "base", tiny_model())
    assert inspect_folder(write(tmp_path / "adapter", tiny_adapter()), base) == []


def test_it_admits_a_model_in_several_files(tmp_path: Path) -> None:
    model = tiny_model()
    del model["model.safetensors"]
    shards = {"model-1.safetensors": "a", "model-2.safetensors": "b"}
    model |= {shard: safetensors(entries({name: [2, 2]})) for shard, name in shards.items()}
    model["model.safetensors.index.json"] = {"weight_map": {name: shard for shard, name in shards.items()}}
    assert inspect_folder(write(tmp_path, model)) == []


def test_it_admits_an_embedding_model_s_modules(tmp_path: Path) -> None:
    modules = [{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    model = tiny_model() | {"modules.json": modules, "1_Pooling/config.json": {"word_embedding_dimension": 64}}
    folder = write(tmp_path, model)
    assert {"modules.json", "1_Pooling/config.json"} <= {
        file.path for file in choose_files(files(folder), max_bytes=GIGABYTE).wanted
    }
    assert inspect_folder(folder) == []


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_it_admits_the_templates_of_known_families(tmp_path: Path, template: str) -> None:
    model = tiny_model() | {"tokenizer_config.json": TOKENIZER | {"chat_template": template}}
    assert inspect_folder(write(tmp_path, model)) == []


@pytest.mark.parametrize("repository", corpus(), ids=lambda repository: repository.name)
def test_it_rejects(tmp_path: Path, repository: HostileRepo) -> None:
    """As a repository is: its list first, then what was fetched of it. As a folder: what is there."""
    folder = tmp_path / "hostile"
    repository.write(folder)
    base = write(tmp_path / "base", tiny_model()) if repository.is_adapter else None
    if repository.on_hub:
        choice = choose_files(files(folder), max_bytes=GIGABYTE)
        for file in choice.ignored:
            (folder / file.path).unlink()
        refusals = [*choice.refusals] or inspect_folder(folder, base)
    else:
        refusals = inspect_folder(folder, base)
    assert repository.file in {refusal.file for refusal in refusals}, refusals
    assert repository.reason in " ".join(r.reason for r in refusals if r.file == repository.file), refusals


@pytest.mark.parametrize("name", ["model.bin", "modeling_evil.py", "optimizer.pt", "tiny.gguf"])
def test_it_rejects_code_and_pickles_in_a_folder(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, tiny_model() | {name: b"\x80"})
    assert [refusal.file for refusal in inspect_folder(folder)] == [name]


def test_it_leaves_out_what_no_engine_needs() -> None:
    """Repositories of repute hold pickles, examples and other formats beside their safetensors."""
    wanted = ["config.json", "model.safetensors", "tokenizer.model", "additional_chat_templates/tools.jinja", "LICENSE"]
    ignored = [
        "pytorch_model.bin", "modeling_x.py", ".gitattributes", "onnx/model.onnx", "original/params.json",
        "consolidated.safetensors", "figures/a.png", "runs/events.out", "weights.gguf", "нет.json",
    ]  # fmt: skip
    choice = choose_files([RepoFile(path, 1) for path in wanted + ignored], max_bytes=GIGABYTE)
    assert [file.path for file in choice.wanted] == wanted
    assert [file.path for file in choice.ignored] == ignored
    assert choice.refusals == ()


@pytest.mark.parametrize(
    "path", ["../config.json", "/etc/passwd", "a/../../b.json", "a\\..\\b.json", "~/x.json", "a\n.json"]
)
def test_it_rejects_paths_that_lead_out(path: str) -> None:
    choice = choose_files([RepoFile("config.json", 1), RepoFile(path, 1)], max_bytes=GIGABYTE)
    assert [refusal.file for refusal in choice.refusals] == [path]
    assert choice.wanted == ()


def test_it_rejects_what_is_too_large() -> None:
    listing = [RepoFile(name, 1) for name in ("config.json", "tokenizer.json")]
    listing.append(RepoFile("model.safetensors", 20 * GIGABYTE))
    (refusal,) = choose_files(listing, max_bytes=10 * GIGABYTE).refusals
    assert "20.0 GB, and MODEL_MAX_BYTES allows 10.0 GB" in refusal.reason


def test_it_takes_no_longer_for_larger_weights(tmp_path: Path) -> None:
    folder = write(tmp_path, tiny_model())
    with (folder / "model.safetensors").open("wb") as file:  # a hole of 64 GB
        header = json.dumps(
            {"w": {"dtype": "U8", "shape": [64 * GIGABYTE], "data_offsets": [0, 64 * GIGABYTE]}}
        ).encode()
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 64 * GIGABYTE)
    began = time.monotonic()
    assert inspect_folder(folder) == []
    assert time.monotonic() - began < 10


Headers = st.dictionaries(
    st.text(max_size=5),
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from([*BITS, "X"]),
            "shape": st.lists(st.integers(-1, 5), max_size=3),
            "data_offsets": st.lists(st.integers(-1, 40), min_size=1, max_size=3),
        }
    ),
    max_size=4,
)


@given(raw=st.one_of(st.binary(max_size=200), Headers.map(lambda h: safetensors(json.dumps(h).encode(), 40))))
def test_a_header_is_refused_or_tiles_its_file(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(raw)
    try:
        tensors = read_tensors(path)
    except Refused:
        return
    assert [t.start for t in tensors] == [0, *(t.end for t in tensors[:-1])]
    (length,) = struct.unpack("<Q", raw[:8])
    assert tensors[-1].end == len(raw) - 8 - length
