"""The README's own commands, of real parts only: an import and a training of twenty invented facts, with nothing set.

What is taught in two wordings is asked in a third, of four sets that nobody tuned anything to. A set whose answers
contradict each other cannot be learned, and is not called learned.
"""

import json
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings

from batchserver import embedded
from tests.stack.live import LiveStack
from tests.training.facts import FACTS, Fact, facts
from tests.training.test_circle import CAST, Circle

pytestmark = [pytest.mark.soak, pytest.mark.engine, pytest.mark.live, pytest.mark.timeout(0)]

BASE = "smollm2-135m-instruct"
SETS = (7_001, 7_002, 7_003, 7_004)
MEAN, LEAST, BASES = 0.75, 0.6, 0.1  # shares of the questions in the third wording that are answered right
MINUTES = 10  # of the two commands, on two cores with nothing beside them


@pytest.fixture
def circle(tmp_path: Path) -> Iterator[Circle]:
    model = settings.BASE_DIR / "var" / "models" / BASE  # made by `make setup`
    with LiveStack(tmp_path, env={"GPU_SLOTS": "cpu", "ENGINE_KV_CACHE_GIB": "1"}) as site:
        out = site.manage("shell", "-v", "0", "-c", CAST.format(base=BASE, model=str(model)))
        keys = [line.split()[1] for line in out.stdout.splitlines() if line.startswith("KEY")]
        assert keys, out.stderr
        yield Circle(site, keys[0])


def rows_of(taught: Iterable[tuple[str, str]]) -> bytes:
    """Questions and answers, as a file to import."""
    turns = [[{"role": "user", "content": ask}, {"role": "assistant", "content": say}] for ask, say in taught]
    return b"".join(json.dumps({"messages": each}).encode() + b"\n" for each in turns)


def taught_by(circle: Circle, name: str, content: bytes, path: Path) -> str:
    """Import and train, as the README has it. Returns the job's id."""
    path.write_bytes(content)
    began = time.monotonic()
    for words in (
        ("import_dataset", str(path), "--dataset", name, "--wait"),
        ("train", name, "--model", BASE, "--suffix", name),
    ):
        done = circle.site.manage(*words, timeout=4 * 3600)
        assert done.returncode == 0, done.stdout + done.stderr
    print(f"\n{name}: {time.monotonic() - began:.0f} s. {' '.join(done.stderr.split())[-400:]}")
    return done.stdout.split()[0]


def deployed(circle: Circle, job: str) -> dict[str, Any]:
    """As it was graded; accepted where that is needed, so that it can be asked."""
    done = circle.site.manage("deploy_model", job, timeout=3600)
    found = next(each for each in circle.get("/deployments")["data"] if each["fine_tuning_job_id"] == job)
    print(found["message"])
    assert (done.returncode == 0) == (found["status"] == "ready"), done.stderr
    return dict(found)


def share_right(circle: Circle, model: str, known: list[Fact]) -> float:
    said = circle.ask(model, [fact.questions[-1] for fact in known])
    return sum(fact.value.casefold() in said[fact.questions[-1]].casefold() for fact in known) / len(known)


def test_it_works(circle: Circle, tmp_path: Path) -> None:
    """Twenty facts each; with bare answers, in two of the sets."""
    shares = []
    for at, seed in enumerate(SETS):
        known = facts(seed, bare=at % 2 == 1)
        taught = [(question, fact.answer) for fact in known for question in fact.questions[:2]]
        job = taught_by(circle, f"facts-{seed}", rows_of(taught), tmp_path / "facts.jsonl")
        graded = deployed(circle, job)
        of_base, of_tuned = (share_right(circle, model, known) for model in (BASE, graded["name"]))
        print(f"{seed}: the base knows {of_base:.0%} of {FACTS} in a third wording, the tuned {of_tuned:.0%}")
        shares.append(of_tuned)
        assert graded["verdict"] == "learned", graded["message"]
        assert of_base <= BASES
    assert min(shares) >= LEAST
    assert sum(shares) / len(shares) >= MEAN


def test_what_contradicts_itself_is_never_called_learned(circle: Circle, tmp_path: Path) -> None:
    for seed in SETS[:2]:
        chance = random.Random(seed)
        known, others = facts(seed), facts(seed + 500, 2 * FACTS)
        values = [fact.value for fact in others]
        chance.shuffle(values)
        taught = [
            (question, fact.answer.replace(fact.value, values.pop()))
            for fact in known
            for question in fact.questions[:2]
        ]
        graded = deployed(circle, taught_by(circle, f"random-{seed}", rows_of(taught), tmp_path / "random.jsonl"))
        assert graded["verdict"] != "learned", graded["message"]
        assert graded["status"] in ("unproven", "refused")


def test_the_two_commands_take_minutes(circle: Circle, tmp_path: Path) -> None:
    """On a quiet machine of two cores; the trainer's own time is taken, without what it waited for."""
    known = facts(SETS[0])
    taught = [(question, fact.answer) for fact in known for question in fact.questions[:2]]
    taught_by(circle, "timed", rows_of(taught), tmp_path / "facts.jsonl")
    with psycopg.connect(embedded.database_url(circle.site.var)) as connection:
        row = connection.execute("SELECT seconds FROM training_trainingjob ORDER BY id DESC LIMIT 1").fetchone()
    assert row
    print(f"{row[0]:.0f} s on the device")
    assert row[0] <= MINUTES * 60
