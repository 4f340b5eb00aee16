"""The duty that brings a deployment's files to where an engine finds them: linked from its checkpoint, or merged.

Killed at any moment it begins again: a folder becomes a model's in the transaction that makes the model's row.
"""

import json
import logging
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import Error, IntegrityError, connection, transaction

from apps.core import leases
from apps.core.crew import Crew
from apps.core.drain import STOP
from apps.core.errors import Stopped
from apps.models.admission.files import is_wanted
from apps.models.admission.generation import NAME as GENERATION
from apps.models.engines.stops import generation_config
from apps.models.installs import errand
from apps.models.installs.errand import Failed, Refused
from apps.models.installs.sources import INCOMING
from apps.models.models import Model
from apps.training import checkpoints
from apps.training.deployments import merging
from apps.training.deployments import services as deployments
from apps.training.deployments.files import Form, folder_of, is_whole_model
from apps.training.deployments.prompts import Questions, prompts_of
from apps.training.models import Deployment
from apps.training.spec import MergeOrder

LOOK_SECONDS = 0.5  # between two looks at the row
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
OF_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
OF_TRAINING = (checkpoints.MANIFEST, "trainer_state.json")  # of no use to an engine

Status = Deployment.Status

log = logging.getLogger(__name__)


def place_next(keeper: leases.Keeper) -> bool:
    """Take on one deployment that waits for its files. Whether there was one."""
    return crew.take_next(keeper, Deployment.objects.filter(status__in=(Status.QUEUED, Status.MERGING)))


def _work(pk: int, held: leases.Held, keeper: leases.Keeper) -> None:
    job = ("base", "project", "training_file", "validation_file")
    rows = Deployment.objects.select_related(*(f"checkpoint__job__{each}" for each in job), "project", "model")
    if deployment := rows.filter(pk=pk, status__in=(Status.QUEUED, Status.MERGING)).first():
        _Placing(deployment, held, keeper).run()


def _give_up(pk: int, why: str) -> None:
    with transaction.atomic():
        if deployment := Deployment.objects.filter(pk=pk, status__in=(Status.QUEUED, Status.MERGING)).first():
            deployments.end(deployment, Status.FAILED, why)


crew = Crew("deployment", _work, _give_up)


class _Placing:
    """One deployment, from QUEUED or MERGING to PROVING, or to its end."""

    def __init__(self, deployment: Deployment, held: leases.Held, keeper: leases.Keeper) -> None:
        self._deployment, self._held, self._keeper = deployment, held, keeper
        self._looked = time.monotonic()

    def run(self) -> None:
        """Every way to end is a status of the row; raises only what lets it go on later."""
        try:
            self._merge() if self._deployment.status == Status.MERGING else self._link()
        except checkpoints.Corrupt as error:
            self._end(Status.REFUSED, f"The checkpoint is not what was saved: {error}")
        except Refused as error:
            self._end(Status.REFUSED, str(error))
        except Failed as error:
            self._end(Status.FAILED, str(error))
        except (Stopped, leases.Fenced, Error, psycopg.Error):
            raise
        except OSError as error:
            self._end(Status.FAILED, f"{error.strerror or error}: {error.filename or settings.MODELS_DIR}.")
        except Exception:
            log.exception("%s failed", self._deployment.uid)
            self._end(Status.FAILED, "Something went wrong in the server; its log says what. Deploy it again.")

    def _link(self) -> None:
        """The checkpoint's own files, under names of the deployment's."""
        checkpoint = self._deployment.checkpoint
        checkpoints.verify(checkpoint.folder, digest=checkpoint.digest)
        form: Form = "merged" if is_whole_model(checkpoint) else "adapter"
        incoming = self._incoming(form)
        for name in _wanted(checkpoint.folder, form):
            _link(checkpoint.folder / name, incoming / name)
        if form == "merged":
            _speak_as(self._base(), incoming)
        prompts = self._deployment.parity.get("prompts") or prompts_of(checkpoint.job)
        self._hand_over(form, prompts.as_dict() if isinstance(prompts, Questions) else {})

    def _merge(self) -> None:
        """Adapter and base become one; the adapter has passed its comparison."""
        base = self._base()
        incoming = self._incoming("merged")
        _check_room(incoming, base.bytes)
        adapter = folder_of(self._deployment, "adapter")
        order = MergeOrder(
            model=base.path, adapter=str(adapter), folder=str(incoming), generation_config=_generation_config(base)
        )
        merged = merging.merge(order, log=merging.log_path(self._deployment), go_on=self._go_on)
        numbers = {"changed": merged.changed, "tensors": merged.tensors, "bytes": merged.bytes}
        if not merged.changed:
            self._keep({"merge": numbers})
            raise Refused(
                f"The merge changed none of the {merged.tensors:,} tensors: rounded to 16 bits, the model equals its "
                "base. Deploy the adapter itself, or train it for more steps."
            )
        self._hand_over("merged", {"merge": numbers})

    def _incoming(self, form: Form) -> Path:
        """An empty folder; what a killed worker left is cleared away."""
        folder = folder_of(self._deployment, form)
        incoming = folder.with_name(folder.name + INCOMING)
        for old in (folder, incoming):
            shutil.rmtree(old, ignore_errors=True)
        incoming.mkdir(parents=True)
        return incoming

    def _hand_over(self, form: Form, found: dict[str, object]) -> None:
        """Admitted as any stranger's files, it becomes a model that nobody can use yet: it has to prove itself."""
        folder = folder_of(self._deployment, form)
        incoming = folder.with_name(folder.name + INCOMING)
        base = self._base().path if form == "adapter" else ""
        order = errand.Order(verb="inspect", folder=str(incoming), key=settings.SECRET_KEY, base=base)
        errand.run(
            order, cwd=settings.BASE_DIR, stall=settings.MODEL_STALL_SECONDS, on_news=lambda _: None, go_on=self._go_on
        )
        incoming.rename(folder)
        _sync(folder.parent)
        try:
            self._prove(form, found)
        except IntegrityError as error:
            name = self._deployment.name
            raise Failed(f"A model is called {name!r} by now: deploy it under another name.") from error

    def _prove(self, form: Form, found: dict[str, object]) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            leases.fence(cursor, self._held)
            if self._deployment.model:
                self._deployment.model.delete()  # the adapter, which has passed
            model = deployments.make_model(self._deployment, form, ready=False)
            parity = self._deployment.parity | found
            if not self._deployment.advance(Status.PROVING, model=model, parity=parity, message=""):
                raise Stopped
            deployments.tell(self._deployment)

    def _keep(self, found: dict[str, object]) -> None:
        parity = self._deployment.parity | found
        Deployment.objects.filter(pk=self._deployment.pk, status=self._deployment.status).update(parity=parity)

    def _base(self) -> Model:
        base = self._deployment.checkpoint.job.base
        if base is None:
            raise Failed("Its base model was deleted meanwhile.")
        return base

    def _go_on(self) -> bool:
        """Asked all the time: whether we are still wanted."""
        if STOP.is_set() or not self._keeper.holds(self._held):
            return False
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return True
        self._looked = time.monotonic()
        with suppress(Error, psycopg.Error):  # the database is away: the lease says for how long we may go on without
            return Deployment.objects.filter(pk=self._deployment.pk, status=self._deployment.status).exists()
        return True

    def _end(self, status: Deployment.Status, message: str) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            leases.fence(cursor, self._held)
            if not deployments.end(self._deployment, status, message):
                raise Stopped


def _wanted(folder: Path, form: Form) -> list[str]:
    """What an engine needs of a checkpoint."""
    if form == "adapter":
        return list(ADAPTER_FILES)
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return [name for name in names if is_wanted(name) and name not in OF_TRAINING]


def _speak_as(base: Model, folder: Path) -> None:
    """A whole model gets its base's tokenizer and chat template, with which it was trained, and knows its ends."""
    for name in OF_TOKENIZER:
        if (base.folder / name).is_file():
            (folder / name).unlink(missing_ok=True)  # it may be the checkpoint's own file
            shutil.copyfile(base.folder / name, folder / name)
    if config := _generation_config(base):
        (folder / GENERATION).unlink(missing_ok=True)
        (folder / GENERATION).write_text(json.dumps(config))


def _generation_config(base: Model) -> dict[str, Any] | None:
    return generation_config(base.folder, base.engine_settings.get("chat_template"))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, target)
        _sync(target)


def _check_room(folder: Path, size: int) -> None:
    free, needed = shutil.disk_usage(folder).free, size + settings.TRAINING_DISK_RESERVE_BYTES
    if free < needed:
        raise Failed(
            f"The merged model takes {size / 1e9:.1f} GB, and {settings.MODELS_DIR} has {free / 1e9:.1f} GB free: make "
            f"room for {needed / 1e9:.1f} GB, and deploy it again."
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
