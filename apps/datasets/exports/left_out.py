"""The examples that an export leaves out: counted by reason, and all of them listed in a file with their lines."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import IO, Any

import msgspec
from django.db.models import QuerySet

from apps.core.json_lines import escape_separators_in_bytes
from apps.datasets.exports.selection import COLUMN, PAIR_POLICIES, Selection
from apps.datasets.models import Example, Import
from apps.datasets.reasons import Reasons

CHUNK = 1_000  # examples that are looked up at once
UNFIT = "The format has no place for what it holds"
OWNED = {
    "starred": "a gold star",
    "best_rated": "a rating",
    "reference": "an expected answer",
    "preferences": "an answer that most reviewers preferred",
    "starred_pairs": "a gold star beside another answer that differs",
    "reference_pairs": "an expected answer beside a rejected one",
    "thumbs": "an answer with more thumbs on one side",
    "reference_labels": "an expected or a rejected answer",
}
"""What an example must have, for each policy."""
INCOMPLETE = {
    "blank": "Its answer is blank.",
    "cut_off": "Its answer is cut off.",
    "content_filter": "A content filter stopped its answer.",
    "refused": "Its answer is a refusal.",
    "tie": "As many thumbs up as down.",
}

_encode = msgspec.json.Encoder().encode


class LeftOut:
    """Memory holds four bytes for each example with a row, and the reasons."""

    def __init__(self, listed: IO[bytes]) -> None:
        """`listed`: an empty file for the numbers of all of them."""
        self._listed = listed
        self._seen = array("I")
        self.reasons = Reasons()
        self.count = 0
        """Rows that the format has no place for."""
        self.examples = 0
        """Asked for."""
        self.missing = 0
        """Of these, without an answer to export."""

    def saw(self, number: int) -> None:
        """A row of this example was read; they come by number."""
        if not self._seen or self._seen[-1] != number:
            self._seen.append(number)

    def add(self, number: int, reason: str) -> None:
        """The format cannot hold this row."""
        self.count += 1
        self._note(number, f"{UNFIT}: {reason}" if reason else f"{UNFIT}.")

    def add_missing(self, selection: Selection, why: Mapping[int, str]) -> None:
        """The examples that were asked for and had no row, once all rows were read. `why`: see `Selection.reasons`."""
        usual = f"It has no answer to export: {owned(selection)}."
        for number in asked_for(selection).order_by("number").values_list("number", flat=True).iterator(CHUNK):
            self.examples += 1
            at = bisect_left(self._seen, number)
            if at == len(self._seen) or self._seen[at] != number:
                self.missing += 1
                self._note(number, INCOMPLETE.get(why.get(number, ""), usual))

    def lines(self, dataset: int) -> Iterator[bytes]:
        """JSON: the example's number, its row's own id, the file and line that it came from, and the reason."""
        self._listed.seek(0)
        files = dict(Import.objects.filter(dataset=dataset).values_list("version__number", "filename"))
        noted = map(msgspec.json.decode, self._listed)
        while chunk := list(islice(noted, CHUNK)):
            yield from _lines(chunk, dataset, files)

    def _note(self, number: int, reason: str) -> None:
        self.reasons.add(reason, None)
        self._listed.write(_encode([number, reason]) + b"\n")


def owned(selection: Selection) -> str:
    """What an example must have to be exported."""
    answers = selection.answers
    if selection.unpaired and answers in PAIR_POLICIES:
        return "an answer that counts as good or bad"
    if answers.startswith(COLUMN):
        return f"an answer of {answers.removeprefix(COLUMN)}"
    return OWNED.get(answers, "such an answer")


def asked_for(selection: Selection) -> QuerySet[Example]:
    """The examples that an export is about, with an answer or without."""
    found = selection.examples()
    if selection.split is None:
        return found
    parts = {"memberships__part": selection.part} if selection.part else {}
    return found.filter(memberships__split=selection.split, **parts)


def _lines(noted: Iterable[Any], dataset: int, files: dict[int, str]) -> Iterator[bytes]:
    reasons = list(noted)
    rows = Example.objects.filter(dataset=dataset, number__in={number for number, _ in reasons})
    known = {each.number: each for each in rows.only("number", "key", "line", "added_in")}
    for number, reason in reasons:
        example = known[number]
        line = {
            "example": number, "key": example.key, "file": files.get(example.added_in), "line": example.line,
            "reason": reason,
        }  # fmt: skip
        yield escape_separators_in_bytes(_encode(line)) + b"\n"
