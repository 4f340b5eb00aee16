from collections.abc import Iterator
from typing import Any

import pytest
from django.dispatch import Signal

from apps.core.leases import Keeper


class Receiver:
    """Remembers what it was called with, and raises as often as it is told."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.failures = 0

    def receive(self, **arguments: Any) -> None:
        self.calls.append(arguments)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the plugin is broken")

    def ids(self) -> list[str]:
        return [call["data"]["id"] for call in self.calls]


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    keeper = Keeper()
    yield keeper
    keeper.close()


@pytest.fixture
def connect() -> Iterator[Any]:
    """Connects a new `Receiver` to a signal until the test ends."""
    connected: list[tuple[Signal, Receiver]] = []

    def connect(signal: Signal) -> Receiver:
        receiver = Receiver()
        signal.connect(receiver.receive)
        connected.append((signal, receiver))
        return receiver

    yield connect
    for signal, receiver in connected:
        signal.disconnect(receiver.receive)
