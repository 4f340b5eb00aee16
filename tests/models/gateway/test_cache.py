import asyncio

import pytest

from apps.models.gateway.cache import Cache


class Source:
    """Counts how often it was asked; an answer is its number."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = False

    async def load(self, key: str) -> int:
        self.asked.append(key)
        await asyncio.sleep(0.02)
        if self.broken:
            raise LookupError(key)
        return len(self.asked)


def make(source: Source, seconds: float = 0.2, size: int = 10) -> Cache[str, int]:
    return Cache(source.load, seconds=lambda _: seconds, size=size)


async def test_it_works() -> None:
    source = Source()
    cache = make(source)
    assert [await cache.get("a"), await cache.get("a"), cache.peek("a")] == [1, 1, 1]
    assert source.asked == ["a"]


async def test_many_share_one_call() -> None:
    source = Source()
    cache = make(source)
    assert await asyncio.gather(*[cache.get("a") for _ in range(50)]) == [1] * 50
    assert source.asked == ["a"]


async def test_one_who_leaves_does_not_take_the_call_along() -> None:
    cache = make(Source())
    first, second = asyncio.create_task(cache.get("a")), asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1


async def test_a_value_in_use_is_renewed_before_its_end() -> None:
    source = Source()
    cache = make(source)
    await cache.get("a")
    seen = []
    for _ in range(20):
        seen.append(cache.peek("a"))
        await asyncio.sleep(0.02)
    assert None not in seen
    assert len(source.asked) > 2


async def test_it_forgets_what_is_old() -> None:
    cache = make(Source(), seconds=0.05)
    await cache.get("a")
    await asyncio.sleep(0.06)
    assert cache.peek("a") is None
    assert await cache.get("a") == 2


async def test_it_does_not_keep_what_was_raised() -> None:
    source = Source()
    cache = make(source)
    source.broken = True
    for _ in range(2):
        with pytest.raises(LookupError):
            await cache.get("a")
    source.broken = False
    assert await cache.get("a") == 3


async def test_a_value_that_cannot_be_renewed_is_used_no_more() -> None:
    source = Source()
    cache = make(source)
    await cache.get("a")
    source.broken = True
    await asyncio.sleep(0.12)
    assert cache.peek("a") == 1  # it is asked again behind this
    await asyncio.sleep(0.04)
    assert cache.peek("a") is None


async def test_the_oldest_make_room() -> None:
    cache = make(Source(), size=3)
    for key in "abcd":
        await cache.get(key)
    assert [cache.peek(key) is None for key in "abcd"] == [True, False, False, False]
