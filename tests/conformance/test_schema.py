"""Fuzzes the API from its own OpenAPI schema: whatever comes in, the answer is one of those that the schema names."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.lines import CHAT_MODEL, chats
from tests.conformance.site import Site

pytestmark = pytest.mark.live
UNFINISHED = ["validating", "in_progress"]
CASES = 2_000
EXAMPLES = 115  # for each operation, in each of two phases
JUDGED_BY_US = "positive_data_acceptance,negative_data_rejection"  # a schema cannot say which ids exist
SEED = 4  # the same cases each time; another one finds other things
ENDLESS = "/events"  # a stream that ends when its object does
ASIDE = 6  # operations that the next two leave out
ENGINES = "/completions|/embeddings|/responses"  # their answers are the engine's words, which the schema leaves open


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


def benchmark(site: Site) -> str:
    answer = site.http().post("/models/benchmarks", json={"model": CHAT_MODEL, "concurrencies": [1]})
    return str(answer.json()["id"])


def configuration(site: Site) -> str:
    """Most ids are of things that are there, so that cases get past the first look; the others are anything."""
    batches = [site.run(chats("one", "two !400")).id for _ in range(3)]
    known = {
        "batches": batches,
        "files": [site.upload(chats("one")).id for _ in range(40)],  # some will be deleted
        "models": [CHAT_MODEL, *(own_model(site, f"own-{number}") for number in range(40))],
        "installs": [install(site, f"fuzz-{number}") for number in range(5)],
        "benchmarks": [benchmark(site) for _ in range(5)],
        "chat": [CHAT_MODEL],
        "sources": ["acme/tiny", "acme/small", "https://hf.co/acme/large"],
        "windows": ["24h", "7d"],
    }
    used = {
        "path.batch_id": "batches",
        "path.file_id": "files",
        "path.name": "models",
        "path.install_id": "installs",
        "path.benchmark_id": "benchmarks",
        "body.source": "sources",
        "body.model": "chat",
        "query.after": "batches",
        "body.input_file_id": "files",
        "body.completion_window": "windows",
    }
    lines = ["[dictionaries]", *(f"{name} = {{ values = {json.dumps(values)} }}" for name, values in known.items())]
    lines += [
        "[parameters]",
        *(f'"{key}" = {{ dictionary = "{name}", probability = 0.7 }}' for key, name in used.items()),
    ]
    return "\n".join(lines)


def fuzz(site: Site, folder: Path) -> dict[str, Any]:
    """The report of a run over the whole schema, the stream of events and the engines' own routes aside."""
    settings, report = folder / "schemathesis.toml", folder / "report.json"
    settings.write_text(configuration(site))
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(settings), "run", f"{site.url}/schema",
        "--header", f"Authorization: Bearer {site.keys['owner']}", "--max-examples", str(EXAMPLES),
        "--checks", "all", "--exclude-checks", JUDGED_BY_US, "--exclude-path-regex", f"({ENDLESS}|{ENGINES})$",
        "--generation-database", "none", "--workers", "2", "--seed", str(SEED), "--no-color",
        "--report-json-path", str(report),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
    return dict(json.loads(report.read_text()))


@pytest.fixture(scope="module")
def report(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    yield fuzz(site, tmp_path_factory.mktemp("fuzz"))
    # It retries whatever it finds, other tests' endless requests among them: nothing of its own shall run on.
    site.sql("UPDATE models_benchmark SET status = 'cancelled', ended_at = now() WHERE ended_at IS NULL")
    site.sql("UPDATE batches_batch SET status = 'cancelling', cancelling_at = now() WHERE status = ANY(%s)", UNFINISHED)
    site.wait_until_idle()


def test_it_works(report: dict[str, Any]) -> None:
    """No failure among all cases: no answer of 500 or more, none that the schema does not describe."""
    assert report["complete"]
    assert report["test_cases"]["generated"] >= CASES
    assert report["failures"] == report["errors"] == []
    assert report["operations"]["tested"] == report["operations"]["total"] - ASIDE


def test_the_fuzzer_got_past_the_first_look(report: dict[str, Any]) -> None:
    """Every operation accepted something, or answered about an object that it found."""
    reached = {
        name
        for name, phases in report["valid_rates"].items()
        if any(phase["accepted"] or phase["conflicts"] for phase in phases.values())
    }
    assert set(report["valid_rates"]) - reached == set()
