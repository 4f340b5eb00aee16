"""Which examples an export holds, and with which answer: one query, read row by row.

Not in charge of how rows are written (`formats`), nor of the job (`exporting`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from django.db.models import Exists, OuterRef, QuerySet

from apps.core.errors import DomainError
from apps.datasets.exports.examples import COLUMNS, SAYS, one_of_each_kind, row_of
from apps.datasets.exports.formats import FORMATS, USES, Kind, Row
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
LABEL_POLICIES = {
    "reference_labels": "The expected answers as good ones, the rejected ones that examples came with as bad ones",
}
COLUMN = "column:"

# Each gives example_id, text, label and perhaps rejected; `tie` orders the pairs of one example.
_STARRED = """
SELECT DISTINCT ON (a.example_id) a.example_id, a.id, a.text, c.label, c.run_id
FROM datasets_star s JOIN datasets_answer a ON a.id = s.answer_id JOIN datasets_column c ON c.id = a.column_id
JOIN datasets_run r ON r.id = c.run_id
WHERE r.dataset_id = %(dataset)s AND (%(run)s::bigint IS NULL OR r.id = %(run)s) AND a.error = ''
GROUP BY a.example_id, a.id, a.text, c.label, c.run_id ORDER BY a.example_id, count(*) DESC, min(s.id)
"""
_CHOICES = {
    "starred": f"SELECT example_id, text, '' AS rejected, label, 0 AS tie FROM ({_STARRED}) g",  # noqa: S608
    "best_rated": """
SELECT DISTINCT ON (a.example_id) a.example_id, a.text, '' AS rejected, c.label, 0 AS tie
FROM datasets_rating v JOIN datasets_answer a ON a.id = v.answer_id JOIN datasets_column c ON c.id = a.column_id
JOIN datasets_run r ON r.id = c.run_id
WHERE r.dataset_id = %(dataset)s AND (%(run)s::bigint IS NULL OR r.id = %(run)s) AND a.error = ''
GROUP BY a.example_id, a.id, a.text, c.label ORDER BY a.example_id, avg(v.value) DESC, count(*) DESC, a.id
""",
    "reference": """
SELECT id AS example_id, reference AS text, '' AS rejected, 'reference' AS label, 0 AS tie
FROM datasets_example WHERE dataset_id = %(dataset)s
""",
    COLUMN: """
SELECT DISTINCT ON (a.example_id) a.example_id, a.text, '' AS rejected, c.label, 0 AS tie
FROM datasets_answer a JOIN datasets_column c ON c.id = a.column_id
WHERE c.run_id = %(run)s AND c.label = %(label)s AND a.error = '' AND a.edit_of_id IS NULL
ORDER BY a.example_id, c.position, a.sample
""",
    "preferences": """
SELECT v.example_id, CASE WHEN v.wins > v.losses THEN l.text ELSE r.text END AS text,
    CASE WHEN v.wins > v.losses THEN r.text ELSE l.text END AS rejected,
    CASE WHEN v.wins > v.losses THEN lc.label ELSE rc.label END AS label,
    row_number() OVER (PARTITION BY v.example_id ORDER BY v.left_id, v.right_id) AS tie
FROM (
    SELECT example_id, left_id, right_id, count(*) FILTER (WHERE verdict = 'left') AS wins,
        count(*) FILTER (WHERE verdict = 'right') AS losses,
        count(*) FILTER (WHERE verdict IN ('tie', 'neither')) AS ties
    FROM datasets_preference GROUP BY example_id, left_id, right_id
) v JOIN datasets_answer l ON l.id = v.left_id JOIN datasets_answer r ON r.id = v.right_id
JOIN datasets_column lc ON lc.id = l.column_id JOIN datasets_column rc ON rc.id = r.column_id
JOIN datasets_run u ON u.id = lc.run_id
WHERE v.wins <> v.losses AND greatest(v.wins, v.losses) > v.ties AND l.error = '' AND r.error = ''
    AND u.dataset_id = %(dataset)s AND (%(run)s::bigint IS NULL OR u.id = %(run)s)
""",
    "starred_pairs": f"""
SELECT g.example_id, g.text, o.text AS rejected, g.label,
    row_number() OVER (PARTITION BY g.example_id ORDER BY o.position, o.sample) AS tie
FROM ({_STARRED}) g JOIN LATERAL (
    SELECT DISTINCT ON (md5(a.text)) a.text, c.position, a.sample
    FROM datasets_answer a JOIN datasets_column c ON c.id = a.column_id
    WHERE a.example_id = g.example_id AND c.run_id = g.run_id AND a.error = '' AND a.edit_of_id IS NULL
    ORDER BY md5(a.text), c.position, a.sample
) o ON true
""",  # noqa: S608 - no value is in it
    "reference_pairs": """
SELECT id AS example_id, reference AS text, rejected, 'reference' AS label, 0 AS tie
FROM datasets_example WHERE dataset_id = %(dataset)s
""",
}

_CHOICES["reference_labels"] = _CHOICES["reference_pairs"]

# The better and the worse answers of pairs as rows of their own, each once.
_UNPAIRED = """
SELECT * FROM (
    SELECT DISTINCT ON (example_id, md5(text)) example_id, text, '' AS rejected, label, 2 * tie AS tie
    FROM ({choice}) good WHERE text ~ '\\S' ORDER BY example_id, md5(text), tie
) once UNION ALL SELECT * FROM (
    SELECT DISTINCT ON (example_id, md5(rejected)) example_id, '' AS text, rejected, label, 2 * tie + 1 AS tie
    FROM ({choice}) bad WHERE rejected ~ '\\S'{differ} ORDER BY example_id, md5(rejected), tie
) once
"""
_JOINS = """) chosen JOIN datasets_example e ON e.id = chosen.example_id
LEFT JOIN datasets_member m ON m.example_id = e.id AND m.split_id = %(split)s
WHERE e.id IN ("""
_END = ")"
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
        sides = "e.reference_messages, e.rejected_messages" if self._of_examples else "'', ''"
        return f"{COLUMNS}, {sides}"

    def _says(self, use: str) -> str:
        sides = " || e.reference_messages || e.rejected_messages" if self._of_examples else ""
        return SAYS[use].format(messages=f"(e.messages{sides})")

    def _sql(self, connection: psycopg.Connection[Any], columns: str, only: str = "") -> Any:
        """Complete, with its values in it: the conditions of filters come from the ORM as text and values."""
        client = psycopg.ClientCursor(connection)
        choice = _CHOICES[COLUMN if self.answers.startswith(COLUMN) else self.answers]
        more = "" if self.unpaired else _TEXTS
        if self.unpaired:
            differ = "" if self._of_examples else " AND rejected <> text"
            choice = _UNPAIRED.format(choice=choice, differ=differ)
        if self.pairs:
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
        unpaired=is_unpaired(export.format, spec["answers"]),
    )


def is_unpaired(format: str, answers: str) -> bool:  # noqa: A002 - the field's own word
    """Whether the answers of pairs are rows of their own in a file of this format."""
    return answers in LABEL_POLICIES or (answers in PAIR_POLICIES and not FORMATS[format].pairs)
