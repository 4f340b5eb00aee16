"""kill -9 of the real trainer at any moment: the job goes on from its last checkpoint, and the device comes back."""

import json
import os
import random
import re
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apps.core import guard
from tests.faults.site import Site, prompts
from tests.models.engines import eventually
from tests.stack.live import children_of
from tests.training.cast import preference, thumb
from tests.training.tiny import chat

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
STEPS, SAVE_STEPS = 120, 12
SEEDS = int(os.environ.get("SOAK_SEEDS", "20"))
MOMENTS = ("loading", "training", "saving")
OPTIONS = {
    "max_steps": STEPS, "save_steps": SAVE_STEPS, "batch_size": 4, "accumulation": 1, "max_length": 64, "rank": 8,
    "gradient_checkpointing": False,
}  # fmt: skip
TYPES = {"sft": "supervised", "dpo": "dpo", "kto": "kto"}
ROWS: dict[str, list[Any]] = {
    "sft": [chat(f"What is {number} and {number}?", f"It is {2 * number}. " * 4) for number in range(40)],
    "dpo": [preference(number) for number in range(40)],
    "kto": [thumb(number, up=number % 2 == 0) for number in range(40)],
}
PATIENCE = {"sft": 90.0, "dpo": 900.0, "kto": 900.0}
"""Seconds for a job to come to a step: where answers are compared with a second model's, a step takes seconds."""
ENDED = ("succeeded", "failed", "cancelled")


class TrainingSite(Site):
    """A live site with the real trainer and a model that trains in seconds."""

    def begin(self, method: str) -> str:
        """A job. Returns its id."""
        content = "".join(json.dumps(row) + "\n" for row in ROWS[method]).encode()
        file = self.api.files.create(file=("rows.jsonl", content), purpose="fine-tune")
        job = self.api.fine_tuning.jobs.create(
            model="tiny", training_file=file.id, seed=7,
            extra_body={"options": OPTIONS, "method": {"type": TYPES[method]}},
        )  # fmt: skip
        return job.id

    def job(self, uid: str) -> tuple[str, int, str]:
        """Its status, the last step that was written, and its message."""
        ((status, step, message),) = self.query(
            "SELECT j.status, coalesce(max(m.step), 0), j.message FROM training_trainingjob j"
            " LEFT JOIN training_metric m ON m.job_id = j.id WHERE j.uid = %s GROUP BY j.id",
            uid,
        )
        return status, step, message

    def wait(self, uid: str, *, step: int = 0, status: str = "running", seconds: float = 90) -> None:
        found = eventually(lambda: (now := self.job(uid))[0] in (status, *ENDED) and now[1] >= step, seconds)
        assert found, f"{uid} is {self.job(uid)}\n" + "\n".join(self.live.output()[-30:])

    def starts(self, uid: str) -> list[int]:
        """The step from which each trainer went on that lived long enough to say so."""
        rows: list[tuple[str]] = self.query(
            "SELECT e.message FROM training_jobevent e JOIN training_trainingjob j ON j.id = e.job_id"
            " WHERE j.uid = %s AND e.message LIKE 'Training with%%' ORDER BY e.id",
            uid,
        )
        matches = [re.search(r"checkpoint of step ([\d,]+)", message) for (message,) in rows]
        return [int(match[1].replace(",", "")) if match else 0 for match in matches]

    def trainer(self, other_than: int = 0) -> tuple[int, int]:
        """The pids of the trainer's guard and of the trainer. `other_than` is the guard of one that was killed."""
        rows: list[tuple[str]] = []

        def runs() -> bool:
            rows[:] = self.query(
                "SELECT process_groups FROM core_lease WHERE key LIKE 'training:%%' AND process_groups <> ''"
            )
            leader = int(rows[0][0].split()[2]) if rows else other_than
            return leader != other_than and bool(children_of(leader))

        assert eventually(runs, 60)
        leader = int(rows[0][0].split()[2])
        return leader, children_of(leader)[0]

    def trainers(self) -> set[int]:
        """Every process that works on a job, wherever it hangs."""
        folder = str(self.var / "training").encode()
        found = set()
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):  # noqa: PTH208
            process = guard.read_process(pid)
            try:
                named = folder in Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if process and named and not process.zombie:
                found.add(pid)
        return found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[TrainingSite]:
    with TrainingSite(tmp_path_factory.mktemp("site")) as site:
        script = (
            "from pathlib import Path\n"
            "from apps.models.services import register_model\n"
            f"register_model(name='tiny', path=Path({str(tiny_model)!r}))\n"
        )
        site.live.manage("shell", "-c", script)
        yield site


def strike(site: TrainingSite, moments: Sequence[str], seed: int, method: str = "sft") -> None:
    """Kill a job's trainer, or the process that guards it, at each moment; see that it is as if nothing had been."""
    chance = random.Random(f"{' '.join(moments)} {seed}")
    uid = site.begin(method)
    victims, struck = (0, 0), list[tuple[int, int]]()
    for left, moment in zip(range(len(moments), 0, -1), moments, strict=True):
        victims = site.trainer(other_than=victims[0])
        if moment == "loading":
            time.sleep(chance.uniform(0, 4))
        else:
            first = max([SAVE_STEPS, *(step for step, _ in struck)]) + 1
            step = chance.randrange(first, first + (STEPS - SAVE_STEPS - first) // left)
            site.wait(uid, step=step, seconds=PATIENCE[method])
        if moment == "saving":
            assert eventually(lambda: is_saving(site.var / "training" / uid), 30), "it was never seen to save"
        os.kill(victims[chance.random() < 0.7], signal.SIGKILL)
        assert eventually(partial(is_gone, victims[0]), 5), "an orphan trains on"
        time.sleep(1)  # until all that was heard of it is written
        struck.append((site.job(uid)[1], len(site.starts(uid))))
    site.wait(uid, status="succeeded", seconds=30 + PATIENCE[method])
    status, last, message = site.job(uid)
    assert (status, last) == ("succeeded", STEPS), message
    starts = site.starts(uid)
    for moment, (step, started) in zip(moments, struck, strict=True):
        lost = step - starts[started]
        print(f"\n{moment:8} killed at step {step:3}, {lost} steps were done again")
        assert lost <= SAVE_STEPS
    ((steps,),) = site.query(
        "SELECT count(*) FROM training_metric m JOIN training_trainingjob j ON j.id = m.job_id"
        " WHERE j.uid = %s AND m.loss IS NOT NULL",
        uid,
    )
    assert steps == STEPS
    ((deaths, tries),) = site.query(
        "SELECT count(e.id), j.tries FROM training_trainingjob j LEFT JOIN training_jobevent e ON e.job_id = j.id"
        " AND e.message LIKE '%%Another goes on%%' WHERE j.uid = %s GROUP BY j.id",
        uid,
    )
    assert (deaths, tries) == (len(moments), 0), "each was counted, until one had saved"
    assert not site.trainers()
    site.follow(site.submit(prompts(f"after{method}{seed}{moments[0]}", 5)), 30)  # the device is the engine's again


def is_gone(leader: int) -> bool:
    return not guard.family(leader)


def is_saving(folder: Path) -> bool:
    return any(not (path / "manifest.json").exists() for path in folder.glob("checkpoint-*"))


def test_it_survives_kill_nine_three_times(site: TrainingSite) -> None:
    strike(site, MOMENTS, seed=0)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_so_do_preferences_and_thumbs(site: TrainingSite, method: str) -> None:
    strike(site, MOMENTS, 0, method)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_it_survives_kill_nine_at_any_moment(site: TrainingSite, seed: int) -> None:
    strike(site, [MOMENTS[seed % 3]], seed, list(ROWS)[seed // 3 % 3])
