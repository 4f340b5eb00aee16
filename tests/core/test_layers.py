"""Foreign keys point down, as imports do: those that are written as strings leave no import for the linter to see."""

import tomllib

import pytest
from django.apps import apps
from django.conf import settings
from django.db.models import Model

CONTRACT = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
LAYERS = [layer.rpartition(".")[2] for layer in CONTRACT["layers"]]
OURS = [model for model in apps.get_models() if model._meta.label_lower.partition(".")[0] in LAYERS]


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label)
def test_it_points_down(model: type[Model]) -> None:
    own = LAYERS.index(model._meta.app_label)
    related = [field.related_model for field in (*model._meta.fields, *model._meta.many_to_many) if field.is_relation]
    for other in filter(None, related):
        assert not isinstance(other, str)
        assert other not in OURS or LAYERS.index(other._meta.app_label) >= own, f"{model} -> {other}"


def test_every_app_of_ours_is_in_a_layer() -> None:
    assert {config.label for config in apps.get_app_configs() if config.name.startswith("apps.")} <= set(LAYERS)
    assert len(OURS) > 20
