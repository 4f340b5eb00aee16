"""Heads and bodies leave together where both are there, and a head alone where its body comes later."""

import asyncio

import pytest

from batchserver.joined_writes import JoinedWrites


class Recorded(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.calls.append(data)

    def writelines(self, parts: tuple[bytes, ...]) -> None:  # type: ignore[override]
        self.calls.append(b"".join(parts))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def test_it_works() -> None:
    async def answer() -> list[bytes]:
        recorded = Recorded()
        joined = JoinedWrites(recorded, asyncio.get_running_loop())
        joined.write(b"head ")
        joined.write(b"body")
        joined.write(b"more")
        await asyncio.sleep(0)
        return recorded.calls

    assert asyncio.run(answer()) == [b"head body", b"more"]


def test_a_head_does_not_wait_for_its_body() -> None:
    async def answer() -> list[bytes]:
        recorded = Recorded()
        joined = JoinedWrites(recorded, asyncio.get_running_loop())
        joined.write(b"head")
        await asyncio.sleep(0)
        assert recorded.calls == [b"head"]
        joined.write(b"")
        joined.write(b"body")
        return recorded.calls

    assert asyncio.run(answer()) == [b"head", b"", b"body"]


@pytest.mark.parametrize("then", ["nothing", "close"])
def test_a_head_without_a_body_is_sent_before_the_end(then: str) -> None:
    async def answer() -> Recorded:
        recorded = Recorded()
        joined = JoinedWrites(recorded, asyncio.get_running_loop())
        joined.write(b"head")
        if then == "close":
            joined.close()
        await asyncio.sleep(0)
        return recorded

    recorded = asyncio.run(answer())
    assert recorded.calls == [b"head"]
    assert recorded.closed == (then == "close")


def test_what_is_closed_meanwhile_is_written_to_no_more() -> None:
    async def answer() -> list[bytes]:
        recorded = Recorded()
        joined = JoinedWrites(recorded, asyncio.get_running_loop())
        joined.write(b"head")
        recorded.close()
        assert joined.is_closing()
        await asyncio.sleep(0)
        return recorded.calls

    assert asyncio.run(answer()) == []
