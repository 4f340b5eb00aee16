"""Run the whole site in the foreground."""

import itertools
import os
import resource
import signal
import sys
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from batchserver import stack
from batchserver.claim import claim
from batchserver.embedded import StartError
from batchserver.supervisor import running

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
NAME_WIDTH = 9


class Command(BaseCommand):
    help = "Runs the whole site in the foreground: servers, web process, workers. Ctrl-C stops it."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-gpu", action="store_true", help="start no GPU worker: batches wait")
        parser.add_argument("--quiet", action="store_true", help="print no process's log, which var/log holds too")
        parser.add_argument("--log-level", default="", help="DEBUG, INFO, WARNING or ERROR (default: LOG_LEVEL)")

    def handle(self, *_: Any, no_gpu: bool, quiet: bool, log_level: str, **__: Any) -> None:
        if log_level:
            os.environ["LOG_LEVEL"] = log_level.upper()
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants it so
                signal.signal(number, _interrupt)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the usual 1024 are few for a crowd of clients
        log = Log(quiet=quiet)
        try:
            with claim(settings.VAR_DIR):
                self._run(gpu=not no_gpu, log=log)
        except StartError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            log.say("up", "Stopped.")

    def _run(self, *, gpu: bool, log: "Log") -> None:
        stack.check_ports()
        if gpu and not settings.ENGINE_PYTHON.exists():
            log.say("up", f"No engine at {settings.ENGINE_PYTHON}: batches wait. `make setup` installs it.")
        with running(stack.stages(gpu=gpu), var=settings.VAR_DIR, say=log.say) as supervisor:
            log.say("up", f"Ready. Web: {stack.web_url()}  API: {stack.api_url()}  Ctrl-C stops all.")
            while True:
                supervisor.tick()


class Log:
    """One readable log on stdout: every line behind the coloured name of its process."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._colours = itertools.cycle(COLOURS)
        self._prefixes: dict[str, str] = {}

    def say(self, name: str, line: str) -> None:
        if self._quiet and name != "up":
            return
        if name not in self._prefixes:
            self._prefixes[name] = self._prefix(name)
        print(f"{self._prefixes[name]} {line}", flush=True)

    def _prefix(self, name: str) -> str:
        text = f"{name:<{NAME_WIDTH}}"
        return f"\033[{next(self._colours)}m{text}\033[0m|" if sys.stdout.isatty() else f"{text}|"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Stop once; a second Ctrl-C must not disturb the stopping."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
