"""Lines that people bring from other servers and years, on real vLLM: what is taken works, the rest is refused."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from django.conf import settings
from openai.types import Batch

from tests.conformance.lines import CHAT
from tests.stack.live import LiveStack

pytestmark = [pytest.mark.engine, pytest.mark.live, pytest.mark.timeout(600)]

MODEL = "smollm2-135m-instruct"
CAST = """
from pathlib import Path
from apps.accounts.services import create_api_key, create_project
from apps.models.services import register_model
register_model(name={model!r}, path=Path({path!r}))
print("KEY", create_api_key(project=create_project(name="ours"), name="test")[1])
"""
COLOURS = {"structured_outputs": {"choice": ["red", "blue"]}}
DEEP = {"type": "object", "properties": {"fruit": {"type": "string", "maxLength": 8}}, "required": ["fruit"]}
TAKEN: dict[str, tuple[dict[str, Any], str]] = {
    "guided_json": ({"guided_json": DEEP, "max_tokens": 40}, r'\{"fruit":\s?".*"\}'),
    "guided_choice": ({"guided_choice": ["yes", "no"]}, "yes|no"),
    "guided_regex": ({"guided_regex": "[12][0-9]{3}"}, "[12][0-9]{3}"),
    "guided_grammar": ({"guided_grammar": 'root ::= "a" | "b"'}, "[ab]"),
    "the modern form": (COLOURS, "red|blue"),
    "x" * 64: (COLOURS, "red|blue"),
    "y/" + "x" * 1_022: (COLOURS, "red|blue"),
    "LS \u2028": ({"structured_outputs": {"choice": ["one\u2028two"]}}, "one\u2028two"),
    "PS \u2029": ({"structured_outputs": {"choice": ["one\u2029two"]}}, "one\u2029two"),
    "NEL \u0085": ({"structured_outputs": {"choice": ["one\u0085two"]}}, "one\u0085two"),
    "FS": ({"structured_outputs": {"choice": ["one\u001ctwo"]}}, "one\u001ctwo"),
}
"""custom_id -> what the body has more, and what its answer must be."""
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt": ({"responce_format": {"type": "json_object"}}, "Did you mean response_format?"),
    "nested": ({"extra_body": COLOURS}, "put its keys into the body"),
    "no choices": ({"guided_choice": "yes"}, "choice"),
}
"""custom_id -> what the body has more, and words of the refusal."""
Made = tuple[openai.OpenAI, Batch]


def body(more: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "Pick."}], "max_tokens": 12, **more}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """A client, and the batch of all these lines, ended."""
    path = settings.BASE_DIR / "var/models" / MODEL
    with LiveStack(tmp_path_factory.mktemp("lines"), env={"GPU_SLOTS": "cpu"}) as stack:
        cast = stack.manage("shell", "-c", CAST.format(model=MODEL, path=str(path)))
        key = next(line.split()[1] for line in cast.stdout.splitlines() if line.startswith("KEY"))
        client = openai.OpenAI(base_url=stack.base_url, api_key=key, max_retries=0, timeout=240)
        content = "".join(
            json.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": body(more)}) + "\n"
            for name, (more, _) in {**TAKEN, **REFUSED}.items()
        )
        file = client.files.create(file=content.encode(), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
        deadline = time.monotonic() + 300
        while (batch := client.batches.retrieve(batch.id)).status not in ("completed", "failed"):
            assert time.monotonic() < deadline, batch
            time.sleep(0.2)
        yield client, batch


def rows(client: openai.OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    text = client.files.content(file_id or "").text
    assert len(text.splitlines()) == text.count("\n")  # readers that split at U+2028 see one row each
    return {row["custom_id"]: row for row in map(json.loads, text.splitlines())}


def test_it_works(made: Made) -> None:
    client, batch = made
    assert batch.status == "completed", batch
    output = rows(client, batch.output_file_id)
    assert output.keys() == TAKEN.keys()
    for name, (_, pattern) in TAKEN.items():
        answer = output[name]["response"]["body"]["choices"][0]["message"]["content"]
        assert re.fullmatch(pattern, answer), (name, answer)


def test_the_others_are_their_lines_errors(made: Made) -> None:
    client, batch = made
    errors = rows(client, batch.error_file_id)
    assert errors.keys() == REFUSED.keys()
    for name, (_, words) in REFUSED.items():
        response = errors[name]["response"]
        assert response["status_code"] == 400, response
        assert words in response["body"]["error"]["message"], response


def test_single_requests_get_the_same(made: Made) -> None:
    ask: Any = made[0].chat.completions.create
    for name, (more, pattern) in TAKEN.items():
        answer = ask(**{**body({}), "extra_body": more}).choices[0].message.content
        assert re.fullmatch(pattern, answer), (name, answer)
    for more, words in REFUSED.values():
        with pytest.raises(openai.BadRequestError, match=re.escape(words)):
            ask(**{**body({}), "extra_body": more})
