"""`python -m bench [NAME …]`: measure, print tables, write `var/bench/<name>.json`. Exit code 1: a goal is missed."""

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchserver.settings")
django.setup()

from django.conf import settings  # noqa: E402

from bench import datasets, files, interactive, reviews, rows, runner, scheduler, training, vllm  # noqa: E402
from bench.figures import report  # noqa: E402

BENCHES = {
    "datasets": datasets.run,
    "files": files.run,
    "interactive": interactive.run,
    "reviews": reviews.run,
    "rows": rows.run,
    "runner": runner.run,
    "scheduler": scheduler.run,
    "training": training.run,
    "vllm": vllm.run,
}


def main(names: list[str]) -> int:
    if unknown := set(names) - BENCHES.keys():
        sys.exit(f"No bench named {', '.join(sorted(unknown))}: choose from {', '.join(BENCHES)}.")
    held = [report(name, BENCHES[name](), settings.VAR_DIR / "bench") for name in names or BENCHES]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
