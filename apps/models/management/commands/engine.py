import time
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Prefetch

from apps.core.console import show, whole_number
from apps.models.console import engines_table, find_model, follow, live_devices, wait_until_served
from apps.models.engines.adapters import try_again
from apps.models.engines.deaths import broken_models, close_breaker
from apps.models.engines.orders import order_engine
from apps.models.engines.spec import log_path
from apps.models.models import Device, Engine, Model
from apps.models.slots import Slot

OBEY_SECONDS = 60.0  # for an order, behind the last requests of a batch


class Command(BaseCommand):
    help = "Start, stop, wake or put to sleep a model's engine; what the engines do; what one prints."

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        for verb, text in {
            "start": "have its engine ready, as people's requests would; wakes it where it sleeps",
            "wake": "the same for one that sleeps",
            "stop": "stop its engine, on every device",
            "sleep": "move its engine's weights to the machine's memory, on every device that can",
            "logs": "the last lines that its engine printed",
        }.items():
            verbs.add_parser(verb, help=text).add_argument("model")
        verbs.add_parser("status", help="what the engines do").add_argument("model", nargs="?")
        for verb in ("start", "wake"):
            verbs.choices[verb].add_argument("--seconds", type=float, default=600, help="to wait at most")
            text = "even if its engines died too often: the breaker is closed"
            verbs.choices[verb].add_argument("--anyway", action="store_true", help=text)
        verbs.choices["logs"].add_argument("-n", "--lines", type=whole_number, default=50)
        verbs.choices["logs"].add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")

    def handle(self, *_: Any, **options: Any) -> None:
        model = find_model(options["model"]) if options.get("model") else None
        verb: Callable[..., None] = getattr(self, f"_{options['verb']}")
        verb(model, options)

    def _start(self, model: Model, options: dict[str, Any]) -> None:
        began = time.monotonic()
        if options["anyway"]:
            close_breaker(model=model.engine_model)
            try_again(model=model)
        elif model.engine_model.pk in broken_models():
            until = f"{model.engine_model.broken_until:%H:%M} UTC"
            raise CommandError(
                f"Engines of {model} died too often: none is started before {until}."
                f" `manage.py engine logs {model}` says why; --anyway tries it at once."
            )
        engine = wait_until_served(model, options["seconds"])
        self.stdout.write(f"{model} is {engine.state} on {engine.device}, after {time.monotonic() - began:.1f} s.")

    def _wake(self, model: Model, options: dict[str, Any]) -> None:
        asleep = Engine.objects.filter(model=model.engine_model, device__in=live_devices(), state=Engine.State.ASLEEP)
        if not asleep.exists():
            raise CommandError(f"No engine of {model} sleeps. `manage.py engine start {model}` starts one.")
        self._start(model, options)

    def _stop(self, model: Model, _options: dict[str, Any]) -> None:
        self._order(model, Engine.Order.STOP)

    def _sleep(self, model: Model, _options: dict[str, Any]) -> None:
        devices = live_devices()
        if not devices.filter(can_sleep=True):
            names = ", ".join(map(str, devices))
            raise CommandError(f"Engines cannot sleep on {names}: vLLM can on GPUs only. Stop it instead.")
        self._order(model, Engine.Order.SLEEP)

    def _order(self, model: Model, order: Engine.Order) -> None:
        engines = Engine.objects.filter(model=model.engine_model, device__in=live_devices()).select_related("device")
        ordered = [engine for engine in engines if order_engine(engine=engine, order=order)]
        if not ordered:
            raise CommandError(f"No engine of {model} can: see `manage.py engine status {model}`.")
        deadline = time.monotonic() + OBEY_SECONDS
        for engine in ordered:
            engine.refresh_from_db()
            while engine.order and time.monotonic() < deadline:
                time.sleep(0.2)
                engine.refresh_from_db()
            self.stdout.write(f"{model} is {engine.state} on {engine.device}.")

    def _status(self, model: Model | None, _options: dict[str, Any]) -> None:
        engines = Engine.objects.filter(model=model.engine_model) if model else Engine.objects.all()
        shown = Prefetch("engines", queryset=engines.select_related("model"))
        show(engines_table(live_devices().prefetch_related(shown)), drop=("since",))

    def _logs(self, model: Model, options: dict[str, Any]) -> None:
        slots = [Slot.parse(slot) for slot in Device.objects.values_list("slot", flat=True)]
        here = [slot for slot in slots if slot.host == Slot.here("").host]
        logs = [path for slot in here if (path := log_path(model.engine_model, slot)).is_file()]
        if not logs:
            raise CommandError(f"No engine of {model} has printed anything on this host.")
        for line in follow(logs, lines=options["lines"], forever=options["follow"]):
            self.stdout.write(line)
