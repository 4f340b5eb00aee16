"""What can be done with deployments; the API, the admin and the commands call these.

A deployment is QUEUED until `placing` has its files where an engine finds them, then PROVING until `proving` has
compared its answers with the base model's. To be merged, it goes through MERGING and is compared once more. One that
changed, but not as taught, is UNPROVEN until somebody accepts it.
"""

from django.contrib.auth.models import User
from django.db import transaction

from apps.core import bell
from apps.core.errors import Conflict, DomainError
from apps.datasets.runs import judging
from apps.datasets.runs import services as runs
from apps.events import progress
from apps.events.services import announce
from apps.models.installs import manifest
from apps.models.models import Model
from apps.models.services import check_name, delete_model
from apps.training.deployments.files import Form, folder_of, is_whole_model, served_form, was_served
from apps.training.deployments.judged import ChosenJudge
from apps.training.models import Checkpoint, Deployment, TrainingJob
from apps.training.services import note

TOPIC = "deployment"
NAME_CHARACTERS = 200

Kind = Deployment.Kind
Status = Deployment.Status


def deploy(
    *,
    checkpoint: Checkpoint,
    kind: str = Kind.ADAPTER,
    name: str = "",
    judge: ChosenJudge | None = None,
    created_by: User | None = None,
) -> Deployment:
    """A deployment that waits for a worker. Where all weights learned, the checkpoint is a model of its own: merged.

    `name` is what requests call it; left out, the job's model name, and for other checkpoints than its result that
    with the step. A `judge` also scores what base and tuned model answer. Raises `DomainError`, and `Conflict` when the
    checkpoint is deployed under that name already.
    """
    if kind not in Kind.values:
        raise DomainError(f"kind is one of {', '.join(Kind.values)}; not {kind[:20]!r}.", param="kind")
    name = name or default_name(checkpoint)
    _check_base(checkpoint.job)
    rubric = _check_judge(judge, checkpoint.job) if judge else ""
    with transaction.atomic():
        TrainingJob.objects.select_for_update(no_key=True).get(pk=checkpoint.job_id)
        _check_free(name)
        deployment = Deployment.objects.create(
            project=checkpoint.job.project,
            checkpoint=checkpoint,
            kind=Kind.MERGED if is_whole_model(checkpoint) else kind,
            name=name,
            judge=judge.model if judge else None,
            judge_name=judge.model.name if judge else "",
            rubric=rubric,
            created_by=created_by,
        )
        tell(deployment)
    deployment.refresh_from_db()
    return deployment


def default_name(checkpoint: Checkpoint) -> str:
    """Raises `DomainError` when it is too long."""
    name = checkpoint.job.model_name if checkpoint.best else checkpoint.model_name
    if len(name) > NAME_CHARACTERS:
        raise DomainError("The model's usual name is too long: give a shorter one.", param="name")
    return name


def accept(*, deployment: Deployment, accepted_by: User | None = None) -> bool:
    """Serve one that changed, but not as taught, as somebody looked at it. False when nothing waits for that."""
    with transaction.atomic():
        locked = _locked(deployment)
        won = locked.status == Status.UNPROVEN and make_ready(locked, f"Accepted as it is. {locked.parity['sentence']}")
        if won:
            by = accepted_by.get_username() if accepted_by else ""
            Deployment.objects.filter(pk=locked.pk).update(parity=locked.parity | {"passed": True, "accepted_by": by})
    deployment.refresh_from_db()
    return won


def undeploy(*, deployment: Deployment) -> bool:
    """Serve it no more, or stop what goes on. False when it is neither served nor on its way.

    What it answered stays, and its files for a while: see `deployed`. Raises `Conflict` with what still needs it.
    """
    try:
        with transaction.atomic():
            done = _take_back(_locked(deployment))
    finally:
        deployment.refresh_from_db()
    return done


def roll_back(*, deployment: Deployment) -> Deployment:
    """Serve the one that was served before it under the same name; `deployment`, if it is served, is taken back.

    It was compared when it was deployed, and is not compared again. Raises `DomainError` when there is none whose files
    are still there, `Conflict` when something needs the one that is served.
    """
    try:
        with transaction.atomic():
            earlier = _earlier(_locked(deployment))
            _take_back(_locked(deployment))
            _check_free(deployment.name)
            _serve_again(earlier)
    finally:
        deployment.refresh_from_db()
    return earlier


def end(deployment: Deployment, to: Deployment.Status, message: str) -> bool:
    """Refused or failed, in the caller's transaction. `settle_boots` forgets its model, whose engine may be running."""
    won = deployment.advance(to, message=message)
    if won:
        tell(deployment)
    return won


def make_ready(deployment: Deployment, message: str) -> bool:
    """Served from now on, in the caller's transaction."""
    won = deployment.model is not None and deployment.advance(Status.READY, message=message)
    if won and deployment.model:
        Model.objects.filter(pk=deployment.model.pk).update(ready=True)
        note(deployment.checkpoint.job, f"Deployed as {deployment.name}.", data={"deployment": deployment.uid})
        announce(type="model.deployed", project=deployment.project, data={"id": deployment.uid})
        tell(deployment)
    return won


def make_model(deployment: Deployment, form: Form, *, ready: bool) -> Model:
    """The row of what is in its folder of that form. Raises `IntegrityError` when the name is taken, `Changed`."""
    folder, base = folder_of(deployment, form), deployment.checkpoint.job.base
    assert base  # noqa: S101 (for mypy: whoever calls has looked)
    revision, size = manifest.summary(folder)
    return Model.objects.create(
        name=deployment.name,
        path=str(folder),
        revision=revision,
        bytes=size,
        runner=base.runner,
        base=base if form == "adapter" else None,
        project=deployment.project,
        license=base.license,
        owned_by=deployment.project.uid,
        engine_settings={} if form == "adapter" else base.engine_settings,
        ready=ready,
    )


def _check_base(job: TrainingJob) -> None:
    """What is deployed is compared with it."""
    if job.base is None or not job.base.ready:
        raise DomainError(f"The model {job.base_name} that it was trained on was deleted: install it again, and train.")


def _check_judge(judge: ChosenJudge, job: TrainingJob) -> str:
    """Its rubric. Raises `DomainError`."""
    try:
        runs.check_model(judge.model, job.project, judge.api_key)
    except DomainError as error:
        raise DomainError(error.message, param="judge", code=error.code) from error
    return judging.check_rubric(judge.rubric)


def _check_free(name: str) -> None:
    """Raises `DomainError` for what cannot be a model's name, `Conflict` for what is one's, or will be."""
    taken = Deployment.objects.filter(name=name, status__in=(*Deployment.OPEN, Status.READY)).first()
    if taken is not None:
        raise Conflict(f"{name} is {taken.status} already: take that deployment back first.", param="name")
    check_name(name)


def _locked(deployment: Deployment) -> Deployment:
    rows = Deployment.objects.select_related("checkpoint__job__base", "project", "model")
    return rows.select_for_update(of=("self",)).get(pk=deployment.pk)


def _take_back(deployment: Deployment) -> bool:
    """Raises `Conflict`."""
    going, model = deployment.status in Deployment.OPEN, deployment.model
    if not going and deployment.status != Status.READY:
        return False
    deployment.advance(Status.UNDEPLOYED, message="Cancelled." if going else "Taken back.")
    if model is not None:
        delete_model(model=model)
    tell(deployment)
    return True


def _earlier(deployment: Deployment) -> Deployment:
    """The latest of its name that was served before it, whose files are there. Raises `DomainError`."""
    same = Deployment.objects.filter(project=deployment.project, name=deployment.name, pk__lt=deployment.pk)
    rows = same.filter(status=Status.UNDEPLOYED).select_related("checkpoint__job__base", "project", "model")
    for row in rows.order_by("-pk"):
        if was_served(row) and (folder_of(row, served_form(row)) / manifest.NAME).is_file():
            return row
    raise DomainError(f"There is no earlier {deployment.name} whose files are kept: deploy its checkpoint again.")


def _serve_again(deployment: Deployment) -> None:
    _check_base(deployment.checkpoint.job)
    try:
        model = make_model(deployment, served_form(deployment), ready=True)
    except manifest.Changed as error:
        raise DomainError(f"{error} Deploy its checkpoint again.") from error
    deployment.advance(Status.READY, model=model, message="Served again.")
    tell(deployment)


def tell(deployment: Deployment) -> None:
    """Wake who works on it, and who watches it, after the commit."""
    bell.ring("control")
    bell.ring("gpu")
    progress.hint(TOPIC, deployment.uid)
