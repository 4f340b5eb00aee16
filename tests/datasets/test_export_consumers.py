"""Every format is read back by who reads it in earnest: `datasets`, TRL, OpenAI's rules, and an import here."""

import json
import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import TypeAdapter

from apps.accounts.models import Project
from apps.datasets.exports.formats import FORMATS
from apps.datasets.exports.services import start_export
from apps.datasets.imports.shapes import detect
from apps.datasets.models import Dataset, Example, Export, Run
from tests.datasets.cast import make_version, messages_of
from tests.datasets.exports import ANSWERS, content, drive, exported, lines, make_split, starred_run

pytestmark = pytest.mark.django_db(transaction=True)

PYTHON = settings.TRAINER_PYTHON  # which has them in the versions that train
QUESTIONS = ["Capital of France?", "Capital of Peru?", "Capital of Ghana?"]
TALK = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Capital of France?"},
]  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture
def run(project: Project) -> Run:
    """The first example is a conversation."""
    run = starred_run(project)
    Example.objects.filter(number=1).update(messages=json.dumps(TALK))
    return run


def test_it_works(run: Run, tmp_path: Path) -> None:
    """One process reads all of them, since it takes its time to start."""
    split = make_split(run, ["train", "validation", "train"])
    exports = {
        "chat": exported(run, "chat"),
        "prompt_completion": exported(run, "prompt_completion"),
        "alpaca": exported(run, "alpaca"),
        "sharegpt": exported(run, "sharegpt"),
        "trl": exported(run, "trl", answers="starred_pairs"),
        "parquet": exported(run, "parquet"),
        "parquet of pairs": exported(run, "parquet", answers="starred_pairs"),
        "huggingface": exported(run, "huggingface", split=split),
    }
    told = dict(zip(exports, read([saved(export, tmp_path) for export in exports.values()], tmp_path), strict=True))
    look_at_texts(told["prompt_completion"]["train"], told["alpaca"]["train"]["rows"])
    look_at_conversations(told["chat"]["train"], told["sharegpt"]["train"], told["parquet"]["train"])
    look_at_pairs(told["trl"]["train"], told["parquet of pairs"]["train"])
    parts = {part: [row["example"] for row in seen["rows"]] for part, seen in told["huggingface"].items()}
    assert parts == {"train": [1, 3], "validation": [2]}


def look_at_texts(prompts: dict[str, Any], alpaca: list[dict[str, Any]]) -> None:
    assert [row["completion"] for row in prompts["rows"]] == ANSWERS["large"]
    conversation = "System: Be brief.\n\nUser: Hello\n\nAssistant: Hi.\n\nUser: Capital of France?"
    assert [row["prompt"] for row in prompts["rows"]] == [conversation, *QUESTIONS[1:]]
    assert not prompts["trl"]["conversational"]
    assert [row["instruction"] for row in alpaca] == QUESTIONS
    assert [row["history"] for row in alpaca] == [[["Hello", "Hi."]], None, None]
    assert [row["output"] for row in alpaca] == ANSWERS["large"]
    assert [row["system"] for row in alpaca] == ["Be brief.", "", ""]


def look_at_conversations(chat: dict[str, Any], sharegpt: dict[str, Any], parquet: dict[str, Any]) -> None:
    whole = [*TALK, {"role": "assistant", "content": "Paris."}]
    for told in (chat, parquet):
        assert told["rows"][0]["messages"] == whole
        assert told["trl"]["conversational"]
    assert parquet["rows"][1] == {
        "messages": [*messages_of("Capital of Peru?"), {"role": "assistant", "content": "Lima"}],
        "tools": None, "example": 2, "key": "", "tags": [], "source": "large",
    }  # fmt: skip
    made = sharegpt["trl"]["as_chatml"]["messages"]  # TRL makes OpenAI's messages of them
    assert [message["content"] for message in made] == [message["content"] for message in whole]
    assert sharegpt["trl"]["conversational"]


def look_at_pairs(*told: dict[str, Any]) -> None:
    for pairs in told:
        assert pairs["trl"]["conversational"]
        assert pairs["trl"]["extracted"] == pairs["rows"][0]  # the prompt is told apart already
        assert {name: pairs["rows"][0][name] for name in ("prompt", "chosen", "rejected")} == {
            "prompt": TALK,
            "chosen": [{"role": "assistant", "content": "Paris."}],
            "rejected": [{"role": "assistant", "content": "Paris"}],
        }


CALL = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"of":"France"}'}}
CALLED = [
    *TALK, {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "Paris", "tool_call_id": "call_1"},
]  # fmt: skip
PARAMETERS = {"properties": {"a": {"enum": ["x", "caf\u00e9 \U0001f600"]}}}
OTHER_TOOLS = [{"type": "function", "function": {"name": "add", "strict": True, "parameters": PARAMETERS}}]
LONG = """
UPDATE datasets_example SET messages =
    json_build_array(json_build_object('role', 'user', 'content', repeat('x', 1000000)))
WHERE dataset_id = %s AND number <= 12
"""
LATE = {  # by format, whether its file holds reasoning, names and settings of the template
    "chat": True, "trl_completion": True, "sharegpt": False, "alpaca": False, "parquet": True, "huggingface": True,
    "trl": True, "dpo": True, "sharegpt_pairs": False, "kto": True,
}  # fmt: skip


def make_late_rows(project: Project) -> Dataset:
    """Twelve megabytes of plain rows, and then some of every kind that each need another column."""
    dataset = make_version(project, [*map(str, range(12)), *QUESTIONS, *QUESTIONS]).dataset
    examples = Example.objects.filter(dataset=dataset)
    with connection.cursor() as cursor:
        cursor.execute(LONG, [dataset.pk])
    examples.update(reference="Yes.", rejected="No.", data="")
    rich = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm.", "weight": 1}
    late = examples.filter(number=14)
    late.update(messages=json.dumps(CALLED), request=json.dumps({"tools": TOOLS}))
    examples.filter(number=15).update(request=json.dumps({"tools": OTHER_TOOLS, "chat_template_kwargs": {"a": 1}}))
    examples.filter(number=16).update(reference_messages=json.dumps([rich]))
    examples.filter(number=17).update(messages=json.dumps([{"role": "user", "name": "Ada", "content": "Hi?"}]))
    examples.filter(number=18).update(messages=json.dumps(TALK))
    return dataset


def look_at_late_rows(told: dict[str, list[dict[str, Any]]]) -> None:
    for name, rows in told.items():
        assert len(rows) == (2 if name == "kto" else 1) * (18 if LATE[name] else 15 if name != "alpaca" else 14), name
        if name == "alpaca":
            assert {row["system"] for row in rows} == {"", "Be brief."}
        else:
            tools = [(row["input"] if name == "dpo" else row).get("tools") for row in rows]
            found = [json.loads(each) if isinstance(each, str) else each for each in tools if each]
            assert TOOLS in found, name
            assert (OTHER_TOOLS in found) == LATE[name], name
            assert "call_1" in json.dumps(rows) or '{\\"of\\":\\"France\\"}' in json.dumps(rows), name


SHAPES = {  # by format, as what an import tells its rows, and whether TRL tells messages in them
    "chat": ("chat", True), "trl_completion": ("completion", True), "sharegpt": ("sharegpt", True),
    "alpaca": ("alpaca", False), "parquet": ("chat", True), "huggingface": ("chat", True),
    "trl": ("preference", True), "dpo": ("preference", False), "sharegpt_pairs": ("sharegpt_pairs", True),
    "kto": ("kto", True),
}  # fmt: skip


def test_late_rows_that_hold_more_are_loaded(project: Project, tmp_path: Path) -> None:
    """They come long after `datasets` has told the columns from the first 10 MB. TRL tells the same of every row."""
    paths = late_exports(project, tmp_path)
    told = {name: each["train"] for name, each in zip(paths, read([*paths.values()], tmp_path), strict=True)}
    look_at_late_rows({name: each["rows"] for name, each in told.items()})
    for name, each in told.items():
        shape, conversational = SHAPES[name]
        assert {detect([row]) for row in each["rows"]} == {shape}, name
        assert each["conversational"] == [conversational], name


def late_exports(project: Project, folder: Path) -> dict[str, Path]:
    dataset, found = make_late_rows(project), {}
    for name in LATE:
        answers = "reference_labels" if name == "kto" else "reference" if FORMATS[name].answers else "reference_pairs"
        export = drive(start_export(dataset=dataset, format=name, answers=answers))
        assert export.status == Export.Status.COMPLETED, (name, export.message)
        found[name] = saved(export, folder)
    return found


def loaded(paths: dict[str, Path], folder: Path, python: Path) -> dict[str, list[dict[str, Any]]]:
    told = read(list(paths.values()), folder, python)
    return {name: each["train"]["rows"] for name, each in zip(paths, told, strict=True)}


@pytest.mark.soak
@pytest.mark.parametrize("version", ["5.2.0", "5.1.0", "4.8.5"])
def test_late_rows_are_loaded_by_other_versions(project: Project, tmp_path: Path, version: str) -> None:
    """In a throw-away environment."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", f"datasets=={version}"], check=True)
    look_at_late_rows(loaded(late_exports(project, tmp_path), tmp_path, python))


def saved(export: Export, folder: Path) -> Path:
    """As somebody would have it on their disk: a .zip is unpacked."""
    path = folder / f"{export.uid}{Path(export.file.filename).suffix if export.file else ''}"
    if path.suffix != ".zip":
        path.write_bytes(content(export))
        return path
    zipfile.ZipFile(BytesIO(content(export))).extractall(path.with_suffix(""))
    return path.with_suffix("")


def read(paths: list[Path], folder: Path, python: Path = PYTHON) -> list[Any]:
    """What the interpreter, the trainer's own, saw in each, by the parts of the split."""
    assert python.exists(), "Make it first: make trainer"
    offline = {"HF_HOME": str(folder), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-m", "tests.datasets.consumers.read_export", *paths], cwd=settings.BASE_DIR,
        env=os.environ | offline, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return list(json.loads(done.stdout))


def test_the_manifest_in_the_folder_names_its_files(run: Run) -> None:
    folder = zipfile.ZipFile(BytesIO(content(exported(run, "huggingface"))))
    told = json.loads(folder.read("manifest.json"))
    assert told["counts"]["rows"] == 3
    assert told["files"]["data/train-00000-of-00001.parquet"]["bytes"] == len(
        folder.read("data/train-00000-of-00001.parquet")
    )


def test_chat_keeps_openais_rules(run: Run) -> None:
    Example.objects.filter(number=2).update(data=json.dumps({"body": {"tools": TOOLS}}))
    found = lines(exported(run, "chat"))
    for line in found:
        assert set(line) <= {"messages", "tools", "parallel_tool_calls"}
        check_messages(line["messages"])
        assert line["messages"][-1]["role"] == "assistant"
        TypeAdapter(list[ChatCompletionToolParam]).validate_python(line.get("tools", []))
    assert found[0]["tools"] == TOOLS  # the row that shows every key comes first


def test_dpo_keeps_openais_rules(run: Run) -> None:
    """https://platform.openai.com/docs/guides/direct-preference-optimization: one assistant message on each side."""
    for line in lines(exported(run, "dpo", answers="starred_pairs")):
        assert set(line) == {"input", "preferred_output", "non_preferred_output"}
        check_messages(line["input"]["messages"])
        assert line["input"]["messages"][-1]["role"] != "assistant"
        for side in ("preferred_output", "non_preferred_output"):
            (message,) = line[side]
            assert message["role"] == "assistant"
            check_messages([message])
        assert line["preferred_output"] != line["non_preferred_output"]


def check_messages(messages: list[dict[str, Any]]) -> None:
    """The rules of https://platform.openai.com/docs/guides/supervised-fine-tuning, with the openai package's types."""
    TypeAdapter(list[ChatCompletionMessageParam]).validate_python(messages)
    assert messages
    for message in messages:
        assert set(message) <= {"role", "content", "name", "tool_calls", "tool_call_id", "weight", "refusal"}
        assert message["role"] in ("system", "user", "assistant", "tool", "developer")
        assert message.get("content") or message.get("tool_calls")
        assert message.get("weight", 0) in (0, 1)
