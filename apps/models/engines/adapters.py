"""Which adapters the engine of a model serves, what becomes of one that it does not, and why.

An adapter is blamed alone: its refusal, or the death of an engine that loaded it, is written on its own row, and the
model and the other adapters are served without it.
"""

import json
import logging
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Count, Q

from apps.core import bell
from apps.models.engines.command import Adapter
from apps.models.models import Device, EngineDeath, Model

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM can be started for
DEATHS_OF_READY = 2  # of engines that loaded an adapter which has answered before, until it is left out

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ranked:
    """An adapter whose configuration can be read."""

    adapter: Adapter
    rank: int
    """The least of LORA_RANKS that it fits in."""
    ready: bool
    """Whether it has answered before; else it is on trial."""
    refused: bool
    """By the engine that runs, or ran last; the next one is asked again."""


def wanted_adapters(model: Model) -> list[Ranked]:
    """Those that its engine should serve now, and those that wait for their trial.

    Left out are those whose engines died of them, those on trial that were refused, and those whose configuration
    cannot be read, which is noted on their rows.
    """
    killed = Count("deaths", filter=Q(deaths__explained=False))
    rows = Model.objects.filter(base=model.pk).annotate(killed=killed)
    usable = rows.filter(Q(ready=True, killed__lt=DEATHS_OF_READY) | Q(ready=False, killed=0, problem=""))
    return [ranked for row in usable.order_by("name") if (ranked := _read(model, row))]


def on_trial(model: Model) -> list[Ranked]:
    """Those that have yet to answer."""
    return [ranked for ranked in wanted_adapters(model) if not ranked.ready]


def refuse(base: Model, adapter: Adapter, problem: str) -> None:
    """Remember why the engine does not serve it."""
    log.warning("The adapter %s is not served: %s", adapter.name, problem)
    with transaction.atomic():
        Model.objects.filter(base=base.pk, name=adapter.name).update(problem=problem)
        bell.ring("control")  # whose duty ends an install that waits for it


def accept(base: Model, adapter: Adapter) -> None:
    """It is served: nothing is held against it."""
    Model.objects.filter(base=base.pk, name=adapter.name).exclude(problem="").update(problem="")


def blame(base: Model, adapter: Adapter, device: Device, problem: str, lines: list[str]) -> None:
    """An engine died of it: a death of the adapter's, not of its base."""
    for row in Model.objects.filter(base=base.pk, name=adapter.name):
        EngineDeath.objects.create(model=row, device=device, message=problem, log="\n".join(lines))
    refuse(base, adapter, problem)


def try_again(*, model: Model) -> None:
    """Forget what is held against an adapter; its base's engine loads it between two turns. Models have nothing."""
    if model.base_id is None:
        return
    with transaction.atomic():
        model.deaths.filter(explained=False).update(explained=True)
        Model.objects.filter(pk=model.pk).update(problem="")
        bell.ring("gpu")
    model.problem = ""


def allowed_rank(rank: int) -> int:
    """The least rank of vLLM's that holds it."""
    return next((allowed for allowed in LORA_RANKS if allowed >= rank), LORA_RANKS[-1])


def rank_of(adapter: Adapter) -> int:
    """The largest rank among its modules. Raises OSError, ValueError, TypeError, AttributeError."""
    config = json.loads((adapter.path / "adapter_config.json").read_text())
    return allowed_rank(max([config["r"], *(config.get("rank_pattern") or {}).values()]))


def _read(base: Model, row: Model) -> Ranked | None:
    adapter = Adapter(row.name, row.folder)
    try:
        return Ranked(adapter, rank_of(adapter), row.ready, bool(row.problem))
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        problem = f"Its adapter_config.json cannot be read: {error!r}. Delete the adapter, and install it again."
        if row.problem != problem:
            refuse(base, adapter, problem)
        return None
