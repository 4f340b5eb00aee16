"""A GPU worker: keeps one engine warm on its slot and gives it the plan's next job."""

import json
import logging
import shutil
import time
from pathlib import Path

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from apps.core import leases
from apps.core.drain import STOP
from apps.core.process import ProcessGroup
from apps.models import engine_settings, jobs, plan
from apps.models.engine import Adapter, AdapterRefused, Engine, EngineFailed, EngineSpec
from apps.models.models import Device, Model
from apps.models.models import Engine as EngineRow
from apps.models.slots import Slot

BACK_OFF = (0, 2, 5, 15, 30, 60)  # seconds that a model rests after its first, second … start that failed
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM can be started for
STOP_SECONDS = 8.0
REAP_SECONDS = 5.0

log = logging.getLogger(__name__)


class GpuWorker:
    """Owns a slot's engine and lends it to jobs. What a job does with it is the job kind's business."""

    engine: Engine

    def __init__(self, slot: Slot, held: leases.Held, keeper: leases.Keeper) -> None:
        self._slot, self._held, self._keeper = slot, held, keeper
        self._model: Model | None = None  # whose engine runs
        self._turn_began = 0.0
        self._failures: dict[int, int] = {}  # model -> starts that failed in a row
        self._rests: dict[int, float] = {}  # model -> monotonic time before which it is not tried again
        for group in held.left_behind.splitlines():
            ProcessGroup.parse(group).reap(REAP_SECONDS)
        self._device, _ = Device.objects.update_or_create(slot=slot.key, defaults={"seen_at": Now()})
        self._device.engines.update(state=EngineRow.State.STOPPED, message="", socket="", since=Now())

    def step(self) -> bool:
        """Serve one job for a quantum. False when nothing waits, or its engine does not start."""
        if self._model and not self.engine.alive():
            self._failed("The engine died while it waited.", self._model)
        job = plan.choose(self._backlog(), resident=self._resident, quantum_over=self._turn_is_over())
        if job is None or not self._serve(job.model_id):
            return False
        self._show(EngineRow.State.BUSY)
        jobs.kind(job.kind).run(self, self._keeper, concurrency(self._slot))
        if self._model:
            self._show(EngineRow.State.READY)
        return True

    def close(self) -> None:
        self._stop_engine()

    def must_stop(self) -> bool:
        return STOP.is_set() or self._keeper.lost(self._held)

    def go_on(self) -> bool:
        return not self.must_stop() and not self._swap_is_due() and not self._adapter_is_new()

    def restart(self) -> bool:
        """A new engine in place of one that died."""
        model = self._model
        if model is None:
            return False
        self._failed("The engine died while it answered requests; they are sent again.", model)
        return self._serve(model.pk)

    @property
    def _resident(self) -> int | None:
        return self._model.pk if self._model else None

    def _turn_is_over(self) -> bool:
        return time.monotonic() - self._turn_began > settings.MODEL_QUANTUM_SECONDS

    def _swap_is_due(self) -> bool:
        """After its turn a model goes on only while the plan would choose it again."""
        if not self._turn_is_over():
            return False
        chosen = plan.choose(self._backlog(), resident=self._resident, quantum_over=True)
        self._turn_began = time.monotonic()
        return chosen is not None and chosen.model_id != self._resident

    def _adapter_is_new(self) -> bool:
        """One that was registered since is loaded between two turns."""
        return Model.objects.filter(base=self._resident).exclude(name__in=self.engine.served).exists()

    def _backlog(self) -> list[jobs.Job]:
        """Without models that rest, so that one that does not start keeps no other from its turn."""
        now = time.monotonic()
        return [job for job in jobs.backlog() if self._rests.get(job.model_id, now) <= now]

    def _serve(self, model_id: int) -> bool:
        """Make the model's engine ours to use; False when it does not start (the plan comes back to it)."""
        model = Model.objects.prefetch_related("adapters").get(pk=model_id)
        if self._resident == model_id and self._adapt(model):
            return True
        self._stop_engine()
        self._show(EngineRow.State.STARTING, model=model)
        try:
            self._start(model)
        except (EngineFailed, OSError, ValueError) as error:  # the last two: an adapter's folder is broken
            self._failed(str(error), model)
            return False
        self._failures.pop(model_id, None)
        self._turn_began = time.monotonic()
        self._show(EngineRow.State.READY)
        return True

    def _adapt(self, model: Model) -> bool:
        """Load the adapters that the running engine lacks. False when it cannot: another engine must."""
        lacking = set(_adapters(model)) - self.engine.adapters
        try:
            for adapter in lacking if self.engine.spec.takes_adapters else ():
                self.engine.load_adapter(adapter)
        except (AdapterRefused, OSError) as error:
            log.warning("%s: %s", self._slot.key, error)
        return not set(_adapters(model)) - self.engine.adapters

    def _start(self, model: Model) -> None:
        self.engine = Engine(spec_for(model, self._slot))
        self.engine.start()
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                leases.record_process_groups(cursor, self._held, [str(self.engine.group)])
            self.engine.wait_ready(settings.ENGINE_START_SECONDS, self.must_stop)
        except BaseException:
            self.engine.stop(STOP_SECONDS)
            raise
        self._model = model

    def _stop_engine(self) -> None:
        if self._model:
            self.engine.stop(STOP_SECONDS)
            self._show(EngineRow.State.STOPPED)
        self._model = None

    def _failed(self, message: str, model: Model) -> None:
        """Clear the slot, say so, and give whatever broke the model time before the next try."""
        log.error("%s: %s", self._slot.key, message)
        self._stop_engine()
        failures = self._failures[model.pk] = self._failures.get(model.pk, 0) + 1
        self._rests[model.pk] = time.monotonic() + BACK_OFF[min(failures, len(BACK_OFF)) - 1]
        self._show(EngineRow.State.FAILED, message, model)

    def _show(self, state: EngineRow.State, message: str = "", model: Model | None = None) -> None:
        serving = state in EngineRow.SERVING
        EngineRow.objects.update_or_create(
            device=self._device,
            model=model or self._model,
            defaults={
                "state": state,
                "message": message,
                "socket": str(self.engine.spec.socket) if serving else "",
                "since": Now(),
            },
        )


def spec_for(model: Model, slot: Slot) -> EngineSpec:
    """How vLLM is started for a model on a slot, with every adapter that rides on it."""
    adapters, chosen = _adapters(model), engine_settings.parse(model.engine_settings, slots=[slot.devices])
    return EngineSpec(
        python=settings.ENGINE_PYTHON,
        model=model.folder,
        served_name=model.name,
        runner="pooling" if model.runner == Model.Runner.POOLING else "generate",
        socket=_fresh_socket(slot.folder(settings.RUN_DIR)),
        log=settings.LOG_DIR / f"engine.{slot.queue}.log",
        cwd=settings.BASE_DIR,
        device=slot.devices,
        max_num_seqs=(chosen.max_num_seqs or concurrency(slot)) + settings.INTERACTIVE_SEATS,
        settings=chosen,
        kv_cache_gib=settings.ENGINE_KV_CACHE_GIB,
        max_loras=max(len(adapters) + chosen.extra_lora_slots, 1),
        max_lora_rank=max(map(_rank, adapters), default=LORA_RANKS[0]),
        adapters=adapters,
    )


def _adapters(model: Model) -> tuple[Adapter, ...]:
    return tuple(Adapter(adapter.name, adapter.folder) for adapter in model.adapters.all())


def _rank(adapter: Adapter) -> int:
    """The least rank of vLLM's that the adapter fits in."""
    rank = json.loads((adapter.path / "adapter_config.json").read_text()).get("r", 0)
    return next((allowed for allowed in LORA_RANKS if allowed >= rank), LORA_RANKS[-1])


def concurrency(slot: Slot) -> int:
    """Requests kept in flight on a slot."""
    return settings.ENGINE_CONCURRENCY or (64 if slot.devices == "cpu" else 256)


def _fresh_socket(folder: Path) -> Path:
    """A socket's path in a folder that is the slot's own, emptied of what a killed engine left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder / "engine.sock"
