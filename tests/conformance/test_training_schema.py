"""Hundreds of requests that nobody would write, from the schema of fine-tuning and deployments."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.fuzzer import TRAINING, assert_it_got_past_the_first_look, assert_it_works, fuzz
from tests.conformance.lines import CHAT_MODEL
from tests.conformance.site import Site

pytestmark = pytest.mark.live
CASES = 300
EXAMPLES = 5  # for each operation, in each of two phases
ENDLESS = "/progress$"
USED = {
    "path.job_id": "jobs", "path.deployment_id": "deployments", "body.model": "chat",
    "body.training_file": "training_files", "body.validation_file": "training_files", "body.checkpoint": "checkpoints",
    "body.dataset": "datasets", "query.after": "jobs",
}  # fmt: skip
TOGETHER = {  # things that belong together, or that would have to have happened before: the fuzzer cannot be told
    "POST /v1/deployments/{deployment_id}/rollback",
    "POST /v1/deployments/{deployment_id}/evaluate",
}
OPEN = ("validating_files", "queued", "running", "paused")
GOING = ("queued", "merging", "proving")


@pytest.fixture(scope="module")
def report(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    made = site.stack.manage("shell", "-v", "0", "-c", "from tests.conformance.training_cast import main; main()")
    assert made.returncode == 0, made.stderr
    known = json.loads(made.stdout) | {"chat": [CHAT_MODEL]}
    only = ["--include-path-regex", TRAINING, "--exclude-path-regex", ENDLESS]
    try:
        yield fuzz(site, tmp_path_factory.mktemp("fuzz"), known=known, used=USED, examples=EXAMPLES, only=only)
    finally:
        # Nothing of its own shall run on.
        site.sql(
            "UPDATE training_trainingjob SET status = 'cancelled', ended_at = now() WHERE status = ANY(%s)", list(OPEN)
        )
        site.sql("UPDATE training_deployment SET status = 'undeployed' WHERE status = ANY(%s)", list(GOING))
        site.sql("UPDATE batches_batch SET status = 'cancelling', cancelling_at = now() WHERE status IN"
                 " ('validating', 'in_progress')")  # fmt: skip
        site.wait_until_idle()


def test_it_works(report: dict[str, Any]) -> None:
    assert_it_works(report, cases=CASES)


def test_the_fuzzer_got_past_the_first_look(report: dict[str, Any]) -> None:
    assert_it_got_past_the_first_look(report, but_for=TOGETHER)
