"""What goes when a model goes, what forbids it, and the duty that takes files away which nobody needs."""

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from apps.core import leases
from apps.models import claims
from apps.models.installs.sources import COMMIT, INCOMING, BadSource, files_folder, lock_file, parse
from apps.models.models import Benchmark, Engine, Install, Model

STUCK_SECONDS = 600.0  # until a folder that could not be removed is tried again
KEEP_FAILED = timedelta(days=7)  # what was fetched for an install that failed, for its next try

log = logging.getLogger(__name__)

_stuck: dict[Path, float] = {}  # what could not be removed -> monotonic time of its next turn in this process


@dataclass(frozen=True, slots=True)
class Use:
    """What of one kind names a model: in all, and what needs it now."""

    what: str
    """In plural: "batches"."""
    total: int
    running: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What deleting a model would do."""

    model: str
    folder: Path
    bytes_freed: int
    """0 where the folder stays."""
    files_stay: str
    """Why, as a sentence; empty when the files go."""
    shared_with: tuple[str, ...]
    adapters: tuple[str, ...]
    engines: tuple[str, ...]
    """Devices on which it is loaded."""
    benchmarks: int
    uses: tuple[Use, ...]
    blockers: tuple[str, ...]
    """Why it cannot be deleted now, a sentence with the cure each."""


Count = Callable[[Model], Use]
_users: dict[str, Count] = {}


def register(name: str, count: Count) -> None:
    """Apps above name models too: `count` says how many of theirs do, and how many need it now."""
    _users[name] = count


def preview(model: Model) -> Preview:
    uses = tuple(count(model) for count in _users.values())
    adapters = tuple(model.adapters.values_list("name", flat=True))
    engines = model.engines.exclude(state__in=(Engine.State.STOPPED, Engine.State.FAILED)).select_related("device")
    shared = tuple(Model.objects.filter(path=model.path).exclude(pk=model.pk).values_list("name", flat=True))
    stay = _why_files_stay(model, shared)
    return Preview(
        model=model.name,
        folder=model.folder,
        bytes_freed=0 if stay else _size(model.folder),
        files_stay=stay,
        shared_with=shared,
        adapters=adapters,
        engines=tuple(str(engine.device) for engine in engines),
        benchmarks=model.benchmarks.count(),
        uses=uses,
        blockers=tuple(_blockers(model, adapters, uses)),
    )


def remove_unused_files(_keeper: leases.Keeper) -> bool:
    """Delete one folder of fetched files that no model and no install needs. Whether there was one."""
    for folder in _fetched(settings.MODELS_DIR):
        if _stuck.get(folder, 0.0) > time.monotonic():
            continue
        with _locked(folder) as ours:
            if not ours or _needed(folder):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                log.info("Removed %s, which nothing needs", folder)
                return True
            log.warning("%s cannot be removed, though nothing needs it: look at its permissions", folder)
            _stuck[folder] = time.monotonic() + STUCK_SECONDS
    return False


def _blockers(model: Model, adapters: tuple[str, ...], uses: tuple[Use, ...]) -> Iterator[str]:
    if adapters:
        yield f"{', '.join(adapters)} ride on {model.name}: delete them first."
    for use in uses:
        if use.running:
            yield f"{use.running} {use.what} need {model.name} now: wait for them, or cancel them."
    open_ = (Benchmark.Status.QUEUED, Benchmark.Status.RUNNING)
    if benchmarks := model.benchmarks.filter(status__in=open_).count():
        yield f"{benchmarks} benchmarks measure {model.name} now: wait for them, or cancel them."
    if model.installs.filter(status=Install.Status.BOOTING).exists():
        yield f"{model.name} is being installed: wait for it, or cancel the install."


def _why_files_stay(model: Model, shared: tuple[str, ...]) -> str:
    if shared:
        return f"{', '.join(shared)} use the same files."
    if model.folder not in _fetched(settings.MODELS_DIR):
        return "The folder was not fetched by this server, and stays where it is."
    return claims.why_kept(model.folder)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _fetched(models_dir: Path) -> list[Path]:
    """The folders of commits, and those that apps above made in their likeness; those that are not complete too."""
    return [folder for folder in models_dir.glob("*--*/*") if COMMIT.fullmatch(folder.name.removesuffix(INCOMING))]


def _needed(folder: Path) -> bool:
    """By a model, an app above, an install that goes on, or one that failed lately and may be tried again."""
    commit = folder.name.removesuffix(INCOMING)
    whole = folder.with_name(commit)
    if Model.objects.filter(path=str(whole)).exists() or claims.why_kept(whole):
        return True
    lately = Q(status=Install.Status.FAILED, ended_at__gt=Now() - KEEP_FAILED)
    installs = Install.objects.filter(~Q(status__in=Install.ENDED) | lately, revision=commit)
    return any(_folder_of(install) == whole for install in installs)


def _folder_of(install: Install) -> Path | None:
    try:
        source = parse(install.source, endpoint=settings.HF_ENDPOINT)
    except BadSource:
        return None
    return files_folder(settings.MODELS_DIR, source.repo, install.revision)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether nobody fills or removes it now; if so, nobody does until the block ends."""
    lock = os.open(lock_file(folder), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(lock)
