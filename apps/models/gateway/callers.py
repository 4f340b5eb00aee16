"""Who asks: the facts of an API key, remembered for seconds. A revoked one is refused when these are over."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

from apps.accounts.authentication import find_key_by_digest
from apps.accounts.models import Project, Scope
from apps.accounts.permissions import missing_scope
from apps.models import usage
from apps.models.gateway.cache import Cache
from apps.models.gateway.database import in_thread
from apps.models.gateway.keys import Keys
from apps.models.requests import catalog

FRESH_SECONDS = 4.0
KEYS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is answered, and within which limits. Without a key: somebody who is logged in."""

    project: Project
    key_id: int | None = None
    allowed_models: frozenset[str] = frozenset()
    """Names; empty means every model."""
    max_concurrent: int | None = None
    tokens_per_day: int | None = None
    spent: int = 0
    """Tokens of today that were recorded when this was looked up; 0 without a limit."""
    counted: int = 0
    """Those of them that this process had recorded itself."""

    def allows_model(self, name: str) -> bool:
        return not self.allowed_models or name in self.allowed_models


class Callers:
    """The callers behind keys."""

    def __init__(self, keys: Keys, recorded: Callable[[int, date], int]) -> None:
        """`recorded` tells how many tokens of a key on a day this process has added to the rows."""
        self._keys, self._recorded = keys, recorded
        self._known = Cache(self._load, seconds=lambda _: FRESH_SECONDS, size=KEYS)

    async def find(self, digest: str) -> Caller:
        """Raises `ApiError` 401 or 403, `django.db.Error`."""
        return self._known.peek(digest) or await self._known.get(digest)

    async def _load(self, digest: str) -> Caller:
        await self._keys.check(digest)  # which strangers' keys do not get by
        return await in_thread(_caller)(digest, self._recorded)


def _caller(digest: str, recorded: Callable[[int, date], int]) -> Caller:
    catalog.refresh()  # here, since every request comes by before it is judged
    key = find_key_by_digest(digest)
    if Scope.MODELS_USE not in key.scopes:
        raise missing_scope(Scope.MODELS_USE)
    today = datetime.now(UTC).date()
    limited = key.tokens_per_day is not None
    counted = recorded(key.pk, today)
    return Caller(
        project=key.project,
        key_id=key.pk,
        allowed_models=frozenset(key.allowed_models),
        max_concurrent=key.max_concurrent,
        tokens_per_day=key.tokens_per_day,
        spent=usage.spent(key.pk, today) if limited else 0,
        counted=counted if limited else 0,
    )
