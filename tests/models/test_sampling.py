import json
from typing import Any

import pytest

from apps.models import sampling

CHAT = "/v1/chat/completions"


def check(endpoint: str = CHAT, **body: Any) -> sampling.Checked:
    return sampling.check(json.dumps({"model": "m"} | body).encode(), endpoint)


def test_it_works() -> None:
    body: dict[str, Any] = {"n": 8, "logprobs": True, "top_logprobs": 20, "stop": ["a"], "unknown": {"x": 1}}
    assert check(**body) == sampling.Checked("m", 0)


@pytest.mark.parametrize(
    "body",
    [
        {"n": 9},
        {"best_of": 1_000_000},
        {"logprobs": 21},
        {"top_logprobs": 2**40},
        {"prompt_logprobs": -1},
        {"max_tokens": 10**7},
        {"max_completion_tokens": -5},
        {"stop": ["x"] * 17},
        {"stop": "x" * 1_001},
        {"logit_bias": {str(token): 1 for token in range(1_025)}},
        {"guided_regex": "(a|" * 30_000},
        {"response_format": {"type": "json_schema", "json_schema": {"description": "x" * 70_000}}},
        {"structured_outputs": {"grammar": "x" * 70_000}},
        {"priority": -100},
        {"n": 1.5},
        {"logit_bias": ["x"]},
    ],
)
def test_it_rejects_what_could_take_the_engine_down(body: dict[str, Any]) -> None:
    with pytest.raises(sampling.Refused) as refused:
        check(**body)
    assert refused.value.param == f"body.{next(iter(body))}"


@pytest.mark.parametrize(("given", "inputs"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 1)])
def test_it_counts_texts_to_embed(given: Any, inputs: int) -> None:
    assert check("/v1/embeddings", input=given).inputs == inputs


def test_it_rejects_embedding_nothing() -> None:
    with pytest.raises(sampling.Refused, match="no input"):
        check("/v1/embeddings")
