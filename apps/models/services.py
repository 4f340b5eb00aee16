"""What can be done with models; the API, the admin and the commands call these."""

import re
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.functions import Now

from apps.accounts.models import Project
from apps.core import bell
from apps.core.errors import Conflict, DomainError
from apps.events import progress
from apps.models import removal
from apps.models.admission.chat_template import PLAIN, try_template
from apps.models.engines import settings as settings_of_engines
from apps.models.engines.orders import order_engine
from apps.models.installs import sources
from apps.models.models import Device, HubToken, Install, Model
from apps.models.removal import Preview
from apps.models.slots import Slot

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,199}")
ROUTES = ("install", "installs", "benchmarks")  # first parts of names that the API needs for itself
TOKEN = re.compile(r"[\x21-\x7e]{8,500}")
RETRYABLE = (Install.Status.FAILED, Install.Status.REFUSED, Install.Status.CANCELLED)


def register_model(
    *,
    name: str,
    path: Path,
    runner: str = Model.Runner.GENERATE,
    base: Model | None = None,
    project: Project | None = None,
    owned_by: str = "local",
    license: str = "",  # noqa: A002 - the field's own word
) -> Model:
    """Make a folder of weights, or an adapter on `base`, known under `name`; registering it again updates it.

    Raises `ValueError` when the folder does not hold what it should.
    """
    marker = "adapter_config.json" if base else "config.json"
    if not (path / marker).is_file():
        raise ValueError(f"{path} holds no {marker}: give a folder in Hugging Face's layout.")
    model, _ = Model.objects.update_or_create(
        name=name,
        defaults={
            "path": str(path.resolve()),
            "runner": runner,
            "base": base,
            "project": project,
            "owned_by": owned_by,
            "license": license,
        },
    )
    return model


def start_install(
    *,
    source: str,
    name: str = "",
    base: Model | None = None,
    project: Project | None,
    created_by: User | None = None,
    engine_settings: dict[str, Any] | None = None,
) -> Install:
    """Begin to make a repository of the hub, or a folder, a model that `project` (None: everybody) can use.

    `base` is the model that an adapter was trained on; where it is left out, the adapter says it. Folders are for the
    machine's operators: without a project, or by a superuser. Raises `DomainError`.
    """
    wanted = _source(source, project, created_by)
    name = name or wanted.suggested_name
    check_name(name)
    if base and not _may_ride_on(base, project):
        raise DomainError(f"{base.name!r} is no base model that can be used here.", param="base")
    check_engine_settings(engine_settings or {})
    with transaction.atomic():
        install = Install.objects.create(
            source=source.strip(),
            name=name,
            base=base,
            project=project,
            created_by=created_by,
            engine_settings=engine_settings or {},
        )
        _tell(install)
    install.refresh_from_db()
    return install


def check_engine_settings(raw: Any) -> None:
    """Raises `DomainError` for settings that no slot's engine can be started with, or that hold a harmful template."""
    slots = [Slot.parse(key).devices for key in Device.objects.values_list("slot", flat=True)]
    try:
        chosen = settings_of_engines.parse(raw, slots=slots)
    except ValueError as error:
        raise DomainError(str(error), param="engine_settings") from error
    if chosen.chat_template is None:
        return
    trial = try_template(chosen.chat_template)
    if problem := trial.verdict or trial.refused.get(PLAIN):
        raise DomainError(f"chat_template: {problem}", param="engine_settings")


def choose_defaults(*, model: Model, ignore: bool) -> None:
    """Whether requests that do not choose get vLLM's defaults (`ignore`) or the model's own; its engines start anew."""
    base = model.engine_model
    chosen = {key: value for key, value in base.engine_settings.items() if key != "ignore_generation_config"}
    Model.objects.filter(pk=base.pk).update(
        engine_settings=chosen | ({"ignore_generation_config": True} if ignore else {})
    )
    for engine in base.engines.all():
        order_engine(engine=engine, order=engine.Order.STOP)


def cancel_install(*, install: Install) -> bool:
    """Stop it within seconds. False when it has ended, or was cancelled before."""
    going_on = Install.objects.filter(pk=install.pk, cancel_requested_at=None).exclude(status__in=Install.ENDED)
    return _change(install, going_on, cancel_requested_at=Now())


def retry_install(*, install: Install) -> bool:
    """Begin again; files that are there are not fetched again. False while it goes on, or when it is ready."""
    if install.status in RETRYABLE:
        check_name(install.name)
    fresh: dict[str, Any] = {"message": "", "refusals": [], "cancel_requested_at": None, "ended_at": None}
    stopped = Install.objects.filter(pk=install.pk, status__in=RETRYABLE)
    return _change(install, stopped, status=Install.Status.QUEUED, **fresh)


def save_hub_token(*, project: Project | None, token: str) -> None:
    """The hub's token for a project, or for those that have none (None). Empty: forget it. Raises `DomainError`."""
    token = token.strip()
    if token and not TOKEN.fullmatch(token):
        raise DomainError("A token is 8 to 500 printable characters: copy it anew from the hub.", param="token")
    with transaction.atomic():
        HubToken.objects.filter(project=project).delete()
        if token:
            HubToken.objects.create(project=project, token=token, hint=f"…{token[-4:]}")


def delete_preview(*, model: Model) -> Preview:
    """What deleting the model would take along, and what forbids it now."""
    return removal.preview(model)


def delete_model(*, model: Model) -> None:
    """Forget the model; its engine stops, and files that nobody else needs go. What it answered is kept.

    Raises `Conflict` with what forbids it.
    """
    with transaction.atomic():
        Model.objects.select_for_update().filter(pk=model.pk).first()
        found = removal.preview(model)
        if found.blockers:
            raise Conflict(" ".join(found.blockers))
        model.delete()
        bell.ring("control")  # whose duty takes the files away
        bell.ring("gpu")


def _source(text: str, project: Project | None, created_by: User | None) -> sources.Source:
    try:
        source = sources.parse(text, endpoint=settings.HF_ENDPOINT)
    except sources.BadSource as error:
        raise DomainError(str(error), param="source") from error
    if source.folder:
        if project is not None and not (created_by and created_by.is_superuser):
            raise DomainError("Only an administrator installs from a folder of the machine.", param="source")
        if not source.folder.is_dir():
            raise DomainError(f"There is no folder {source.folder} on the server.", param="source")
    return source


def check_name(name: str) -> None:
    """Raises `DomainError` for what cannot be a model's name, or is one's already."""
    if not NAME.fullmatch(name) or "//" in name:
        message = "A model's name has 1 to 200 letters, digits and . _ : / @ -, and begins with a letter or digit."
        raise DomainError(message, param="name")
    if name.partition("/")[0] in ROUTES:
        raise DomainError(f"{name!r} is an address of the API: choose another name.", param="name")
    going_on = Install.objects.exclude(status__in=Install.ENDED)
    if Model.objects.filter(name=name).exists() or going_on.filter(name=name).exists():
        raise DomainError(f"A model is called {name!r} already: choose another name.", param="name")


def _may_ride_on(base: Model, project: Project | None) -> bool:
    return base.ready and base.base is None and base.project in (None, project)


def _change(install: Install, legal: Any, **changes: Any) -> bool:
    with transaction.atomic():
        changed: int = legal.update(**changes)
        if changed:
            install.refresh_from_db()
            _tell(install)
    return bool(changed)


def _tell(install: Install) -> None:
    """Wake who works on it, and who watches it, after the commit."""
    bell.ring("control")
    progress.hint("install", install.uid)
