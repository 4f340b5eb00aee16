import json
from typing import Any

import pytest

from apps.models import sampling

CHAT = "/v1/chat/completions"


def check(endpoint: str = CHAT, **body: Any) -> sampling.Checked:
    return sampling.check(json.dumps({"model": "m"} | body).encode(), endpoint)


def test_it_works() -> None:
    body: dict[str, Any] = {"n": 8, "logprobs": True, "top_logprobs": 20, "stop": ["a"], "vllm_xargs": {"x": 1}}
    assert check(**body) == sampling.Checked("m", 0, json.dumps({"model": "m"} | body).encode())


@pytest.mark.parametrize(
    "body",
    [
        {"n": 129},
        {"n": "129"},
        {"n": 129.0},
        {"n": " 1e9 "},
        {"best_of": 1_000_000},
        {"logprobs": 21},
        {"top_logprobs": 2**40},
        {"prompt_logprobs": -1},
        {"max_tokens": 10**7},
        {"max_completion_tokens": -5},
        {"stop": ["x"] * 17},
        {"stop": "x" * 1_001},
        {"logit_bias": {str(token): 1 for token in range(1_025)}},
        {"response_format": {"type": "json_schema", "json_schema": {"description": "x" * 70_000}}},
        {"structured_outputs": {"grammar": "x" * 70_000}},
        {"priority": -100},
    ],
)
def test_it_rejects_what_could_take_the_engine_down(body: dict[str, Any]) -> None:
    with pytest.raises(sampling.Refused) as refused:
        check(**body)
    assert refused.value.param == f"body.{next(iter(body))}"


@pytest.mark.parametrize(("given", "inputs"), [("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2), ([], 1)])
def test_it_counts_texts_to_embed(given: Any, inputs: int) -> None:
    assert check("/v1/embeddings", input=given).inputs == inputs


@pytest.mark.parametrize(
    ("setting", "value", "body"),
    [
        ("REQUEST_MAX_N", 2, {"n": 3}),
        ("REQUEST_MAX_LOGPROBS", 2, {"top_logprobs": 3}),
        ("REQUEST_MAX_TOKENS", 2, {"max_tokens": 3}),
        ("REQUEST_MAX_STOP", 2, {"stop": ["a", "b", "c"]}),
        ("REQUEST_MAX_STOP_CHARACTERS", 2, {"stop": "abc"}),
        ("REQUEST_MAX_LOGIT_BIAS", 1, {"logit_bias": {"1": 1, "2": 1}}),
        ("REQUEST_MAX_GRAMMAR_BYTES", 20, {"structured_outputs": {"regex": "a{1,2}b{1,2}"}}),
    ],
)
def test_every_bound_is_a_setting(setting: str, value: int, body: dict[str, Any], settings: Any) -> None:
    check(**body)
    setattr(settings, setting, value)
    with pytest.raises(sampling.Refused):
        check(**body)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"top_kk": 1}, "supplied: top_kk. Did you mean top_k?"),
        ({"max_tokns": 1}, "Did you mean max_tokens?"),
        ({"temprature": 1}, "Did you mean temperature?"),
        ({"response_fromat": None}, "Did you mean response_format?"),
        ({"xyzzy": 1}, "supplied: xyzzy."),
        ({"guided_decoding_backend": "xgrammar"}, "supplied: guided_decoding_backend."),
        ({"extra_body": {}}, "put its keys into the body itself."),
        ({"verbosity": "high"}, 'supplied: verbosity. The engine has nothing like it: leave it out, or send "medium".'),
        ({"web_search_options": {}}, "supplied: web_search_options. The engine has nothing like it: leave it out."),
        ({"stream_options": {"include_usge": True}}, "Did you mean stream_options.include_usage?"),
        ({"response_format": {"type": "json_schema", "json_shema": {}}}, "Did you mean response_format.json_schema?"),
        ({"structured_outputs": {"regx": "a"}}, "Did you mean structured_outputs.regex?"),
        ({"tools": [{"type": "function", "function": {"nmae": "f"}}]}, "tools[0].function.nmae"),
        ({"messages": [{"role": "user", "contnt": "hi"}]}, "Did you mean messages[0].content?"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "txt": ""}]}]}, "messages[0].content[0].txt"),
        ({"a\u0000\ud800b": 1}, "supplied: a"),
    ],
)
def test_it_refuses_names_that_the_engine_does_not_know(body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(sampling.Refused) as refused:
        check(**body)
    assert sentence in str(refused.value)
    assert refused.value.code == "unknown_parameter"


@pytest.mark.parametrize(
    ("endpoint", "given", "sent"),
    [
        (CHAT, {"guided_regex": "a+"}, {"structured_outputs": {"regex": "a+"}}),
        (CHAT, {"guided_choice": ["a"]}, {"structured_outputs": {"choice": ["a"]}}),
        (CHAT, {"guided_grammar": "root"}, {"structured_outputs": {"grammar": "root"}}),
        (CHAT, {"guided_json": None}, {}),
        (CHAT, {"guided_json": {}, "structured_outputs": None}, {"structured_outputs": {"json": {}}}),
        (CHAT, {"functions": [{"name": "f"}]}, {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        (CHAT, {"function_call": "auto"}, {"tool_choice": "auto"}),
        (CHAT, {"function_call": {"name": "f"}}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        (CHAT, {"store": True, "metadata": {"a": "b"}, "service_tier": "auto", "safety_identifier": "x"}, {}),
        (CHAT, {"modalities": ["text"], "audio": None, "verbosity": "medium"}, {}),
        ("/v1/completions", {"max_completion_tokens": 5, "best_of": 1}, {"max_tokens": 5}),
        ("/v1/responses", {"max_tokens": 5}, {"max_output_tokens": 5}),
    ],
)
def test_it_gives_old_names_their_modern_form(endpoint: str, given: dict[str, Any], sent: dict[str, Any]) -> None:
    assert json.loads(check(endpoint, **given).body) == {"model": "m"} | sent


def test_it_refuses_two_names_for_one_thing() -> None:
    with pytest.raises(sampling.Refused, match=r"old name of structured_outputs\.json: give one of them"):
        check(guided_json={}, structured_outputs={"json": {}})


@pytest.mark.parametrize(
    "body", [b'{"model":"m","n":"\\ud800"}', b'{"model":"m","temperature":NaN}', b'{"model":"m","seed":1e400}']
)
def test_what_only_the_engine_reads_is_its_to_judge(body: bytes) -> None:
    assert sampling.check(body, CHAT).body == body


def test_what_an_engine_said_may_come_back_to_it() -> None:
    said = {
        "role": "assistant", "content": "", "refusal": None, "annotations": None, "audio": None, "function_call": None,
        "reasoning": "hm", "reasoning_content": "hm",
        "tool_calls": [{"id": "c", "type": "function", "index": 0, "function": {"name": "f", "arguments": "{}"}}],
    }  # fmt: skip
    check(messages=[said])
