"""A terminal, for the management commands: tables that fit it, and the question before something is deleted."""

import os
from argparse import ArgumentTypeError
from collections.abc import Sequence

from django.core.management.base import CommandError
from rich.console import Console
from rich.table import Table

UNBOUNDED = 10_000  # columns, where a program or a file reads what is printed
MOST = 1_000_000  # of what an option counts
INTERRUPTED = 130  # the exit code that shells give to Ctrl-C


def whole_number(text: str) -> int:
    """An argument's type: 1 to `MOST`. Raises `ArgumentTypeError`, which argparse tells."""
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ArgumentTypeError(f"{text!r} is no whole number from 1 to {MOST:,}")
    return int(text)


def terminal(*, stderr: bool = False) -> Console:
    """What commands print on: as wide as the terminal; without one nothing is cut or wrapped."""
    console = Console(stderr=stderr)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(stderr=stderr, width=UNBOUNDED)


def show(table: Table, *, drop: Sequence[str] = (), console: Console | None = None) -> None:
    """Print a table without cutting a cell: on a narrow terminal the columns in `drop`, by their headers, go in that
    order until the rest fits; what is too long even so is wrapped."""
    console = console or terminal()
    roomy = console.options.update(width=UNBOUNDED)
    for header in drop:
        if console.measure(table, options=roomy).maximum <= console.width:
            break
        table.columns = [column for column in table.columns if column.header != header]
    for column in table.columns:
        column.overflow = "fold"
    console.print(table)


def confirm(question: str) -> None:
    """Ask on standard input. Raises `CommandError` unless the answer is yes, and where there is nobody to ask."""
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        raise CommandError("Nothing was done: there is no terminal to ask on. Add --yes to go on without.") from None
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was done.")
