"""A hundred thousand examples are exported in seconds, with flat memory."""

import os
import threading
import time

import psutil
import pytest
from django.db import connection

from apps.accounts.models import Project
from apps.datasets.exports.services import start_export
from apps.datasets.models import Export, Run
from tests.datasets.cast import make_reviewer, make_run, make_version
from tests.datasets.exports import drive

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = 100_000
SECONDS = 20.0
GROWN_MB = 100

EXAMPLES = """
INSERT INTO datasets_example (dataset_id, number, added_in, key, messages, prompt, reference, rejected, data,
    fingerprint, tags)
SELECT %(dataset)s, n, 1, '', json_build_array(json_build_object('role', 'user', 'content', p))::text, p, '', '', '',
    gen_random_uuid(), '{}'
FROM (SELECT n, repeat('What is ' || n || '? ', 20) AS p FROM generate_series(4, %(rows)s) n) q
"""
ITEMS = """
INSERT INTO datasets_item (run_id, example_id, number, answered, failed, differs, starred, rejected, edited, reviews)
SELECT %(run)s, id, number, 2, 0, true, true, false, false, 0 FROM datasets_example
WHERE dataset_id = %(dataset)s AND number > 3
"""
ANSWERS = """
INSERT INTO datasets_answer (column_id, example_id, sample, text, error, finish_reason, input_tokens, output_tokens,
    latency_ms)
SELECT c.id, e.id, 0, repeat(c.label || ' says ' || e.number || '. ', 30), '', 'stop', 10, 10, 10
FROM datasets_example e, datasets_column c
WHERE e.dataset_id = %(dataset)s AND e.number > 3 AND c.run_id = %(run)s
"""
STARS = """
INSERT INTO datasets_star (example_id, answer_id, reviewer_id, shared)
SELECT a.example_id, a.id, %(mia)s, true FROM datasets_answer a JOIN datasets_column c ON c.id = a.column_id
WHERE c.run_id = %(run)s AND c.position = 1 AND a.example_id IN (SELECT id FROM datasets_example)
"""


def large_run(project: Project) -> Run:
    """All but the first three rows are made in the database."""
    run = make_run(make_version(project), {"small": ["a", "b", "c"], "large": ["A", "B", "C"]})
    values = {"dataset": run.dataset_id, "run": run.pk, "rows": ROWS, "mia": make_reviewer(project).pk}
    with connection.cursor() as cursor:
        for sql in (EXAMPLES, ITEMS, ANSWERS, STARS):
            cursor.execute(sql, values)
        cursor.execute("UPDATE datasets_item SET starred = true")
        cursor.execute("ANALYZE")
    return run


def measured(run: Run, chosen: str, answers: str) -> tuple[Export, float, float]:
    """The export, its seconds, and by how many megabytes the process grew at most while it went on."""
    process, peak = psutil.Process(os.getpid()), 0
    export = start_export(dataset=run.dataset, format=chosen, run=run, answers=answers)
    before, started, ended = process.memory_info().rss, time.monotonic(), threading.Event()

    def look() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=look)
    watcher.start()
    drive(export, seconds=3 * SECONDS)
    ended.set()
    watcher.join()
    assert export.status == Export.Status.COMPLETED, export.message
    return export, time.monotonic() - started, (peak - before) / 1e6


def test_it_works(project: Project) -> None:
    run = large_run(project)
    for chosen in ("chat", "huggingface"):
        export, seconds, grown = measured(run, chosen, "starred")
        assert export.rows == ROWS
        assert seconds <= SECONDS, (chosen, seconds)
        assert grown <= GROWN_MB, (chosen, grown)
