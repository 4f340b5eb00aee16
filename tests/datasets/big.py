"""A run of 100,000 examples by 4 columns, made by PostgreSQL itself in half a minute, for plans and timings.

Texts are sentences of words as frequent as in real language: `w1` is in nearly every text, `w5000` in few; `only17` is
in example 17 and in no other. About half of the examples have answers that differ.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.models import User
from django.db import connection

from apps.accounts.models import Project
from apps.datasets.models import Column, Dataset, Judge, Run, Version

EXAMPLES = 100_000
COLUMNS = 4
SENTENCES = 3_000

# A vocabulary of 20,000 words with Zipf's frequencies: 20000 ^ random() is as often below n as log(n) says.
_POOL = """
CREATE TEMPORARY TABLE pool AS
SELECT n, (
    SELECT initcap(string_agg('w' || power(20000, random())::int, ' ')) || '. ' FROM generate_series(1, 12) WHERE n >= 0
) AS sentence
FROM generate_series(0, %(sentences)s - 1) n;
CREATE UNIQUE INDEX pool_n ON pool (n);
ANALYZE pool
"""

_EXAMPLES = """
INSERT INTO datasets_example (dataset_id, number, added_in, key, messages, prompt, reference, rejected, data,
    fingerprint, tags)
SELECT %(dataset)s, n, 1, '', json_build_array(json_build_object('role', 'user', 'content', prompt))::text, prompt, '',
    '', '', md5(prompt)::uuid,
    array_remove(ARRAY[CASE WHEN n %% 3 = 0 THEN 'common' END, CASE WHEN n %% 1009 = 0 THEN 'rare' END], NULL)
FROM (
    SELECT i AS n, p.sentence || q.sentence || 'only' || i AS prompt FROM generate_series(1, %(examples)s) i
    JOIN pool p ON p.n = i %% %(sentences)s JOIN pool q ON q.n = (i * 7 + i / 3000) %% %(sentences)s
) texts ORDER BY n
"""

_ITEMS = """
INSERT INTO datasets_item (run_id, example_id, number, answered, failed, differs, starred, rejected, edited, reviews)
SELECT %(run)s, id, number, 0, 0, false, false, false, false, 0 FROM datasets_example
WHERE dataset_id = %(dataset)s ORDER BY number
"""

# Column 0 answers; of the others, half say the same. One in a hundred fails, in one of the columns.
_ANSWERS = """
INSERT INTO datasets_answer (column_id, example_id, sample, text, error, finish_reason, input_tokens, output_tokens,
    latency_ms)
SELECT c.id, e.id, 0,
    CASE WHEN e.number %% 100 = 7 * c.position THEN '' ELSE (
        SELECT string_agg(sentence, '' ORDER BY s)
        FROM generate_series(1, 2 + (e.number * 31 + v) %% 7) s
        JOIN pool ON n = (e.number * 13 + s * 101 + v * 977 + e.number / 3000) %% %(sentences)s
    ) END,
    CASE WHEN e.number %% 100 = 7 * c.position THEN 'The engine took too long.' ELSE '' END, 'stop',
    40, 60 + e.number %% 50, 300 + e.number %% 900
FROM datasets_example e
JOIN datasets_column c ON c.run_id = %(run)s
JOIN LATERAL (SELECT CASE WHEN e.number %% 2 = 0 THEN 0 ELSE c.position END AS v) variant ON true
WHERE e.dataset_id = %(dataset)s ORDER BY e.number, c.position
"""

_REVIEWS = """
INSERT INTO datasets_star (example_id, answer_id, reviewer_id, shared)
SELECT a.example_id, a.id, %(ada)s, true FROM answers a WHERE a.number %% 20 = 1 AND a.position = 1;
INSERT INTO datasets_rating (answer_id, reviewer_id, value)
SELECT a.id, r.id, 1 + (a.number / 10 + a.position + r.id) %% 5 FROM answers a
JOIN (VALUES (%(ada)s), (%(ben)s)) r (id) ON true WHERE a.number %% 10 = 3 AND a.error = '';
INSERT INTO datasets_review (example_id, reviewer_id, state, note)
SELECT a.example_id, r.id, CASE WHEN a.number %% 50 = 1 THEN 'rejected' ELSE 'done' END, '' FROM answers a
JOIN (VALUES (%(ada)s), (%(ben)s)) r (id) ON true WHERE a.number %% 10 = 1 AND a.position = 0;
INSERT INTO datasets_preference (example_id, left_id, right_id, reviewer_id, verdict, blind)
SELECT a.example_id, a.id, b.id, %(ada)s, (ARRAY['left', 'right', 'tie', 'neither'])[1 + a.number / 20 %% 4], true
FROM answers a JOIN answers b USING (example_id)
WHERE a.number %% 20 = 5 AND a.position = 0 AND b.position = 1;
INSERT INTO datasets_answer (column_id, example_id, sample, text, error, finish_reason, input_tokens, output_tokens,
    latency_ms, edit_of_id, author_id)
SELECT a.column_id, a.example_id, 0, 'Better: w1 w2 w3.', '', '', 0, 0, 0, a.id, %(ada)s FROM answers a
WHERE a.number %% 200 = 9 AND a.position = 2;
INSERT INTO datasets_assignment (run_id, example_id, reviewer_id)
SELECT %(run)s, a.example_id, CASE WHEN a.number %% 2 = 0 THEN %(ada)s ELSE %(ben)s END FROM answers a
WHERE a.position = 0;
INSERT INTO datasets_judgement (judge_id, answer_id, score, reason)
SELECT %(judge)s, a.id, 1 + (a.number * 7 + a.position) %% 5, '' FROM answers a WHERE a.error = ''
"""

_ANSWERED = """
CREATE TEMPORARY TABLE answers AS
SELECT a.id, a.example_id, a.column_id, a.error, e.number, c.position FROM datasets_answer a
JOIN datasets_column c ON c.id = a.column_id JOIN datasets_example e ON e.id = a.example_id WHERE c.run_id = %(run)s
"""

# What `apps.datasets.items` would write, for all items at once.
_FACTS = """
UPDATE datasets_item i SET
    answered = f.answered, failed = f.failed, differs = f.texts > 1, shortest = f.shortest, longest = f.longest,
    edited = f.edited, judge_score = f.score,
    starred = i.number %% 20 = 1, rejected = i.number %% 50 = 1,
    reviews = CASE WHEN i.number %% 10 = 1 THEN 2 ELSE 0 END, rating = f.rating
FROM (
    SELECT a.example_id, count(DISTINCT a.column_id) FILTER (WHERE a.error = '') AS answered,
        count(*) FILTER (WHERE a.error <> '') AS failed,
        count(DISTINCT md5(a.text)) FILTER (WHERE a.error = '' AND a.edit_of_id IS NULL) AS texts,
        min(length(a.text)) FILTER (WHERE a.error = '') AS shortest,
        max(length(a.text)) FILTER (WHERE a.error = '') AS longest,
        bool_or(a.edit_of_id IS NOT NULL) AS edited, max(j.score) AS score, max(r.value) AS rating
    FROM datasets_answer a JOIN datasets_column c ON c.id = a.column_id
    LEFT JOIN datasets_judgement j ON j.answer_id = a.id
    LEFT JOIN (SELECT answer_id, max(value) AS value FROM datasets_rating GROUP BY 1) r ON r.answer_id = a.id
    WHERE c.run_id = %(run)s GROUP BY a.example_id
) f WHERE i.run_id = %(run)s AND i.example_id = f.example_id
"""

_COLUMNS = """
UPDATE datasets_column c SET answered = f.answered, failed = f.failed FROM (
    SELECT column_id, count(*) FILTER (WHERE error = '') AS answered, count(*) FILTER (WHERE error <> '') AS failed
    FROM answers GROUP BY 1
) f WHERE f.column_id = c.id
"""


def make_big_run(project: Project, *, ada: User, ben: User, examples: int = EXAMPLES, columns: int = COLUMNS) -> Run:
    """With stars, ratings, preferences, edits, scores and assignments of two reviewers.

    Outside of a transaction it also lets PostgreSQL gather its statistics, without which plans are guesses.
    """
    run = _make_run(project, examples, columns)
    judge = Judge.objects.create(project=project, run=run, model_name="judge", rubric="Is it right?")
    values = {
        "dataset": run.dataset_id, "run": run.pk, "judge": judge.pk, "ada": ada.pk, "ben": ben.pk,
        "examples": examples, "sentences": SENTENCES,
    }  # fmt: skip
    steps = ";\n".join((_POOL, _EXAMPLES, _ITEMS, _ANSWERS, _ANSWERED, _REVIEWS, _FACTS, _COLUMNS)).split(";\n")
    with connection.cursor() as cursor:
        cursor.execute("SELECT setseed(0.5)")
        with _indexed_afterwards("example_search", "answer_search"):
            for statement in steps:
                cursor.execute(statement, values)
        cursor.execute("DROP TABLE pool, answers")
        if not connection.in_atomic_block:
            cursor.execute("VACUUM ANALYZE")
    return run


def _make_run(project: Project, examples: int, columns: int) -> Run:
    dataset = Dataset.objects.create(project=project, name=f"big {examples}")
    version = Version.objects.create(dataset=dataset, number=1, examples=examples)
    run = Run.objects.create(project=project, dataset=dataset, version=version, name="big", items_total=examples)
    Column.objects.bulk_create(
        Column(run=run, position=position, label=f"model {position}", model_name=f"model-{position}")
        for position in range(columns)
    )
    return run


@contextmanager
def _indexed_afterwards(*names: str) -> Iterator[None]:
    """Full-text indexes are made three times as fast at once as row by row. Within a transaction they stay."""
    if connection.in_atomic_block:
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexname, indexdef FROM pg_indexes WHERE indexname = ANY(%s)", [list(names)])
        definitions = dict(cursor.fetchall())
        for name in definitions:
            cursor.execute(f"DROP INDEX {name}")
        yield
        cursor.execute("SET maintenance_work_mem = '512MB'")
        for definition in definitions.values():
            cursor.execute(definition)
        cursor.execute("RESET maintenance_work_mem")
