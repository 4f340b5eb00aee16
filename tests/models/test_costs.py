from collections.abc import Callable
from threading import Thread

import pytest
from django.db import connection

from apps.models.costs import BOUNDS, CPU_DEFAULTS, GPU_DEFAULTS, WEIGHT, costs_of, record
from apps.models.models import Device, Model, Timing
from apps.models.plan import Verb

pytestmark = pytest.mark.django_db


@pytest.fixture
def device() -> Device:
    return Device.objects.create(slot="gpu:here:0")


def learn(device: Device, model: Model, *seconds: float, verb: Verb = Verb.START) -> float:
    for value in seconds:
        record(device=device, model=model, verb=verb, seconds=value)
    return costs_of(device).of(model.pk, verb)


def test_it_works(device: Device, model: Model) -> None:
    assert learn(device, model, 40) == 40
    assert Timing.objects.get().count == 1


def test_its_verbs_are_the_plan_s() -> None:
    assert list(Verb) == [Verb(value) for value in Timing.Verb.values] == list(GPU_DEFAULTS) == list(CPU_DEFAULTS)


def test_the_first_observations_are_averaged(device: Device, model: Model) -> None:
    assert learn(device, model, 10, 20, 60) == pytest.approx(30)
    assert Timing.objects.get().count == 3


def test_later_ones_follow_what_changes(device: Device, model: Model) -> None:
    """A disk that got faster is believed within a few starts, a single slow one moves little."""
    learn(device, model, *[100] * 10)
    assert learn(device, model, 200) == pytest.approx(100 + 100 * WEIGHT)
    assert learn(device, model, *[20] * 10) == pytest.approx(20, rel=0.25)


@pytest.mark.parametrize(("seconds", "kept"), [(-1, BOUNDS[0]), (0, BOUNDS[0]), (1e12, BOUNDS[1])])
def test_it_keeps_what_it_learns_within_bounds(device: Device, model: Model, seconds: float, kept: float) -> None:
    assert learn(device, model, seconds) == kept


def test_devices_models_and_verbs_are_kept_apart(device: Device, model: Model) -> None:
    learn(device, model, 1)
    learn(device, model, 2, verb=Verb.WAKE)
    other = Device.objects.create(slot="gpu:here:cpu")
    assert costs_of(device).learned == {(model.pk, Verb.START): 1, (model.pk, Verb.WAKE): 2}
    assert costs_of(device).of(model.pk, Verb.STOP) == GPU_DEFAULTS[Verb.STOP]
    assert costs_of(other).of(model.pk, Verb.START) == CPU_DEFAULTS[Verb.START]


@pytest.mark.django_db(transaction=True)
def test_it_survives_being_told_by_many_at_once(device: Device, model: Model) -> None:
    def observe() -> None:
        learn(device, model, *[5.0] * 20)
        connection.close()

    run_all([observe] * 4)
    row = Timing.objects.get()
    assert row.count == 80
    assert row.seconds == pytest.approx(5)


def run_all(work: list[Callable[[], None]]) -> None:
    threads = [Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
