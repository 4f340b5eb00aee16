import pytest

from apps.models.engines.deaths import Deaths
from apps.models.models import Device, Model

pytestmark = pytest.mark.django_db


@pytest.fixture
def deaths() -> Deaths:
    return Deaths(Device.objects.create(slot="gpu:here:0"))


def die(deaths: Deaths, model: Model, times: int) -> None:
    for _ in range(times):
        deaths.record(model, "It died.", log=[], explained=True)


def test_it_works(deaths: Deaths, model: Model) -> None:
    die(deaths, model, 1)
    assert not deaths.rests(model.pk), "the first time it is tried again at once"
    die(deaths, model, 1)
    assert deaths.rests(model.pk)


def test_a_model_that_worked_again_does_not_rest(deaths: Deaths, model: Model) -> None:
    die(deaths, model, 6)
    deaths.survived(model)
    assert not deaths.rests(model.pk)
    die(deaths, model, 1)
    assert not deaths.rests(model.pk), "it is the first of a new row"
