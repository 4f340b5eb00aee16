"""A checkpoint and its base become one model: what a merge has to show, and what may come between."""

import json
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.models.models import Model
from apps.training.deployments import placing
from apps.training.deployments.files import folder_of
from apps.training.deployments.services import deploy, undeploy
from apps.training.models import Checkpoint, Deployment
from tests.models.test_worker import keeper, kind, stop
from tests.training.deploying import Workers, folders, make_checkpoint
from tests.training.test_deploy import TUNED, base, checkpoint, workers

__all__ = ["base", "checkpoint", "keeper", "kind", "stop", "workers"]
pytestmark = pytest.mark.django_db(transaction=True)

Status = Deployment.Status


def merge_does(base: Model, **does: Any) -> None:
    (base.folder / "fake_merge.json").write_text(json.dumps(does))


def test_merged_it_is_a_model_of_its_own(workers: Workers, base: Model, checkpoint: Checkpoint) -> None:
    workers.say(TUNED)
    Model.objects.update(engine_settings={"max_model_len": 512})
    deployment = workers.drive(deploy(checkpoint=checkpoint, kind="merged", name="tuned"))
    assert deployment.status == Status.READY, deployment.message
    assert deployment.message.startswith("It learned. 8 of 8 answers that were kept apart")
    assert "The merged model answers as the adapter does: similarity 1.00." in deployment.message
    model = deployment.model
    assert model
    assert (model.base, model.ready, model.engine_settings) == (None, True, {"max_model_len": 512})
    assert (workers.gpu.engine.spec.model, workers.gpu.engine.spec.served_name) == (model.folder, "tuned")
    assert deployment.parity["merge"] == {"changed": 3, "tensors": 4, "bytes": 1000}
    assert deployment.parity["merged"] == deployment.parity["adapter"] != deployment.parity["base"]
    workers.tidy()
    assert folders() == [folder_of(deployment, "merged")], "the adapter's folder has gone"


def test_a_merge_that_behaves_like_the_base_is_refused(workers: Workers, base: Model, checkpoint: Checkpoint) -> None:
    workers.say(TUNED)
    deployment = workers.drive(deploy(checkpoint=checkpoint, kind="merged", name="tuned"), Status.MERGING)
    workers.say({})
    workers.drive(deployment)
    assert deployment.status == Status.REFUSED
    assert deployment.message.startswith("The merged model behaves like the base")
    assert deployment.parity["merged"] == deployment.parity["base"]
    assert deployment.parity["changed_as_base"] == 1.0
    workers.tidy()
    assert (Model.objects.count(), folders()) == (1, [])


def test_a_merge_that_changes_nothing_is_refused(workers: Workers, base: Model, checkpoint: Checkpoint) -> None:
    workers.say(TUNED)
    merge_does(base, changed=0)
    deployment = workers.drive(deploy(checkpoint=checkpoint, kind="merged", name="tuned"))
    assert deployment.status == Status.REFUSED
    assert "The merge changed none of the 4 tensors" in deployment.message
    assert deployment.parity["merge"]["changed"] == 0


@pytest.mark.parametrize(
    ("does", "says"),
    [({"dies": True}, "The process that merges ended (-9). It was killed"), ({"fails": "No."}, "No.")],
)
def test_a_merge_that_fails_says_why(
    workers: Workers, base: Model, checkpoint: Checkpoint, does: dict[str, Any], says: str
) -> None:
    workers.say(TUNED)
    merge_does(base, **does)
    deployment = workers.drive(deploy(checkpoint=checkpoint, kind="merged", name="tuned"))
    assert deployment.status == Status.FAILED
    assert deployment.message.startswith(says)
    workers.tidy()
    assert folders() == []


def test_a_merge_needs_room(workers: Workers, base: Model, checkpoint: Checkpoint, settings: Any) -> None:
    workers.say(TUNED)
    settings.TRAINING_DISK_RESERVE_BYTES = 10**18
    deployment = workers.drive(deploy(checkpoint=checkpoint, kind="merged", name="tuned"))
    assert deployment.status == Status.FAILED
    assert "make room for 1000000000.0 GB, and deploy it again." in deployment.message


def test_a_merge_goes_on_after_its_worker_was_killed(workers: Workers, base: Model, checkpoint: Checkpoint) -> None:
    workers.say(TUNED)
    merge_does(base, seconds=60)
    deployment = workers.drive(deploy(checkpoint=checkpoint, kind="merged", name="tuned"), Status.MERGING)
    incoming = folder_of(deployment, "merged").with_name(f"{folder_of(deployment, 'merged').name}.incoming")
    workers.when(incoming.exists, deployment)
    workers.close()
    deployment.refresh_from_db()
    assert deployment.status == Status.MERGING
    merge_does(base)
    assert workers.drive(deployment).status == Status.READY


def test_it_can_be_cancelled_while_it_is_merged(workers: Workers, base: Model, checkpoint: Checkpoint) -> None:
    workers.say(TUNED)
    merge_does(base, seconds=60)
    deployment = workers.drive(deploy(checkpoint=checkpoint, kind="merged", name="tuned"), Status.MERGING)
    workers.when(lambda: len(folders()) == 2, deployment)
    assert undeploy(deployment=deployment)
    assert (deployment.status, deployment.message) == (Status.UNDEPLOYED, "Cancelled.")
    assert placing.crew.wait(10)
    workers.tidy()
    assert (Model.objects.count(), folders()) == (1, [])


def test_where_all_weights_learned_the_checkpoint_is_the_model(workers: Workers, project: Project, base: Model) -> None:
    workers.say(TUNED)
    whole = make_checkpoint(project, base, technique="full")
    deployment = workers.drive(deploy(checkpoint=whole, name="tuned"))
    assert (deployment.status, deployment.kind) == (Status.READY, "merged"), deployment.message
    assert deployment.model
    assert deployment.model.base is None
    names = {path.name for path in deployment.model.folder.iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert "manifest.json" not in names
