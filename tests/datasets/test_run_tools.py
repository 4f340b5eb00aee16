"""Runs send what examples have beside messages, in the words of the engine."""

import json
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.batches.models import Request
from apps.core.errors import DomainError
from apps.core.leases import Keeper
from apps.datasets.imports import shapes
from apps.datasets.imports.readers import Row
from apps.datasets.models import Example, Run, Version
from apps.datasets.runs import estimates, requests
from apps.datasets.runs import services as runs
from apps.models import sampling
from apps.models.models import Model
from tests.datasets import batchwork
from tests.datasets.batchwork import completion, refusal, start
from tests.datasets.cast import make_version

TOOL = {
    "type": "function",
    "function": {"name": "depth", "parameters": {"type": "object", "properties": {"lake": {"type": "string"}}}},
}
SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "How deep is lake Orn?"},
        {"from": "function_call", "value": '{"name": "depth", "arguments": {"lake": "Orn"}}'},
        {"from": "observation", "value": "41"},
        {"from": "gpt", "value": "41 metres."},
    ],
    "tools": json.dumps([TOOL]),
}
TRL = {
    "messages": [
        {"role": "user", "content": "How deep is lake Orn?"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "depth", "arguments": {"lake": "Orn"}}}]},
        {"role": "tool", "name": "depth", "content": "41"},
        {"role": "assistant", "content": "41 metres.", "weight": 1},
    ],
    "tools": [TOOL],
}
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def version(project: Project) -> Version:
    """Its first example has a tool."""
    version = make_version(project)
    Example.objects.filter(number=1).update(
        request=json.dumps({"tools": [TOOL], "parallel_tool_calls": False}, separators=(",", ":"))
    )
    return version


def bodies() -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in Request.objects.order_by("line")]


def without_parser(model: Model) -> None:
    (model.folder / "chat_template.jinja").write_text("{{ messages }}")


def test_it_works(version: Version, model: Model, keeper: Keeper) -> None:
    start(version, model)
    batchwork.send(keeper)
    first, second, _ = bodies()
    assert (first["tools"], first["parallel_tool_calls"]) == ([TOOL], False)
    assert set(second) == {"model", "messages"}


def test_the_run_s_parameters_win_over_the_example_s() -> None:
    beside = '{"tools":[{"type":"function","function":{"name":"f"}}],"chat_template_kwargs":{"a":1,"b":1}}'
    prompt = requests.Prompt("m", {"chat_template_kwargs": {"b": 2}, "tool_choice": "required", "top_p": 0.5}, 2)
    assert json.loads(prompt.body("[]", beside)) == {
        "model": "m", "messages": [], "n": 2, "top_p": 0.5, "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": "required", "chat_template_kwargs": {"a": 1, "b": 2},
    }  # fmt: skip
    plain = {"model": "m", "messages": [], "n": 2, "top_p": 0.5, "chat_template_kwargs": {"b": 2}}
    assert json.loads(prompt.body("[]")) == plain, "an engine refuses tool_choice without tools"


@pytest.mark.parametrize("parameters", [{}, {"system": "Be brief."}])
def test_no_weight_goes_to_an_engine(parameters: dict[str, Any]) -> None:
    said = 'My "weight": 3 kg, and \\"weight\\"'
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": said, "weight": 1},
        {"role": "assistant", "content": "weight", "reasoning_content": "Hm.", "weight": 0},
        {"role": "user", "content": "Why?"},
    ]
    body = requests.Prompt("m", parameters).body(json.dumps(turns))
    sent = [turn for turn in json.loads(body)["messages"] if turn["role"] != "system"]
    assert sent == [{name: value for name, value in turn.items() if name != "weight"} for turn in turns]
    sampling.check(body, requests.URL)


def test_messages_without_a_weight_pass_as_they_are() -> None:
    said = '[{"role": "user",\n "content": "\\"weight\\": 3, \\ud83d\\ude00 1e400"}]'
    assert said.replace("\n", " ").encode() in requests.Prompt("m", {}).body(said)


def test_half_a_surrogate_pair_stops_nothing() -> None:
    body = requests.Prompt("m", {}).body('[{"role":"user","content":"\\ud800","weight":1}]')
    assert json.loads(body)["messages"] == [{"role": "user", "content": "\ud800"}]


@pytest.mark.parametrize("row", [SHAREGPT, TRL])
def test_tools_of_other_formats_become_requests_that_engines_take(row: dict[str, Any]) -> None:
    """Arguments are text, every call has an id, and the tool's message has the same."""
    made = shapes.draft(Row(line=1, text="", values=row), shapes.detect([row]))
    body = requests.Prompt("m", {}).body(json.dumps(made.messages), made.request())
    sampling.check(body, requests.URL)
    sent = json.loads(body)
    (call,) = sent["messages"][1]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("depth", {"lake": "Orn"})
    assert call["id"] == sent["messages"][2]["tool_call_id"] != ""
    assert sent["tools"] == [TOOL]


def test_what_an_engine_does_not_know_of_a_tool_is_not_sent() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}, "return": {"type": "string"}}}
    body = requests.Prompt("m", {}).body("[]", json.dumps({"tools": [tool]}))
    assert json.loads(body)["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    sampling.check(body, requests.URL)


def test_it_rejects_a_model_without_a_parser(version: Version, model: Model, other: Model, keeper: Keeper) -> None:
    without_parser(model)
    with pytest.raises(DomainError, match=r"1 of the examples have tools.*'test-model'.*tool_call_parser") as refused:
        start(version, model)
    assert (refused.value.param, refused.value.code) == ("models", "no_tool_parser")
    assert not Run.objects.exists()
    Model.objects.filter(pk=other.pk).update(engine_settings={"tool_call_parser": "hermes"})
    run = start(version, Model.objects.get(pk=other.pk))
    with pytest.raises(DomainError, match="tool_call_parser"):
        runs.add_column(run=run, model=model)


def test_what_is_missing_is_not_asked_again_of_a_model_whose_parser_is_gone(
    version: Version, model: Model, keeper: Keeper
) -> None:
    """Unless what is missing has no tools: answers that are there are asked of nobody."""
    without_parser(model)
    Model.objects.filter(pk=model.pk).update(engine_settings={"tool_call_parser": "hermes"})
    run = start(version, Model.objects.get(pk=model.pk))
    batchwork.finish(keeper, lambda request: refusal() if request.custom_id != "3" else completion("kept"))
    Model.objects.filter(pk=model.pk).update(engine_settings={})
    with pytest.raises(DomainError, match=r"1 of the examples have tools.*'test-model'.*tool_call_parser") as refused:
        runs.rerun_missing(run=run)
    assert refused.value.code == "no_tool_parser"
    assert not run.columns.filter(due=True).exists()
    Model.objects.filter(pk=model.pk).update(engine_settings={"tool_call_parser": "hermes"})
    runs.rerun_missing(run=run)
    batchwork.finish(keeper, lambda request: refusal() if request.custom_id == "2" else completion("now"))
    Model.objects.filter(pk=model.pk).update(engine_settings={})
    assert runs.rerun_missing(run=run) == 1


@pytest.mark.parametrize(
    ("settings", "parameters", "prompt"),
    [({"tool_call_parser": "hermes"}, {}, 1), ({}, {"tool_choice": "none"}, 1), ({}, {}, 2)],
)
def test_it_starts_where_tools_can_be_answered_or_none_are_sent(
    version: Version, model: Model, settings: Any, parameters: Any, prompt: int
) -> None:
    without_parser(model)
    Model.objects.filter(pk=model.pk).update(engine_settings=settings)
    Example.objects.exclude(number=prompt).update(request="")
    if prompt == 2:
        Example.objects.filter(number=2).update(request='{"chat_template_kwargs":{"tools":1}}')
    model.refresh_from_db()
    assert start(version, model, parameters=parameters).items_total == 3


def test_it_rejects_a_choice_of_tools_that_is_none(version: Version, model: Model) -> None:
    with pytest.raises(DomainError, match="must be one of auto, none, required"):
        start(version, model, parameters={"tool_choice": "always"})


def test_an_estimate_counts_the_tools(version: Version, model: Model) -> None:
    def tokens() -> int:
        return estimates.estimate(version=version, models=[model], parameters={}).input_tokens

    before = tokens()
    Example.objects.filter(number=1).update(request=json.dumps({"tools": [TOOL] * 40}))
    assert tokens() - before == pytest.approx(40 * len(json.dumps(TOOL)) / estimates.CHARACTERS_PER_TOKEN, rel=0.1)
