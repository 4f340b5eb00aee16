"""`manage.py`: what no command can answer for itself ends as a sentence and an exit code, not as a traceback."""

import os
import sys

from django.core.management import execute_from_command_line
from django.db import InterfaceError, OperationalError

from apps.core.console import INTERRUPTED

FAILED = 1
READER_GONE = 141  # its code for a closed pipe


def main(arguments: list[str]) -> None:
    """Run a command; `arguments` are the process's own. Exits by `SystemExit`."""
    try:
        execute_from_command_line(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's exit would fail on what is left
        sys.exit(READER_GONE)
    except (OperationalError, InterfaceError) as error:
        if "--traceback" in arguments:
            raise
        reason = str(error).strip().partition("\n")[0]
        print(f"The database does not answer ({reason}). Start the site with `make up`, or set DATABASE_URL.",
              file=sys.stderr)  # fmt: skip
        sys.exit(FAILED)
