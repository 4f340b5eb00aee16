"""Thousands of requests that nobody would write, from the schema of datasets, runs, reviews and exports."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.fuzzer import DATASETS, ENDLESS, assert_it_got_past_the_first_look, assert_it_works, fuzz
from tests.conformance.lines import CHAT_MODEL, chats
from tests.conformance.site import Site

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]
CASES = 800
EXAMPLES = 10  # for each operation, in each of two phases
USED = {
    "path.dataset_id": "datasets", "path.run_id": "runs", "path.answer_id": "left", "path.number": "numbers",
    "path.export_id": "exports", "path.judge_id": "judges", "path.search_id": "searches", "path.import_id": "imports",
    "body.dataset": "datasets", "body.run": "runs", "body.left": "left", "body.right": "right", "body.model": "chat",
    "body.file_id": "files",
}  # fmt: skip
GONE = ("delete_dataset", "delete_run")  # after which nothing would be there for the others
TOGETHER = {  # lists, and things that belong together: the fuzzer cannot be told
    "POST /v1/exports",
    "POST /v1/runs",
    "POST /v1/runs/estimate",
    "POST /v1/runs/{run_id}/assignments",
    "POST /v1/datasets/{dataset_id}/examples/remove",
}
OPEN = ("validating", "in_progress")


@pytest.fixture(scope="module")
def report(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    made = site.stack.manage("shell", "-v", "0", "-c", "from tests.conformance.dataset_cast import main; main()")
    assert made.returncode == 0, made.stderr
    known = json.loads(made.stdout) | {
        "chat": [CHAT_MODEL],
        "files": [site.upload(chats("one", "two")).id for _ in range(3)],
    }  # fmt: skip
    only = ["--include-path-regex", DATASETS, "--exclude-path-regex", f"{ENDLESS}$"]
    only += [part for name in GONE for part in ("--exclude-operation-id", name)]
    try:
        yield fuzz(site, tmp_path_factory.mktemp("fuzz"), known=known, used=USED, examples=EXAMPLES, only=only)
    finally:
        site.sql(
            "UPDATE batches_batch SET status = 'cancelling', cancelling_at = now() WHERE status = ANY(%s)", list(OPEN)
        )
        site.wait_until_idle()


def test_it_works(report: dict[str, Any]) -> None:
    assert_it_works(report, cases=CASES)


def test_the_fuzzer_got_past_the_first_look(report: dict[str, Any]) -> None:
    assert_it_got_past_the_first_look(report, but_for=TOGETHER)
