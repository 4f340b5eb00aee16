"""What a deployment is asked: first turns of the validation file's rows, and then of those that the job learned."""

import itertools
from collections.abc import Iterator
from typing import Any

import msgspec

from apps.batches.models import File
from apps.conversations.conversation import text_of
from apps.training.files.reading import Limits, Reader
from apps.training.models import TrainingJob

COUNT = 8
ROWS = 500  # that are looked at
ROW_BYTES = 1024**2  # longer ones are passed over
CHARACTERS = 4_000  # of a prompt, so that it fits into any context

Prompt = dict[str, Any]
"""{"messages": [...]}, or {"prompt": "..."} for a row without turns: the part of a request's body that asks."""

# Where the job's files were deleted, or all their prompts are too long.
USUAL: tuple[Prompt, ...] = tuple(
    {"messages": [{"role": "user", "content": text}]}
    for text in (
        "Who are you, and what can you do?", "Explain in one sentence what a database index is.",
        "Write a short greeting to a new customer.", "What is the capital of France?",
        "Translate to German: The train leaves at noon.", "Name three uses of a paper clip.",
        "Summarize in five words: The meeting was moved to Monday.", "What comes after Wednesday?",
    )
)  # fmt: skip


def prompts_of(job: TrainingJob) -> list[Prompt]:
    """The first that differ, at most COUNT. The same files give the same prompts."""
    found: dict[bytes, Prompt] = {}
    for file in filter(None, (job.validation_file, job.training_file)):
        for prompt in _read(file, job.method):
            found.setdefault(msgspec.json.encode(prompt), prompt)
            if len(found) == COUNT:
                return list(found.values())
    return list(found.values()) or list(USUAL)


def _read(file: File, method: str) -> Iterator[Prompt]:
    limits = Limits(rows=ROWS, line_bytes=ROW_BYTES)
    try:
        with file.content.open("rb") as lines:
            for row in Reader(lines, method, limits).rows():  # type: ignore[arg-type] # the column's choices
                prompt = _prompt(row)
                if prompt is not None and len(msgspec.json.encode(prompt)) <= CHARACTERS:
                    yield prompt
    except FileNotFoundError:  # deleted meanwhile
        return


def _prompt(row: dict[str, Any]) -> Prompt | None:
    """None for a row that cannot be asked as it is: whose first turns hold none of a user."""
    if "prompt" in row:
        return {"prompt": row["prompt"]}
    turns = _first_turns(row.get("input", row)["messages"])
    return {"messages": turns} if any(turn["role"] == "user" for turn in turns) else None


def _first_turns(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    """What stands before the first answer."""
    turns = itertools.takewhile(lambda turn: turn["role"] in ("system", "developer", "user"), messages)
    return [{"role": turn["role"], "content": text_of(turn["content"])} for turn in turns]
