"""What requests may hold: the tree's tables, OpenAI's fields, and the documentation say the same."""

import json
import re
from typing import Any

import pytest
from django.conf import settings as site
from openai.types import CompletionCreateParams, EmbeddingCreateParams
from openai.types.chat import CompletionCreateParams as ChatParams
from openai.types.responses import ResponseCreateParams

from apps.models.requests import catalog, dump, openai, tables

DOCUMENTED = (site.BASE_DIR / "docs/requests.md").read_text()
PARAMS: dict[str, Any] = {
    openai.CHAT: ChatParams,
    openai.COMPLETIONS: CompletionCreateParams,
    openai.RESPONSES: ResponseCreateParams,
    openai.EMBEDDINGS: EmbeddingCreateParams,
}
LEGACY = {"functions", "function_call"}


def names(params: Any) -> set[str]:
    """The fields of a TypedDict, or of a union of some."""
    members = getattr(params, "__args__", (params,))
    return {name for member in members for name in member.__annotations__.keys() | member.__required_keys__
            | member.__optional_keys__}  # fmt: skip


def test_it_works() -> None:
    schema = {
        "$defs": {
            "A": {"type": "object", "properties": {"x": {"type": "integer", "maximum": 5}, "_own": {}}},
            "B": {"type": "object", "properties": {"x": {"type": "integer", "maximum": 9}, "y": {"$ref": "#/$defs/B"}}},
        },
        "properties": {
            "part": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}, {"type": "null"}]},
            "many": {"type": "array", "items": {"$ref": "#/$defs/A"}},
            "open": {"type": "object", "additionalProperties": True},
            "either": {"anyOf": [{"const": "a", "type": "string"}, {"type": "object"}]},
        },
    }
    number = {"type": ["integer"], "maximum": 5}
    assert tables.reduced({"/v1/x": [schema]}) == {
        "/v1/x": {
            "part": {
                "type": ["object", "null"],
                "properties": {"x": {"type": ["integer"], "maximum": 9}, "y": {}},
            },
            "many": {"type": ["array"], "items": {"type": ["object"], "properties": {"x": number}}},
            "open": {"type": ["object"]},
            "either": {"type": ["string", "object"], "enum": ["a"]},
        }
    }


@pytest.mark.parametrize("endpoint", openai.ENDPOINTS)
def test_every_field_of_openai_s_client_has_a_place(endpoint: str) -> None:
    """One that a newer client has is named here: put it into `requests.openai`, and into docs/requests.md."""
    known = catalog.rules(endpoint).table.keys() | openai.IGNORED.keys() | openai.NEUTRAL.keys() | LEGACY
    assert names(PARAMS[endpoint]) - known == set()


def test_the_documentation_lists_what_is_ignored_translated_and_bounded() -> None:
    words = set(re.findall(r"`([a-zA-Z_]+)`", DOCUMENTED))
    told = {*openai.IGNORED, *openai.NEUTRAL, *openai.STRUCTURED, *LEGACY, *openai.STREAM_NAMES, "cache_control"}
    assert told - words == set()
    for name in re.findall(r"`((?:REQUEST_MAX|BATCH_CUSTOM)_[A-Z_]+)` \| ([0-9,]+)", DOCUMENTED):
        assert getattr(site, name[0]) == int(name[1].replace(",", ""))
    assert {name for name in dir(site) if name.startswith("REQUEST_MAX_")} <= words


@pytest.mark.engine
def test_the_tree_s_tables_are_those_of_the_installed_vllm(transactional_db: None) -> None:
    row = catalog.read_engine(site.ENGINE_PYTHON)
    own = json.loads(catalog.OWN.read_text())
    assert row.version.startswith("0.3")
    assert {endpoint: set(table) for endpoint, table in row.tables.items()} == {
        endpoint: set(table) for endpoint, table in own.items()
    }
    assert row.tables == own
    assert set(dump.MODELS) == set(openai.ENDPOINTS)


def test_items_come_back_under_the_names_under_which_the_engine_writes_them() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "async_": None, "namespace": None}
    body = {"model": "m", "input": [{"role": "user", "content": "?"}, call]}
    assert list(catalog.rules(openai.RESPONSES).unknown(body)) == []
    misspelt = {**body, "input": [{**call, "argumnets": "{}"}]}
    assert [found.path for found in catalog.rules(openai.RESPONSES).unknown(misspelt)] == ["input[0].argumnets"]
