"""Which examples an export holds, and with which answer: one query, read row by row.

Not in charge of how rows are written (`formats`), nor of the job (`exporting`).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg
from django.db.models import Exists, OuterRef, QuerySet

from apps.core.errors import DomainError
from apps.datasets.exports.formats import Row
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

# The row as it came is read only where it may hold tools.
_COLUMNS = """
e.number, e.messages, chosen.text, chosen.rejected, chosen.label, coalesce(m.part, 'train'), e.key, e.tags,
CASE WHEN e.data LIKE '%%"tools"%%' THEN e.data ELSE '' END
"""
_JOINS = """) chosen JOIN datasets_example e ON e.id = chosen.example_id
LEFT JOIN datasets_member m ON m.example_id = e.id AND m.split_id = %(split)s
WHERE e.id IN ("""
_TEXTS = r") AND chosen.text ~ '\S'"
_SPLIT = " AND m.part IS NOT NULL AND (%(part)s = '' OR m.part = %(part)s)"
_PAIR = r" AND chosen.rejected ~ '\S' AND chosen.rejected <> chosen.text"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    version: Version
    run: Run | None
    filters: Filters
    split: Split | None
    part: str
    """Of the split; empty: all of them, each row with its own."""
    answers: str
    """One of POLICIES or PAIR_POLICIES, or "column:" with the label of one."""

    @property
    def pairs(self) -> bool:
        return self.answers in PAIR_POLICIES

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

    def rows(self, connection: psycopg.Connection[Any]) -> Iterator[Row]:
        """By number, a bounded number of them in memory. The connection must not autocommit."""
        with connection.cursor(name="export") as cursor:
            cursor.itersize = FETCH
            cursor.execute(self._sql(connection, _COLUMNS) + " ORDER BY e.number, chosen.tie")
            for row in cursor:
                yield _row(row)
        connection.rollback()  # or it would be idle in a transaction for as long as the last rows are written

    def _sql(self, connection: psycopg.Connection[Any], columns: str) -> Any:
        """Complete, with its values in it: the conditions of filters come from the ORM as text and values."""
        client = psycopg.ClientCursor(connection)
        choice = _CHOICES[COLUMN if self.answers.startswith(COLUMN) else self.answers]
        more = (_SPLIT if self.split else "") + (_PAIR if self.pairs else "")
        values = {
            "dataset": self.version.dataset_id,
            "run": self.run and self.run.pk,
            "split": self.split and self.split.pk,
            "part": self.part,
            "label": self.answers.removeprefix(COLUMN),
        }
        before = f"SELECT {columns} FROM ({choice}{_JOINS}"  # noqa: S608 - no value is in it
        ours = [client.mogrify(piece, values) for piece in (before, _TEXTS + more)]
        examples = self.examples().order_by().values("pk").query.sql_with_params()
        return client.mogrify(*examples).join(ours)


def _row(values: tuple[Any, ...]) -> Row:
    number, messages, text, rejected, label, part, key, tags, data = values
    return Row(
        number=number, messages=decoded(messages), answer=text, rejected=rejected, source=label, part=part, key=key,
        tags=tags, tools=tools_in(decoded(data)) if data else None,
    )  # fmt: skip


def decoded(text: str) -> Any:
    """JSON that may hold half of a surrogate pair, which no UTF-8 has: a question mark takes its place."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace"))


def tools_in(data: Any) -> list[Any] | None:
    """Of a row as it came: a chat row, or a line of a batch."""
    body = data.get("body", data) if isinstance(data, dict) else {}
    tools = body.get("tools") if isinstance(body, dict) else None
    return tools if isinstance(tools, list) and tools else None


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
    )
