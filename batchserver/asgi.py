"""The site as one ASGI application: HTTP by Django and, to engines, by the gateway; WebSockets by Channels."""

import os
from typing import Any, cast

import django
from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "batchserver.settings")
django.setup(set_prefix=False)  # loads the apps, which the imports below need

from apps.core.api.body_limit import App, BodyLimit, Receive, Scope, Send  # noqa: E402
from apps.core.api.charset import Utf8  # noqa: E402
from apps.core.api.handler import Handler  # noqa: E402
from apps.events.routing import websocket_urlpatterns  # noqa: E402
from apps.models.gateway.asgi import Interactive, lifespan  # noqa: E402
from batchserver.health import Health  # noqa: E402
from batchserver.limits import limit_of  # noqa: E402


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Any other WebSocket path; Channels would log a traceback."""
    await send({"type": "websocket.close"})


application = ProtocolTypeRouter(
    {
        "http": Health(BodyLimit(Interactive(Utf8(cast(App, Handler()))), limit_of)),
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter([*websocket_urlpatterns, re_path("", cast(Any, refuse))]))
        ),
        "lifespan": lifespan,
    }
)
