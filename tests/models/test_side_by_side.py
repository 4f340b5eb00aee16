"""The same bodies to the gateway, to the bare engine and as lines of a batch: one verdict, or a reason why not."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site

from apps.accounts.models import Project
from apps.batches.finalize import finalize_next, notice_ended
from apps.batches.models import Batch, Result
from apps.batches.services import create_batch
from apps.batches.validate import validate_next
from apps.core import leases
from apps.models import dialect
from apps.models.engines.engine import Engine, EngineSpec
from apps.models.engines.settings import EngineSettings
from apps.models.gateway import asgi
from apps.models.models import Model
from apps.models.requests.openai import ENDPOINTS, STRUCTURED
from tests.batches.cast import make_file
from tests.batches.lender import Lender
from tests.batches.test_runner import Run
from tests.conftest import Tenant
from tests.models import engines
from tests.models.bodies import Body, bodies
from tests.models.gateway.cast import Asking, show_engine
from tests.models.gateway.conftest import application

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

READY_SECONDS = 240
AT_ONCE = 16
MODEL = site.BASE_DIR / "var" / "models" / "smollm2-135m-instruct"
LARGEST_N = 128
HARMFUL = ("n",)  # of a size that the bare engine must not be asked for

DIFFERENCES = {
    "unknown_parameter": "the engine passes over the name in silence; it is refused with the nearest one",
    "invalid_request": "a bound of ours, a priority, or an old name beside its new one",
    "streaming_unsupported": "a line of a batch cannot stream",
}
"""The code of a refusal of ours -> why the engine says something else."""
LEGACY = ("functions", "function_call", *STRUCTURED)
"""Names that mean something here, and nothing to the engine. There is no other difference."""


@dataclass
class Verdict:
    status: int
    answer: bytes

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.answer)["error"] if self.status >= 400 else {}


@dataclass
class RealLender(Lender):
    """Lends an engine that runs already."""

    engine: Engine

    def __post_init__(self) -> None:
        self.restarts, self.explained, self.going, self.stopping = 0, 0, True, False


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    engine = Engine(
        EngineSpec(
            python=site.ENGINE_PYTHON, model=MODEL, served_name="test-model", runner="generate",
            socket=folder / "e.sock", log=folder / "engine.log", cwd=site.BASE_DIR, device="cpu", max_num_seqs=16,
            kv_cache_gib=1, settings=EngineSettings(max_model_len=512),
        )
    )  # fmt: skip
    engine.start()
    engine.wait_ready(READY_SECONDS, lambda: False)
    yield engine
    engine.stop(20)


@pytest.fixture
def asked() -> list[tuple[str, Body]]:
    found = [(endpoint, {"model": "test-model"} | body) for endpoint, body in bodies()]
    assert len(found) >= 250
    return found


def harmful(body: Body) -> bool:
    return any(str(body.get(name, 0)).isdigit() and int(body[name]) > LARGEST_N for name in HARMFUL if name in body)


def to_engine(engine: Engine, asked: list[tuple[str, Body]]) -> list[Verdict | None]:
    """None: it was spared."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(partial(_to_engine, engine), asked))


def _to_engine(engine: Engine, one: tuple[str, Body]) -> Verdict | None:
    endpoint, body = one
    return None if harmful(body) else Verdict(*engines.post_raw(engine, endpoint, body))


def to_gateway(owner: Tenant, asked: list[tuple[str, Body]]) -> list[Verdict]:
    async def everything() -> list[Verdict]:
        client, room = Asking(application, owner.key), asyncio.Semaphore(AT_ONCE)

        async def one(endpoint: str, body: Body) -> Verdict:
            async with room:
                answer = await client.post(json.dumps(body).encode(), endpoint)
                return Verdict(answer.status, answer.body)

        try:
            return await asyncio.gather(*(one(endpoint, body) for endpoint, body in asked))
        finally:
            await asgi.close()

    return asyncio.run(everything())


def to_batch(project: Project, model: Model, engine: Engine, endpoint: str, asked: list[Body]) -> dict[int, Verdict]:
    """The verdict on each line of one batch, which completes; by the body's place."""
    lines = [
        {"custom_id": str(place), "method": "POST", "url": endpoint, "body": body} for place, body in enumerate(asked)
    ]
    file = make_file(project, "\n".join(map(json.dumps, lines)).encode())
    batch = create_batch(project=project, input_file=file, endpoint=endpoint)
    keeper = leases.Keeper()
    try:
        assert validate_next(keeper)
        Run(model, RealLender(engine), keeper).join(240)
        assert notice_ended(keeper)
        assert finalize_next(keeper)
    finally:
        keeper.close()
    batch.refresh_from_db()
    assert (batch.status, batch.errors) == (Batch.Status.COMPLETED, None)
    rows = Result.objects.filter(batch=batch).values_list("custom_id", "status_code", "body")
    return {int(name): Verdict(status or 0, (body or "").encode()) for name, status, body in rows}


def alike(ours: Verdict, bare: Verdict) -> bool:
    """Same status, and an error in the same words, translated."""
    if ours.status != bare.status:
        return False
    return ours.status < 400 or _words(ours.error) == _words(
        json.loads(dialect.translated(bare.status, bare.answer))["error"]
    )


def _words(error: dict[str, Any]) -> tuple[Any, ...]:
    """Without the input, of which vLLM quotes a part."""
    return error["param"], error["code"], error["type"], error["message"][:60]


@pytest.mark.django_db(transaction=True)
def test_gateway_engine_and_batch_agree(
    engine: Engine, asked: list[tuple[str, Body]], owner: Tenant, model: Model, tmp_path: Path
) -> None:
    show_engine(model, RealLender(engine))
    bare, gateway = to_engine(engine, asked), to_gateway(owner, asked)
    odd = []
    for (endpoint, body), theirs, ours in zip(asked, bare, gateway, strict=True):
        assert ours.status < 500 or (theirs and theirs.status >= 500), (endpoint, body, ours)
        legacy = any(name in body for name in LEGACY)
        if (theirs is None or not alike(ours, theirs)) and ours.error.get("code") not in DIFFERENCES and not legacy:
            odd.append(_told(endpoint, body, theirs, ours))
    assert not odd, "\n".join(odd)
    for endpoint in ENDPOINTS[:3]:
        places = [place for place, (path, _) in enumerate(asked) if path == endpoint]
        lines = to_batch(owner.project, model, engine, endpoint, [asked[place][1] for place in places])
        assert len(lines) == len(places)
        for line, place in enumerate(places):
            told, ours = lines[line], gateway[place]
            same = told.status == ours.status and _words_of(told) == _words_of(ours)
            if not same and told.error.get("code") != "streaming_unsupported":
                odd.append(_told(endpoint, asked[place][1], told, ours))
    assert not odd, "\n".join(odd)


def _told(endpoint: str, body: Body, *verdicts: Verdict | None) -> str:
    told = " | ".join(f"{one.status} {one.answer[:300]!r}" if one else "spared" for one in verdicts)
    return f"{endpoint} {json.dumps(body)[:300]}: {told}"


def _words_of(verdict: Verdict) -> Any:
    return _words(verdict.error) if verdict.status >= 400 else None
