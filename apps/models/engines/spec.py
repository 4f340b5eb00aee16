"""How vLLM is started for a model on a slot: from its row and the site's settings to an `EngineSpec`."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings

from apps.models import claims
from apps.models.engines import settings as engine_settings
from apps.models.engines.adapters import LORA_RANKS, Ranked, allowed_rank, wanted_adapters
from apps.models.engines.engine import EngineSpec
from apps.models.engines.parsers import with_parsers
from apps.models.engines.settings import EngineSettings
from apps.models.engines.stops import write_generation_config
from apps.models.models import Model
from apps.models.slots import Slot

EXTRA_RANK = 64  # of adapters that come later


def spec_for(model: Model, slot: Slot, *, trials: bool = True) -> EngineSpec:
    """With room for every adapter that rides on it, and for some that are on their way.

    Without `trials` none is made for adapters that have yet to answer. Raises OSError; ValueError: settings that do not
    fit.
    """
    chosen = engine_settings.parse(model.engine_settings, slots=[slot.devices])
    generates = model.runner != Model.Runner.POOLING
    socket = _fresh_socket(slot.folder(settings.RUN_DIR) / str(model.pk))
    loras, rank = _room(model, chosen, [found for found in wanted_adapters(model) if trials or found.ready])
    return EngineSpec(
        python=settings.ENGINE_PYTHON,
        model=model.folder,
        served_name=model.name,
        runner="generate" if generates else "pooling",
        socket=socket,
        log=log_path(model, slot),
        cwd=settings.BASE_DIR,
        device=slot.devices,
        max_num_seqs=window(model, slot) + settings.INTERACTIVE_SEATS,
        settings=with_parsers(chosen, model.folder),
        generation_config=write_generation_config(model.folder, chosen, socket.parent) if generates else None,
        kv_cache_gib=settings.ENGINE_KV_CACHE_GIB,
        cpu_cores=len(os.sched_getaffinity(0)),
        max_loras=loras,
        max_lora_rank=rank,
    )


def _room(model: Model, chosen: EngineSettings, adapters: Iterable[Ranked]) -> tuple[int, int]:
    """Slots for adapters, none where the model has no adapter and expects none, and the largest rank that they hold."""
    ranks = [found.rank for found in adapters]
    coming = [allowed_rank(rank) for rank in claims.coming_ranks(model)]
    spare = max(settings.ADAPTER_SPARE_SLOTS, min(len(coming), 1)) if ranks or coming else 0
    usual = [allowed_rank(settings.ADAPTER_SPARE_RANK)] if spare else []
    extra = [EXTRA_RANK] if chosen.extra_lora_slots else []
    return len(ranks) + chosen.extra_lora_slots + spare, max([LORA_RANKS[0], *ranks, *coming, *usual, *extra])


def log_path(model: Model, slot: Slot) -> Path:
    """Where its engine's output goes on that slot's host; the one before is NAME.1."""
    return settings.LOG_DIR / f"engine.{slot.queue}.{model.pk}.log"


def window(model: Model, slot: Slot) -> int:
    """Requests of a batch kept in flight."""
    usual = settings.ENGINE_CONCURRENCY or (64 if slot.devices == "cpu" else 256)
    return engine_settings.parse(model.engine_settings).max_num_seqs or usual


def _fresh_socket(folder: Path) -> Path:
    """A socket's path in a folder that is the engine's own, emptied of what a killed one left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder / "engine.sock"
