"""How large a request's body may be, and from whom: decided from its head, before a byte of the body is read."""

import asyncio
import re
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from weakref import WeakKeyDictionary

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.db import Error

from apps.accounts.authentication import digest_in
from apps.core.api.body_limit import Scope, header
from apps.core.api.errors import as_api_error
from apps.models.gateway.asgi import gateway
from apps.models.gateway.cache import Cache
from apps.models.gateway.database import in_thread
from apps.models.gateway.exchange import ENDPOINTS

FORM_BYTES = 64 * 1024  # of an upload's multipart form, beside its file
BODY_BYTES = 1024**2  # of any other request
UPLOADS = {"/v1/files": "FILE_MAX_BYTES", "/v1/uploads/[^/]+/parts": "UPLOAD_PART_MAX_BYTES"}  # route -> its setting
LOGIN_SECONDS = 4.0  # for which a login counts as known: views look at it again
LOGINS = 10_000

sessions = import_module(settings.SESSION_ENGINE)
_known: WeakKeyDictionary[asyncio.AbstractEventLoop, Cache[str, str]] = WeakKeyDictionary()


async def limit_of(scope: Scope) -> int:
    """More than a form's few bytes are for live API keys and for people who are logged in. Raises `ApiError`."""
    if scope["path"] in ENDPOINTS:
        return settings.INTERACTIVE_MAX_BYTES  # the gateway looks at the key before it reads
    path = scope["path"].rstrip("/")
    try:
        if path.startswith("/v1/"):
            return await _limit_by_key(scope, path)
        if path.startswith("/admin/") and scope["method"] == "POST":
            return await _limit_by_login(header(scope, b"cookie"))
    except Error as error:
        raise as_api_error(error) from error
    return settings.WEB_ANONYMOUS_BYTES


async def _limit_by_key(scope: Scope, path: str) -> int:
    """A wrong key is refused here; without one the view says so, unless it is an upload."""
    shown, upload = header(scope, b"authorization"), _limit_of_upload(path) if scope["method"] == "POST" else 0
    if not shown and not upload:
        return settings.WEB_ANONYMOUS_BYTES
    await gateway().keys.check(digest_in(shown))
    return upload or BODY_BYTES


def _limit_of_upload(path: str) -> int:
    """The bytes of an upload's whole form; 0 for what is no upload."""
    setting = next((setting for route, setting in UPLOADS.items() if re.fullmatch(route, path)), "")
    return int(getattr(settings, setting)) + FORM_BYTES if setting else 0


async def _limit_by_login(cookies: str) -> int:
    try:
        cookie = SimpleCookie(cookies).get(settings.SESSION_COOKIE_NAME)
        if cookie is not None:
            await _logins().get(cookie.value)
            return settings.FILE_MAX_BYTES + FORM_BYTES
    except (CookieError, NotLoggedInError):
        pass
    return settings.WEB_ANONYMOUS_BYTES


class NotLoggedInError(Exception):
    """Of a session; not remembered, as wrong ones cost nothing to make."""


def _logins() -> Cache[str, str]:
    """Sessions of people who are logged in, as the running event loop knows them."""
    loop = asyncio.get_running_loop()
    if loop not in _known:
        one_by_one = asyncio.Lock()  # or strangers' cookies take the gateway's few threads

        async def load(session: str) -> str:
            async with one_by_one:
                return await in_thread(_logged_in)(session)

        _known[loop] = Cache(load, seconds=lambda _: LOGIN_SECONDS, size=LOGINS)
    return _known[loop]


def _logged_in(session: str) -> str:
    if SESSION_KEY not in sessions.SessionStore(session):
        raise NotLoggedInError
    return session
