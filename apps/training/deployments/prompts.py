"""What a deployment is asked, and what it was taught to answer: whole prompts up to their last answer, tools included.

First rows that were not trained on: of the validation file, or those that were kept apart to validate or to be asked.
Rows that were learned fill up what is missing.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from apps.batches.models import File
from apps.conversations.conversation import text_of as text_of_content
from apps.training.deployments.grading import Source, common_words, content_of, guess_of
from apps.training.deployments.left_out import Origin, leave_out
from apps.training.files.preparing import Part, parted, parts_of
from apps.training.files.rows import RowError, check
from apps.training.models import TrainingJob
from apps.training.options import parse

UNSEEN = 16  # rows that were not trained on, at most
COUNT = 12  # with those that were, where fewer are unseen
GUESSED_FROM = 500  # answers that are looked at, to see how often one is the same as another
WORDS = 50  # of a reference, that tell that it is known
CHARACTERS = 8_000  # of a prompt, so that it fits into most contexts
TOO_LONG = f"its prompt has more than {CHARACTERS:,} characters"

Prompt = dict[str, Any]
"""{"messages": [...], "tools": [...]?}, or {"prompt": "..."} for a row without turns: the part of a body that asks."""
Reference = dict[str, Any]
"""{"messages": [...]} or {"text": "..."}: what follows the prompt; "rejected": of preferences, the worse messages."""
Split = tuple[int, tuple[int, int], int]
"""Rows in all, how many of them validate and are held out, and the seed."""


class Asked(NamedTuple):
    prompt: Prompt
    reference: Reference
    origin: Origin | None = None
    """None: it is of no file."""


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


@dataclass(slots=True)
class Questions:
    """Prompts, and for each of them what follows it (None: not known) and where it is from; all ready for JSON."""

    prompts: list[Prompt] = field(default_factory=list)
    references: list[Reference | None] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    origins: list[Origin | None] = field(default_factory=list)
    left_out: list[Origin] = field(default_factory=list)
    """Rows that would have been asked first; see `apps.training.deployments.left_out`."""
    left_out_count: int = 0
    content: list[list[str]] = field(default_factory=list)
    """Words that tell that a reference is known; see `grading.content_of`."""
    guess: float = 0.0
    """How often whoever always gives the most frequent answer is right."""

    def as_dict(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]

    def add(self, rows: Iterable[Asked], source: Source, most: int) -> None:
        """Of `rows` the first that differ from what there is, until there are `most` in all."""
        known = {msgspec.json.encode(prompt) for prompt in self.prompts}
        for prompt, reference, origin in rows:
            if len(self.prompts) >= most:
                return
            raw = msgspec.json.encode(prompt)
            if len(raw) > CHARACTERS:
                self._leave_out(origin, source)
            elif raw not in known:
                known.add(raw)
                self.prompts.append(prompt)
                self.references.append(reference)
                self.sources.append(source)
                self.origins.append(origin)

    def _leave_out(self, origin: Origin | None, source: Source) -> None:
        """Of rows that were trained on there are others."""
        if source != "training":
            changes = leave_out({"left_out": self.left_out, "left_out_count": self.left_out_count}, origin, TOO_LONG)
            self.left_out, self.left_out_count = changes["left_out"], changes["left_out_count"]


def prompts_of(job: TrainingJob) -> Questions:
    """The same files give the same questions."""
    found = Questions()
    trained, unseen, source = _rows(job)
    found.add(unseen, source, UNSEEN)
    found.add(trained, "training", max(COUNT, len(found.prompts)))
    if not found.prompts:
        found.add((Asked(prompt, {}) for prompt in USUAL), "training", COUNT)
        found.references = [None] * len(found.prompts)
    answers = list(_answers(job))
    common = common_words([*answers, *map(text_of, found.references)])
    found.guess = guess_of(answers)
    for prompt, reference in zip(found.prompts, found.references, strict=True):
        content = content_of(text_of(reference), prompt=_text_of_prompt(prompt), common=common)
        found.content.append(sorted(content)[:WORDS])
    return found


def text_of(reference: Reference | None) -> str:
    """What it says, thoughts left out; empty where there is none, or it calls tools."""
    if not reference:
        return ""
    if "text" in reference:
        return str(reference["text"])
    return "\n".join(filter(None, (text_of_content(turn.get("content")) for turn in reference["messages"])))


def calls_of(reference: Reference | None) -> tuple[tuple[str, Any], ...]:
    """Names and arguments of the tools that it calls."""
    calls = [call for turn in (reference or {}).get("messages", ()) for call in turn.get("tool_calls") or ()]
    return tuple((call["function"]["name"], _arguments(call["function"])) for call in calls)


def last_words(prompt: Prompt) -> str:
    """What was asked last: the text of its last turn, or the prompt itself."""
    return text_of_content(prompt["messages"][-1].get("content")) if "messages" in prompt else str(prompt["prompt"])


def _text_of_prompt(prompt: Prompt) -> str:
    turns = prompt.get("messages", ())
    return "\n".join(text_of_content(turn.get("content")) for turn in turns) or str(prompt.get("prompt"))


def _arguments(function: dict[str, Any]) -> Any:
    raw = function.get("arguments") or "{}"
    try:
        return msgspec.json.decode(raw) if isinstance(raw, str) else raw
    except msgspec.DecodeError:
        return raw


def _rows(job: TrainingJob) -> tuple[Iterator[Asked], Iterator[Asked], Source]:
    """Those that were learned, those that were not, and why they were not."""
    if job.validation_file_uid:
        return _read(job, job.training_file), _read(job, job.validation_file), "validation"
    total = job.examples + job.valid_examples + int(job.plan.get("held_out", 0))
    if not total:
        return _read(job, job.training_file), iter(()), "held_out"
    options = parse(job.options)
    split = total, parts_of(job, total, options), options.seed
    part: Part = "held_out" if split[1][1] else "valid"
    source: Source = "held_out" if part == "held_out" else "validation"
    return _read(job, job.training_file, split), _read(job, job.training_file, split, part), source


def _answers(job: TrainingJob) -> Iterator[str]:
    return (text_of(asked.reference) for asked in itertools.islice(_read(job, job.training_file), GUESSED_FROM))


def _read(job: TrainingJob, file: File | None, split: Split | None = None, part: Part = "train") -> Iterator[Asked]:
    """Rows of a file; of those that `split` puts into `part`. Others are not looked at: the job has checked them."""
    if file is None:
        return
    parts = parted(*split) if split else itertools.repeat(part)
    try:
        with file.content.open("rb") as content:
            lines = ((number, line) for number, line in enumerate(content, 1) if line.strip())
            for (number, line), found in zip(lines, parts, strict=False):
                if found == part:
                    with suppress(RowError):
                        asked = _question(check(line.rstrip(b"\r\n"), job.method))  # type: ignore[arg-type] # the column's
                        if asked:
                            yield asked._replace(origin={"file": file.uid, "line": number})
    except FileNotFoundError:  # deleted meanwhile
        return


def _question(row: dict[str, Any]) -> Asked | None:
    """None for an answer with a thumb down: what should be said instead is not known."""
    if row.get("label") is False:
        return None
    if "prompt" in row:
        return Asked({"prompt": row["prompt"]}, {"text": row["completion" if "completion" in row else "chosen"]})
    if "input" in row:
        sides = {"messages": row.get("completion") or row["preferred_completion"]}
        worse = row.get("non_preferred_completion")
        asked = _asked(row["input"], row["input"]["messages"])
        return Asked(asked, sides | ({"rejected": worse} if worse else {}))
    messages = row["messages"]
    at = max(number for number, turn in enumerate(messages) if turn["role"] == "assistant" and turn.get("weight", 1))
    return Asked(_asked(row, messages[:at]), {"messages": _plain(messages[at : at + 1])})


def _asked(row: dict[str, Any], messages: list[dict[str, Any]]) -> Prompt:
    beside = {name: row[name] for name in ("tools", "chat_template_kwargs") if row.get(name)}
    return {"messages": _plain(messages)} | beside


def _plain(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As an engine takes them."""
    return [{key: value for key, value in message.items() if key != "weight"} for message in messages]
