"""A gateway in front of a fake engine, which runs as a real process."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from apps.core.api.body_limit import BodyLimit, Receive, Scope, Send
from apps.models.gateway import asgi
from apps.models.models import Model
from batchserver.limits import limit_of
from tests.batches.lender import Lender
from tests.conftest import Tenant
from tests.models.gateway.cast import Asking, show_engine


async def not_ours(scope: Scope, receive: Receive, send: Send) -> None:
    """What Django would answer."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b""})


application = BodyLimit(asgi.Interactive(not_ours), limit_of)


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[Lender]:
    folder = tmp_path / "engine"
    folder.mkdir()
    with Lender(folder, FAKE_ENGINE_PRIORITIES=str(folder / "priorities")) as lender:
        yield lender


@pytest.fixture
def served(transactional_db: None, model: Model, lender: Lender) -> Model:
    """A model whose engine runs here."""
    show_engine(model, lender)
    return model


@pytest_asyncio.fixture
async def asking(transactional_db: None, owner: Tenant) -> AsyncIterator[Asking]:
    yield Asking(application, owner.key)
    await asgi.close()
