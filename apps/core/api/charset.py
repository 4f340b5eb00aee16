"""An ASGI guard before Django: requests are UTF-8, and a client does not choose our codecs.

Django decodes with whatever codec the Content-Type names, `hex` and `idna` too, and fails on some before any view runs.
"""

import re

from apps.core.api.body_limit import App, Receive, Scope, Send

CHARSET = re.compile(rb';\s*charset\s*=\s*("[^"]*"|[^;]*)', re.IGNORECASE)


class Utf8:
    """Takes the charset out of the Content-Type."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [
            (name, CHARSET.sub(b"", value) if name == b"content-type" else value) for name, value in scope["headers"]
        ]
        await self._app({**scope, "headers": headers}, receive, send)
