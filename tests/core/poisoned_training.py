"""Poisoned rows of fine-tuning: jobs and deployments."""

from apps.training.deployments import placing
from apps.training.deployments.proving import settle_deployments
from apps.training.deployments.services import deploy
from apps.training.files import validation
from apps.training.models import Deployment, TrainingJob
from apps.training.work import go_on_where_there_is_room
from tests.core.poison import (
    Case,
    World,
    crewed,
    failed_message,
    look,
    on_gpu,
    put_folder_in_place_of,
    watched,
)
from tests.training.cast import make_file, make_job


def a_job_to_validate(world: World) -> TrainingJob:
    file = make_file(world.project)
    job = make_job(world.project, world.model, file)
    put_folder_in_place_of(file)
    return job


def a_job_to_train(world: World) -> TrainingJob:
    job = make_job(world.project, world.model)
    job.advance(TrainingJob.Status.QUEUED)
    TrainingJob.objects.filter(pk=job.pk).update(options={"nonsense": 1})
    return job


def a_paused_job(world: World) -> TrainingJob:
    job = make_job(world.project, world.model)
    job.advance(TrainingJob.Status.QUEUED)
    job.advance(TrainingJob.Status.PAUSED, error_code="disk_full")
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    job.folder.write_text("a file where its folder should be")
    return job


def a_deployment(world: World) -> Deployment:
    job = make_job(world.project, world.model)
    job.advance(TrainingJob.Status.QUEUED)
    job.advance(TrainingJob.Status.SUCCEEDED)
    checkpoint = job.checkpoints.create(step=1, path=str(world.folder / "gone"), digest="", bytes=1, best=True)
    return deploy(checkpoint=checkpoint, name="tuned")


def a_deployment_to_place(world: World) -> Deployment:
    """Whatever its files are, it ends at once, with what is wrong with them."""
    world.break_code("apps.training.deployments.placing._Placing.run")
    return a_deployment(world)


def a_deployment_to_prove(world: World) -> Deployment:
    deployment = a_deployment(world)
    Deployment.objects.filter(pk=deployment.pk).update(
        status=Deployment.Status.PROVING, parity={"nonsense": 1}, model=world.model
    )
    return deployment


def a_deployment_to_settle(world: World) -> Deployment:
    world.break_code("apps.training.deployments.proving._settle")
    return a_deployment_to_prove(world)


CASES = {
    "validate training files": Case(
        a_job_to_validate, crewed(validation.validate_next, validation.CREW), failed_message, watched("training")
    ),
    "go on where there is room": Case(
        a_paused_job, look(go_on_where_there_is_room), failed_message, watched("training")
    ),
    "training": Case(a_job_to_train, on_gpu("training"), failed_message, watched("training")),
    "place deployments": Case(
        a_deployment_to_place, crewed(placing.place_next, placing.crew), failed_message, watched("deployment")
    ),
    "settle deployments": Case(a_deployment_to_settle, look(settle_deployments), failed_message, watched("deployment")),
    "parity": Case(a_deployment_to_prove, on_gpu("parity"), failed_message, watched("deployment")),
}
