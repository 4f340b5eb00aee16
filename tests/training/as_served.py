"""Compares what the trainer shows and learns with what the engine would show: chat templates times conversations."""

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.models.admission.chat_template import try_here
from apps.models.engines import stops
from tests.training import corpus
from tests.training.corpus import Row
from tests.training.tiny import DEMO_MODEL

SECONDS = 600  # for a child, on a busy machine
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "CUDA_VISIBLE_DEVICES": ""}

Pair = tuple[str, str]
"""The names of a template and of a conversation."""


@dataclass(frozen=True, slots=True)
class Outcome:
    template: str
    conversation: str
    left_out: str = ""
    """Why nothing of it is learned."""
    wrong: str = ""
    """What is not as it is served; empty: nothing."""


def outcomes(templates: dict[str, str], pairs: Iterable[Pair], folder: Path) -> list[Outcome]:
    """One for each pair. `folder` is made and filled with a tokenizer for all of the templates."""
    rows, wanted = corpus.conversations(), list(pairs)
    names = list(dict.fromkeys(template for template, _ in wanted))
    model = corpus.make_model(DEMO_MODEL, folder, [templates[name] for name in names])
    ends = {name: _stops(model, templates[name]) for name in names}
    mine = {name: [conversation for template, conversation in wanted if template == name] for name in names}
    cases = [
        {"template": templates[name], "rows": [rows[each] for each in mine[name]], "stops": ends[name]}
        for name in names
    ]
    asked = [(pair, at) for pair in wanted for at in _answers(rows[pair[1]])]
    bodies = [_body(templates[template], rows[conversation], at) for (template, conversation), at in asked]
    with ThreadPoolExecutor() as pool:
        judge = pool.submit(_child, settings.ENGINE_PYTHON, "served_prompts", model, bodies)
        shown = _child(settings.TRAINER_PYTHON, "shown_prompts", model, cases)
    served = dict(zip(asked, judge.result(), strict=True))
    learned = {
        (name, conversation): found
        for name, all_found in zip(names, shown, strict=True)
        for conversation, found in zip(mine[name], all_found, strict=True)
    }
    eos = stops._eos_of_tokenizer(model)
    return [_outcome(pair, found, rows[pair[1]], served, [*eos, *ends[pair[0]]]) for pair, found in learned.items()]


def _stops(model: Path, template: str) -> list[int]:
    """As `apps.models.engines.stops` finds them, in this process: the templates are no strangers'."""
    end = try_here(template)["end"].lstrip()
    written = stops._tokens_at_begin(end, stops._added_tokens(model))
    return written[-1:]


def _answers(row: Row) -> list[int]:
    return [
        at for at, message in enumerate(row["messages"]) if message["role"] == "assistant" and message.get("weight", 1)
    ]


def _body(template: str, row: Row, at: int) -> Row:
    """The request whose answer is the message `at`."""
    messages = [{key: value for key, value in message.items() if key != "weight"} for message in row["messages"][:at]]
    return {**row, "messages": messages, "model": "m", "chat_template": template}


def _outcome(pair: Pair, found: Row, row: Row, served: dict[tuple[Pair, int], Row], ends: list[int]) -> Outcome:
    if found["why"]:
        return Outcome(*pair, left_out=found["why"])
    turns = _answers(row)
    if len(turns) != len(found["answers"]):
        return Outcome(*pair, wrong=f"{len(found['answers'])} of {len(turns)} answers are learned")
    problems = [
        problem
        for at, answer in zip(turns, found["answers"], strict=True)
        for problem in _wrong(answer, row["messages"][at], served[pair, at], ends)
    ]
    return Outcome(*pair, wrong="; ".join(problems))


def _wrong(answer: Row, message: Row, served: Row, ends: list[int]) -> Iterator[str]:
    """Of one answer: its prompt, its begin and its end."""
    if "ids" not in served:
        yield f"the engine refuses its prompt: {served['refused'][:100]}"
    elif served["ids"] != answer["prompt"]:
        yield "its prompt is another"
    said, content = answer["text"], message.get("content") or ""
    if answer["ids"][-1] not in ends or set(ends) & set(answer["ids"][:-1]):
        yield f"it does not end once, at its end: {said[-60:]!r}"
    texts = [content] if isinstance(content, str) else [part["text"] for part in content]
    visible = [text.rpartition("</think>")[2].strip() for text in texts]
    calls = [call["function"]["name"] for call in message.get("tool_calls", ())]
    if any(text not in said for text in (*visible, *calls)):
        yield f"not all of it is learned: {said[:60]!r}"
    if not calls and len(said.rpartition(visible[-1])[2].split()) > 1:
        yield f"something is learned after it: {said[-60:]!r}"


def _child(python: Path, module: str, model: Path, given: Any) -> list[Any]:
    done = subprocess.run(
        [python, "-m", f"tests.training.{module}", model], input=json.dumps(given), cwd=settings.BASE_DIR,
        env=os.environ | OFFLINE, capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("[", "{"))]
