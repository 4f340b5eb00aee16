"""Thousands of requests that nobody would write, from the schema of files, batches and models."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.conformance.fuzzer import (
    DATASETS,
    ENDLESS,
    ENGINES,
    TRAINING,
    assert_it_got_past_the_first_look,
    assert_it_works,
    fuzz,
)
from tests.conformance.lines import CHAT_MODEL, chats
from tests.conformance.site import Site

pytestmark = pytest.mark.live
UNFINISHED = ["validating", "in_progress"]
CASES = 1_200
EXAMPLES = 70  # for each operation, in each of two phases
USED = {
    "path.batch_id": "batches",
    "path.file_id": "files",
    "path.upload_id": "uploads",
    "body.mime_type": "types",
    "path.name": "models",
    "path.install_id": "installs",
    "path.benchmark_id": "benchmarks",
    "body.source": "sources",
    "body.model": "chat",
    "query.after": "batches",
    "body.input_file_id": "files",
    "body.completion_window": "windows",
}


OWN_MODEL = """
INSERT INTO models_model SELECT (jsonb_populate_record(m, jsonb_build_object(
    'id', nextval(pg_get_serial_sequence('models_model', 'id')), 'name', %s::text,
    'project_id', (SELECT id FROM accounts_project WHERE name = 'ours')))).* FROM models_model m WHERE m.name = %s
"""


def own_model(site: Site, name: str) -> str:
    """A model of the project's own, which it may delete."""
    site.sql(OWN_MODEL, name, CHAT_MODEL)
    return name


def install(site: Site, name: str) -> str:
    answer = site.http().post("/models/install", json={"source": "acme/tiny", "name": name})
    return str(answer.json()["id"])


def upload(site: Site) -> str:
    uploads = site.client().uploads
    return uploads.create(bytes=10_000, filename="a", mime_type="text/plain", purpose="user_data").id


def benchmark(site: Site) -> str:
    answer = site.http().post("/models/benchmarks", json={"model": CHAT_MODEL, "concurrencies": [1]})
    return str(answer.json()["id"])


def known(site: Site) -> dict[str, Sequence[str]]:
    batches = [site.run(chats("one", "two !400")).id for _ in range(3)]
    return {
        "batches": batches,
        "files": [site.upload(chats("one")).id for _ in range(40)],  # some will be deleted
        "uploads": [upload(site) for _ in range(20)],  # some will be completed or cancelled
        "types": ["text/jsonl", "application/jsonl"],
        "models": [CHAT_MODEL, *(own_model(site, f"own-{number}") for number in range(40))],
        "installs": [install(site, f"fuzz-{number}") for number in range(5)],
        "benchmarks": [benchmark(site) for _ in range(5)],
        "chat": [CHAT_MODEL],
        "sources": ["acme/tiny", "acme/small", "https://hf.co/acme/large"],
        "windows": ["24h", "7d"],
    }


@pytest.fixture(scope="module")
def report(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    try:
        yield fuzz(
            site, tmp_path_factory.mktemp("fuzz"), known=known(site), used=USED, examples=EXAMPLES,
            only=["--exclude-path-regex", f"({ENDLESS}|{ENGINES})$|{DATASETS}|{TRAINING}"],
        )  # fmt: skip
    finally:
        # It retries whatever it finds, other tests' endless requests among them: nothing of its own shall run on.
        site.sql("UPDATE models_benchmark SET status = 'cancelled', ended_at = now() WHERE ended_at IS NULL")
        site.sql(
            "UPDATE batches_batch SET status = 'cancelling', cancelling_at = now() WHERE status = ANY(%s)", UNFINISHED
        )
        site.wait_until_idle()


def test_it_works(report: dict[str, Any]) -> None:
    assert_it_works(report, cases=CASES)


def test_the_fuzzer_got_past_the_first_look(report: dict[str, Any]) -> None:
    assert_it_got_past_the_first_look(report)
