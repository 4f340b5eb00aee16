"""Settings that cannot work, each found before the server starts and with its cure."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.files.storage import FileSystemStorage, storages

POSITIVE = (
    "FILE_MAX_BYTES",
    "UPLOAD_MAX_BYTES",
    "UPLOAD_PART_MAX_BYTES",
    "UPLOAD_SECONDS",
    "UPLOADS_PENDING",
    "BATCH_FILE_MAX_BYTES",
    "BATCH_MAX_REQUESTS",
    "BATCH_MAX_EMBEDDING_INPUTS",
    "BATCH_LINE_MAX_BYTES",
    "BATCH_FILE_DAYS",
    "BATCH_SHARD_LINES",
    "INTERACTIVE_MAX_BYTES",
    "BATCH_CUSTOM_ID_MAX_CHARACTERS",
    "REQUEST_MAX_N",
    "REQUEST_MAX_LOGPROBS",
    "REQUEST_MAX_TOKENS",
    "REQUEST_MAX_STOP",
    "REQUEST_MAX_STOP_CHARACTERS",
    "REQUEST_MAX_LOGIT_BIAS",
    "REQUEST_MAX_GRAMMAR_BYTES",
    "REQUEST_ATTEMPTS",
    "WORK_ATTEMPTS",
    "REQUEST_TIMEOUT_SECONDS",
    "ENGINE_START_SECONDS",
    "ENGINE_KV_CACHE_GIB",
    "MODEL_QUANTUM_SECONDS",
)


def check_settings(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:
    return [*_ports(), *_limits(), *_https(), *_storage()]


def _ports() -> Iterator[checks.CheckMessage]:
    for name in ("API_PORT", "WEB_PORT"):
        port = getattr(settings, name)
        if not 0 < port < 65_536:
            yield checks.Error(f"{name} is {port}.", hint="Set it to a port from 1 to 65535.", id="batchserver.E001")


def _limits() -> Iterator[checks.CheckMessage]:
    for name in POSITIVE:
        if getattr(settings, name) <= 0:
            yield checks.Error(f"{name} is {getattr(settings, name)}.", hint="Set it above 0.", id="batchserver.E002")
    if settings.REQUEST_UNKNOWN_FIELDS not in ("refuse", "warn"):
        yield checks.Error(
            f"REQUEST_UNKNOWN_FIELDS is {settings.REQUEST_UNKNOWN_FIELDS!r}.",
            hint="Set it to refuse or to warn.",
            id="batchserver.E007",
        )
    if settings.BATCH_LINE_MAX_BYTES > settings.FILE_MAX_BYTES:
        yield checks.Error(
            "BATCH_LINE_MAX_BYTES is larger than FILE_MAX_BYTES.",
            hint="A line cannot be longer than its file: lower one or raise the other.",
            id="batchserver.E003",
        )
    if settings.BATCH_FILE_MAX_BYTES > settings.FILE_MAX_BYTES:
        yield checks.Warning(
            "BATCH_FILE_MAX_BYTES is larger than FILE_MAX_BYTES, so files of that size cannot be uploaded.",
            hint="Raise FILE_MAX_BYTES too.",
            id="batchserver.W001",
        )


def _https() -> Iterator[checks.CheckMessage]:
    if settings.HTTPS and not settings.CSRF_TRUSTED_ORIGINS:
        yield checks.Warning(
            "HTTPS is on and CSRF_TRUSTED_ORIGINS is empty: behind a proxy the login may be refused.",
            hint="Set CSRF_TRUSTED_ORIGINS=https://your.host",
            id="batchserver.W002",
        )
    if settings.HTTPS and not set(settings.ALLOWED_HOSTS) - {"localhost", "127.0.0.1", "[::1]"}:
        yield checks.Error(
            "HTTPS is on, but ALLOWED_HOSTS names this machine only.",
            hint="Set ALLOWED_HOSTS=your.host",
            id="batchserver.E004",
        )
    if settings.DEBUG and settings.HTTPS:
        yield checks.Error("DEBUG is on for a public site.", hint="Unset DEBUG or HTTPS.", id="batchserver.E005")


def _storage() -> Iterator[checks.CheckMessage]:
    storage = storages["default"]
    if isinstance(storage, FileSystemStorage) and str(settings.FILES_DIR) != str(storage.location):
        yield checks.Error(
            "The default storage is a folder other than FILES_DIR, where uploads are spooled.",
            hint="Move it by FILES_DIR: an upload ends with a rename, which needs one file system.",
            id="batchserver.E006",
        )
