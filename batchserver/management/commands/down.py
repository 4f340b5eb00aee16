"""Stop the site."""

import os
import signal
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from batchserver.claim import holder

PATIENCE = 20.0  # seconds


class Command(BaseCommand):
    help = "Stops the site that `up` runs for this VAR_DIR."
    requires_system_checks = []

    def handle(self, *_: Any, **__: Any) -> None:
        pid = holder(settings.VAR_DIR)
        if pid is None:
            self.stdout.write("Nothing runs.")
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while holder(settings.VAR_DIR) == pid:
            if time.monotonic() > deadline:
                raise CommandError(f"Process {pid} did not stop in {PATIENCE:g} s: see {settings.LOG_DIR}.")
            time.sleep(0.1)
        self.stdout.write("Stopped.")
