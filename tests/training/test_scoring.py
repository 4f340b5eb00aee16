"""What a reference costs, from what an engine says of its tokens. The real engine's are in `test_deploy_real`."""

from typing import Any

import pytest

from apps.training.deployments.scoring import Refused, asking, losses

ASKED = {"messages": [{"role": "user", "content": "2 + 2?"}]}
ANSWER = {"messages": [{"role": "assistant", "content": "4"}]}
START = {"prompt_token_ids": [1, 2, 3], "choices": [{}]}


def read(ids: list[int], costs: list[float]) -> dict[str, Any]:
    """As vLLM writes it: the first token costs nothing."""
    told = [None, *({str(token): {"logprob": cost}} for token, cost in zip(ids[1:], costs[1:], strict=True))]
    return {"prompt_token_ids": ids, "prompt_logprobs": told, "choices": [{}]}


def test_it_works() -> None:
    bodies = []

    def send(body: dict[str, Any]) -> dict[str, Any]:
        bodies.append(body)
        return read([1, 2, 3, 7, 8], [0.0, -9.0, -9.0, -1.0, -0.5])

    assert losses(send, ASKED, ANSWER, START) == (0.75, None)
    (body,) = bodies
    assert body["messages"] == ASKED["messages"] + ANSWER["messages"]
    assert (body["add_generation_prompt"], body["max_tokens"], body["prompt_logprobs"]) == (False, 1, 0)


def test_where_both_part_the_answer_begins() -> None:
    """A template that writes something else in front of an answer than before it is asked for."""
    assert losses(lambda _: read([1, 2, 9, 7], [0, -9, -2, -1]), ASKED, ANSWER, START) == (1.5, None)


def test_the_worse_answer_of_a_pair_costs_too() -> None:
    pair = ANSWER | {"rejected": [{"role": "assistant", "content": "5"}]}
    costs = {"4": -0.5, "5": -3.0}
    said = losses(
        lambda body: read([1, 2, 3, 4], [0, 0, 0, costs[body["messages"][-1]["content"]]]), ASKED, pair, START
    )
    assert said == (0.5, 3.0)


def test_completions_have_theirs_in_the_choice() -> None:
    inside = read([1, 2, 3, 5], [0, -9, -9, -4])
    del inside["choices"]
    asked = {"choices": [{"prompt_token_ids": [1, 2, 3]}]}
    assert losses(lambda _: {"choices": [inside]}, {"prompt": "a"}, {"text": "b"}, asked) == (4.0, None)


def test_what_no_engine_tells_is_not_known() -> None:
    def refuses(_: dict[str, Any]) -> dict[str, Any]:
        raise Refused

    assert losses(refuses, ASKED, ANSWER, START) == (None, None)
    assert losses(lambda _: {"choices": [{}]}, ASKED, ANSWER, START) == (None, None)
    assert losses(refuses, ASKED, None, START) == (None, None)


def test_an_impossible_token_costs_a_bounded_sum() -> None:
    assert losses(lambda _: read([1, 2, 3, 4], [0, 0, 0, -9999.0]), ASKED, ANSWER, START) == (100.0, None)


@pytest.mark.parametrize("tools", [[], [{"type": "function"}]])
def test_calls_are_told_as_text(tools: list[Any]) -> None:
    assert ("tool_choice" in asking(ASKED | {"tools": tools})) == bool(tools)
