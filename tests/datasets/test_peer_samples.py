"""Sample data of LLaMA-Factory and axolotl, read here and by their own loaders: the same conversations.

Their data is not in this tree. LLAMA_FACTORY_DATA names the folder `data` of LLaMA-Factory's repository,
AXOLOTL_FIXTURES the folder `tests/fixtures` of axolotl's: `git clone --depth 1` brings both.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.core.leases import Keeper
from apps.datasets import services
from apps.datasets.imports.job import KIND
from apps.datasets.models import Example, Import
from tests.datasets.consumers.peers import AXOLOTL, LLAMA_FACTORY, install, run
from tests.datasets.files import ended, jsonl, upload
from tests.training.tiny import DEMO_MODEL

pytestmark = [pytest.mark.soak, pytest.mark.django_db(transaction=True), pytest.mark.timeout(0)]

Seen = dict[str, Any]
MARKS = {"image_url": "<image>", "video_url": "<video>", "audio_url": "<audio>"}
MEDIA = {"image_url": "_images", "video_url": "_videos", "audio_url": "_audios"}
ROLES = {"user": "user", "assistant": "assistant", "tool": "observation"}
NOTHING = {"role": "assistant", "content": ""}
NO_CALL = "is a tool's and answers no call"
"""Two rows of its Chinese calls have a result whose call is prose: nobody can say what was called."""


def samples(variable: str) -> Path:
    found = os.environ.get(variable)
    if not found:
        pytest.skip(f"Set {variable} to the folder of the sample data.")
    return Path(found)


def imported(project: Project, keeper: Keeper, name: str, content: bytes | str) -> tuple[list[Seen], list[str]]:
    """The examples of a file as messages, tools and sides, by line, and what is wrong with the others."""
    dataset = services.create_dataset(project=project, name=name)
    job = services.start_import(dataset=dataset, file=upload(project, content, name), skip_bad=True)
    job = ended(job, keeper, KIND)
    assert job.status == Import.Status.COMPLETED, (name, job.message, job.errors)
    assert not [use for use in job.uses if use["loss"]], (name, job.uses)
    return [seen(example) for example in Example.objects.filter(dataset=dataset)], [
        error["message"] for error in job.errors
    ]


def seen(example: Example) -> Seen:
    def side(messages: str, text: str) -> list[Seen]:
        return json.loads(messages) if messages else [{"role": "assistant", "content": text}] if text else []

    return {
        "messages": json.loads(example.messages),
        "chosen": side(example.reference_messages, example.reference),
        "rejected": side(example.rejected_messages, example.rejected),
        "tools": (json.loads(example.request) if example.request else {}).get("tools", []),
    }


def as_llama_factory(found: Seen) -> Seen:
    """In the form that its loader has, but for spacing, which it sets otherwise before an input."""
    media: dict[str, list[str]] = {}
    messages = [*found["messages"]]
    system = said(messages.pop(0), media) if messages[0]["role"] == "system" else ""
    prompt = [turn(message, media) for message in messages]
    sides = [[turn(message, media) for message in found[name]] for name in ("chosen", "rejected")]
    return normal(
        {
            "_prompt": prompt, "_response": sides[0] + sides[1] if sides[0] else [NOTHING, *sides[1]],
            "_system": system, "_tools": found["tools"], **media,
        }
    )  # fmt: skip


def turn(message: Seen, media: dict[str, list[str]]) -> Seen:
    if calls := message.get("tool_calls"):
        made = [
            {"name": call["function"]["name"], "arguments": json.loads(call["function"]["arguments"])} for call in calls
        ]
        return {"role": "function", "content": json.dumps(made)}
    return {"role": ROLES[message["role"]], "content": said(message, media)}


def said(message: Seen, media: dict[str, list[str]]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    for part in content:
        if part["type"] in MEDIA:
            media.setdefault(MEDIA[part["type"]], []).append(part[part["type"]]["url"])
    return "".join(MARKS.get(part["type"]) or part["text"] for part in content)


def normal(row: Seen) -> Seen:
    """Its loader writes an empty answer beside one with a thumb: first for a thumb down."""
    made = {**row}
    made["_down"] = row["_response"][:1] == [NOTHING]
    for name in ("_prompt", "_response"):
        made[name] = [
            {"role": each["role"], "content": as_calls(each["content"]) if each["role"] == "function" else bare(each)}
            for each in row.get(name, []) if each["content"]
        ]  # fmt: skip
    if tools := row.get("_tools"):
        found = json.loads(tools) if isinstance(tools, str) else tools
        made["_tools"] = [tool.get("function", tool) for tool in found]
    return {key: value for key, value in made.items() if value}


def bare(turn: Seen) -> str:
    return "".join(turn["content"].split())


def as_calls(text: str) -> list[Any]:
    calls = json.loads(text)
    return calls if isinstance(calls, list) else [calls]


def test_llama_factory(project: Project, keeper: Keeper, tmp_path: Path) -> None:
    data = samples("LLAMA_FACTORY_DATA")
    told = run("llama_factory_samples", install(LLAMA_FACTORY, tmp_path / "peer"), data)
    compared = Counter[str]()
    for each in told:
        if "rows" not in each:
            continue
        found, wrong = imported(project, keeper, each["name"], (data / each["name"]).read_bytes())
        if each["name"].startswith("kto"):
            found = [half for row in found for half in thumbs(row)]
        theirs = Counter(text_of(normal(row)) for row in each["rows"] if row.get("_prompt"))
        ours = Counter(text_of(as_llama_factory(row)) for row in found)
        assert all(NO_CALL in message for message in wrong), wrong
        differing = (each["name"], list(theirs - ours)[:2], list(ours - theirs)[:2])
        assert sum((theirs - ours).values()) == len(wrong), differing
        assert len(found) + len(wrong) == len(each["rows"])
        compared[each["name"]] = len(found)
    print(dict(compared))
    assert len(compared) >= 9


def thumbs(row: Seen) -> list[Seen]:
    """A thumb up and a thumb down to one prompt became a pair."""
    if not (row["chosen"] and row["rejected"]):
        return [row]
    return [{**row, "rejected": []}, {**row, "chosen": []}]


def test_its_newer_format_holds_the_same(project: Project, keeper: Keeper, tmp_path: Path) -> None:
    """As its newer converters write what its older files hold, and as its samples of that format are."""
    data = samples("LLAMA_FACTORY_DATA")
    told = run("llama_factory_samples", install(LLAMA_FACTORY, tmp_path / "peer"), data)
    for each in told:
        if "newer" not in each:
            continue
        old, _ = imported(project, keeper, each["name"], (data / each["name"]).read_bytes())
        new, _ = imported(project, keeper, f"newer-{each['name']}l", jsonl(each["newer"]))
        assert [text_of(as_llama_factory(row)) for row in new] == [text_of(as_llama_factory(row)) for row in old]
    for path in sorted(data.glob("*_demo*.jsonl")):
        if path.name.startswith(("v1_", "reason_")):
            lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
            found, wrong = imported(project, keeper, path.name, path.read_bytes())
            assert (len(found), wrong) == (len(lines), [])
            for line, row in zip(lines, found, strict=True):
                assert list(texts_here(row)) == list(texts_there(line)), path.name


def texts_here(row: Seen) -> Iterator[str]:
    """All that is said, thought, called and shown of a row, without spacing."""
    pairs = [row["messages"] + row["chosen"], *([row["messages"] + row["rejected"]] if row["rejected"] else [])]
    for message in (message for side in pairs for message in side):
        if message.get("reasoning_content"):
            yield "".join(message["reasoning_content"].split())
        for call in message.get("tool_calls", ()):
            yield json.dumps({**call["function"], "arguments": json.loads(call["function"]["arguments"])})
        content = message["content"] or []
        parts: list[Seen] = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            yield "".join((part.get("text") or part[part["type"]]["url"]).split())


def texts_there(line: Seen) -> Iterator[str]:
    for name in ("messages", "chosen_messages", "rejected_messages"):
        for message in line.get(name, ()):
            for part in message["content"]:
                is_call = part["type"] == "tool_call"
                yield json.dumps(json.loads(part["value"])) if is_call else "".join(part["value"].split())


def text_of(row: Seen) -> str:
    return json.dumps(row, sort_keys=True, ensure_ascii=False)


def test_axolotl(project: Project, keeper: Keeper, tmp_path: Path) -> None:
    """Its fixtures: what its strategies learn of them is what is learned here."""
    data = samples("AXOLOTL_FIXTURES")
    folder = install(AXOLOTL, tmp_path / "peer")
    files = {
        "alpaca": data / "alpaca/alpaca.json", "sharegpt": data / "conversation.json",
        "sharegpt ": data / "conversation.missingturns.json",
    }  # fmt: skip
    told = run("axolotl", folder, DEMO_MODEL, *(f"{kind.strip()}={path}" for kind, path in files.items()))
    for path, rows in zip(files.values(), told[0], strict=True):
        found, wrong = imported(project, keeper, path.name, path.read_bytes())
        assert (len(found), wrong) == (len(rows), [])
        for here, there in zip(found, rows, strict=True):
            whole = [*here["messages"], *here["chosen"]]
            if there["turns"]:
                assert [(each["role"], each["content"]) for each in whole] == [
                    (each["role"], each["content"]) for each in there["turns"]
                ]
            assert re.sub(r"\s", "", whole[-1]["content"]) in re.sub(r"\s", "", there["learned"])
            for message in whole:
                for line in message["content"].splitlines():
                    assert line.strip() in there["text"]
