"""Rows of a prepared file as the numbers that a model learns: token ids, and which of them count.

Django-free, and read by the trainer's child only: a tokenizer is Transformers', with the model's own chat template.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from apps.training.child.failures import bad_data, unsupported
from apps.training.options import Options
from apps.training.spec import Method

IGNORED = -100  # the label of a token that is not learned
MAX_TOLD = 20  # examples that are left out, in the log

Row = dict[str, Any]
Columns = dict[str, Any]
"""Lists of token ids; of thumbs, also the "label"."""
Span = tuple[int, int]
Render = Callable[..., str]
Tokenizer = Any
"""Transformers' `PreTrainedTokenizerBase`, with offsets."""


class Unlearnable(Exception):
    """An example that teaches nothing. The message says why."""


@dataclass
class Counts:
    """Of one file, once it was read to its end."""

    examples: int = 0
    tokens: int = 0
    learned: int = 0
    ups: int = 0
    """Examples with a thumb up."""
    downs: int = 0
    cut: int = 0
    left_out: list[tuple[int, str]] = field(default_factory=list)
    """Line numbers, each with why."""


def read(path: Path, tokenizer: Tokenizer, method: Method, options: Options, counts: Counts) -> Iterator[Columns]:
    """Examples one by one. Raises `Refused` at the end, when there was none.

    The columns are TRL's: `input_ids` and `labels`, `prompt_ids`, `chosen_ids` and `rejected_ids`, or `prompt_ids`,
    `completion_ids` and `label`.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise unsupported("The model has no tokenizer.json: choose a base model that has one.")
    encode = ENCODERS[method]
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            try:
                columns, was_cut = encode(tokenizer, msgspec.json.decode(raw), options)
            except Unlearnable as error:
                counts.left_out.append((line, str(error)))
                continue
            counts.examples += 1
            counts.cut += was_cut
            _count(columns, counts)
            yield columns
    if not counts.examples:
        lines = " ".join(f"Line {line}: {why}" for line, why in counts.left_out[:3])
        raise bad_data(f"No example of {path.name} has anything to learn. {lines}")


def told(counts: Counts) -> Iterator[str]:
    """Sentences for the log about what was left out."""
    for line, why in counts.left_out[:MAX_TOLD]:
        yield f"Line {line} is left out: {why}"
    if (more := len(counts.left_out) - MAX_TOLD) > 0:
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


def _supervised(tokenizer: Tokenizer, row: Row, options: Options) -> tuple[Columns, bool]:
    ids, learned = (_chat if "messages" in row else _text)(tokenizer, row, options)
    cut = slice(options.max_length)
    labels = [token if counts else IGNORED for token, counts in zip(ids, learned, strict=True)][cut]
    # The first token is predicted from nothing: TRL and Transformers never learn it.
    if all(label == IGNORED for label in labels[1:]):
        if any(learned[1:]):
            raise Unlearnable(f"its first {options.max_length:,} tokens have no answer: raise max_length.")
        raise Unlearnable("it has no answer that is to be learned.")
    return {"input_ids": ids[cut], "labels": labels}, len(ids) > options.max_length


def _text(tokenizer: Tokenizer, row: Row, options: Options) -> tuple[list[int], list[bool]]:
    """A prompt and its completion, as they stand, and the end of the text."""
    encoded = tokenizer(row["prompt"] + row["completion"], return_offsets_mapping=True)
    ids = list(encoded["input_ids"])
    from_ = len(row["prompt"]) if options.completions_only else 0
    learned = [end > start >= from_ for start, end in encoded["offset_mapping"]]
    if ids[-1:] != [tokenizer.eos_token_id]:
        ids, learned = [*ids, tokenizer.eos_token_id], [*learned, True]
    else:
        learned[-1] = True
    return ids, learned


def _chat(tokenizer: Tokenizer, row: Row, options: Options) -> tuple[list[int], list[bool]]:
    """A conversation. What is learned are the assistant's turns whose weight is not 0, their end included."""
    render = _renderer(tokenizer, row)
    messages = row["messages"]
    whole = render(messages)
    turns = [
        (_turn(tokenizer, render, messages, at, whole), message.get("weight", 1) != 0)
        for at, message in enumerate(messages)
        if message["role"] == "assistant"
    ]
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    of_interest = [span for span, wanted in turns if wanted == options.completions_only]
    inside = [_inside(start, of_interest) for start, _ in encoded["offset_mapping"]]
    return list(encoded["input_ids"]), [found == options.completions_only for found in inside]


def _inside(start: int, spans: list[Span]) -> bool:
    return any(first <= start < end for first, end in spans)


def _turn(tokenizer: Tokenizer, render: Render, messages: list[Row], at: int, whole: str) -> Span:
    """Where the assistant's turn `at` is in the text. Templates may write an early turn otherwise than a last one."""
    start = _shared(render(messages[:at], True), whole)
    until = render(messages[: at + 1]) if at + 1 < len(messages) else whole
    if not whole.startswith(until):
        content = str(_plain(messages[at])["content"]).strip()
        found = whole.find(content, start) if content else -1
        if found < 0:
            raise Unlearnable("the model's chat template hides an answer of it.")
        end = found + len(content)
        return start, end + len(tokenizer.eos_token or "") * whole.startswith(tokenizer.eos_token or "", end)
    for call in messages[at].get("tool_calls") or ():
        if call["function"]["name"] not in whole[start : len(until)]:
            raise Unlearnable("the model's chat template has no place for tool calls.")
    return start, len(until)


def _pair(tokenizer: Tokenizer, row: Row, options: Options) -> tuple[Columns, bool]:
    """A prompt, and what follows it in the better and in the worse conversation."""
    sides = ("preferred_completion", "non_preferred_completion") if "input" in row else ("chosen", "rejected")
    prompt, chosen, rejected = _rendered(tokenizer, row, sides)
    shared = min(_shared(prompt, answer) for answer in (chosen, rejected))
    columns = {
        "prompt_ids": prompt[:shared],
        "chosen_ids": chosen[shared : options.max_length],
        "rejected_ids": rejected[shared : options.max_length],
    }
    if not columns["chosen_ids"] or not columns["rejected_ids"]:
        raise Unlearnable(f"its prompt alone has {shared:,} tokens: raise max_length.")
    if columns["chosen_ids"] == columns["rejected_ids"]:
        raise Unlearnable("its two answers are the same, as far as max_length reaches.")
    return columns, max(len(chosen), len(rejected)) > options.max_length


def _thumb(tokenizer: Tokenizer, row: Row, options: Options) -> tuple[Columns, bool]:
    """A prompt, what follows it, and whether that is a good answer."""
    prompt, whole = _rendered(tokenizer, row, ("completion",))
    shared = _shared(prompt, whole)
    columns = {
        "prompt_ids": prompt[:shared], "completion_ids": whole[shared : options.max_length], "label": row["label"],
    }  # fmt: skip
    if not columns["completion_ids"]:
        raise Unlearnable(f"its prompt alone has {shared:,} tokens: raise max_length.")
    return columns, len(whole) > options.max_length


def _rendered(tokenizer: Tokenizer, row: Row, sides: Sequence[str]) -> list[list[int]]:
    """The prompt's tokens, and those of the prompt with each of the `sides`."""
    if "input" not in row:
        end = tokenizer.eos_token or ""
        texts = [row["prompt"], *(row["prompt"] + row[side].removesuffix(end) + end for side in sides)]
        return [list(tokenizer(text)["input_ids"]) for text in texts]
    render, messages = _renderer(tokenizer, row["input"]), row["input"]["messages"]
    texts = [render(messages, True), *(render(messages + row[side]) for side in sides)]
    return [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]


ENCODERS: dict[Method, Callable[[Tokenizer, Row, Options], tuple[Columns, bool]]] = {
    "sft": _supervised, "dpo": _pair, "kto": _thumb,
}  # fmt: skip


def _shared(left: Sequence[object], right: Sequence[object]) -> int:
    """How long the two are the same."""
    least = min(len(left), len(right))
    if left[:least] == right[:least]:
        return least
    return next(at for at in range(least) if left[at] != right[at])


def _renderer(tokenizer: Tokenizer, row: Row) -> Render:
    if not tokenizer.chat_template:
        raise unsupported(
            "The model has no chat template, so it cannot learn conversations: give lines with 'prompt' and "
            "'completion', or choose a base model that was made for chats."
        )
    tools = row.get("tools") or None

    def render(messages: list[Row], ask: bool = False) -> str:
        try:
            plain = [_plain(message) for message in messages]
            return str(
                tokenizer.apply_chat_template(
                    plain, tools=tools, tokenize=False, add_generation_prompt=ask, **row.get("chat_template_kwargs", {})
                )
            )
        except Exception as error:  # the template is a program of the model's: whatever it raises is about this row
            raise Unlearnable(f"the model's chat template refuses it: {str(error)[:200]}") from error

    return render


def _plain(message: Row) -> Row:
    """As chat templates want it: a content in any case, its parts as one text, and arguments as an object."""
    kept = {key: value for key, value in message.items() if key != "weight"}
    if isinstance(kept.get("content"), list):
        kept["content"] = "\n".join(part["text"] for part in kept["content"])
    if kept["role"] == "developer":
        kept["role"] = "system"
    if calls := kept.get("tool_calls"):
        kept["tool_calls"] = [_call(call) for call in calls]
    return {**kept, "content": kept.get("content") or ""}


def _call(call: Row) -> Row:
    function = call["function"]
    arguments = function.get("arguments")
    return {**call, "function": {**function, "arguments": msgspec.json.decode(arguments or "{}")}}
