"""Bodies of requests, made from the tables of what the engine knows: every field with odd values, and odder things."""

from collections.abc import Iterator
from typing import Any

from apps.models.requests import catalog
from apps.models.requests.openai import CHAT, COMPLETIONS, RESPONSES

Body = dict[str, Any]
HI = [{"role": "user", "content": "Hi"}]
BASE: dict[str, Body] = {
    CHAT: {"messages": HI, "max_tokens": 1},
    COMPLETIONS: {"prompt": "Hi", "max_tokens": 1},
    RESPONSES: {"input": "Hi", "max_output_tokens": 1, "store": False},
}
ODD: dict[str, list[Any]] = {
    "integer": [None, "2", 2.0, 1.5, "two", [], -1],
    "number": [None, "0.5", "high", {}, -3],
    "boolean": [None, "yes", "maybe", 1, []],
    "string": [None, "", "odd", 5, {}],
    "array": [None, [], "odd", [5], {}],
    "object": [None, {}, "odd", [], {"1": "2"}],
}
LEFT_ALONE = {
    "model",  # names the engine
    "priority", "stream", "stream_options",  # below
    "background",  # its answer comes later
    "kv_transfer_params", "ec_transfer_params",  # need a second engine
    "media_io_kwargs", "mm_processor_kwargs", "mm_payload", "return_mm_kwargs",  # are a model's with pictures
}  # fmt: skip
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

CHATS: list[Body] = [
    {"messages": []},
    {"messages": None},
    {"messages": "Hi"},
    {"messages": {"role": "user", "content": "Hi"}},
    {"messages": [{"content": "Hi"}]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": None}]},
    {"messages": [{"role": "user", "content": 5}]},
    {"messages": [{"role": "user", "content": []}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]},
    {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
    {"messages": [{"role": "robot", "content": "Hi"}]},
    {"messages": [{"role": "developer", "content": "Hi"}]},
    {"messages": [{"role": "assistant", "content": "Hi", "reasoning_content": "hm", "refusal": None}]},
    {"messages": [{"role": "tool", "content": "Hi", "tool_call_id": "c"}]},
    {"messages": [{"role": "user", "content": "Hi \u2028 \x00 \x1b[0m 🙂 \U0010ffff"}]},
    {"messages": [{"role": "user", "content": "\ud83d"}]},
    {"messages": [{"role": "user", "content": "word " * 2_000}]},
    {"tools": [TOOL]},
    {"tools": [TOOL], "tool_choice": "required"},
    {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
    {"tools": [{"type": "function"}]},
    {"tools": [{"type": "custom", "custom": {"name": "x"}}]},
    {"tool_choice": "auto"},
    {"functions": [{"name": "f", "parameters": {}}]},
    {"function_call": "none"},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "text"}},
    {"response_format": {"type": "xml"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
    {"response_format": {"type": "json_schema"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}},
    {"structured_outputs": {"regex": "a+"}},
    {"structured_outputs": {"regex": "(("}},
    {"structured_outputs": {"choice": ["a", "b"]}},
    {"structured_outputs": {"choice": []}},
    {"structured_outputs": {"json": SCHEMA, "regex": "a"}},
    {"structured_outputs": {"grammar": "root ::= ("}},
    {"guided_json": SCHEMA},
    {"guided_regex": "a+"},
    {"guided_choice": ["a"]},
    {"guided_json": SCHEMA, "structured_outputs": {"json": SCHEMA}},
    {"logprobs": True, "top_logprobs": 2},
    {"top_logprobs": 2},
    {"logprobs": True, "top_logprobs": 25},
    {"logit_bias": {"5": "1.5"}},
    {"logit_bias": {"x": 1}},
    {"logit_bias": {"99999999": 1}},
    {"logit_bias": {"5": 1e9}},
    {"stop": ["a", "b", "c", "d", "e"]},
    {"temperature": 1e308},
    {"temperature": float("nan")},
    {"seed": 2**70},
    {"seed": 1e3},
    {"max_tokens": 100_000},
    {"max_tokens": 0},
    {"max_tokens": None, "max_completion_tokens": 1},
    {"n": 2},
    {"n": 0},
    {"n": 1_000_000},
    {"n": "1000000"},
    {"store": True, "metadata": {"a": "b"}, "service_tier": "auto", "safety_identifier": "x", "user": "u"},
    {"prediction": {"type": "content", "content": "x"}, "prompt_cache_key": "k"},
    {"modalities": ["text"]},
    {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "mp3"}},
    {"verbosity": "high"},
    {"top_kk": 1},
    {"extra_body": {"top_k": 1}},
    {"": 1},
    {"é\u0000": 1},
    {"stream_options": {"include_usage": True}},
    {"stream": True, "stream_options": {"include_usage": "maybe"}},
    {"stream": True, "stream_options": []},
    {"stream": True},
    {"stream": "true"},
    {"stream": "maybe"},
    {"stream": None},
    {"priority": 5},
]
TEXTS: list[Body] = [
    {"prompt": None},
    {"prompt": ""},
    {"prompt": []},
    {"prompt": ["a", "b"]},
    {"prompt": [1, 2, 3]},
    {"prompt": [[1], [2]]},
    {"prompt": [-1]},
    {"prompt": [10**9]},
    {"prompt": {"text": "a"}},
    {"max_completion_tokens": 1, "max_tokens": None},
    {"best_of": 1},
    {"best_of": 3},
    {"suffix": "x"},
    {"echo": True, "max_tokens": 0},
    {"logprobs": 3},
    {"guided_regex": "a"},
    {"mesages": HI},
]
ANSWERS: list[Body] = [
    {"input": None},
    {"input": []},
    {"input": HI},
    {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]},
    {"input": [{"type": "message", "role": "user", "content": "Hi", "x": 1}]},
    {"max_output_tokens": None, "max_tokens": 1},
    {"previous_response_id": "resp_none"},
    {"tools": [{"type": "function", "name": "f", "parameters": {}}]},
    {"tools": [{"type": "web_search"}]},
    {"text": {"format": {"type": "json_object"}}},
    {"reasoning": {"effort": "low"}},
    {"reasoning": {"effort": "much"}},
    {"messages": HI},
]


def bodies() -> Iterator[tuple[str, Body]]:
    """Endpoint and body, without a model."""
    for endpoint, written in ((CHAT, CHATS), (COMPLETIONS, TEXTS), (RESPONSES, ANSWERS)):
        for body in written:
            yield endpoint, BASE[endpoint] | body
    for endpoint, base in BASE.items():
        yield endpoint, {}
        for name, shape in catalog.rules(endpoint).table.items():
            if name in LEFT_ALONE or name in base or not shape.get("type"):
                continue
            for value in ODD[shape["type"][0]][:: 2 if endpoint == CHAT else 4]:
                yield endpoint, base | {name: value}
