"""Rows of the matrix as the template wants them. What can be said once is said here: templates are slow in loops."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth.models import User
from django.utils.safestring import SafeString

from apps.batches.answers import answers_in, calls_of
from apps.conversations.conversation import ToolCall
from apps.datasets.admin.face import RATINGS, Face, calls_html, faces_html
from apps.datasets.admin.view import View
from apps.datasets.models import Dataset
from apps.datasets.reviews import rendering
from apps.datasets.reviews.differences import word_diff
from apps.datasets.reviews.matrix import CELL_CHARACTERS
from apps.datasets.reviews.pairs import Pair, pair_of
from apps.datasets.reviews.rows import ColumnHead, Edit, Row, Sample, Text

WHOLE = ("", "stop", "tool_calls")
"""Finish reasons that need no mark."""
TURN_CHARACTERS = 4_000  # of an earlier turn, in a row
VERDICTS = {"left": "A is better", "right": "B is better", "tie": "A tie", "neither": "Both are bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A cell. `current` is the face that is seen first."""

    column: int
    label: str
    faces: Sequence[Face]
    current: int
    inner: SafeString  # the faces as HTML
    baseline: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRow:
    row: Row
    prompt: str
    prompt_shown: int  # characters, where there are more
    earlier: Sequence[tuple[str, str]]  # role, text
    earlier_title: str
    reference: str
    reference_shown: int
    expected: Sequence[tuple[str, str]]  # the reference, where it has turns, calls or reasoning
    tools: Sequence[tuple[str, str]]  # name, parameters as HTML
    cells: Sequence[Shown]
    locked_by: str  # another reviewer
    readonly: bool
    verdicts: Sequence[str] = ()
    pair: Pair | None = None
    voted: str = ""
    revealed: Sequence[str] = ()


class Showing:
    """How one reviewer sees the rows of a page."""

    def __init__(
        self, columns: Sequence[ColumnHead], view: View, me: User, dataset: Dataset, longest: int = CELL_CHARACTERS
    ) -> None:
        """`longest`: characters of a text; what is left comes on demand."""
        self._view, self._me, self._longest = view, me, longest
        self._labels = {head.column: head.label for head in columns}
        self._baseline = view.baseline if view.baseline is not None else next(iter(self._labels), None)
        self._own_stars = dataset.star_policy == Dataset.StarPolicy.REVIEWER
        self._alone = dataset.overlap == 1

    def rows(self, rows: Iterable[Row]) -> list[ShownRow]:
        return [self._blind(row) if self._view.blind else self._open(row) for row in rows]

    def _open(self, row: Row) -> ShownRow:
        cells = [self._cell(cell.column, cell.samples) for cell in row.cells]
        return ShownRow(cells=cells, verdicts=self._verdicts(row), **self._about(row))

    def _blind(self, row: Row) -> ShownRow:
        """Nothing that tells whose answer is whose, before the vote."""
        pair = pair_of(row, self._me)
        if pair is None:
            return ShownRow(cells=(), **self._about(row))
        voted = pair.verdict(row)
        sides = zip("AB", (pair.left, pair.right), strict=True)
        cells = [self._side(side, letter, sample) for side, (letter, sample) in enumerate(sides)]
        names = [self._labels[column] for column in pair.columns] if voted else []
        return ShownRow(cells=cells, pair=pair, voted=VERDICTS.get(voted, ""), revealed=names, **self._about(row))

    def _about(self, row: Row) -> dict[str, Any]:
        locked_by = "" if row.locked_by == self._me.username else row.locked_by
        prompt, reference = self._cut(row.prompt), self._cut(row.reference)
        last = next((at for at in range(len(row.messages) - 1, -1, -1) if row.messages[at].get("role") == "user"), -1)
        turns = [(_role(turn), _content(turn)) for at, turn in enumerate(row.messages) if at != last]
        return {
            "row": row,
            "prompt": rendering.render(prompt.text, self._view.render),
            "prompt_shown": len(prompt.text) if prompt.cut else 0,
            "earlier": turns,
            "earlier_title": _earlier_title(turns, "earlier" if last == len(row.messages) - 1 else "other"),
            "reference": rendering.render(reference.text, self._view.render) if reference.text else "",
            "reference_shown": len(reference.text) if reference.cut else 0,
            "expected": [(_role(turn), _content(turn)) for turn in row.reference_messages],
            "tools": [_tool(tool) for tool in row.beside.get("tools", ())],
            "locked_by": locked_by,
            "readonly": bool(locked_by) and self._alone,
        }

    def _verdicts(self, row: Row) -> list[str]:
        """What this reviewer preferred, as a sentence each."""
        names = {sample.answer: self._labels[cell.column] for cell in row.cells for sample in cell.samples}
        names |= {
            sample.edit.answer: f"{self._labels[cell.column]}, edited"
            for cell in row.cells
            for sample in cell.samples
            if sample.edit
        }
        return [
            _sentence(names[each.left], names[each.right], each.verdict)
            for each in row.preferences
            if each.left in names and each.right in names
        ]

    def _cell(self, column: int, samples: Sequence[Sample]) -> Shown:
        faces: list[Face] = []
        current = 0
        for sample in samples:
            faces.append(self._original(sample, len(samples) > 1))
            if sample.edit:
                current = len(faces) if sample.sample == 0 else current
                faces += self._edited(sample)
        baseline = column == self._baseline
        return Shown(
            column=column, label=self._labels[column], faces=faces, current=current, baseline=baseline,
            inner=faces_html(faces, column=column, current=current),
        )  # fmt: skip

    def _original(self, sample: Sample, several: bool) -> Face:
        number = f" {sample.sample + 1}" if several else ""
        text = self._cut(sample.text)
        compared = self._view.diff and sample.diff is not None
        html = rendering.diff_html(sample.diff or ()) if compared else rendering.render(text.text, self._view.render)
        return Face(
            label=(number.strip() or "Original"), title=f"The model's answer{number}", answer=sample.answer,
            kind="original", html=html, error=sample.error, same=sample.same, score=sample.score,
            figures="" if sample.error else _figures(sample), finish=_finish(sample),
            why=sample.incomplete.sentence if sample.incomplete else "",
            blank=_blank(sample), rating=RATINGS[sample.rating], thumb=sample.thumb,
            **self._parts(sample), **_length(text), **self._star(sample.stars),
        )  # fmt: skip

    def _parts(self, of: Sample | Edit) -> dict[str, Any]:
        """What stands beside the text."""
        reasoning = self._cut(of.reasoning)
        return {
            "calls": [(rendering.visible(call.function.name), _arguments(call)) for call in of.calls],
            "reasoning": rendering.render(reasoning.text, self._view.render) if reasoning.text else "",
            "reasoning_shown": len(reasoning.text) if reasoning.cut else 0,
            "reasoning_total": f"{reasoning.characters:,}",
        }

    def _edited(self, sample: Sample) -> list[Face]:
        edit = sample.edit
        assert edit is not None  # noqa: S101 - the caller looked
        by = "Your edit" if edit.mine else f"Edited by {edit.author or 'somebody who left'}"
        more = f", the latest of {sample.edits}" if sample.edits > 1 and not edit.mine else ""
        same = {
            "title": by + more, "answer": edit.answer, "rating": RATINGS[edit.rating], "thumb": edit.thumb,
            **self._parts(edit), **self._star(edit.stars),
        }  # fmt: skip
        text = self._cut(edit.text)
        html = rendering.render(text.text, self._view.render)
        faces = [Face(label="Edit", kind="edit", html=html, **_length(text), **same)]
        changes = word_diff(sample.text.text, edit.text.text)
        if changes is not None and not sample.error:
            faces.append(Face(label="Changes", kind="changes", html=rendering.diff_html(changes), **same))
        return faces

    def _side(self, side: int, letter: str, sample: Sample) -> Shown:
        html = rendering.render(sample.text.text, self._view.render)
        face = Face(
            label="", title="", answer=0, kind="blind", html=html, blank=_blank(sample), finish=_finish(sample),
            why=sample.incomplete.sentence if sample.incomplete else "",
            **self._parts(sample), **_length(sample.text),
        )  # fmt: skip
        inner = faces_html([face], column=side, current=0)
        return Shown(column=side, label=f"Answer {letter}", faces=[face], current=0, inner=inner)

    def _cut(self, text: Text) -> Text:
        shorter = len(text.text) > self._longest
        return replace(text, text=text.text[: self._longest], cut=True) if shorter else text

    def _star(self, stars: Sequence[str]) -> dict[str, Any]:
        own = self._me.username in stars if self._own_stars else bool(stars)
        return {"starred": own, "star_title": f"Gold star by {', '.join(stars)}" if stars else "Gold star"}


def _content(turn: dict[str, Any]) -> str:
    """A message's thoughts, its text and its calls, as HTML."""
    content = turn.get("content")
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) if content else ""
    said = answers_in({"choices": [{"message": turn}]})[0]
    thought = f'<span class="rv-quiet">{rendering.plain(said.reasoning[:TURN_CHARACTERS])}</span>\n'
    calls = calls_html(
        [(rendering.visible(each.function.name), _arguments(each)) for each in calls_of(said.tool_calls)]
    )
    return SafeString((thought if said.reasoning else "") + rendering.plain(text[:TURN_CHARACTERS]) + calls)


def _role(turn: dict[str, Any]) -> str:
    name = turn.get("name")
    weight = ", not learned" if turn.get("weight") == 0 else ""
    return f"{turn.get('role', '')}{f' {name}' if name else ''}{weight}"


def _arguments(call: ToolCall) -> str:
    return rendering.json(call.function.arguments[:TURN_CHARACTERS])


def _tool(tool: dict[str, Any]) -> tuple[str, str]:
    function = tool.get("function", tool)
    beside = {name: value for name, value in function.items() if name != "name"}
    return str(function.get("name", "")), rendering.json(json.dumps(beside, ensure_ascii=False)[:TURN_CHARACTERS])


def _blank(sample: Sample) -> bool:
    return bool(sample.incomplete) and not sample.text.text.strip() and not sample.calls


def _finish(sample: Sample) -> str:
    """The finish reason, where it is not the usual one."""
    if sample.incomplete and sample.finish_reason in WHOLE:
        return sample.incomplete.code
    return "" if sample.finish_reason in WHOLE else sample.finish_reason


def _earlier_title(turns: Sequence[tuple[str, str]], word: str) -> str:
    system = any(role in ("system", "developer") for role, _ in turns)
    others = sum(role not in ("system", "developer") for role, _ in turns)
    parts = ["system message"] * system + [f"{others} {word} turn{'s' if others > 1 else ''}"] * bool(others)
    return " and ".join(parts).capitalize()


def _sentence(left: str, right: str, verdict: str) -> str:
    if verdict == "left":
        return f"{left} is better than {right}"
    if verdict == "right":
        return f"{right} is better than {left}"
    return f"{left} and {right} are as good" if verdict == "tie" else f"{left} and {right} are both bad"


def _figures(sample: Sample) -> str:
    parts = []
    if sample.input_tokens or sample.output_tokens:
        parts.append(f"{sample.input_tokens:,} → {sample.output_tokens:,} tokens")
    if sample.latency_ms:
        parts.append(f"{sample.latency_ms / 1000:.1f} s")
    if sample.finish_reason in WHOLE[1:]:
        parts.append(sample.finish_reason)
    return " · ".join(parts)


def _length(text: Text) -> dict[str, Any]:
    shown = len(text.text)
    return {"shown": shown, "rest": text.characters - shown, "total": f"{text.characters:,}"} if text.cut else {}
