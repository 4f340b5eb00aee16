"""Questions from within the server, by somebody who is logged in: no key, no HTTP, the same engines and queue."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import psycopg
from django.db import Error

from apps.accounts.models import Project
from apps.core.api.errors import ApiError, as_api_error
from apps.models.gateway import refusals
from apps.models.gateway.asgi import gateway
from apps.models.gateway.callers import Caller
from apps.models.gateway.exchange import Request


async def stream(*, project: Project, endpoint: str, body: dict[str, Any]) -> AsyncIterator[bytes]:
    """The engine's server-sent events, as they come, for `body["model"]` of what `project` may use.

    `endpoint` is one of the generating routes, "/v1/chat/completions" for example. Waits for the model to be loaded
    as API requests do, and is counted as the project's usage. Every error is an event too, in OpenAI's envelope:
    `data: {"error": {...}}`. Closing the iterator ends the generation.

    Ask for `stream_options: {"include_usage": true}` to get the tokens, in the event before the last.
    """
    try:
        request = Request(Caller(project=project), endpoint, msgspec.json.encode({**body, "stream": True}))
        async with gateway().exchange(request) as answer:
            if answer.more is None:
                yield b"data: " + answer.first + b"\n\n"
                return
            yield answer.first
            async for events in answer.more:
                yield events
    except (ApiError, Error, psycopg.Error) as error:
        yield refusals.as_event(as_api_error(error), endpoint)
