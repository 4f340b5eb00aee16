"""/v1/fine_tuning/jobs/{id}/deploy and /v1/deployments. What becomes of a deployment is in `test_deploy`."""

from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.datasets.models import Run
from apps.models.models import Model
from apps.training.models import Checkpoint, Deployment, Evaluation, TrainingJob
from tests.datasets.cast import make_version
from tests.training.deploying import make_base, make_checkpoint

pytestmark = pytest.mark.django_db

PATH = "/v1/deployments"
KEYS = {
    "id", "object", "created_at", "ended_at", "name", "kind", "status", "message", "fine_tuning_job_id",
    "checkpoint_id", "step_number", "parity", "left_out", "left_out_count", "verdict", "unseen", "trained", "judge",
    "rubric",
}  # fmt: skip


@pytest.fixture
def base(db: None, tmp_path: Path, settings: Any) -> Model:
    settings.TRAINING_DIR = tmp_path / "training"
    return make_base(tmp_path / "base")


@pytest.fixture
def checkpoint(project: Project, base: Model) -> Checkpoint:
    return make_checkpoint(project, base)


def deploy(api: APIClient, job: TrainingJob, key: str = "", **form: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return api.post(f"/v1/fine_tuning/jobs/{job.uid}/deploy", form, format="json", headers=headers)


def refused(response: Any, status: int = 400) -> tuple[str | None, str | None]:
    assert response.status_code == status, response.content
    error = response.json()["error"]
    return error["param"], error["code"]


def served(checkpoint: Checkpoint) -> Deployment:
    job = checkpoint.job
    model = Model.objects.create(name=job.model_name, path="/x", base=job.base, project=job.project)
    return Deployment.objects.create(
        project=job.project, checkpoint=checkpoint, name=model.name, model=model, status="ready"
    )


def test_it_works(api: APIClient, checkpoint: Checkpoint) -> None:
    made = deploy(api, checkpoint.job).json()
    assert set(made) == KEYS
    assert (made["object"], made["status"], made["kind"]) == ("deployment", "queued", "adapter")
    assert made["name"] == checkpoint.job.model_name
    assert (made["fine_tuning_job_id"], made["checkpoint_id"], made["step_number"]) == (
        checkpoint.job.uid, checkpoint.uid, 10,
    )  # fmt: skip
    assert api.get(f"{PATH}/{made['id']}").json() == made
    assert api.get(PATH).json()["data"] == [made]
    assert api.get(PATH, {"status": "ready"}).json()["data"] == []


def test_with_a_judge(api: APIClient, checkpoint: Checkpoint, tmp_path: Path) -> None:
    make_base(tmp_path / "judge", "judge")
    assert deploy(api, checkpoint.job).json()["judge"] == ""
    made = deploy(api, checkpoint.job, name="capitals", judge="judge").json()
    assert (made["judge"], made["rubric"][:32]) == ("judge", "The reference answer is right. 5")
    made = deploy(api, checkpoint.job, name="rivers", judge="judge", rubric="Be strict.").json()
    assert (made["judge"], made["rubric"]) == ("judge", "Be strict.")


def test_another_checkpoint_under_a_name_of_its_own(api: APIClient, project: Project, checkpoint: Checkpoint) -> None:
    assert checkpoint.job.base
    earlier = make_checkpoint(project, checkpoint.job.base, step=5, job=checkpoint.job)
    Checkpoint.objects.filter(pk=earlier.pk).update(best=False)
    made = deploy(api, checkpoint.job, checkpoint=earlier.uid, kind="merged", name="capitals").json()
    assert (made["name"], made["kind"], made["step_number"]) == ("capitals", "merged", 5)


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({"kind": "gguf"}, 400, "kind"),
        ({"checkpoint": "ftckpt_none"}, 400, "checkpoint"),
        ({"checkpoint": "\0"}, 400, "checkpoint"),
        ({"name": "a\nb"}, 400, "name"),
        ({"name": "x" * 201}, 400, "name"),
        ({"name": "base"}, 400, "name"),
        ({"judge": "nobody"}, 404, "judge"),
        ({"judge": ["base"]}, 400, "judge"),
        ({"rubric": "Be strict."}, 400, "judge"),
        ({"judge": "base", "rubric": "x" * 20_001}, 400, "rubric"),
        ({"judge": "base", "rubric": "a\0b"}, 400, "rubric"),
    ],
)
def test_it_rejects(api: APIClient, checkpoint: Checkpoint, form: dict[str, Any], status: int, param: str) -> None:
    assert refused(deploy(api, checkpoint.job, **form), status)[0] == param
    assert not Deployment.objects.exists()


def test_it_rejects_a_job_without_a_result(api: APIClient, checkpoint: Checkpoint) -> None:
    Checkpoint.objects.update(best=False)
    refused(deploy(api, checkpoint.job), 409)


def test_it_rejects_to_deploy_twice(api: APIClient, checkpoint: Checkpoint) -> None:
    assert deploy(api, checkpoint.job).status_code == 200
    assert refused(deploy(api, checkpoint.job), 409)[0] == "name"


def test_the_same_idempotency_key_deploys_once(api: APIClient, checkpoint: Checkpoint) -> None:
    first, second = (deploy(api, checkpoint.job, "once").json() for _ in range(2))
    assert first == second
    assert Deployment.objects.count() == 1


def test_undeploy(api: APIClient, checkpoint: Checkpoint) -> None:
    deployment = served(checkpoint)
    taken = api.post(f"{PATH}/{deployment.uid}/undeploy").json()
    assert (taken["status"], taken["ended_at"] is not None) == ("undeployed", True)
    assert not Model.objects.filter(name=deployment.name).exists()
    refused(api.post(f"{PATH}/{deployment.uid}/undeploy"), 409)


def test_it_rejects_to_roll_back_to_nothing(api: APIClient, checkpoint: Checkpoint) -> None:
    deployment = served(checkpoint)
    refused(api.post(f"{PATH}/{deployment.uid}/rollback"))
    assert Model.objects.filter(name=deployment.name).exists()


def test_evaluate(api: APIClient, project: Project, checkpoint: Checkpoint) -> None:
    deployment, version = served(checkpoint), make_version(project)
    made = api.post(f"{PATH}/{deployment.uid}/evaluate", {"dataset": version.dataset.uid}, format="json").json()
    run = Run.objects.get()
    assert (made["object"], made["deployment"], made["run"]) == ("deployment.evaluation", deployment.uid, run.uid)
    assert Evaluation.objects.get().run == run
    assert api.get(f"/v1/runs/{run.uid}").status_code == 200


def test_evaluations_are_listed_with_their_scores(api: APIClient, project: Project, checkpoint: Checkpoint) -> None:
    deployment, version = served(checkpoint), make_version(project)
    path = f"{PATH}/{deployment.uid}"
    made = [
        api.post(f"{path}/evaluate", {"dataset": version.dataset.uid}, format="json").json()["id"] for _ in range(3)
    ]
    with CaptureQueriesContext(connection) as queries:
        first = api.get(f"{path}/evaluations?limit=2").json()
    assert ([each["id"] for each in first["data"]], first["has_more"]) == ([made[2], made[1]], True)
    rest = api.get(f"{path}/evaluations?after={made[1]}").json()
    assert [each["id"] for each in rest["data"]] == [made[0]]
    assert first["data"][0]["examples"] == version.examples
    base, tuned = first["data"][0]["scores"]
    assert (base["model"], tuned["model"]) == ("base", deployment.name)
    assert (tuned["answered"], tuned["exact"], tuned["judged"]) == (0, 0, None)
    with CaptureQueriesContext(connection) as fewer:
        api.get(f"{path}/evaluations?limit=1")
    assert len(queries) == len(fewer)


@pytest.mark.parametrize(
    ("form", "param"),
    [({}, "dataset"), ({"dataset": "dataset_none"}, "dataset"), ({"split": "x"}, "split"), ({"part": "all"}, "part")],
)
def test_it_rejects_a_bad_evaluation(api: APIClient, checkpoint: Checkpoint, form: dict[str, str], param: str) -> None:
    deployment = served(checkpoint)
    assert refused(api.post(f"{PATH}/{deployment.uid}/evaluate", form, format="json"))[0] == param
    assert not Run.objects.exists()


def test_it_rejects_to_evaluate_what_is_not_served(api: APIClient, project: Project, checkpoint: Checkpoint) -> None:
    uid, version = deploy(api, checkpoint.job).json()["id"], make_version(project)
    refused(api.post(f"{PATH}/{uid}/evaluate", {"dataset": version.dataset.uid}, format="json"), 409)


def test_it_rejects_to_evaluate_on_a_strangers_dataset(
    api: APIClient, stranger: APIClient, checkpoint: Checkpoint
) -> None:
    theirs = stranger.post("/v1/datasets", {"name": "theirs"}, format="json").json()["id"]
    asked = {"dataset": theirs}
    assert refused(api.post(f"{PATH}/{served(checkpoint).uid}/evaluate", asked, format="json")) == (
        "dataset", "dataset_not_found",
    )  # fmt: skip


def test_a_stranger_sees_nothing(stranger: APIClient, checkpoint: Checkpoint) -> None:
    deployment = served(checkpoint)
    assert refused(deploy(stranger, checkpoint.job), 404)[1] == "fine_tuning_job_not_found"
    assert stranger.get(PATH).json()["data"] == []
    assert stranger.get(f"{PATH}/{deployment.uid}").status_code == 404
    for noun in ("progress", "evaluations"):
        assert stranger.get(f"{PATH}/{deployment.uid}/{noun}").status_code == 404
    for verb in ("undeploy", "rollback", "evaluate"):
        assert stranger.post(f"{PATH}/{deployment.uid}/{verb}").status_code == 404
    deployment.refresh_from_db()
    assert deployment.status == "ready"


def test_a_page_costs_the_same_however_many(api: APIClient, checkpoint: Checkpoint) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert api.get(PATH).status_code == 200
        return len(captured)

    served(checkpoint)
    queries()  # the first notes that the key was used
    one = queries()
    for number in range(5):
        Deployment.objects.create(project=checkpoint.job.project, checkpoint=checkpoint, name=f"n{number}")
    assert queries() == one


def test_progress_is_a_stream(api: APIClient, checkpoint: Checkpoint) -> None:
    answer = api.get(f"{PATH}/{served(checkpoint).uid}/progress")
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/event-stream")


def unproven(checkpoint: Checkpoint) -> Deployment:
    deployment = served(checkpoint)
    Model.objects.update(ready=False)
    score = {"exact": 0, "matched": 0, "loss": 2.5, "unended": 1}
    figures = {"asked": 6, "base": score, "tuned": score}
    parity = {"verdict": "changed", "sentence": "It changed.", "passed": False, "unseen": figures, "trained": None}
    Deployment.objects.filter(pk=deployment.pk).update(status="unproven", parity=parity)
    deployment.refresh_from_db()
    return deployment


def test_what_is_unproven_is_accepted(api: APIClient, checkpoint: Checkpoint) -> None:
    deployment = unproven(checkpoint)
    seen = api.get(f"{PATH}/{deployment.uid}").json()
    assert (seen["status"], seen["verdict"], seen["trained"]) == ("unproven", "changed", None)
    assert seen["unseen"]["tuned"] == {"exact": 0, "matched": 0, "loss": 2.5, "unended": 1}
    assert api.get(PATH, {"status": "unproven"}).json()["data"][0]["id"] == deployment.uid
    accepted = api.post(f"{PATH}/{deployment.uid}/accept").json()
    assert (accepted["status"], accepted["message"]) == ("ready", "Accepted as it is. It changed.")
    assert accepted["parity"]["passed"] is True
    assert Model.objects.get(name=deployment.name).ready
    again = api.post(f"{PATH}/{deployment.uid}/accept")
    assert again.status_code == 409
    assert "there is nothing to accept" in again.json()["error"]["message"]


def test_nothing_else_is_accepted(api: APIClient, checkpoint: Checkpoint) -> None:
    assert refused(api.post(f"{PATH}/deploy_nobodys/accept"), 404)
    deployment = served(checkpoint)
    for status in ("queued", "proving", "ready", "refused", "failed", "undeployed"):
        Deployment.objects.filter(pk=deployment.pk).update(status=status)
        assert api.post(f"{PATH}/{deployment.uid}/accept").status_code == 409
