"""Reads the rows of a matrix and what belongs to them: one query for each kind of thing, however many rows."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Case, F, OuterRef, QuerySet, Subquery, TextField, Value, When
from django.db.models.functions import MD5, JSONObject, Left, Length
from django.db.models.lookups import LessThanOrEqual

from apps.batches.answers import Said, calls_of, incomplete
from apps.conversations.conversation import FunctionCall, ToolCall
from apps.datasets.models import Answer, Item, Judge, Judgement, Preference, Rating, Review, Run, Star, Thumb
from apps.datasets.reviews import locks
from apps.datasets.reviews.differences import word_diff
from apps.datasets.reviews.rows import Cell, ColumnHead, Compared, Edit, Row, Sample, Text

MESSAGES_CHARACTERS = 20_000  # of JSON, on a page
REASONING_CHARACTERS = 2_000  # on a page; what is longer comes on demand
CALLS_CHARACTERS = 100_000  # of JSON

Values = Mapping[str, Any]


class Reader:
    """For one reviewer, who sees their own ratings, notes and verdicts, and everybody's stars and edits."""

    def __init__(
        self,
        run: Run,
        columns: Sequence[ColumnHead],
        *,
        reviewer: User | None,
        baseline: int | None,  # a position
        diff: bool,
        longest: int,  # characters of a text
    ) -> None:
        self.run, self.columns, self.baseline, self.diff, self.longest = run, columns, baseline, diff, longest
        self.thoughts = longest if longest > MESSAGES_CHARACTERS else REASONING_CHARACTERS
        self.me = reviewer.pk if reviewer else 0  # nobody has the id 0

    def items(self, wanted: QuerySet[Item]) -> list[Values]:
        mine = Review.objects.filter(example=OuterRef("example"), reviewer=self.me)
        held = locks.live().filter(example=OuterRef("example"))
        room = max(self.longest, MESSAGES_CHARACTERS)

        def whole(name: str) -> Case:
            short = When(LessThanOrEqual(Length(f"example__{name}"), room), then=f"example__{name}")
            return Case(short, default=Value("", TextField()))

        return list(
            wanted.values(
                "number", "differs", "rejected", "reviews", "example_id",
                tags=F("example__tags"),
                prompt=Left("example__prompt", self.longest), prompt_characters=Length("example__prompt"),
                reference=Left("example__reference", self.longest), reference_characters=Length("example__reference"),
                messages=whole("messages"), beside=whole("request"), expected=whole("reference_messages"),
                review=Subquery(mine.values(json=JSONObject(state="state", note="note"))[:1]),
                locked_by=Subquery(held.values("reviewer__username")[:1]),
            )
        )  # fmt: skip

    def rows(self, items: Sequence[Values]) -> tuple[Row, ...]:
        examples = [item["example_id"] for item in items]
        answers = _by_example(self._answers(examples))
        stars = _by_example(self._stars(examples))
        preferences = _by_example(self._preferences(examples))
        return tuple(
            self._row(item, answers[item["example_id"]], stars[item["example_id"]], preferences[item["example_id"]])
            for item in items
        )

    def _answers(self, examples: Sequence[int]) -> Iterable[Values]:
        own = Rating.objects.filter(answer=OuterRef("pk"), reviewer=self.me)
        latest = Judge.objects.filter(run=self.run).order_by("-pk").values("pk")[:1]
        thumbs = Thumb.objects.filter(answer=OuterRef("pk"), reviewer=self.me)
        scored = Judgement.objects.filter(answer=OuterRef("pk"), judge=Subquery(latest))
        columns = [column.id for column in self.columns]
        return Answer.objects.filter(example__in=examples, column__in=columns).order_by("pk").values(
            "pk", "example_id", "column_id", "sample", "error", "finish_reason", "input_tokens", "output_tokens",
            "latency_ms", "edit_of_id", "author_id", "created_at", "refusal",
            username=F("author__username"),
            shown=Left("text", self.longest), characters=Length("text"), digest=MD5("text"),
            reasoned=Left("reasoning", self.thoughts), reasoning_characters=Length("reasoning"),
            calls=Left("tool_calls", CALLS_CHARACTERS),
            rating=Subquery(own.values("value")[:1]), thumb=Subquery(thumbs.values("verdict")[:1]),
            score=Subquery(scored.values("score")[:1]),
        )  # fmt: skip

    def _stars(self, examples: Sequence[int]) -> Iterable[Values]:
        rows = Star.objects.filter(example__in=examples).order_by("pk")
        return rows.values("example_id", "answer_id", username=F("reviewer__username"))

    def _preferences(self, examples: Sequence[int]) -> Iterable[Values]:
        rows = Preference.objects.filter(example__in=examples, reviewer=self.me).order_by("pk")
        return rows.values("example_id", "left_id", "right_id", "verdict", "blind")

    def _row(self, item: Values, answers: list[Values], stars: list[Values], preferences: list[Values]) -> Row:
        review = item["review"] or {"state": Review.State.OPEN.value, "note": ""}
        return Row(
            number=item["number"], example=item["example_id"], tags=tuple(item["tags"]),
            prompt=_text(item["prompt"], item["prompt_characters"]), messages=tuple(_json(item["messages"], [])),
            reference=_text(item["reference"], item["reference_characters"]),
            beside=_json(item["beside"], {}), reference_messages=tuple(_json(item["expected"], [])),
            cells=self._cells(answers, stars),
            state=review["state"], note=review["note"], locked_by=item["locked_by"] or "",
            stars=tuple((star["answer_id"], star["username"]) for star in stars),
            preferences=tuple(
                Compared(left=row["left_id"], right=row["right_id"], verdict=row["verdict"], blind=row["blind"])
                for row in preferences
            ),
            differs=item["differs"], rejected=item["rejected"], reviews=item["reviews"],
        )  # fmt: skip

    def _cells(self, answers: list[Values], stars: list[Values]) -> tuple[Cell, ...]:
        edits: dict[int, list[Values]] = defaultdict(list)
        columns: dict[int, list[Values]] = defaultdict(list)
        for answer in answers:
            if answer["edit_of_id"]:
                edits[answer["edit_of_id"]].append(answer)
            else:
                columns[answer["column_id"]].append(answer)
        position = {column.id: column.column for column in self.columns}
        base = {a["sample"]: a for id_, group in columns.items() if position[id_] == self.baseline for a in group}
        given: dict[int, list[str]] = defaultdict(list)
        for star in stars:
            given[star["answer_id"]].append(star["username"])
        return tuple(self._cell(head, columns[head.id], base, edits, given) for head in self.columns)

    def _cell(
        self,
        head: ColumnHead,
        answers: list[Values],
        base: dict[int, Values],
        edits: dict[int, list[Values]],
        stars: dict[int, list[str]],
    ) -> Cell:
        """Each sample is compared with the baseline's of the same number, or with its first."""
        samples = []
        for answer in sorted(answers, key=lambda answer: answer["sample"]):
            against = base.get(answer["sample"], base.get(0)) if head.column != self.baseline else None
            comparable = against if against and not against["error"] and not answer["error"] else None
            samples.append(self._sample(answer, comparable, edits[answer["pk"]], stars))
        return Cell(column=head.column, samples=tuple(samples))

    def _sample(
        self, answer: Values, against: Values | None, edits: list[Values], stars: dict[int, list[str]]
    ) -> Sample:
        return Sample(
            answer=answer["pk"], sample=answer["sample"], text=_text(answer["shown"], answer["characters"]),
            reasoning=_text(answer["reasoned"], answer["reasoning_characters"]), calls=_calls(answer),
            incomplete=None if answer["error"] else incomplete(_said(answer), answer["output_tokens"]),
            error=answer["error"], finish_reason=answer["finish_reason"], input_tokens=answer["input_tokens"],
            output_tokens=answer["output_tokens"], latency_ms=answer["latency_ms"],
            rating=answer["rating"], thumb=answer["thumb"] or "", score=answer["score"],
            stars=tuple(stars.get(answer["pk"], ())),
            edit=self._edit(edits, stars), edits=len(edits),
            same=against is not None and _alike(against, answer),
            diff=word_diff(against["shown"], answer["shown"]) if against and self.diff else None,
        )  # fmt: skip

    def _edit(self, edits: list[Values], stars: dict[int, list[str]]) -> Edit | None:
        """The reviewer's own, or else the latest."""
        if not edits:
            return None
        edit = next((edit for edit in edits if edit["author_id"] == self.me), edits[-1])
        return Edit(
            answer=edit["pk"], author=edit["username"] or "", mine=edit["author_id"] == self.me,
            text=_text(edit["shown"], edit["characters"]), rating=edit["rating"], thumb=edit["thumb"] or "",
            reasoning=_text(edit["reasoned"], edit["reasoning_characters"]), calls=_calls(edit),
            stars=tuple(stars.get(edit["pk"], ())), created_at=edit["created_at"],
        )  # fmt: skip


def _text(shown: str, characters: int) -> Text:
    return Text(text=shown, characters=characters, cut=characters > len(shown))


def _said(answer: Values) -> Said:
    return Said(answer["shown"], answer["reasoned"], answer["calls"], answer["refusal"], answer["finish_reason"])


def _calls(answer: Values) -> tuple[ToolCall, ...]:
    """One that stands for all where they are too long."""
    cut = (ToolCall(id="", function=FunctionCall("(too long to show)", "{}")),)
    return calls_of(answer["calls"]) or (cut if answer["calls"] else ())


def _alike(one: Values, other: Values) -> bool:
    """Ids of calls are random."""
    if one["digest"] != other["digest"] or bool(one["calls"]) != bool(other["calls"]):
        return False
    return not one["calls"] or [call.function for call in _calls(one)] == [call.function for call in _calls(other)]


def _json(text: str, otherwise: Any) -> Any:
    return json.loads(text) if text else otherwise


def _by_example(rows: Iterable[Values]) -> dict[int, list[Values]]:
    found: dict[int, list[Values]] = defaultdict(list)
    for row in rows:
        found[row["example_id"]].append(row)
    return found
