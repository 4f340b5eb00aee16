"""What becomes of every column and key of a file: used, kept with the row as it came, or not used. Counted row by row.

A loss is a column that some format gives a meaning to and this import does not read, or a key of a message that has
no place in a conversation. What only repeats a text that is used is none.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from apps.conversations.codecs import CODECS
from apps.conversations.codecs.fields import BESIDE, KEYS
from apps.conversations.conversation import Conversation
from apps.conversations.messages import THOUGHTS
from apps.datasets.imports.readers import Row
from apps.datasets.imports.templates import GUESSES

MAX_FIELDS = 500
"""That are listed; `OTHERS` says in how many rows there was one more."""
OTHERS = "…"
MAX_PATTERNS = 500  # sets of columns that are counted before they are added up
NAMED = 8  # losses that a sentence names

METADATA = "kept as metadata"
HARMLESS = {"key", "tags", METADATA, *BESIDE.values()} - {"tools"}
"""Meanings that nobody misses: the column stays with the row as it came."""
INNER = {"messages", "prompt", "input", "instructions", "role", "content", "from", "value"} | BESIDE.keys()
"""Keys of a column that is an object (a batch line's `body`, a pair's `input` or a message of it), which are read."""
OWN_NAMES = ("label_studio_min",)
"""Formats whose columns people name themselves, so that they say nothing of the columns of other files."""
MEANINGS = {
    **dict.fromkeys(GUESSES["reference"], "chosen answer"), "answers": "expected answers", "query": "question",
    "label": "thumb up or down", "weight": "weight", "weights": "weight", "history": "earlier turns",
    "context": "part of the question", "rejected": "rejected answer", "references": "expected answers",
    "tools": "tools", "functions": "tools", "function_call": "call of a tool", "tool_calls": "calls of tools",
    "reasoning": "reasoning", "reasoning_content": "reasoning", "thinking": "reasoning",
    **{f"{side}_{what}": f"{side} answer"
       for side in ("chosen", "rejected") for what in ("response", "messages", "answer", "output")},
    **{name + s: f"{name}s" for name in ("image", "video", "audio", "document") for s in ("", "s")},
}  # fmt: skip
"""Of columns that formats elsewhere have; those of our own formats are added."""
MEANINGS |= {
    name: meaning
    for codec in CODECS.values()
    if codec.name not in OWN_NAMES
    for name, meaning in codec.columns.items()
    if meaning not in HARMLESS
}
SCORES = ("score", "rating")
AGAIN = " again"
"""How the meaning of a column ends that should only repeat another."""
TEXTS = ("content", "value", "text", "response")
"""Keys of a message that hold its text."""
SIDES = "rejected answer"

Counts = dict[str, list[int]]
"""Name -> rows that have it, line of the first."""


class FieldUse(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """A column, or a path such as "messages[].score"."""
    use: Literal["used", "kept", "not_used"]
    becomes: str
    """What it becomes; of a loss, what it is elsewhere."""
    rows: int
    line: int
    """Of the first row that has it."""
    loss: bool = False


class FieldCounter:
    """Memory holds `MAX_FIELDS` names. Rows of the same columns cost one look-up each."""

    def __init__(self, uses: Mapping[str, str], *, keeps_rows: bool = True, verbatim: bool = False) -> None:
        """`uses`: the columns that are read, with what each becomes. `keeps_rows`: the row as it came stays too.

        `verbatim`: texts are used as they are, so that one of two columns for the same thing can be seen to be unused.
        """
        self._uses, self._keeps_rows, self._verbatim = uses, keeps_rows, verbatim
        self._pairs = SIDES in uses.values()
        self._patterns: dict[tuple[str, ...], tuple[list[int], list[str], list[str]]] = {}
        self._columns: Counts = {}
        self._nested: Counts = {}
        self._losses: Counts = {}

    def add(self, row: Row, made: Conversation | None = None, unused: Collection[str] = ()) -> None:
        """`made`: what the row became; without it nothing of the row counts as lost."""
        names = tuple([name for name, value in row.values.items() if value or value == 0])
        found = self._patterns.get(names)
        if found is None:
            found = self._new_pattern(names, row)
        count, suspects, objects = found
        count[0] += 1
        for name in objects:
            self._look_into(row, name)
        if unused or (suspects and made is not None):
            self._look(row, made, suspects, unused)

    def uses(self) -> list[FieldUse]:
        """Losses first, then what is not used or kept, then what is used; by line within."""
        self._add_up()
        lost = [self._lost(name, *count) for name, count in self._losses.items()]
        known = {each.name for each in lost}
        rest = {**self._columns, **self._nested}
        others = [self._use(name, *count) for name, count in rest.items() if name not in known]
        others.sort(key=lambda each: each.use == "used")
        return [*lost, *others]

    def losses(self) -> list[FieldUse]:
        return [self._lost(name, *count) for name, count in self._losses.items()]

    @property
    def has_losses(self) -> bool:
        return bool(self._losses)

    def _new_pattern(self, names: tuple[str, ...], row: Row) -> tuple[list[int], list[str], list[str]]:
        if len(self._patterns) >= MAX_PATTERNS:
            self._add_up()
        suspects = [name for name in names if self._may_be_lost(name, names)]
        objects = [name for name in names if name in self._uses and isinstance(row.values[name], dict)]
        return self._patterns.setdefault(names, ([0, row.line], suspects, objects))

    def _may_be_lost(self, name: str, names: Iterable[str]) -> bool:
        meaning = self._uses.get(name)
        if meaning is None:
            return name.lower() in MEANINGS or (not self._pairs and name.startswith(SCORES))
        if meaning in HARMLESS or not self._verbatim:
            return False
        return meaning.endswith(AGAIN) or any(self._uses.get(each) == meaning for each in names if each != name)

    def _look(self, row: Row, made: Conversation | None, suspects: list[str], unused: Collection[str]) -> None:
        """`unused`: what the format itself did not use."""
        texts = _texts_of(made) if made else set()
        for name in dict.fromkeys((*(suspects if made else ()), *sorted(unused))):
            if name not in row.values or not _repeats(row.values[name], texts):
                _count(self._losses, name, row.line)

    def _look_into(self, row: Row, name: str) -> None:
        inner = row.values[name]
        for key in inner if isinstance(inner, dict) else ():
            _count(self._nested, f"{name}.{key}", row.line)

    def _add_up(self) -> None:
        for names, ((rows, line), _, _) in self._patterns.items():
            for name in names:
                _count(self._columns, name, line, rows)
        self._patterns.clear()

    def _lost(self, name: str, rows: int, line: int) -> FieldUse:
        becomes = MEANINGS.get(name.lower(), "score" if name.startswith(SCORES) else "")
        return FieldUse(name=name, use="not_used", becomes=becomes, rows=rows, line=line, loss=True)

    def _use(self, name: str, rows: int, line: int) -> FieldUse:
        becomes = self._uses.get(name, METADATA)
        column, _, inner = name.partition(".")
        if inner and column in self._uses and name not in self._uses:
            becomes = "read" if inner in INNER else METADATA
        if becomes == "key" and name != self._key():
            becomes = METADATA
        if becomes != METADATA:
            return FieldUse(name=name, use="used", becomes=becomes, rows=rows, line=line)
        if not self._keeps_rows:
            return FieldUse(name=name, use="not_used", becomes="", rows=rows, line=line)
        return FieldUse(name=name, use="kept", becomes="metadata", rows=rows, line=line)

    def _key(self) -> str:
        """The column that says a row's own id, unless a mapping says it."""
        named = [name for name, becomes in self._uses.items() if becomes == "key"]
        order = [name for name in KEYS if name in named] or named
        return next((name for name in order if name in self._columns), "")


def sentence(losses: list[FieldUse]) -> str:
    """What would be lost: "'label' (thumb up or down; 3 rows, the first in line 1), …"."""
    named = [
        f"{each.name!r} ({each.becomes + '; ' if each.becomes else ''}{each.rows:,} row{'s' * (each.rows != 1)},"
        f" the first in line {each.line:,})"
        for each in losses[:NAMED]
    ]
    more = [f"{len(losses) - NAMED:,} more"] if len(losses) > NAMED else []
    return ", ".join([*named, *more])


def would_lose(losses: list[FieldUse], outcome: str) -> str:
    """The refusal of an import, and how to have it."""
    return (
        f"{outcome}, since the import would lose {sentence(losses)}. Choose another shape or mapping, or accept it with"
        " 'accept_losses'."
    )


def _count(counts: Counts, name: str, line: int, rows: int = 1) -> None:
    found = counts.get(name)
    if found is None:
        if len(counts) >= MAX_FIELDS and name not in MEANINGS:
            name = OTHERS
        found = counts.setdefault(name, [0, line])
    found[0] += rows
    found[1] = min(found[1], line)


def _texts_of(made: Conversation) -> set[str]:
    messages = (*made.messages, *made.chosen, *made.rejected)
    texts = {text.strip() for message in messages for text in (message.text, message.reasoning_content)}
    texts |= {call.function.name for message in messages for call in message.tool_calls}
    return texts | {_weight(message.weight) for message in messages}


def _repeats(value: Any, texts: set[str]) -> bool:
    """Whether a column says only what is used already: a text, or messages of such texts."""
    said = list(_said(value))
    return bool(said) and all(isinstance(text, str) and _is_in(text.strip(), texts) for text in said)


def _is_in(text: str, texts: set[str]) -> bool:
    return text in texts or any(text in each for each in texts)


def _said(value: Any) -> Iterator[Any]:
    """What messages say, in their texts and beside; anything that is neither a text nor messages, as itself."""
    if isinstance(value, list):
        for part in value:
            yield from _said(part)
    elif isinstance(value, dict) and any(name in value for name in TEXTS):
        yield from _said([value[name] for name in (*TEXTS, *THOUGHTS) if value.get(name) is not None])
        calls = value.get("tool_calls") or value.get("function_call") or []
        for call in calls if isinstance(calls, list) else [calls]:
            yield call.get("function", call).get("name") if isinstance(call, dict) else call
        if value.get("weight") is not None:
            yield _weight(value["weight"])
    else:
        yield value


def _weight(weight: Any) -> str:
    return f"weight {weight}"
