"""Connections to engines: a pool for each socket, kept."""

import asyncio
import contextlib
import time

import aiohttp
from django.conf import settings
from yarl import URL

CONNECT_SECONDS = 5.0
HEALTH_SECONDS = 5.0
KEEP_SECONDS = 4.0  # a connection that is not used; vLLM closes it after five
POOLS = 32
HEADERS = {"content-type": "application/json"}
HEALTH = URL("http://engine/health")


class EngineLost(Exception):
    """The engine was gone, or died, before anything of its answer was sent."""

    def __init__(self, *, asked: bool) -> None:
        super().__init__()
        self.asked = asked
        """Whether it may have had the request."""


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


class Connection:
    """An answer that comes in. To be closed, which ends the generation if the answer has not ended."""

    def __init__(self, pool: _Pool, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self._pool: _Pool | None = pool

    def close(self) -> None:
        if self._pool:
            self._pool.requests -= 1
            self._pool.used_at = time.monotonic()
            self._pool = None
            self.response.close()  # no more than a note where it has ended


class Engines:
    def __init__(self) -> None:
        self._pools: dict[str, _Pool] = {}

    async def post(self, socket: str, url: URL, body: bytes) -> Connection:
        """The head of an engine's answer. Raises `EngineLost`, `aiohttp.ClientError`, TimeoutError."""
        pool = self._pools.get(socket) or await self._open(socket)
        pool.requests += 1
        try:
            return Connection(pool, await pool.session.post(url, data=body, allow_redirects=False))
        except BaseException as error:
            pool.requests -= 1
            if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                raise EngineLost(asked=False) from error
            raise

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
        idle = [name for name, other in self._pools.items() if not other.requests and other is not pool]
        idle.sort(key=lambda name: self._pools[name].used_at)
        for name in idle[: max(len(self._pools) - POOLS, 0)]:
            await self._pools.pop(name).session.close()
        return pool
