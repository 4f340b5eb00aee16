"""Models and engines on a terminal, for the management commands: tables, waiting, and errors with what to do."""

import difflib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from django.core.management.base import CommandError
from django.db.models import QuerySet
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from rich.console import Console
from rich.table import Table
from rich.text import Text

from apps.core.console import INTERRUPTED
from apps.core.tasks import unowned
from apps.models import demand
from apps.models.models import Device, Engine, Model

DROP = ("settings", "source", "size")  # columns of the models' table, on a narrow terminal
TELL_SECONDS = 1.0  # between two words to the workers that somebody waits
LOOK_SECONDS = 0.2


def find_model(name: str) -> Model:
    """Raises `CommandError`, with the names that are close."""
    model = Model.objects.select_related("base").filter(name=name).first()
    if model is None:
        names = difflib.get_close_matches(name, Model.objects.values_list("name", flat=True))
        meant = f" Did you mean {' or '.join(names)}?" if names else ""
        raise CommandError(f"There is no model {name!r}.{meant} `manage.py models` lists them.")
    return model


def live_devices() -> QuerySet[Device]:
    """Those with a worker. Raises `CommandError` when there is none."""
    slots = tuple(Device.objects.values_list("slot", flat=True))
    devices = Device.objects.filter(slot__in=set(slots) - set(unowned(slots)))
    if not devices:
        raise CommandError("No GPU worker runs: start the site with `make up`, or a worker on the GPU's host.")
    return devices


def wait_until_served(model: Model, seconds: float) -> Engine:
    """Ask for the model's engine as people's requests do, until one serves it. Raises `CommandError`."""
    owner = f"command {os.getpid()} {time.monotonic_ns()}"
    try:
        with Console(stderr=True).status(f"{model} waits for a device") as line:
            for engine in _looks(model, owner, seconds):
                line.update(f"{engine.model} on {engine.device}: {engine.get_state_display()}")
                if engine.state in Engine.SERVING and model.name in engine.served:
                    return engine
    except KeyboardInterrupt:
        raise CommandError("Stopped waiting.", returncode=INTERRUPTED) from None
    finally:
        demand.withdraw(model=model, owner=owner)
    raise CommandError(
        f"No engine of {model} is ready after {seconds:g} s. `manage.py engine status` says what the devices do."
    )


def _looks(model: Model, owner: str, seconds: float) -> Iterator[Engine]:
    """The engines of the model, again and again. Raises `CommandError` when one fails meanwhile."""
    began, told = timezone.now(), 0.0
    deadline = time.monotonic() + seconds
    engines = Engine.objects.filter(model=model.engine_model, device__in=live_devices())
    while time.monotonic() < deadline:
        if time.monotonic() - told > TELL_SECONDS:
            demand.ask_for(model=model, owner=owner, waiting=1)
            told = time.monotonic()
        for engine in engines.select_related("device", "model"):
            if engine.state == Engine.State.FAILED and engine.since > began:
                raise CommandError(f"It failed on {engine.device}. {engine.message}")
            yield engine
        time.sleep(LOOK_SECONDS)


def engines_table(devices: Iterable[Device]) -> Table:
    """A row for each engine; a device without any has one of its own. Their `engines` are prefetched."""
    table = Table("device", "model", "state", "", "since")
    for device in devices:
        for engine in device.engines.all():
            sentence = engine.message.partition("\n")[0] or engine.get_state_display()
            table.add_row(
                Text(str(device)),
                Text(str(engine.model)),
                engine.state,
                Text(sentence),
                f"{engine.since:%Y-%m-%d %H:%M:%S}",
            )
        if not device.engines.all():
            table.add_row(str(device), "", "", "No engine ran here yet", "")
    return table


def models_table(models: Iterable[Model]) -> Table:
    """A row for each model; its `base` and the `engines` of both are prefetched."""
    table = Table("name", "kind", "source", "size", "state", "settings")
    for model in models:
        kind = f"adapter of {model.base}" if model.base else model.runner
        chosen = ", ".join(f"{key}={value}" for key, value in model.engine_settings.items())
        size = filesizeformat(model.bytes) if model.bytes else ""
        table.add_row(Text(model.name), Text(kind), Text(model.source or model.path), size, _state(model), Text(chosen))
    return table


def follow(paths: Iterable[Path], *, lines: int, forever: bool) -> Iterator[str]:
    """The last lines of the logs, then what is added to them. Ctrl-C ends it."""
    ends: dict[Path, int] = {}
    for path in paths:
        text = path.read_bytes()
        ends[path] = len(text)
        yield from text.decode(errors="replace").splitlines()[-lines:]
    with suppress(KeyboardInterrupt):
        while forever:
            time.sleep(LOOK_SECONDS)
            for path, end in ends.items():
                with path.open("rb") as file:
                    file.seek(end if end <= path.stat().st_size else 0)  # it was begun anew
                    added = file.read()
                    ends[path] = file.tell()
                yield from added.decode(errors="replace").splitlines()


def _state(model: Model) -> str:
    """The busiest of its engines'."""
    until = model.engine_model.broken_until
    if until and until > timezone.now():
        return f"broken until {until:%H:%M}"
    if not model.ready:
        return "being installed"
    if model.problem:
        return "not served"
    states = {engine.state for engine in model.engine_model.engines.all()}
    order = (Engine.State.BUSY, Engine.State.READY, *Engine.State.values)
    return next((state for state in order if state in states), Engine.State.STOPPED)
