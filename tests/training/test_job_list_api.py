"""GET /v1/fine_tuning/jobs: pages and filters."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.models.models import Model
from apps.training.models import TrainingJob
from tests.training.cast import make_job
from tests.training.jobs_api import PATH, refused

pytestmark = pytest.mark.django_db


def test_the_list_is_paged_through(api: APIClient, project: Project, model: Model) -> None:
    jobs = [make_job(project, model).uid for _ in range(5)][::-1]
    first = api.get(PATH, {"limit": 2}).json()
    assert ([job["id"] for job in first["data"]], first["has_more"]) == (jobs[:2], True)
    second = api.get(PATH, {"limit": "3", "after": jobs[1]}).json()
    assert ([job["id"] for job in second["data"]], second["has_more"]) == (jobs[2:], False)
    assert refused(api.get(PATH, {"after": "ftjob-none"})) == ("after", "invalid_value")
    assert refused(api.get(PATH, {"limit": 101})) == ("limit", "invalid_value")


def test_a_page_costs_the_same_however_many_jobs(api: APIClient, project: Project, model: Model) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert api.get(PATH).status_code == 200
        return len(captured)

    make_job(project, model)
    queries()  # the first notes that the key was used
    one = queries()
    for _ in range(10):
        make_job(project, model, retry_of=TrainingJob.objects.first())
    assert queries() == one


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["a", "ab", "empty", "none"]),
        ({"metadata[team]": "a"}, ["a", "ab"]),
        ({"metadata[team]": "a", "metadata[run]": "1"}, ["ab"]),
        ({"metadata[team]": ""}, ["empty"]),
        ({"metadata[team]": "x"}, []),
        ({"metadata": "null"}, ["none"]),
        ({"metadata": ""}, ["a", "ab", "empty", "none"]),
    ],
)
def test_the_list_is_filtered_by_metadata(
    api: APIClient, project: Project, model: Model, query: dict[str, str], found: list[str]
) -> None:
    kinds = {"a": {"team": "a"}, "ab": {"team": "a", "run": "1"}, "empty": {"team": ""}, "none": None}
    jobs = {make_job(project, model, metadata=metadata).uid: name for name, metadata in kinds.items()}
    assert sorted(jobs[job["id"]] for job in api.get(PATH, query).json()["data"]) == found


@pytest.mark.parametrize(
    "query",
    [{"metadata": "a"}, {"metadata": "null", "metadata[a]": "b"}, {"metadata[a]": "\0"}, {"metadata[a]": "b" * 513}],
)
def test_it_rejects_a_bad_filter(api: APIClient, query: dict[str, str]) -> None:
    assert refused(api.get(PATH, query)) == ("metadata", "invalid_value")
