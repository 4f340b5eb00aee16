"""Rows of a prepared file as the numbers that a model learns: token ids, and which of them count.

Django-free, and read by the trainer's child only. An answer is learned after the very prompt that the engine would
build for what stands before it (`rendering`). Where a template writes earlier turns otherwise than it did when they
were the last, one sequence of tokens cannot hold that for all answers: the row becomes several.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from apps.training.child.failures import bad_data
from apps.training.child.left_out import LeftOut
from apps.training.child.rendering import Answer, Renderer, Unlearnable
from apps.training.options import Options
from apps.training.spec import Method

IGNORED = -100  # the label of a token that is not learned
MAX_TOLD = 20  # examples that are left out, in the log

SIDES = ("preferred_completion", "non_preferred_completion")
TEXTS = ("chosen", "rejected")  # the sides of a pair without turns

Row = dict[str, Any]
Columns = dict[str, Any]
"""Lists of token ids; of thumbs, also the "label"."""


class TooLong(Unlearnable):
    """`max_length` reaches no answer. `needs` tokens would do."""

    def __init__(self, message: str, needs: int) -> None:
        super().__init__(message)
        self.needs = needs


@dataclass
class Counts:
    """Of one file, as far as it was read."""

    rows: int = 0
    examples: int = 0
    """Rows that are learned."""
    sequences: int = 0
    """What they became: more than rows where some had to be split."""
    tokens: int = 0
    learned: int = 0
    ups: int = 0
    """Examples with a thumb up."""
    downs: int = 0
    cut: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)
    longest: int = 0
    """Tokens that `max_length` would have to be for the longest of those that were too long; 0: none was."""
    without_reasoning: int = 0
    """Rows whose reasoning the template has no place for."""
    without_tools: int = 0
    """Rows whose tools it has no place for."""
    until: float = math.inf
    """When reading ends (monotonic)."""


@dataclass
class Sequence:
    """Tokens, and which of them are learned."""

    ids: list[int]
    learned: list[bool]


def read(path: Path, renderer: Renderer, method: Method, options: Options, counts: Counts) -> Iterator[Columns]:
    """Sequences one by one, up to the time `counts.until`. Raises `Refused` at the end, when there was none.

    The columns are TRL's: `input_ids` and `labels`, `prompt_ids`, `chosen_ids` and `rejected_ids`, or `prompt_ids`,
    `completion_ids` and `label`.
    """
    encode = ENCODERS[method]
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if time.monotonic() > counts.until:
                break
            counts.rows += 1
            row = msgspec.json.decode(raw)
            line = row.get("line", number)
            renderer.hid_reasoning = False
            try:
                made = encode(renderer, row, options)
            except Unlearnable as error:
                counts.left_out.add(line, str(error))
                counts.longest = max(counts.longest, getattr(error, "needs", 0))
                continue
            counts.examples += 1
            counts.sequences += len(made)
            counts.cut += any(was_cut for _, was_cut in made)
            _count_what_is_not_shown(renderer, row, counts)
            for columns, _ in made:
                _count(columns, counts)
                yield columns
    if not counts.examples:
        lines = " ".join(f"Line {line}: {why}" for line, why in counts.left_out.first[:3])
        raise bad_data(f"No example of {path.name} has anything to learn. {lines}")


def told(counts: Counts) -> Iterator[str]:
    """Sentences for the log about what was left out."""
    for line, why in counts.left_out.first[:MAX_TOLD]:
        yield f"Line {line} is left out: {why}"
    if (more := counts.left_out.count - MAX_TOLD) > 0:
        yield f"{more:,} more lines are left out."


def _count(columns: Columns, counts: Counts) -> None:
    if "labels" in columns:
        counts.tokens += len(columns["input_ids"])
        counts.learned += sum(label != IGNORED for label in columns["labels"])
        return
    if "label" in columns:
        counts.tokens += len(columns["prompt_ids"]) + len(columns["completion_ids"])
        counts.learned += len(columns["completion_ids"])
        counts.ups, counts.downs = counts.ups + columns["label"], counts.downs + (not columns["label"])
        return
    answers = len(columns["chosen_ids"]) + len(columns["rejected_ids"])
    counts.tokens += 2 * len(columns["prompt_ids"]) + answers
    counts.learned += answers


def _count_what_is_not_shown(renderer: Renderer, row: Row, counts: Counts) -> None:
    """The engine would not show it either, so it is no reason to leave the row out; but it has to be said."""
    counts.without_reasoning += renderer.hid_reasoning
    asked = row.get("input", row)
    if asked.get("tools"):
        bare = {key: value for key, value in asked.items() if key != "tools"}
        shown = (renderer.text(each, asked["messages"][:1], ask=False) for each in (asked, bare))
        counts.without_tools += next(shown) == next(shown)


def _supervised(renderer: Renderer, row: Row, options: Options) -> list[tuple[Columns, bool]]:
    sequences = (conversation if "messages" in row else _text)(renderer, row, options)
    # The first token is predicted from nothing: TRL and Transformers never learn it.
    if not any(any(sequence.learned[1:]) for sequence in sequences):
        raise Unlearnable("it has no answer that is to be learned.")
    length = options.max_length
    made = [sequence for sequence in sequences if any(sequence.learned[1:length])]
    needs = max(len(sequence.ids) for sequence in sequences)
    if not made:
        raise TooLong(f"its first {length:,} tokens have no answer: raise max_length.", needs)
    return [(_columns(sequence, length), needs > length) for sequence in made]


def _columns(sequence: Sequence, length: int) -> Columns:
    ids = sequence.ids[:length]
    pairs = zip(ids, sequence.learned, strict=False)
    return {"input_ids": ids, "labels": [token if counts else IGNORED for token, counts in pairs]}


def _text(renderer: Renderer, row: Row, options: Options) -> list[Sequence]:
    """A prompt and its completion, as they stand, and the end of the text."""
    answer = renderer.completion(row["prompt"], row["completion"])
    shown = [not options.completions_only] * len(answer.prompt)
    return [Sequence(answer.prompt + answer.ids, shown + [True] * len(answer.ids))]


def conversation(renderer: Renderer, row: Row, options: Options) -> list[Sequence]:
    """What is learned are the assistant's turns whose weight is not 0, their end included. Raises `Unlearnable`."""
    return _answers(renderer, row, prompts_too=not options.completions_only)


def _answers(renderer: Renderer, row: Row, *, prompts_too: bool) -> list[Sequence]:
    messages = row["messages"]
    sequences: list[Sequence] = []
    unwanted: list[Answer] = []
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        wanted = message.get("weight", 1) != 0
        if wanted:
            _append(sequences, renderer.answer(row, messages[: at + 1]), prompts_too=prompts_too)
        elif prompts_too:
            unwanted.append(renderer.answer(row, messages[: at + 1]))
    if unwanted and len(sequences) > 1:  # later prompts may write them otherwise, where they are not found again
        return _answers(renderer, row, prompts_too=False)
    for answer in unwanted:
        start, end = len(answer.prompt), len(answer.prompt) + len(answer.ids)
        for sequence in sequences:
            if sequence.ids[:end] == answer.prompt + answer.ids:
                sequence.learned[start:end] = [False] * len(answer.ids)
    return sequences


def _append(sequences: list[Sequence], answer: Answer, *, prompts_too: bool) -> None:
    """To the last sequence if its tokens are the beginning of the answer's prompt, else as a new one."""
    last = sequences[-1].ids if sequences else []
    shared = _shared(last, answer.prompt)
    if not sequences or shared < len(last):
        sequences.append(Sequence(answer.prompt[:shared], [False] * shared))
    sequence = sequences[-1]
    sequence.learned += [prompts_too] * (len(answer.prompt) - shared) + [True] * len(answer.ids)
    sequence.ids = answer.prompt + answer.ids


def _pair(renderer: Renderer, row: Row, options: Options) -> list[tuple[Columns, bool]]:
    """A prompt, and the better and the worse answer to it."""
    length = options.max_length
    if "input" in row:
        better, worse = (side(renderer, row["input"], row[name]) for name in SIDES)
    else:
        better, worse = (renderer.completion(row["prompt"], row[name]) for name in TEXTS)
    prompt, needs = better.prompt, len(better.prompt) + max(len(better.ids), len(worse.ids))
    room = max(length - len(prompt), 0)
    columns = {"prompt_ids": prompt, "chosen_ids": better.ids[:room], "rejected_ids": worse.ids[:room]}
    if not room:
        raise TooLong(f"its prompt alone has {len(prompt):,} tokens: raise max_length.", needs)
    if columns["chosen_ids"] == columns["rejected_ids"]:
        same = "its two answers are the same, as far as max_length reaches."
        raise TooLong(same, needs) if needs > length else Unlearnable("its two answers become the same tokens.")
    return [(columns, needs > length)]


def _thumb(renderer: Renderer, row: Row, options: Options) -> list[tuple[Columns, bool]]:
    """A prompt, the answer to it, and whether that is a good one."""
    if "input" in row:
        answer = side(renderer, row["input"], row["completion"])
    else:
        answer = renderer.completion(row["prompt"], row["completion"])
    needs, room = len(answer.prompt) + len(answer.ids), max(options.max_length - len(answer.prompt), 0)
    if not room:
        raise TooLong(f"its prompt alone has {len(answer.prompt):,} tokens: raise max_length.", needs)
    columns = {"prompt_ids": answer.prompt, "completion_ids": answer.ids[:room], "label": row["label"]}
    return [(columns, needs > options.max_length)]


ENCODERS: dict[Method, Callable[[Renderer, Row, Options], list[tuple[Columns, bool]]]] = {
    "sft": _supervised, "dpo": _pair, "kto": _thumb,
}  # fmt: skip


def side(renderer: Renderer, asked: Row, turns: list[Row]) -> Answer:
    """One side of a pair, or an answer with a thumb, of any number of turns, as one answer. Raises `Unlearnable`."""
    messages = [*asked["messages"], *turns]
    first = renderer.answer(asked, messages[: len(asked["messages"]) + 1])
    ids = first.prompt + first.ids
    for at, turn in enumerate(turns[1:], len(asked["messages"]) + 1):
        if turn["role"] == "assistant":
            later = renderer.answer(asked, messages[: at + 1])
            if later.prompt[: len(ids)] != ids:
                raise Unlearnable("the model's chat template writes its first turn otherwise once a second follows.")
            ids = later.prompt + later.ids
    return Answer(first.prompt, ids[len(first.prompt) :])


def _shared(left: list[int], right: list[int]) -> int:
    """How long the two are the same."""
    least = min(len(left), len(right))
    if left[:least] == right[:least]:
        return least
    return next(at for at in range(least) if left[at] != right[at])
