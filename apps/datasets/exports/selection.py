"""Which examples an export holds, and with which answer: one query, read row by row.

Not in charge of how rows are written (`formats`), nor of the job (`exporting`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db.models import Exists, OuterRef, QuerySet

from apps.core.errors import DomainError
from apps.datasets.exports.examples import COLUMNS, SAYS, messages_of, one_of_each_kind, row_of, said_of
from apps.datasets.exports.formats import FORMATS, USES, Kind, Row
from apps.datasets.items import incomplete_of
from apps.datasets.models import Example, Export, Item, Review, Run, Split, Version
from apps.datasets.reviews.filters import Filters

FETCH = 500  # rows in memory at a time

POLICIES = {
    "starred": "The gold star; of several, the one that most reviewers gave, then the earliest",
    "best_rated": "The best rating: the highest mean, then the most ratings, then the earliest answer",
    "reference": "The expected answer that the example came with",
}
PAIR_POLICIES = {
    "preferences": "What most reviewers preferred of two; ties are left out",
    "starred_pairs": "The gold star against every other answer of the run that differs",
    "reference_pairs": "The expected answer against the rejected one that the example came with",
}
ANSWERED_BY_LABEL = ("thumbs",)
"""Whose rows are no sides of pairs."""
LABEL_POLICIES = {
    "thumbs": "Answers with a thumb: up by most reviewers is a good one, down a bad one; ties are left out",
    "reference_labels": "The expected answers as good ones, the rejected ones that examples came with as bad ones",
}
COLUMN = "column:"
TIE = "tie"
LEAVE_OUT, INCLUDE = "leave_out", "include"
"""What becomes of answers that are blank, cut off, filtered or refused. Blank ones have nothing to write."""

# Each gives example_id, text and rejected, which are compared and empty for no answer; better and worse, the messages
# of both sides where the text does not say all; label; incomplete, the code of what should not be learned as it is; and
# tie, which orders the rows of one example.
_STARRED = """
SELECT DISTINCT ON (a.example_id) a.example_id, a.id, c.label, c.run_id
FROM datasets_star s JOIN datasets_answer a ON a.id = s.answer_id JOIN datasets_column c ON c.id = a.column_id
JOIN datasets_run r ON r.id = c.run_id
WHERE r.dataset_id = %(dataset)s AND (%(run)s::bigint IS NULL OR r.id = %(run)s) AND a.error = ''
GROUP BY a.example_id, a.id, c.label, c.run_id ORDER BY a.example_id, count(*) DESC, min(s.id)
"""
_CHOICES = {
    "starred": """
SELECT g.example_id, <said a> AS text, '' AS rejected, <messages a> AS better, '' AS worse, g.label,
    <blank a> AS incomplete, 0 AS tie
FROM (<starred>) g JOIN datasets_answer a ON a.id = g.id
""",
    "best_rated": """
SELECT DISTINCT ON (a.example_id) a.example_id, <said a> AS text, '' AS rejected, <messages a> AS better,
    '' AS worse, c.label, <incomplete a> AS incomplete, 0 AS tie
FROM datasets_rating v JOIN datasets_answer a ON a.id = v.answer_id JOIN datasets_column c ON c.id = a.column_id
JOIN datasets_run r ON r.id = c.run_id
WHERE r.dataset_id = %(dataset)s AND (%(run)s::bigint IS NULL OR r.id = %(run)s) AND a.error = ''
GROUP BY a.example_id, a.id, c.label ORDER BY a.example_id, avg(v.value) DESC, count(*) DESC, a.id
""",
    "reference": """
SELECT id AS example_id, reference AS text, '' AS rejected, reference_messages AS better, '' AS worse,
    'reference' AS label, '' AS incomplete, 0 AS tie
FROM datasets_example WHERE dataset_id = %(dataset)s
""",
    COLUMN: """
SELECT DISTINCT ON (a.example_id) a.example_id, <said a> AS text, '' AS rejected, <messages a> AS better,
    '' AS worse, c.label, <incomplete a> AS incomplete, 0 AS tie
FROM datasets_answer a JOIN datasets_column c ON c.id = a.column_id
WHERE c.run_id = %(run)s AND c.label = %(label)s AND a.error = '' AND a.edit_of_id IS NULL
ORDER BY a.example_id, c.position, a.sample
""",
    "preferences": """
SELECT v.example_id, <said g> AS text, <said b> AS rejected, <messages g> AS better,
    <messages b> AS worse, gc.label, <incomplete g> AS incomplete,
    row_number() OVER (PARTITION BY v.example_id ORDER BY v.left_id, v.right_id) AS tie
FROM (
    SELECT example_id, left_id, right_id, count(*) FILTER (WHERE verdict = 'left') AS wins,
        count(*) FILTER (WHERE verdict = 'right') AS losses,
        count(*) FILTER (WHERE verdict IN ('tie', 'neither')) AS ties
    FROM datasets_preference GROUP BY example_id, left_id, right_id
) v JOIN datasets_answer g ON g.id = CASE WHEN v.wins > v.losses THEN v.left_id ELSE v.right_id END
JOIN datasets_answer b ON b.id = CASE WHEN v.wins > v.losses THEN v.right_id ELSE v.left_id END
JOIN datasets_column gc ON gc.id = g.column_id JOIN datasets_run u ON u.id = gc.run_id
WHERE v.wins <> v.losses AND greatest(v.wins, v.losses) > v.ties AND g.error = '' AND b.error = ''
    AND u.dataset_id = %(dataset)s AND (%(run)s::bigint IS NULL OR u.id = %(run)s)
""",
    "starred_pairs": """
SELECT g.example_id, <said a> AS text, o.text AS rejected, <messages a> AS better, o.worse, g.label,
    <blank a> AS incomplete,
    row_number() OVER (PARTITION BY g.example_id ORDER BY o.position, o.sample) AS tie
FROM (<starred>) g JOIN datasets_answer a ON a.id = g.id JOIN LATERAL (
    SELECT DISTINCT ON (md5(<said x>)) <said x> AS text, <messages x> AS worse, c.position, x.sample
    FROM datasets_answer x JOIN datasets_column c ON c.id = x.column_id
    WHERE x.example_id = g.example_id AND c.run_id = g.run_id AND x.error = '' AND x.edit_of_id IS NULL
    ORDER BY md5(<said x>), c.position, x.sample
) o ON true
""",
    "reference_pairs": """
SELECT id AS example_id, reference AS text, rejected, reference_messages AS better, rejected_messages AS worse,
    'reference' AS label, '' AS incomplete, 0 AS tie
FROM datasets_example WHERE dataset_id = %(dataset)s
""",
    "thumbs": """
SELECT a.example_id, CASE WHEN t.up > t.down THEN <said a> ELSE '' END AS text,
    CASE WHEN t.up > t.down THEN '' ELSE <said a> END AS rejected,
    CASE WHEN t.up > t.down THEN <messages a> ELSE '' END AS better,
    CASE WHEN t.up > t.down THEN '' ELSE <messages a> END AS worse, c.label,
    CASE WHEN t.up = t.down THEN 'tie' ELSE <blank a> END AS incomplete,
    row_number() OVER (PARTITION BY a.example_id ORDER BY a.id) AS tie
FROM (
    SELECT answer_id, count(*) FILTER (WHERE verdict = 'up') AS up, count(*) FILTER (WHERE verdict = 'down') AS down
    FROM datasets_thumb GROUP BY answer_id
) t JOIN datasets_answer a ON a.id = t.answer_id JOIN datasets_column c ON c.id = a.column_id
JOIN datasets_run r ON r.id = c.run_id
WHERE r.dataset_id = %(dataset)s AND (%(run)s::bigint IS NULL OR r.id = %(run)s) AND a.error = ''
""",
}

_CHOICES["reference_labels"] = _CHOICES["reference_pairs"]


def _blank_of(answer: str) -> str:
    """As `incomplete_of`, where a star or a thumb was given: whoever gave it was asked, and blank is blank."""
    return f"CASE WHEN {said_of(answer)} ~ '\\S' THEN '' ELSE 'blank' END"


_PARTS = {"said": said_of, "messages": messages_of, "incomplete": incomplete_of, "blank": _blank_of}


def _filled(choice: str) -> str:
    """With what stands for `<starred>`, and for `<said a>` and the like: a part, and the answer that it is of."""
    return re.sub(r"<(\w+) (\w+)>", lambda found: _PARTS[found[1]](found[2]), choice.replace("<starred>", _STARRED))


# The better and the worse answers of pairs as rows of their own, each once.
_UNPAIRED = """
SELECT * FROM (
    SELECT DISTINCT ON (example_id, md5(text)) example_id, text, '' AS rejected, better, '' AS worse, label, incomplete,
        2 * tie AS tie
    FROM ({choice}) good WHERE text ~ '\\S' ORDER BY example_id, md5(text), tie
) once UNION ALL SELECT * FROM (
    SELECT DISTINCT ON (example_id, md5(rejected)) example_id, '' AS text, rejected, '' AS better, worse, label,
        '' AS incomplete, 2 * tie + 1 AS tie
    FROM ({choice}) bad WHERE rejected ~ '\\S'{differ} ORDER BY example_id, md5(rejected), tie
) once
"""
_JOINS = """) chosen JOIN datasets_example e ON e.id = chosen.example_id
LEFT JOIN datasets_member m ON m.example_id = e.id AND m.split_id = %(split)s
WHERE e.id IN ("""
_END = ")"
_WHOLE = "chosen.incomplete = ''"
_INCOMPLETE = "chosen.incomplete NOT IN ('blank', 'tie')"
_TEXTS = r" AND chosen.text ~ '\S'"
_SPLIT = " AND m.part IS NOT NULL AND (%(part)s = '' OR m.part = %(part)s)"
_PAIR = r" AND chosen.rejected ~ '\S' AND {differ}"
_DIFFER = "chosen.rejected <> chosen.text"
_SIDES_DIFFER = f"(e.reference_messages <> e.rejected_messages OR {_DIFFER})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    version: Version
    run: Run | None
    filters: Filters
    split: Split | None
    part: str
    """Of the split; empty: all of them, each row with its own."""
    answers: str
    """One of POLICIES, PAIR_POLICIES or LABEL_POLICIES, or "column:" with the label of one."""
    unpaired: bool = False
    """The answers of pairs are rows of their own."""
    incomplete: bool = False
    """With answers that are blank, cut off, filtered or refused, where nobody who chose them was asked."""

    @property
    def kind(self) -> Kind:
        if self.unpaired:
            return Kind.LABELS
        return Kind.PAIRS if self.answers in PAIR_POLICIES else Kind.ANSWERS

    @property
    def pairs(self) -> bool:
        return self.kind == Kind.PAIRS

    def examples(self) -> QuerySet[Example]:
        """Those that may be in it, rejected ones left out. Raises `DomainError` for filters that make no sense."""
        if self.run is None:
            rejected = Review.objects.filter(example=OuterRef("pk"), state=Review.State.REJECTED)
            return Example.objects.of_version(self.version).filter(~Exists(rejected))
        wanted = self.filters.apply(Item.objects.all(), run=self.run).filter(rejected=False)
        return Example.objects.filter(pk__in=wanted.order_by().values("example"))

    def count(self, connection: psycopg.Connection[Any]) -> int:
        with connection.cursor() as cursor:
            cursor.execute(self._sql(connection, "count(*)"))
            (rows,) = cursor.fetchone() or (0,)
        return int(rows)

    def left_out(self, connection: psycopg.Connection[Any]) -> dict[str, int]:
        """Chosen answers that are not among the rows: code of `incomplete`, or `TIE` -> how many."""
        with connection.cursor() as cursor:
            grouped = self._sql(connection, "chosen.incomplete, count(*)", whole=False)
            cursor.execute(f"{grouped} GROUP BY 1 ORDER BY 1")
            return {code: int(rows) for code, rows in cursor.fetchall()}

    def reasons(self, connection: psycopg.Connection[Any]) -> dict[int, str]:
        """Numbers of the examples of these answers -> why, one for each."""
        with connection.cursor() as cursor:
            cursor.execute(self._sql(connection, "e.number, chosen.incomplete", whole=False))
            return dict(cursor.fetchall())

    def look(self, connection: psycopg.Connection[Any]) -> tuple[int, frozenset[str]]:
        """How many rows there are, and which of `USES` some of them have."""
        with connection.cursor() as cursor:
            each = ", ".join(f"coalesce(bool_or({self._says(name)}), false)" for name in USES)
            cursor.execute(self._sql(connection, f"count(*), {each}"))
            rows, *found = cursor.fetchone() or (0,)
        return int(rows), frozenset(name for name, used in zip(USES, found, strict=False) if used)

    def rows(self, connection: psycopg.Connection[Any]) -> Iterator[Row]:
        """By number, a bounded number of them in memory. The connection must not autocommit."""
        yield from map(row_of, self._read(connection))
        connection.rollback()  # or it would be idle in a transaction for as long as the last rows are written

    def special_rows(self, connection: psycopg.Connection[Any], uses: frozenset[str]) -> Iterator[Row]:
        """Of the rows that have one of these, one of each kind at least, by number."""
        only = f" AND ({' OR '.join(map(self._says, sorted(uses)))})"
        yield from one_of_each_kind(self._read(connection, only))

    def _read(self, connection: psycopg.Connection[Any], only: str = "") -> Iterator[tuple[Any, ...]]:
        with connection.cursor(name="export_special" if only else "export") as cursor:
            cursor.itersize = FETCH
            cursor.execute(self._sql(connection, self._columns, only) + " ORDER BY e.number, chosen.tie")
            yield from cursor

    @property
    def _of_examples(self) -> bool:
        """The answers are what the examples came with."""
        return self.answers.startswith("reference")

    @property
    def _columns(self) -> str:
        return f"{COLUMNS}, chosen.better, chosen.worse"

    def _says(self, use: str) -> str:
        return SAYS[use].format(messages="(e.messages || chosen.better || chosen.worse)")

    def _sql(self, connection: psycopg.Connection[Any], columns: str, only: str = "", *, whole: bool = True) -> Any:
        """Complete, with its values in it: the conditions of filters come from the ORM as text and values."""
        client = psycopg.ClientCursor(connection)
        choice = _filled(_CHOICES[COLUMN if self.answers.startswith(COLUMN) else self.answers])
        kept = _INCOMPLETE if self.incomplete else _WHOLE
        more = f" AND {kept}" if whole else f" AND NOT ({kept})"
        if whole and not self.unpaired:
            more += _TEXTS
        if self.unpaired and self.answers not in ANSWERED_BY_LABEL:
            differ = "" if self._of_examples else " AND rejected <> text"
            choice = _UNPAIRED.format(choice=choice, differ=differ)
        if self.pairs and whole:
            more += _PAIR.format(differ=_SIDES_DIFFER if self._of_examples else _DIFFER)
        more += (_SPLIT if self.split else "") + only
        values = {
            "dataset": self.version.dataset_id,
            "run": self.run and self.run.pk,
            "split": self.split and self.split.pk,
            "part": self.part,
            "label": self.answers.removeprefix(COLUMN),
        }
        before = f"SELECT {columns} FROM ({choice}{_JOINS}"  # noqa: S608 - no value is in it
        ours = [client.mogrify(piece, values) for piece in (before, _END + more)]
        examples = self.examples().order_by().values("pk").query.sql_with_params()
        return client.mogrify(*examples).join(ours)


def selection_of(export: Export) -> Selection:
    """What the export's row asks for. Raises `DomainError` when something of it is gone."""
    spec = export.spec
    run_gone = export.run is None and spec.get("run")
    version = Version.objects.filter(dataset=export.dataset_id, number=spec["version"]).first()
    split = Split.objects.filter(uid=spec["split"]).first() if spec.get("split") else None
    if run_gone or version is None or (spec.get("split") and split is None):
        raise DomainError("The run, version or split of this export was deleted meanwhile: start another export.")
    return Selection(
        version=version,
        run=export.run,
        filters=Filters.parse(spec.get("filters", {})),
        split=split,
        part=spec.get("part", ""),
        answers=spec["answers"],
        incomplete=spec.get("incomplete", "") == INCLUDE,
        unpaired=is_unpaired(export.format, spec["answers"]),
    )


def is_unpaired(format: str, answers: str) -> bool:  # noqa: A002 - the field's own word
    """Whether the answers of pairs are rows of their own in a file of this format."""
    return answers in LABEL_POLICIES or (answers in PAIR_POLICIES and not FORMATS[format].pairs)
