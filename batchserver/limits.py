"""How large a request's body may be, and from whom: decided from its head, before a byte of the body is read."""

import re
from http.cookies import CookieError, SimpleCookie
from importlib import import_module

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.db import Error

from apps.accounts.authentication import find_key
from apps.core.api.body_limit import Scope, header
from apps.core.api.errors import as_api_error
from apps.models.gateway.exchange import ENDPOINTS

FORM_BYTES = 64 * 1024  # of an upload's multipart form, beside its file
PART = re.compile(r"/v1/uploads/[^/]+/parts")  # of a large upload
BODY_BYTES = 1024**2  # of any other request

sessions = import_module(settings.SESSION_ENGINE)


async def limit_of(scope: Scope) -> int:
    """Uploads are for live API keys and for people who are logged in. Raises `ApiError`."""
    if scope["method"] not in ("POST", "PUT", "PATCH"):
        return BODY_BYTES
    if scope["path"] in ENDPOINTS:
        return settings.INTERACTIVE_MAX_BYTES
    path = scope["path"].rstrip("/")
    try:
        if path == "/v1/files":
            await database_sync_to_async(find_key)(header(scope, b"authorization"))
            return settings.FILE_MAX_BYTES + FORM_BYTES
        if PART.fullmatch(path):
            await database_sync_to_async(find_key)(header(scope, b"authorization"))
            return settings.UPLOAD_PART_MAX_BYTES + FORM_BYTES
        if path.startswith("/admin/") and await database_sync_to_async(_logged_in)(header(scope, b"cookie")):
            return settings.FILE_MAX_BYTES + FORM_BYTES
    except Error as error:
        raise as_api_error(error) from error
    return BODY_BYTES


def _logged_in(cookies: str) -> bool:
    try:
        cookie = SimpleCookie(cookies).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return False
    return cookie is not None and SESSION_KEY in sessions.SessionStore(cookie.value)
