"""Engines that die again and again: the breaker opens and says so, unless a cause is known."""

import os
import signal
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.utils import timezone

from apps.models.engines import deaths
from apps.models.engines.deaths import close_breaker
from apps.models.models import Engine as EngineRow
from apps.models.models import EngineDeath, Model
from apps.models.worker import GpuWorker
from tests.models.engines import api_server, eventually
from tests.models.test_fleet import gpu, other, serve, serve_interactively
from tests.models.test_worker import FakeKind, keeper, kind, stop

__all__ = ["gpu", "keeper", "kind", "other", "stop"]
pytestmark = pytest.mark.django_db(transaction=True)
State = EngineRow.State


def test_five_unexplained_deaths_open_the_breaker(
    gpu: GpuWorker, kind: FakeKind, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deaths, "BACK_OFF", (0,))
    for _ in range(deaths.BREAKER_DEATHS):
        engine = serve(gpu, kind, model)
        os.kill(api_server(engine), signal.SIGKILL)
        assert eventually(partial(lambda engine: not engine.alive(), engine))
        gpu.step()
        gpu._deaths._in_a_row.clear()
    kind.add(model)
    assert not gpu.step()
    row = EngineRow.objects.get()
    assert row.state == State.FAILED
    assert "left alone for 10 minutes" in row.message
    close_breaker(model=model)
    assert gpu.step()
    assert kind.ran[-1] == model.pk


def test_explained_deaths_do_not_open_it(gpu: GpuWorker, kind: FakeKind, model: Model) -> None:
    def poison(host: Any) -> None:
        for _ in range(deaths.BREAKER_DEATHS + 2):
            os.kill(api_server(host.engine), signal.SIGKILL)
            assert eventually(lambda: not host.engine.alive())
            assert host.restart(explained=True)

    kind.act = poison
    serve(gpu, kind, model)
    model.refresh_from_db()
    assert model.broken_until is None
    assert EngineDeath.objects.filter(explained=True).count() == deaths.BREAKER_DEATHS + 2


def test_deaths_keep_the_log_s_end(gpu: GpuWorker, kind: FakeKind, model: Model) -> None:
    engine = serve(gpu, kind, model)
    os.kill(api_server(engine), signal.SIGKILL)
    assert eventually(lambda: not engine.alive())
    gpu.step()
    death = EngineDeath.objects.get()
    assert (death.explained, death.message) == (False, "The engine died while it waited.")
    assert "Starting vLLM server" in death.log


def test_after_its_rest_one_more_death_opens_the_breaker_again(gpu: GpuWorker, kind: FakeKind, model: Model) -> None:
    Model.objects.update(broken_until=timezone.now() - timedelta(seconds=1))
    engine = serve_interactively(gpu, model)
    os.kill(api_server(engine), signal.SIGKILL)
    assert eventually(lambda: not engine.alive())
    gpu.step()
    model.refresh_from_db()
    assert model.broken_until
    assert model.broken_until > timezone.now() + timedelta(minutes=9)
