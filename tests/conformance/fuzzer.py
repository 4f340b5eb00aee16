"""schemathesis on the live site, from its own schema."""

import json
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conformance.site import Site

# A schema cannot say which ids exist, nor that a dataset is not yet a version of it.
JUDGED_BY_US = "positive_data_acceptance,negative_data_rejection,ensure_resource_availability"
SEED = 4  # the same cases each time; another one finds other things
DATASETS = "^/v1/(datasets|runs|answers|preferences|judges|exports)"
TRAINING = "^/v1/(fine_tuning|deployments)"
ENDLESS = "/events"  # a stream that ends when its object does
ENGINES = "/completions|/embeddings|/responses"  # their answers are the engine's words, which the schema leaves open


def fuzz(
    site: Site,
    folder: Path,
    *,
    known: Mapping[str, Sequence[Any]],
    used: Mapping[str, str],
    only: list[str],
    examples: int,
) -> dict[str, Any]:
    """The report of a run over a part of the schema, the streams of events and the engines' own routes aside.

    `known` are values of things that are there, by kind; `used` says which parameters take which of them, mostly.
    `only` are options that choose the part. `examples` are for each operation, in each of two phases.
    """
    settings, report = folder / "schemathesis.toml", folder / "report.json"
    settings.write_text(_configuration(known, used))
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(settings), "run", f"{site.url}/schema",
        "--header", f"Authorization: Bearer {site.keys['owner']}", "--max-examples", str(examples),
        "--checks", "all", "--exclude-checks", JUDGED_BY_US, *only,
        "--generation-database", "none", "--workers", "1", "--seed", str(SEED), "--no-color",
        "--report-json-path", str(report),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-2_000:]
    return dict(json.loads(report.read_text()))


def _configuration(known: Mapping[str, Sequence[Any]], used: Mapping[str, str]) -> str:
    """Most ids are of things that are there, so that cases get past the first look; the others are anything."""
    lines = ["[dictionaries]", *(f"{name} = {{ values = {json.dumps(values)} }}" for name, values in known.items())]
    lines += [
        "[parameters]",
        *(f'"{key}" = {{ dictionary = "{name}", probability = 0.7 }}' for key, name in used.items()),
    ]
    return "\n".join(lines)


def assert_it_works(report: dict[str, Any], *, cases: int) -> None:
    """No failure among so many cases: no answer of 500 or more, none that the schema does not describe."""
    assert report["complete"]
    assert report["test_cases"]["generated"] >= cases
    assert report["failures"] == report["errors"] == []


def assert_it_got_past_the_first_look(report: dict[str, Any], *, but_for: Collection[str] = ()) -> None:
    """Every operation accepted something, or answered about an object that it found."""
    reached = {
        name
        for name, phases in report["valid_rates"].items()
        if any(phase["accepted"] or phase["conflicts"] for phase in phases.values())
    }
    assert set(report["valid_rates"]) - reached <= set(but_for)
