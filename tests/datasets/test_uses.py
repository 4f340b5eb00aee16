"""A model that is about to be deleted says which datasets name it."""

import pytest

from apps.accounts.models import Project
from apps.datasets.models import Judge
from apps.models.models import Model
from apps.models.services import delete_preview
from tests.datasets.cast import make_run, make_version

pytestmark = pytest.mark.django_db


def named(model: Model) -> tuple[int, int, bool]:
    """Datasets in all, those that need it now, and whether they forbid to delete it."""
    preview = delete_preview(model=model)
    (use,) = [use for use in preview.uses if use.what == "datasets"]
    return use.total, use.running, any("datasets" in blocker for blocker in preview.blockers)


def test_it_works(project: Project, model: Model) -> None:
    first = make_run(make_version(project), {"small": ["a", "b", "c"], "large": ["a", "b", "c"]})
    second = make_run(make_version(project, name="more"), {"small": ["a", "b", "c"]})
    assert named(model) == (0, 0, False)
    first.columns.update(model=model)
    Judge.objects.create(project=project, run=second, model=model, model_name=model.name, rubric="Right?")
    assert named(model) == (2, 0, False)
    second.judges.update(due=True)
    assert named(model) == (2, 1, True)
