"""A signal that is not documented, or never sent, does not exist."""

import ast
import inspect
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from django.dispatch import Signal

from apps.core.leases import Keeper
from apps.events import signals
from apps.events.dispatch import deliver_due
from apps.events.services import announce
from tests.events.conftest import Receiver

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"


def names() -> dict[str, Signal]:
    return {name: value for name, value in vars(signals).items() if isinstance(value, Signal)}


def docstrings() -> dict[str, str]:
    """The string below each assignment of the module."""
    body = ast.parse(inspect.getsource(signals)).body
    return {
        before.targets[0].id: str(after.value.value)
        for before, after in pairwise(body)
        if isinstance(before, ast.Assign)
        and isinstance(before.targets[0], ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }


def test_it_works() -> None:
    """Every signal has an event type, and every event type a signal of its own."""
    assert sorted(map(id, signals.SIGNALS.values())) == sorted(map(id, names().values()))
    for type_, signal in signals.SIGNALS.items():
        assert names()[type_.replace(".", "_")] is signal


@pytest.mark.parametrize("name", names())
def test_it_has_a_docstring_that_says_what_is_sent_when_and_when_not(name: str) -> None:
    text = docstrings()[name]
    assert "`data`" in text
    assert "Not sent" in text


@pytest.mark.parametrize("name", names())
def test_it_is_in_the_guide(name: str) -> None:
    (type_,) = (type_ for type_, signal in signals.SIGNALS.items() if signal is names()[name])
    assert f"| `{name}` | `{type_}` |" in GUIDE.read_text()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("type_", signals.SIGNALS)
def test_it_reaches_its_receivers_and_no_others(
    type_: str, keeper: Keeper, connect: Callable[[Signal], Receiver]
) -> None:
    receivers = {other: connect(signal) for other, signal in signals.SIGNALS.items()}
    announce(type=type_, project=None, data={"id": "it"})
    deliver_due(keeper)
    assert {other: receiver.ids() for other, receiver in receivers.items()} == {
        other: ["it"] if other == type_ else [] for other in receivers
    }
