"""Keeps what the filters of a matrix ask for beside each item, so that no filter has to read answers or reviews.

Call these within the transaction that changed them; each is one statement, whatever the number of examples.
"""

from collections.abc import Sequence
from typing import Any

from django.db import connection

from apps.batches.answers import CUT_OFF, FILTERED

_INCOMPLETE = rf"""
CASE WHEN a.error <> '' THEN '' WHEN a.refusal <> '' THEN 'refused'
    WHEN lower(a.finish_reason) = '{FILTERED}' THEN '{FILTERED}'
    WHEN a.tool_calls = '' AND a.text !~ '\S' THEN 'blank'
    WHEN lower(a.finish_reason) IN ({", ".join(f"'{reason}'" for reason in CUT_OFF)}) THEN 'cut_off' ELSE '' END
"""
_CALLS = """regexp_replace(a.tool_calls, '"id":"[^"]*"', '', 'g')"""


def incomplete_of(answer: str) -> str:
    """SQL: the code of `apps.batches.answers.incomplete`; "" for a whole answer, and for one that failed."""
    return _INCOMPLETE.replace("a.", f"{answer}.")


def calls_of(answer: str) -> str:
    """SQL: its calls without their ids, which are random."""
    return _CALLS.replace("a.", f"{answer}.")


def _filled(sql: str) -> str:
    return sql.replace("<incomplete>", incomplete_of("a")).replace("<calls>", calls_of("a"))


# Items are found by their example, hence each + 0: of a run that was just started the planner knows nothing, and would
# read all of its items for each example.
_ANSWERS = _filled("""
UPDATE datasets_item i SET answered = f.answered, failed = f.failed, incomplete = f.incomplete, differs = f.texts > 1,
    shortest = f.shortest, longest = f.longest, edited = f.edited
FROM (
    SELECT a.example_id,
        count(DISTINCT a.column_id) FILTER (WHERE a.error = '') AS answered,
        count(DISTINCT a.column_id) FILTER (WHERE a.error <> '') AS failed,
        count(DISTINCT a.column_id) FILTER (WHERE a.edit_of_id IS NULL AND <incomplete> <> '') AS incomplete,
        count(DISTINCT md5(a.text || <calls>)) FILTER (WHERE a.error = '' AND a.sample = 0 AND a.edit_of_id IS NULL)
            AS texts,
        min(length(a.text)) FILTER (WHERE a.error = '') AS shortest,
        max(length(a.text)) FILTER (WHERE a.error = '') AS longest,
        bool_or(a.edit_of_id IS NOT NULL) AS edited
    FROM datasets_answer a JOIN datasets_column c ON c.id = a.column_id
    WHERE c.run_id = %(run)s AND a.example_id = ANY(%(examples)s)
    GROUP BY a.example_id
) f WHERE i.run_id + 0 = %(run)s AND i.example_id = f.example_id
""")

_COLUMNS = _filled("""
UPDATE datasets_column c SET answered = f.answered, failed = f.failed, incomplete = f.incomplete, blank = f.blank
FROM (
    SELECT c.id,
        count(DISTINCT a.example_id) FILTER (WHERE a.error = '') AS answered,
        count(DISTINCT a.example_id) FILTER (WHERE a.error <> '') AS failed,
        count(*) FILTER (WHERE a.sample = 0 AND <incomplete> <> '') AS incomplete,
        count(*) FILTER (WHERE a.sample = 0 AND <incomplete> = 'blank') AS blank
    FROM datasets_column c LEFT JOIN datasets_answer a ON a.column_id = c.id AND a.edit_of_id IS NULL
    WHERE c.id = ANY(%(columns)s) GROUP BY c.id
) f WHERE c.id = f.id
""")

_REVIEWS = """
UPDATE datasets_item i SET
    starred = EXISTS (SELECT FROM datasets_star s WHERE s.example_id = i.example_id),
    rejected = EXISTS (SELECT FROM datasets_review r WHERE r.example_id = i.example_id AND r.state = 'rejected'),
    reviews = (SELECT count(*) FROM datasets_review r WHERE r.example_id = i.example_id AND r.state <> 'open'),
    rating = (
        SELECT max(r.value) FROM datasets_rating r JOIN datasets_answer a ON a.id = r.answer_id
        JOIN datasets_column c ON c.id = a.column_id WHERE a.example_id = i.example_id AND c.run_id = i.run_id
    ),
    (thumbs_up, thumbs_down) = (
        SELECT count(*) FILTER (WHERE t.verdict = 'up'), count(*) FILTER (WHERE t.verdict = 'down')
        FROM datasets_thumb t JOIN datasets_answer a ON a.id = t.answer_id JOIN datasets_column c ON c.id = a.column_id
        WHERE a.example_id = i.example_id AND c.run_id = i.run_id
    )
WHERE i.example_id = ANY(%(examples)s)
"""

_SCORES = """
UPDATE datasets_item i SET judge_score = f.score
FROM (
    SELECT a.example_id, max(j.score) AS score FROM datasets_judgement j JOIN datasets_answer a ON a.id = j.answer_id
    WHERE j.judge_id = %(judge)s AND a.example_id = ANY(%(examples)s) GROUP BY a.example_id
) f WHERE i.run_id + 0 = %(run)s AND i.example_id = f.example_id
"""


def refresh_answers(run_id: int, example_ids: Sequence[int]) -> None:
    """After answers of these examples came, changed or were edited."""
    _execute(_ANSWERS, run=run_id, examples=list(example_ids))


def refresh_columns(column_ids: Sequence[int]) -> None:
    """Counts all answers of these columns: for the end of an import or of a batch; in between, add to the counts."""
    _execute(_COLUMNS, columns=list(column_ids))


def refresh_reviews(example_ids: Sequence[int]) -> None:
    """After somebody decided something about these examples, in whatever run."""
    _execute(_REVIEWS, examples=list(example_ids))


def refresh_scores(run_id: int, judge_id: int, example_ids: Sequence[int]) -> None:
    """After a judge scored answers of these examples."""
    _execute(_SCORES, run=run_id, judge=judge_id, examples=list(example_ids))


def _execute(sql: str, **values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
