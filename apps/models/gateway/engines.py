"""Connections to engines: a pool for each socket, kept."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from django.conf import settings
from yarl import URL

CONNECT_SECONDS = 5.0
HEALTH_SECONDS = 5.0
KEEP_SECONDS = 4.0  # a connection that is not used; vLLM closes it after five
POOLS = 32
HEADERS = {"content-type": "application/json"}
HEALTH = URL("http://engine/health")


class _Pool:
    def __init__(self, socket: str) -> None:
        self.requests = 0  # under way
        self.used_at = 0.0
        self.session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(socket, limit=0, keepalive_timeout=KEEP_SECONDS),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECONDS, sock_read=settings.REQUEST_TIMEOUT_SECONDS
            ),
            headers=HEADERS,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )


class Engines:
    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}

    @asynccontextmanager
    async def post(self, socket: str, url: URL, body: bytes) -> AsyncIterator[aiohttp.ClientResponse]:
        """The engine's answer, from its head on. Leaving it early ends the generation.

        Raises `aiohttp.ClientError`, OSError, TimeoutError.
        """
        pool = self._pools.get(socket) or await self._open(socket)
        pool.requests += 1
        try:
            response = await pool.session.post(url, data=body, allow_redirects=False)
            try:
                yield response
            finally:
                if response.content.at_eof():
                    response.release()
                else:
                    response.close()
        finally:
            pool.requests -= 1
            pool.used_at = time.monotonic()

    async def healthy(self, socket: str) -> bool:
        """Whether the engine there says that it can answer."""
        pool = self._pools.get(socket) or await self._open(socket)
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with asyncio.timeout(HEALTH_SECONDS), pool.session.get(HEALTH) as response:
                return response.status == 200
        return False

    def busy(self, socket: str) -> int:
        """Requests that we have with the engine."""
        pool = self._pools.get(socket)
        return pool.requests if pool else 0

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.session.close()
        self._pools.clear()

    async def _open(self, socket: str) -> _Pool:
        pool = self._pools[socket] = _Pool(socket)
        idle = sorted((other for other in self._pools.items() if not other[1].requests), key=lambda it: it[1].used_at)
        for name, old in idle[: max(len(self._pools) - POOLS, 0)]:
            if old is not pool:
                del self._pools[name]
                await old.session.close()
        return pool
