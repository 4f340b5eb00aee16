"""What an import would cut, or take one of two of, is a bad row or a loss that is asked for first."""

import json
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.core.errors import Conflict
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.imports.job import KIND
from apps.datasets.models import Dataset, Import
from tests.datasets.files import ended, jsonl, upload
from tests.datasets.packed import zipped

pytestmark = pytest.mark.django_db(transaction=True)

ASK, SAY = {"role": "user", "content": "Warm in Orn?"}, {"role": "assistant", "content": "No."}
CHAT: dict[str, Any] = {"messages": [ASK, SAY]}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
MANY = ["t" * 50, *map(str, range(19))]
TOOL = {"type": "function", "function": {"name": "f"}}
BRIEF, BRIEFLY = {"from": "system", "value": "Be brief."}, {"role": "system", "content": "Be brief."}
TURNS = [{"from": "human", "value": "Warm in Orn?"}, {"from": "gpt", "value": "No."}]
SIDES = {"preferred_output": [SAY], "non_preferred_output": [{**SAY, "content": "Yes."}]}
RESPONSES = {"custom_id": "a", "method": "POST", "url": "/v1/responses"}


@pytest.fixture
def dataset(project: Project) -> Dataset:
    return services.create_dataset(project=project, name="rows")


def imported(dataset: Dataset, keeper: Keeper, content: str | bytes, name: str = "rows.jsonl", **how: Any) -> Import:
    job = services.start_import(dataset=dataset, file=upload(dataset.project, content, name), **how)
    return ended(job, keeper, KIND)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("more", "lost", "kept"),
    [
        (
            {"id": "k" * 500, "tags": ["t" * 50, *map(str, range(19))]},
            [],
            ("k" * 500, ["t" * 50, *map(str, range(19))]),
        ),
        ({"id": "k" * 501}, ["id of more than 500 characters"], ("", [])),
        ({"id": 1.5}, ["id that is neither text nor a whole number"], ("", [])),
        ({"id": {"$oid": "5f"}, "uuid": "u"}, [], ("u", [])),
        ({"tags": ["a", "t" * 51]}, ["tags[] of more than 50 characters"], ("", ["a"])),
        ({"tags": [*map(str, range(21))]}, ["tags[] beyond the first 20"], ("", [*map(str, range(20))])),
        ({"tags": "a, b," + "t" * 51}, ["tags[] of more than 50 characters"], ("", ["a", "b"])),
        ({"tags": ["a", {"b": 1}]}, ["tags[] that are no text"], ("", ["a"])),
        ({"tags": {"a": True}}, ["tags that are neither a list nor text"], ("", [])),
        ({"tags": [2024, "A  b", "a b", None, ""]}, [], ("", ["2024", "a b"])),
    ],
)
def test_ids_and_tags(
    dataset: Dataset, keeper: Keeper, more: dict[str, Any], lost: list[str], kept: tuple[str, list[str]]
) -> None:
    content = jsonl([CHAT, {**CHAT, **more}])
    if lost:
        with pytest.raises(Conflict, match="would lose") as refused:
            imported(dataset, keeper, content)
        assert f"'{lost[0]}' (1 row, the first in line 2)" in refused.value.message
    job = imported(dataset, keeper, content, accept_losses=bool(lost))
    assert [use["name"] for use in job.uses if use["loss"]] == lost
    example = dataset.examples.get(number=2)
    assert (example.key, example.tags) == kept
    assert json.loads(example.data) == {**CHAT, **more}


def test_an_id_of_a_mapping(dataset: Dataset, keeper: Keeper) -> None:
    mapping = {"prompt": "{{ q }}", "key": "{{ name }}", "tags": "{{ words }}"}
    content = jsonl([{"q": "Warm?", "name": "n" * 600, "words": "t" * 60}])
    with pytest.raises(Conflict, match=r"'key of more than 500 characters'.*'tags\[\] of more than 50 characters'"):
        imported(dataset, keeper, content, mapping=mapping)


def test_the_split_of_a_row_with_many_tags(dataset: Dataset, keeper: Keeper) -> None:
    row = {**CHAT, "tags": [*map(str, range(20))]}
    content = zipped({"train.jsonl": jsonl([row]).encode(), "test.jsonl": jsonl([CHAT]).encode()})
    with pytest.raises(Conflict, match="beyond the first 20"):
        imported(dataset, keeper, content, "rows.zip")
    imported(dataset, keeper, content, "rows.zip", accept_losses=True)
    assert [example.tags[-1] for example in dataset.examples.all()] == ["train", "test"]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (f'{{"messages": [], "messages": {json.dumps([ASK, SAY])}}}\n', "rows.jsonl"),
        ('[{"prompt": "a", "completion": "b", "completion": "c"}]', "rows.json"),
        ('{"data": [\n{"prompt": "a",\n "completion": "b",\n "completion": "c"}]}', "rows.json"),
        ('{"messages": [{"role": "user", "content": "a", "content": "b"}]}\n', "rows.jsonl"),
        ('{"rows": [{"row_idx": 0, "row": {"prompt": "a"}, "row": {"prompt": "b"}}]}', "viewer.json"),
        (json.dumps({**CHAT, "tools": '[{"name": "f", "name": "g"}]'}), "tools.jsonl"),
    ],
)
def test_a_key_that_stands_twice(dataset: Dataset, keeper: Keeper, content: str, name: str) -> None:
    """Behind a row that can be read, since a file of bad rows alone is refused at once."""
    sound = json.dumps({**CHAT, "prompt": "a", "completion": "b"})
    if name == "viewer.json":
        content = content.replace("[{", f'[{{"row_idx": 1, "row": {sound}}}, {{')
    elif name.endswith(".json"):
        content = content.replace("[", f"[{sound},", 1)
    else:
        content = f"{sound}\n{content}"
    job = imported(dataset, keeper, content, name, skip_bad=True, accept_losses=True)
    assert (job.rows, job.skipped) == (1, 1), job.message
    assert "stands twice" in job.errors[0]["message"]


@pytest.mark.parametrize(
    ("row", "lost"),
    [
        ({"messages": [ASK, {**SAY, "tool_calls": [{**CALL, "output": "3"}]}]}, "messages[].tool_calls[].output"),
        (
            {"messages": [ASK, {**SAY, "tool_calls": [{**CALL, "function": {**CALL["function"], "result": "3"}}]}]},  # type: ignore[dict-item]
            "messages[].tool_calls[].function.result",
        ),
        (
            {"messages": [ASK, {**SAY, "tool_calls": [CALL], "function_call": {"name": "g", "arguments": "{}"}}]},
            "messages[].function_call",
        ),
        ({"messages": [ASK, {**SAY, "tool_calls": [CALL], "function_call": CALL["function"]}]}, ""),
        ({"messages": [ASK, {**SAY, "tool_calls": [{**CALL, "index": 0}]}]}, ""),
        ({**CHAT, "tools": [{**TOOL, "cache_control": {"type": "ephemeral"}}]}, "tools[].cache_control"),
        (
            {"conversations": [{**TURNS[0], "content": "Cold?"}, TURNS[1]]},
            "conversations[].content",
        ),
        ({"conversations": [BRIEF, *TURNS], "system": "Be kind."}, "system"),
        ({"conversations": [BRIEF, *TURNS], "system": "Be brief."}, ""),
        (
            {"prompt": [BRIEFLY, ASK], "completion": "No.", "system": "Be kind."},
            "system",
        ),
        ({**CHAT, "label": True, "prompt": "Cold in Orn?"}, "prompt"),
        (
            {
                "input": {"messages": [ASK], "tools": [TOOL]},
                **SIDES,
                "tools": [{"type": "function", "function": {"name": "g"}}],
            },
            "tools",
        ),
        ({"input": {"messages": [ASK]}, **SIDES, "question": "Cold in Orn?"}, "question"),
        (
            {
                **RESPONSES,
                "body": {"input": [{**BRIEFLY, "role": "developer"}, ASK], "instructions": "Be kind."},
            },
            "body.instructions",
        ),
        ({**RESPONSES, "body": {**CHAT, "prompt": "Cold?"}}, "body.prompt"),
        ({"Question": "Warm?", "Answer": "No.", "Context": "Orn is cold."}, "Context"),
    ],
)
def test_what_stands_beside_what_is_used(dataset: Dataset, row: dict[str, Any], lost: str) -> None:
    seen = services.preview(file=upload(dataset.project, jsonl([row])))
    assert not seen.errors
    assert [each.name for each in seen.losses] == [lost][: bool(lost)]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [ASK], "completion": [SAY], "system": "Be brief."},
        {"prompt": [ASK], "completion": [SAY], "label": True, "system": "Be brief."},
        {**CHAT, "label": True, "system": "Be brief."},
        {"prompt": [ASK], "chosen": [SAY], "rejected": SIDES["non_preferred_output"], "system": "Be brief."},
        {"chosen": [ASK, SAY], "rejected": [ASK, *SIDES["non_preferred_output"]], "system": "Be brief."},
        {"input": {"messages": [ASK]}, **SIDES, "system": "Be brief."},
        {"conversations": TURNS, "system_prompt": "Be brief."},
        {**RESPONSES, "body": {"input": [ASK], "instructions": "Be brief."}},
        {**RESPONSES, "body": {"input": "Warm in Orn?", "instructions": "Be brief."}},
    ],
)
def test_a_system_prompt_in_a_column_is_used(dataset: Dataset, row: dict[str, Any]) -> None:
    seen = services.preview(file=upload(dataset.project, jsonl([row])))
    assert not seen.losses
    assert seen.drafts[0].messages == [{"role": "system", "content": "Be brief."}, ASK]


def test_tools_of_a_response_are_kept(dataset: Dataset) -> None:
    body = {"input": "Warm in Orn?", "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]}
    seen = services.preview(file=upload(dataset.project, jsonl([{**RESPONSES, "body": body}])))
    (tool,) = seen.drafts[0].conversation.tools
    assert tool["function"] == {"name": "f", "parameters": {"type": "object"}}


def test_arguments_under_another_name(dataset: Dataset) -> None:
    call = {"name": "f", "arguments": None, "parameters": {"a": 1}}
    seen = services.preview(file=upload(dataset.project, jsonl([{"messages": [ASK, {**SAY, "tool_calls": [call]}]}])))
    assert seen.drafts[0].conversation.chosen[0].tool_calls[0].function.arguments == '{"a":1}'
