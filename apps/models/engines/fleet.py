"""The engines of one slot: at most one is awake, others may sleep, and their rows say so.

In charge of carrying out a switch and of what it took. Not in charge of when to switch (`apps.models.plan`), and of
what becomes of a model whose engine fails (`apps.models.engines.deaths`).
"""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPException

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from apps.core import leases
from apps.core.drain import STOP
from apps.core.process import ProcessGroup
from apps.models import costs, demand
from apps.models.admission.intact import fault, known_lengths
from apps.models.engines import adapters
from apps.models.engines.adapters import Ranked, wanted_adapters
from apps.models.engines.engine import Adapter, AdapterOverflows, AdapterRefused, Engine, EngineFailed, FilesDamaged
from apps.models.engines.spec import spec_for
from apps.models.installs.manifest import NAME as MANIFEST
from apps.models.models import Device, Model
from apps.models.models import Engine as EngineRow
from apps.models.plan import Park, Verb
from apps.models.slots import Slot

STOP_SECONDS = 8.0
DRAIN_SECONDS = 10.0  # for answers to people that have begun
TRIAL_DRAIN_SECONDS = 2.0  # the same, before an adapter is tried: longer ones go on meanwhile
TRIAL = "An adapter is tried, while nobody else is answered."
ENDS_SECONDS = 10.0  # for the process of an engine that does not answer
FULL = "No free lora slots"  # what vLLM says when adapters that it refused have kept their places
HEARSAY_SECONDS = 1.5  # for which a gateway may go on sending to an engine that drains

log = logging.getLogger(__name__)

State = EngineRow.State


class AdapterKilledEngine(EngineFailed):
    """The engine died while it loaded an adapter, or answered for it the first time. The message ends with its log."""

    def __init__(self, base: Model, adapter: Adapter, engine: Engine) -> None:
        self.base, self.adapter = base, adapter
        cause = engine.cause(adapter.path) or "it printed no exception, see the log's last lines"
        lines = "\n".join(engine.tail())
        super().__init__(f"The engine of {base.name} died when it loaded the adapter {adapter.name}: {cause}.\n{lines}")


class Fleet:
    def __init__(self, slot: Slot, device: Device, held: leases.Held, keeper: leases.Keeper) -> None:
        self._slot, self._device, self._held, self._keeper = slot, device, held, keeper
        self.model: Model | None = None
        """Whose engine is awake."""
        self._awake: Engine | None = None
        self._asleep: dict[int, tuple[Model, Engine]] = {}

    @property
    def awake(self) -> Engine | None:
        return self._awake

    @property
    def asleep(self) -> dict[int, int]:
        """Model -> bytes of the machine's memory that its sleeping engine takes."""
        return {pk: weight_bytes(model) for pk, (model, _) in self._asleep.items()}

    def start(self, model: Model, *, trials: bool = True) -> None:
        """A new engine; nothing may be awake. It serves the adapters that have answered before, where it takes them.

        Without `trials` it has no room for the others. Raises EngineFailed, OSError, ValueError; AdapterKilledEngine,
        with the dead engine still awake.
        """
        self.show(State.STARTING, model=model)
        check_files(model)
        engine = Engine(spec_for(model, self._slot, trials=trials))
        with self._timed(model, Verb.START):
            engine.start()
            try:
                self.record(engine.group)
                engine.wait_ready(settings.ENGINE_START_SECONDS, self.must_stop)
            except BaseException:
                engine.stop(STOP_SECONDS)
                raise
        self.model, self._awake = model, engine
        for ranked in wanted_adapters(model):
            if ranked.ready and _fits(ranked, engine):
                self._load(model, ranked)
        self.show(State.READY)

    def wake(self, model: Model) -> None:
        """The model's engine sleeps. Raises EngineFailed: it is gone, and another has to be started."""
        self.show(State.STARTING, model=model)
        _, engine = self._asleep.pop(model.pk)
        try:
            with self._timed(model, Verb.WAKE):
                engine.wake()
        except EngineFailed:
            engine.stop(STOP_SECONDS)
            raise
        self.model, self._awake = model, engine
        self.show(State.READY)

    def adapt(self, model: Model) -> bool:
        """Have the engine that is awake serve the model's adapters, and no others; those on trial answer once.

        False: another engine must, which has more room or is not spoilt. Raises AdapterKilledEngine, with the dead
        engine still awake.
        """
        engine, wanted = self._running(), wanted_adapters(model)
        self._unload(engine.adapters - {ranked.adapter for ranked in wanted})
        lacking = [ranked for ranked in wanted if not ranked.refused and ranked.adapter not in engine.adapters]
        if not all(_fits(ranked, engine) for ranked in lacking):
            return False
        if not all(ranked.ready for ranked in lacking):
            self._make_quiet(model, engine)
        is_well = all(self._load(model, ranked) for ranked in lacking)
        if lacking:
            self.show(State.READY)
        return is_well

    def _make_quiet(self, model: Model, engine: Engine) -> None:
        """A trial has a moment of its own: new requests wait at the gateway, and answers that have begun may end."""
        self.show(State.DRAINING, TRIAL)
        self._drain(engine, model, TRIAL_DRAIN_SECONDS)

    def is_adapted(self) -> bool:
        """Whether the engine that is awake serves the adapters that it should."""
        if self._awake is None or self.model is None:
            return True
        return {each.adapter for each in wanted_adapters(self.model) if not each.refused} == self._awake.adapters

    def _load(self, model: Model, ranked: Ranked) -> bool:
        """Load an adapter, or note on its row why it is not served. False: the engine has no room left, or is spoilt.

        Raises AdapterKilledEngine.
        """
        engine, adapter = self._running(), ranked.adapter
        try:
            engine.load_adapter(adapter) if ranked.ready else engine.try_adapter(adapter)
        except AdapterRefused as error:
            if FULL in str(error):
                return False
            adapters.refuse(model, adapter, str(error))
            return not isinstance(error, AdapterOverflows)
        except (HTTPException, OSError) as error:
            if engine.ends_within(ENDS_SECONDS):
                raise AdapterKilledEngine(model, adapter, engine) from error
            adapters.refuse(model, adapter, f"The engine did not answer while it loaded it: {error!r}.")
        else:
            adapters.accept(model, adapter)
        return True

    def park(self, how: Park, message: str = "") -> bool:
        """Let the engine that is awake finish what people wait for, then make room. False: it died meanwhile."""
        if self.model is None:
            return True
        model, engine = self.model, self._running()
        self.show(State.DRAINING)
        self._drain(engine, model)
        if not engine.alive():
            return False
        self.model = self._awake = None
        if how == Park.SLEEP and engine.can_sleep and self._sleep(model, engine):
            self._asleep[model.pk] = (model, engine)
            self.show(State.ASLEEP, message, model)
        else:
            self._stop(model, engine, message)
        return True

    def evict(self, models: Iterable[int], message: str = "") -> None:
        """Stop sleeping engines."""
        for pk in models:
            self._stop(*self._asleep.pop(pk), message)

    def drop(self) -> None:
        """Stop the engine that is awake, at once: it failed."""
        if self._awake is not None:
            self._awake.stop(STOP_SECONDS)
            self.model = self._awake = None

    def dead(self) -> list[Model]:
        """The models of sleeping engines that have died; they are forgotten."""
        gone = [(model, engine) for model, engine in self._asleep.values() if not engine.alive()]
        for model, engine in gone:
            engine.stop(STOP_SECONDS)
            del self._asleep[model.pk]
            self.show(State.STOPPED, model=model)
        return [model for model, _ in gone]

    def tell_truth(self) -> None:
        """Between two steps: engines of deleted models end, adapters that are gone are unloaded, and no row says what a
        step that failed did not get to."""
        models = [model for model, _ in self._asleep.values()] + ([self.model] if self.model else [])
        known = set(Model.objects.filter(pk__in=[model.pk for model in models]).values_list("pk", flat=True))
        for pk in self._asleep.keys() - known:
            self._asleep.pop(pk)[1].stop(STOP_SECONDS)
        if self.model and self.model.pk not in known:
            self.drop()
        if self.model and self._running().adapters:
            wanted = {ranked.adapter for ranked in wanted_adapters(self.model)}
            self._unload(self._running().adapters - wanted)
        untrue = self._device.engines.exclude(state__in=(State.STOPPED, State.FAILED))
        untrue.exclude(state=State.ASLEEP, model__in=self._asleep.keys()).exclude(
            state=State.READY, model=self.model
        ).update(state=State.STOPPED, message="", socket="", served=[], since=Now())
        if self.model and not self._device.engines.filter(state=State.READY, model=self.model).exists():
            self.show(State.READY)

    def close(self) -> None:
        """Stop all, whether or not the database can be told."""
        for engine in self._engines():
            engine.stop(STOP_SECONDS)
        self._asleep.clear()
        self.model = self._awake = None
        self._device.engines.exclude(state=State.FAILED).update(
            state=State.STOPPED, message="", socket="", served=[], since=Now()
        )

    def must_stop(self) -> bool:
        return STOP.is_set() or self._keeper.lost(self._held)

    def show(self, state: EngineRow.State, message: str = "", model: Model | None = None) -> None:
        """Say on its row what an engine does; that of the engine that is awake, unless a model is named."""
        socket, served = "", list[str]()
        if state in EngineRow.SERVING:
            socket, served = str(self._running().spec.socket), sorted(self._running().served)
        elif state == State.STARTING and model:
            served = [model.name, *(ranked.adapter.name for ranked in wanted_adapters(model))]
        EngineRow.objects.update_or_create(
            device=self._device,
            model=model or self.model,
            defaults={"state": state, "message": message, "socket": socket, "served": served, "since": Now()},
        )

    def _unload(self, gone: frozenset[Adapter]) -> None:
        """From the engine that is awake: adapters whose model is deleted, or has other files now."""
        for adapter in gone:
            try:
                self._running().unload_adapter(adapter.name)
            except (AdapterRefused, HTTPException, OSError) as error:
                log.warning("%s: %s", self._slot.key, error)
        if gone:
            self.show(State.READY)

    def _running(self) -> Engine:
        assert self._awake is not None  # noqa: S101 (for mypy: callers know that one runs)
        return self._awake

    def _sleep(self, model: Model, engine: Engine) -> bool:
        try:
            with self._timed(model, Verb.SLEEP):
                engine.sleep()
        except EngineFailed as error:
            log.warning("%s: %s It is stopped.", self._slot.key, error)
            return False
        return True

    def _drain(self, engine: Engine, model: Model, seconds: float = DRAIN_SECONDS) -> None:
        """Where people use it, requests of those who have not heard yet are waited for too."""
        used = demand.last_used(model.pk)
        if used and timezone.now() - used < timedelta(seconds=DRAIN_SECONDS):
            time.sleep(HEARSAY_SECONDS)
        try:
            if not engine.drain(seconds, self.must_stop):
                log.warning("%s: answers of %s have not ended after %g s", self._slot.key, model, seconds)
        except (OSError, HTTPException) as error:
            log.warning("%s: the engine of %s cannot be asked what it does: %s", self._slot.key, model, error)

    def _stop(self, model: Model, engine: Engine, message: str = "") -> None:
        with self._timed(model, Verb.STOP):
            engine.stop(STOP_SECONDS)
        self.show(State.STOPPED, message, model)

    def _engines(self) -> list[Engine]:
        asleep = [engine for _, engine in self._asleep.values()]
        return [self._awake, *asleep] if self._awake else asleep

    def record(self, group: ProcessGroup) -> None:
        """What the next owner of the slot has to reap, should we be killed: this besides the engines."""
        groups = [group, *(engine.group for engine in self._engines())]
        with transaction.atomic(), connection.cursor() as cursor:
            leases.record_process_groups(cursor, self._held, map(str, groups))

    @contextmanager
    def _timed(self, model: Model, verb: Verb) -> Iterator[None]:
        """Learn from what went well; what cannot be written down must not cost us the engine."""
        began = time.monotonic()
        yield
        try:
            costs.record(device=self._device, model=model, verb=verb, seconds=time.monotonic() - began)
        except Error as error:
            log.warning("%s: what %s took is not remembered: %s", self._slot.key, verb, error)


def check_files(model: Model) -> None:
    """Raises FilesDamaged, in a moment, for what an engine would need a minute to fail at."""
    lengths = known_lengths(model.folder / MANIFEST)
    if problem := fault(model.folder, lengths):
        raise FilesDamaged(f"{problem} Put the file back, or install the model again.\nFolder: {model.folder}")


def weight_bytes(model: Model) -> int:
    """What it takes of the machine's memory, asleep."""
    return model.bytes or sum(path.stat().st_size for path in model.folder.glob("*.safetensors"))


def _fits(ranked: Ranked, engine: Engine) -> bool:
    return engine.spec.takes_adapters and ranked.rank <= engine.spec.max_lora_rank
