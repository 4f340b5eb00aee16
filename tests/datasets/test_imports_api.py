import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.core.leases import Keeper
from apps.datasets import duplicates, services
from apps.datasets.imports.job import KIND
from apps.datasets.models import Dataset, Import
from tests.datasets.cast import make_version
from tests.datasets.files import jsonl, upload, work_on

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = jsonl([{"prompt": "Capital of France?", "completion": "Paris", "id": 7}])


@pytest.fixture
def dataset(project: Project) -> Dataset:
    return services.create_dataset(project=project, name="capitals")


def post(api: APIClient, dataset: Dataset, path: str, body: Any = None, **headers: Any) -> Any:
    return api.post(f"/v1/datasets/{dataset.uid}/{path}", body or {}, format="json", **headers)


def get(api: APIClient, dataset: Dataset, path: str) -> Any:
    return api.get(f"/v1/datasets/{dataset.uid}/{path}")


@pytest.mark.parametrize("purpose", ["user_data", "fine-tune", "evals"])
def test_it_works(api: APIClient, dataset: Dataset, keeper: Keeper, purpose: str) -> None:
    file = upload(dataset.project, ROWS, purpose=purpose)
    made = post(api, dataset, "imports", {"file_id": file.uid}).json()
    assert made["id"].startswith("import_")
    assert (made["object"], made["status"], made["shape"], made["format"]) == (
        "dataset.import", "queued", "completion", "jsonl",
    )  # fmt: skip
    work_on(KIND, keeper)
    done = get(api, dataset, f"imports/{made['id']}").json()
    assert (done["status"], done["rows"], done["version"], done["message"]) == ("completed", 1, 1, "1 row imported.")
    assert get(api, dataset, "imports").json()["data"] == [done]
    assert get(api, dataset, "examples").json()["data"][0]["reference"] == "Paris"


def test_a_preview_shows_what_would_come_of_it(api: APIClient, dataset: Dataset) -> None:
    file = upload(dataset.project, "question;level\n" + "".join(f"Q {n}?;{n}\n" for n in range(9)) + "bad\n", "q.csv")
    seen = post(api, dataset, "imports/preview", {"file_id": file.uid}).json()
    assert (seen["format"], seen["shape"], seen["columns"]) == ("csv", "columns", ["question", "level"])
    assert seen["mapping"] == {"prompt": "{{ question }}"}
    assert [draft["prompt"] for draft in seen["examples"]] == [f"Q {n}?" for n in range(5)]
    assert seen["notes"] == []
    assert seen["errors"] == [{"line": 11, "message": "This row has 1 field, the header has 2 fields."}]
    mapping = {"prompt": "{{ question|upper }}", "system": "Level {{ level }}", "key": "{{ level }}"}
    seen = post(api, dataset, "imports/preview", {"file_id": file.uid, "mapping": mapping}).json()
    assert seen["examples"][1]["messages"] == [
        {"role": "system", "content": "Level 1"}, {"role": "user", "content": "Q 1?"},
    ]  # fmt: skip
    assert not Import.objects.exists()


def test_a_header_of_old_macs_is_read(api: APIClient, dataset: Dataset) -> None:
    file = upload(dataset.project, "prompt,completion\rIs tea hot?,Yes\r", "cr.csv")
    seen = post(api, dataset, "imports/preview", {"file_id": file.uid}).json()
    assert [(draft["prompt"], draft["reference"]) for draft in seen["examples"]] == [("Is tea hot?", "Yes")]


def test_a_preview_says_what_of_an_object_is_read(api: APIClient, dataset: Dataset) -> None:
    content = json.dumps({"version": 2, "data": [{"prompt": "Hi", "completion": "Hello"}]}, indent=1)
    seen = post(api, dataset, "imports/preview", {"file_id": upload(dataset.project, content, "rows.json").uid}).json()
    assert (seen["format"], seen["notes"]) == ("json", ["Rows are read from 'data'.", "Not read: 'version'."])
    assert [draft["prompt"] for draft in seen["examples"]] == ["Hi"]


def test_errors_come_with_their_lines(api: APIClient, dataset: Dataset, keeper: Keeper) -> None:
    file = upload(dataset.project, ROWS + "nonsense\n")
    made = post(api, dataset, "imports", {"file_id": file.uid}).json()
    work_on(KIND, keeper)
    done = get(api, dataset, f"imports/{made['id']}").json()
    assert (done["status"], done["errors"][0]["line"], done["version"]) == ("failed", 2, None)
    again = post(api, dataset, "imports", {"file_id": file.uid, "skip_bad": True, "replace": True}).json()
    work_on(KIND, keeper)
    done = get(api, dataset, f"imports/{again['id']}").json()
    assert (done["status"], done["rows"], done["skipped"], done["replace"]) == ("completed", 1, 1, True)


def test_it_is_cancelled(api: APIClient, dataset: Dataset, keeper: Keeper) -> None:
    made = post(api, dataset, "imports", {"file_id": upload(dataset.project, ROWS).uid}).json()
    assert post(api, dataset, f"imports/{made['id']}/cancel").status_code == 200
    work_on(KIND, keeper)
    assert get(api, dataset, f"imports/{made['id']}").json()["status"] == "cancelled"
    assert post(api, dataset, f"imports/{made['id']}/cancel").status_code == 200


def test_what_has_ended_is_not_cancelled(api: APIClient, dataset: Dataset, keeper: Keeper) -> None:
    made = post(api, dataset, "imports", {"file_id": upload(dataset.project, ROWS).uid}).json()
    work_on(KIND, keeper)
    answer = post(api, dataset, f"imports/{made['id']}/cancel")
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        409, "Cannot cancel an import with status 'completed'.",
    )  # fmt: skip


def test_the_same_request_twice_makes_one(api: APIClient, dataset: Dataset) -> None:
    body = {"file_id": upload(dataset.project, ROWS).uid}
    first, second = (post(api, dataset, "imports", body, HTTP_IDEMPOTENCY_KEY="k").json() for _ in range(2))
    assert first == second
    assert Import.objects.count() == 1


def test_it_can_be_watched(api: APIClient, dataset: Dataset) -> None:
    made = post(api, dataset, "imports", {"file_id": upload(dataset.project, ROWS).uid}).json()
    answer = get(api, dataset, f"imports/{made['id']}/events")
    assert answer.headers["Content-Type"] == "text/event-stream"
    answer.close()


def test_duplicates_are_found_and_removed(api: APIClient, project: Project, keeper: Keeper) -> None:
    dataset = make_version(project, ["One", "Two", "one ", "ONE"]).dataset
    made = post(api, dataset, "duplicates", {"threshold": 1}).json()
    assert (made["object"], made["status"], made["threshold"]) == ("dataset.duplicates", "queued", 1.0)
    assert get(api, dataset, f"duplicates/{made['id']}").json()["pairs"] == []
    assert post(api, dataset, f"duplicates/{made['id']}/remove").status_code == 409
    work_on(duplicates.KIND, keeper)
    done = get(api, dataset, f"duplicates/{made['id']}?limit=1").json()
    assert (done["found"], done["pairs"]) == (2, [{"example": 3, "of": 1, "similarity": 1.0}])
    rest = get(api, dataset, f"duplicates/{made['id']}?after={done['next_after']}").json()
    assert (rest["pairs"][0]["example"], rest["next_after"]) == (4, None)
    assert get(api, dataset, "duplicates").json()["data"][0]["id"] == made["id"]
    removed = post(api, dataset, f"duplicates/{made['id']}/remove").json()
    assert (removed["version"], removed["examples"]) == (2, 2)
    assert post(api, dataset, f"duplicates/{made['id']}/cancel").status_code == 409


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "file_id"),
        ({"file_id": "file-nobody"}, 404, "file_id"),
        ({"file_id": "a\0b"}, 400, "file_id"),
        ({"file_id": "{id}", "shape": "round"}, 400, "shape"),
        ({"file_id": "{id}", "shape": "chat", "mapping": {"prompt": "x"}}, 400, "mapping"),
        ({"file_id": "{id}", "mapping": {"prompt": "{{ prompt.__class__ }}"}}, 400, "mapping"),
        ({"file_id": "{id}", "mapping": {"prompt": 7, "nonsense": []}}, 400, "mapping.nonsense"),
        ({"file_id": "{id}", "mapping": {"answer": "x"}}, 400, "mapping"),
        ({"file_id": "{id}", "replace": "perhaps"}, 400, "replace"),
    ],
)
def test_it_rejects(api: APIClient, dataset: Dataset, body: dict[str, Any], status: int, param: str) -> None:
    if body.get("file_id") == "{id}":
        body = {**body, "file_id": upload(dataset.project, ROWS).uid}
    for path in ("imports", "imports/preview") if param != "replace" else ("imports",):
        answer = post(api, dataset, path, body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)


@pytest.mark.parametrize("body", [{"threshold": 0.1}, {"threshold": 2}, {"threshold": "x"}, {"version": 0}])
def test_it_rejects_a_search(api: APIClient, project: Project, body: dict[str, Any]) -> None:
    assert post(api, make_version(project).dataset, "duplicates", body).status_code == 400


def test_a_file_of_another_project_does_not_exist(stranger: APIClient, api: APIClient, dataset: Dataset) -> None:
    file = upload(dataset.project, ROWS)
    other = Dataset.objects.get(uid=stranger.post("/v1/datasets", {"name": "mine"}, format="json").json()["id"])
    assert post(stranger, other, "imports", {"file_id": file.uid}).status_code == 404
    assert post(stranger, dataset, "imports", {"file_id": file.uid}).status_code == 404
    made = post(api, dataset, "imports", {"file_id": file.uid}).json()
    for path in (f"imports/{made['id']}", f"imports/{made['id']}/events"):
        assert get(stranger, dataset, path).status_code == 404
        assert get(stranger, other, path).status_code == 404
    assert post(stranger, dataset, f"imports/{made['id']}/cancel").status_code == 404
