"""/v1/fine_tuning/jobs."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from apps.accounts.models import ApiKey, Project
from apps.accounts.services import create_api_key
from apps.batches.models import File
from apps.models.models import Model
from apps.training.models import TrainingJob
from tests.batches.cast import expire
from tests.conftest import client
from tests.training.cast import make_file, make_job

pytestmark = pytest.mark.django_db

PATH = "/v1/fine_tuning/jobs"
OPENAIS = {
    "id", "object", "created_at", "finished_at", "model", "fine_tuned_model", "organization_id", "result_files",
    "status", "trained_tokens", "training_file", "validation_file", "hyperparameters", "seed", "error",
    "estimated_finish", "integrations", "method", "metadata",
}  # fmt: skip
OURS = {"paused", "technique", "options", "step", "steps", "message", "file_errors", "estimate", "retry_of", "plan"}


@pytest.fixture
def form(project: Project, model: Model) -> dict[str, Any]:
    return {"model": model.name, "training_file": make_file(project).uid}


def post(api: APIClient, form: Any, **headers: str) -> Any:
    return api.post(PATH, form, format="json", headers={k.replace("_", "-"): v for k, v in headers.items()})


def refused(response: Any, status: int = 400) -> tuple[str | None, str | None]:
    assert response.status_code == status, response.content
    error = response.json()["error"]
    return error["param"], error["code"]


def test_it_works(api: APIClient, project: Project, form: dict[str, Any]) -> None:
    made = post(api, {**form, "suffix": "capitals", "metadata": {"team": "a"}}).json()
    assert set(made) == OPENAIS | OURS
    assert made["object"] == "fine_tuning.job"
    assert made["id"].startswith("ftjob-")
    assert (made["status"], made["paused"], made["model"]) == ("validating_files", False, form["model"])
    assert (made["training_file"], made["organization_id"]) == (form["training_file"], project.uid)
    assert made["hyperparameters"] == {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert made["method"] == {
        "type": "supervised",
        "supervised": {"hyperparameters": made["hyperparameters"]},
        "dpo": None,
        "reinforcement": None,
    }
    assert (made["seed"], made["technique"], made["metadata"]) == (3407, "lora", {"team": "a"})
    assert made["result_files"] == made["integrations"] == made["file_errors"] == []
    nulls = {key for key, value in made.items() if value is None}
    assert nulls == {
        "finished_at", "fine_tuned_model", "trained_tokens", "validation_file", "error", "estimated_finish", "retry_of",
        "plan",
    }  # fmt: skip
    assert api.get(f"{PATH}/{made['id']}").json() == made
    job = TrainingJob.objects.get()
    assert (job.suffix, job.api_key) == ("capitals", ApiKey.objects.get())


def test_hyperparameters_become_options(api: APIClient, form: dict[str, Any]) -> None:
    asked = {"n_epochs": 5, "batch_size": 6, "learning_rate_multiplier": 2}
    method = {"type": "supervised", "supervised": {"hyperparameters": asked}}
    made = post(api, {**form, "method": method, "seed": 7}).json()
    assert made["hyperparameters"] == {"n_epochs": 5, "batch_size": 6, "learning_rate_multiplier": 2.0}
    options = made["options"]
    assert (options["epochs"], options["seed"]) == (5.0, 7)
    assert (options["batch_size"], options["accumulation"]) == (3, 2)
    assert made["seed"] == 7


@pytest.mark.parametrize(
    ("asked", "options"),
    [(1, (1, 1)), (2, (2, 1)), (7, (1, 7)), (64, (4, 16)), (251, (1, 251)), (256, (4, 64))],
)
def test_a_batch_is_as_large_as_asked(
    api: APIClient, form: dict[str, Any], asked: int, options: tuple[int, int]
) -> None:
    made = post(api, {**form, "hyperparameters": {"batch_size": asked}}).json()
    assert (made["options"]["batch_size"], made["options"]["accumulation"]) == options
    assert made["hyperparameters"]["batch_size"] == options[0] * options[1]


def test_kto(api: APIClient, form: dict[str, Any]) -> None:
    """A method of ours; what is "auto" follows from the thumbs, once they are counted."""
    asked = {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": "auto", "batch_size": 5}
    made = post(api, {**form, "method": {"type": "kto", "kto": {"hyperparameters": asked}}}).json()
    assert made["method"] == {
        "type": "kto",
        **dict.fromkeys(("supervised", "dpo", "reinforcement")),
        "kto": {"hyperparameters": {**made["hyperparameters"], **asked}},
    }
    assert made["hyperparameters"].keys() == {"n_epochs", "batch_size", "learning_rate_multiplier"}
    job = TrainingJob.objects.get()
    assert (job.method, job.options["beta"], job.options["desirable_weight"]) == ("kto", 0.3, 1.5)
    assert "undesirable_weight" not in job.options
    assert (job.options["batch_size"], job.options["accumulation"]) == (5, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"batch_size": 1}},
        {"method": {"type": "kto", "kto": {"hyperparameters": {"batch_size": 1}}}},
    ],
)
def test_kto_needs_two_rows_at_once(api: APIClient, form: dict[str, Any], change: dict[str, Any]) -> None:
    answer = post(api, {**form, "method": {"type": "kto"}, **change})
    assert refused(answer)[0] in ("options.batch_size", "batch_size")
    assert "set batch_size to 2 or more" in answer.json()["error"]["message"]


def test_dpo(api: APIClient, form: dict[str, Any]) -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "n_epochs": "auto"}}}
    made = post(api, {**form, "method": method}).json()
    assert made["method"] == {
        "type": "dpo",
        "supervised": None,
        "dpo": {"hyperparameters": {**made["hyperparameters"], "beta": 0.3}},
        "reinforcement": None,
    }
    assert TrainingJob.objects.get().method == "dpo"


def test_our_own_options_count_more(api: APIClient, form: dict[str, Any]) -> None:
    own = {"rank": 32, "epochs": 1.5, "validation_share": 0.1}
    made = post(api, {**form, "hyperparameters": {"n_epochs": 9}, "options": own, "technique": "full"}).json()
    assert {key: made["options"][key] for key in own} == own
    assert (made["hyperparameters"]["n_epochs"], made["technique"]) == ("auto", "full")


def test_a_validation_file(api: APIClient, project: Project, form: dict[str, Any]) -> None:
    uid = make_file(project).uid
    assert post(api, {**form, "validation_file": uid}).json()["validation_file"] == uid


def test_nulls_are_as_good_as_nothing(api: APIClient, form: dict[str, Any]) -> None:
    names = ("validation_file", "suffix", "seed", "method", "hyperparameters", "integrations", "metadata")
    assert post(api, {**form, **dict.fromkeys(names)}).status_code == 200
    assert post(api, {**form, "integrations": [], "method": {"type": "dpo", "dpo": None}}).status_code == 200


def supervised(**asked: Any) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": asked}}}


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"model": "nobody"}, "model", "model_not_found"),
        ({"model": None}, "model", "invalid_value"),
        ({"model": "\0"}, "model", "invalid_value"),
        ({"training_file": "file-none"}, "training_file", "file_not_found"),
        ({"training_file": 5}, "training_file", "file_not_found"),
        ({"validation_file": "file-none"}, "validation_file", "file_not_found"),
        ({"suffix": "a b"}, "suffix", None),
        ({"suffix": "a" * 65}, "suffix", "invalid_value"),
        ({"suffix": ":"}, "suffix", None),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"seed": 2**31}, "seed", "invalid_value"),
        ({"method": "sft"}, "method", "invalid_value"),
        ({"method": {}}, "method.type", "missing_required_parameter"),
        ({"method": {"type": "ppo"}}, "method.type", "invalid_value"),
        ({"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}, "method.type", "unsupported"),
        ({"method": {"type": "dpo", "supervised": {"hyperparameters": {"n_epochs": 1}}}}, "method.supervised",
         "invalid_value"),
        (supervised(n_epochs=0), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(n_epochs=51), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(n_epochs=1.5), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(n_epochs=True), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(n_epochs="3"), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(n_epochs=[]), "method.supervised.hyperparameters.n_epochs", "invalid_value"),
        (supervised(batch_size=257), "method.supervised.hyperparameters.batch_size", "invalid_value"),
        (supervised(learning_rate_multiplier=0), "method.supervised.hyperparameters.learning_rate_multiplier",
         "invalid_value"),
        (supervised(learning_rate_multiplier=1e999), "method.supervised.hyperparameters.learning_rate_multiplier",
         "invalid_value"),
        ({"hyperparameters": {"learning_rate_multiplier": 2001}}, "hyperparameters.learning_rate_multiplier",
         "invalid_value"),
        ({"hyperparameters": {"n_epochs": 1}, **supervised(n_epochs=1)}, "hyperparameters", "invalid_value"),
        ({"hyperparameters": 3}, "hyperparameters", "invalid_value"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations", "unsupported"),
        ({"integrations": "wandb"}, "integrations", "invalid_value"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_value"),
        ({"metadata": {"k": "v\0"}}, "metadata.k", "invalid_value"),
        ({"technique": "prefix"}, "technique", "invalid_value"),
        ({"options": {"rank": 0}}, "options.rank", None),
        ({"options": {"rank": "\ud800"}}, "options.rank", "invalid_value"),
        ({"options": {"ranks": 8}}, "options", None),
        ({"options": {"\ud800": 8}}, "options", "invalid_value"),
        ({"options": {"model": 8}}, "options", None),
        ({"options": {"targets": ["wq"]}}, "options.targets", None),
        ({"options": []}, "options", "invalid_value"),
    ],
)  # fmt: skip
def test_it_rejects_a_bad_parameter(
    api: APIClient, form: dict[str, Any], change: dict[str, Any], param: str, code: str | None
) -> None:
    body = json.dumps({**form, **change}).replace("Infinity", "1e999")
    assert refused(api.post(PATH, body, content_type="application/json")) == (param, code)
    assert not TrainingJob.objects.exists()


@pytest.mark.parametrize("missing", ["model", "training_file"])
def test_it_rejects_what_lacks_a_parameter(api: APIClient, form: dict[str, Any], missing: str) -> None:
    del form[missing]
    assert refused(post(api, form)) == (missing, "missing_required_parameter")


def test_it_rejects_a_file_of_another_purpose_or_past_its_time(
    api: APIClient, project: Project, form: dict[str, Any]
) -> None:
    assert (
        refused(post(api, {**form, "training_file": make_file(project, purpose="user_data").uid}))[0] == "training_file"
    )
    file = make_file(project)
    expire(file)
    assert refused(post(api, {**form, "training_file": file.uid})) == ("training_file", "file_not_found")


def test_it_rejects_an_adapter_and_a_model_that_embeds(api: APIClient, form: dict[str, Any], model: Model) -> None:
    Model.objects.create(name="adapter", path="/x", base=model)
    Model.objects.create(name="embedder", path="/x", runner="pooling")
    for name in ("adapter", "embedder"):
        assert refused(post(api, {**form, "model": name}))[0] == "model"


def test_it_rejects_a_model_that_the_key_may_not_use(project: Project, form: dict[str, Any]) -> None:
    narrow = client(create_api_key(project=project, name="narrow", allowed_models=["other"])[1])
    assert refused(post(narrow, form)) == ("model", "model_not_found")


def test_it_rejects_a_strangers_file_as_if_there_were_none(stranger: APIClient, form: dict[str, Any]) -> None:
    theirs = post(stranger, form)
    assert refused(theirs) == ("training_file", "file_not_found")
    nobodys = post(stranger, {**form, "training_file": "file-none"})
    assert (
        theirs.json()["error"]["message"].replace(form["training_file"], "file-none")
        == (nobodys.json()["error"]["message"])
    )


def test_the_same_idempotency_key_makes_one_job(api: APIClient, form: dict[str, Any]) -> None:
    first, second = (post(api, form, Idempotency_Key="once").json() for _ in range(2))
    assert first == second
    assert TrainingJob.objects.count() == 1
    assert refused(post(api, {**form, "seed": 1}, Idempotency_Key="once"), 409)[1] == "idempotency_key_reused"


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


def test_a_stranger_sees_nothing(stranger: APIClient, project: Project, model: Model) -> None:
    uid = make_job(project, model).uid
    assert stranger.get(PATH).json()["data"] == []
    verbs = [("post", f"/{verb}") for verb in ("cancel", "pause", "resume", "retry")]
    for method, path in [("get", ""), ("get", "/events"), *verbs]:
        answer = getattr(stranger, method)(f"{PATH}/{uid}{path}")
        assert refused(answer, 404) == ("id", "fine_tuning_job_not_found")


def test_cancel(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    cancelled = api.post(f"{PATH}/{job.uid}/cancel").json()
    assert cancelled["status"] == "cancelled"
    assert cancelled["finished_at"] >= cancelled["created_at"]
    assert api.post(f"{PATH}/{job.uid}/cancel").json() == cancelled  # it is what was asked for


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_it_rejects_to_cancel_what_has_ended(api: APIClient, project: Project, model: Model, status: str) -> None:
    job = make_job(project, model)
    job.advance(TrainingJob.Status(status))
    refused(api.post(f"{PATH}/{job.uid}/cancel"), 409)


def test_pause_and_resume(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    job.advance(TrainingJob.Status.QUEUED)
    paused = api.post(f"{PATH}/{job.uid}/pause").json()
    assert (paused["status"], paused["paused"]) == ("queued", True)
    refused(api.post(f"{PATH}/{job.uid}/pause"), 409)
    resumed = api.post(f"{PATH}/{job.uid}/resume").json()
    assert (resumed["status"], resumed["paused"]) == ("queued", False)
    refused(api.post(f"{PATH}/{job.uid}/resume"), 409)


def test_retry(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    refused(api.post(f"{PATH}/{job.uid}/retry"), 409)
    job.advance(TrainingJob.Status.FAILED)
    again = api.post(f"{PATH}/{job.uid}/retry").json()
    assert (again["retry_of"], again["status"]) == (job.uid, "validating_files")
    assert TrainingJob.objects.get(uid=again["id"]).api_key is not None
    File.objects.all().delete()
    assert "was deleted" in api.post(f"{PATH}/{job.uid}/retry").json()["error"]["message"]


def test_a_job_that_runs_says_that_it_shall_pause(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    job.advance(TrainingJob.Status.QUEUED)
    job.advance(TrainingJob.Status.RUNNING)
    paused = api.post(f"{PATH}/{job.uid}/pause").json()
    assert (paused["status"], paused["paused"]) == ("running", True)


def test_a_job_that_failed(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    errors = [{"file": job.training_file_uid, "line": 3, "code": "invalid_json", "message": "It is not JSON."}]
    job.advance(
        TrainingJob.Status.FAILED, message="It is bad.", error_code="invalid_training_file",
        error_param="training_file", errors=errors,
    )  # fmt: skip
    shown = api.get(f"{PATH}/{job.uid}").json()
    assert shown["error"] == {"code": "invalid_training_file", "message": "It is bad.", "param": "training_file"}
    assert shown["file_errors"] == errors
    assert shown["fine_tuned_model"] is None


def test_a_job_that_succeeded(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model, suffix="capitals")
    file = make_file(project)
    job.advance(TrainingJob.Status.SUCCEEDED, result_file=file, trained_tokens=1234, message="Trained.")
    shown = api.get(f"{PATH}/{job.uid}").json()
    assert shown["fine_tuned_model"] == job.model_name
    assert shown["fine_tuned_model"].startswith(f"ft:{model.name}:")
    assert ":capitals:" in shown["fine_tuned_model"]
    assert (shown["result_files"], shown["trained_tokens"], shown["error"]) == ([file.uid], 1234, None)
    assert shown["estimated_finish"] is None
    file.delete()
    assert api.get(f"{PATH}/{job.uid}").json()["result_files"] == []


def test_a_job_that_runs_says_when_it_will_be_done(api: APIClient, project: Project, model: Model) -> None:
    job = make_job(project, model)
    job.advance(TrainingJob.Status.RUNNING, step=2, steps=10, trained_tokens=5)
    now = timezone.now()
    for step in (1, 2):
        job.metrics.create(step=step, loss=1, at=now - timedelta(seconds=10 * (2 - step)))
    shown = api.get(f"{PATH}/{job.uid}").json()
    assert abs(shown["estimated_finish"] - now.timestamp() - 80) < 5
    assert (shown["status"], shown["trained_tokens"], shown["step"], shown["steps"]) == ("running", None, 2, 10)
