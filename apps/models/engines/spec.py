"""How vLLM is started for a model on a slot: from its row and the site's settings to an `EngineSpec`."""

import json
import logging
import os
import shutil
from pathlib import Path

from django.conf import settings

from apps.models import claims
from apps.models.engines import settings as engine_settings
from apps.models.engines.engine import Adapter, EngineSpec
from apps.models.models import Model
from apps.models.slots import Slot

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM can be started for
EXTRA_RANK = 64  # of adapters that come later

log = logging.getLogger(__name__)


def spec_for(model: Model, slot: Slot) -> EngineSpec:
    """With every adapter that rides on it, and a slot for one that is on its way.

    Raises OSError; ValueError: settings that do not fit.
    """
    adapters, chosen = adapters_of(model), engine_settings.parse(model.engine_settings, slots=[slot.devices])
    coming = [_allowed(rank) for rank in claims.coming_ranks(model)]
    spare = min(len(coming), 1)
    return EngineSpec(
        python=settings.ENGINE_PYTHON,
        model=model.folder,
        served_name=model.name,
        runner="pooling" if model.runner == Model.Runner.POOLING else "generate",
        socket=_fresh_socket(slot.folder(settings.RUN_DIR) / str(model.pk)),
        log=log_path(model, slot),
        cwd=settings.BASE_DIR,
        device=slot.devices,
        max_num_seqs=window(model, slot) + settings.INTERACTIVE_SEATS,
        settings=chosen,
        kv_cache_gib=settings.ENGINE_KV_CACHE_GIB,
        cpu_cores=len(os.sched_getaffinity(0)),
        spare_loras=spare,
        max_loras=max(len(adapters) + chosen.extra_lora_slots + spare, 1),
        max_lora_rank=max([*map(_rank, adapters), *coming, EXTRA_RANK if chosen.extra_lora_slots else LORA_RANKS[0]]),
        adapters=adapters,
    )


def log_path(model: Model, slot: Slot) -> Path:
    """Where its engine's output goes on that slot's host; the one before is NAME.1."""
    return settings.LOG_DIR / f"engine.{slot.queue}.{model.pk}.log"


def adapters_of(model: Model) -> tuple[Adapter, ...]:
    """Those that its rows say now. One that is broken is left out: the model and the others are served all the same."""
    rows = Model.objects.filter(base=model.pk).order_by("name").values_list("name", "path")
    return tuple(adapter for name, path in rows if _is_sound(adapter := Adapter(name, Path(path))))


def window(model: Model, slot: Slot) -> int:
    """Requests of a batch kept in flight."""
    usual = settings.ENGINE_CONCURRENCY or (64 if slot.devices == "cpu" else 256)
    return engine_settings.parse(model.engine_settings).max_num_seqs or usual


def fits(adapter: Adapter, spec: EngineSpec) -> bool:
    """Whether an engine that runs can take the adapter."""
    return spec.takes_adapters and _rank(adapter) <= spec.max_lora_rank


def _is_sound(adapter: Adapter) -> bool:
    try:
        _rank(adapter)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("The adapter %s is broken and is not served: %s", adapter.name, error)
        return False
    return True


def _rank(adapter: Adapter) -> int:
    """The least rank of vLLM's that the adapter fits in."""
    return _allowed(json.loads((adapter.path / "adapter_config.json").read_text()).get("r", 0))


def _allowed(rank: int) -> int:
    return next((allowed for allowed in LORA_RANKS if allowed >= rank), LORA_RANKS[-1])


def _fresh_socket(folder: Path) -> Path:
    """A socket's path in a folder that is the engine's own, emptied of what a killed one left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder / "engine.sock"
