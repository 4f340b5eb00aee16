"""What the documentation says of settings: that they exist, and their defaults."""

import ast
import operator
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.live import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])
SETTINGS = ast.parse((REPOSITORY / "batchserver/settings.py").read_text())
UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
OPERATORS = {ast.Mult: operator.mul, ast.Pow: operator.pow}

NAME = re.compile(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`")
DEFAULT = re.compile(r"`([A-Z][A-Z0-9_]+)`(?: \| | \()(\d[\d,]*)(?: ([KMG]iB))?(?: \||\))")
OF_THE_SHELL = re.compile(r"^([A-Z][A-Z0-9_]+)=", re.MULTILINE)
A_FILE = "_FILE"  # a setting may come from one: NAME_FILE


def value(expression: ast.expr) -> object:
    """Of a constant, or of an arithmetic one. Raises `ValueError` for another."""
    if isinstance(expression, ast.BinOp) and type(expression.op) in OPERATORS:
        return OPERATORS[type(expression.op)](value(expression.left), value(expression.right))
    return ast.literal_eval(expression)


def defaults() -> Iterator[tuple[str, object]]:
    """Of what is read from the environment; None where it is no constant."""
    for call in ast.walk(SETTINGS):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args:
            name = call.args[0]
            if isinstance(call.func.value, ast.Name) and call.func.value.id == "env" and isinstance(name, ast.Constant):
                given = next((each.value for each in call.keywords if each.arg == "default"), ast.Constant(None))
                try:
                    yield str(name.value), value(given)
                except ValueError:
                    yield str(name.value), None


KNOWN = dict(defaults())


def said() -> list[tuple[str, str, int]]:
    """Page, setting, and the number beside it."""
    found = [(page, match) for page in PAGES for match in DEFAULT.finditer(page.read_text())]
    return [(page.name, match[1], int(match[2].replace(",", "")) * UNITS[match[3] or ""]) for page, match in found]


def test_it_works() -> None:
    assert KNOWN["FILE_MAX_BYTES"] == 512 * 1024**2
    assert ("files.md", "FILE_MAX_BYTES", 512 * 1024**2) in said()
    assert ("requests.md", "REQUEST_MAX_N", 128) in said()


@pytest.mark.parametrize(("page", "name", "number"), said())
def test_defaults_are_those_of_the_settings(page: str, name: str, number: int) -> None:
    assert KNOWN[name] == number


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    inside = "\n".join(re.findall(r"```ini\n(.*?)```", text, re.DOTALL))
    names = {*NAME.findall(text), *OF_THE_SHELL.findall(inside)}
    assert {name.removesuffix(A_FILE) for name in names} <= KNOWN.keys()
