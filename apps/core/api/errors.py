"""OpenAI's error envelope. Every error of every /v1 route ends here, whoever raised it."""

import errno
import logging
from collections.abc import Iterator
from functools import singledispatch
from typing import Any

import psycopg
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from apps.core.errors import Conflict, DomainError

RETRY_AFTER = "5"  # seconds, while the database is away

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}

log = logging.getLogger(__name__)


class ApiError(exceptions.APIException):
    """An answer that is an error. `type` follows from the status where none is given."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        type: str | None = None,  # noqa: A002 - the envelope's word
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code, self.message, self.code, self.param = status, message, code, param
        self.type = type or TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        self.headers = headers or {}

    @property
    def envelope(self) -> dict[str, dict[str, str | None]]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response:
    """DRF's hook: what a view raised becomes an envelope; what nobody foresaw is logged and kept from the client."""
    error = as_api_error(exc)
    if error.status_code >= 500:
        request = context["request"]
        request_id = getattr(request, "request_id", "-")
        trace = exc if error.status_code == 500 else None
        log.error("%s %s failed, request %s: %r", request.method, request.path, request_id, exc, exc_info=trace)
    return Response(error.envelope, status=error.status_code, headers=error.headers)


@singledispatch
def as_api_error(exc: Exception) -> ApiError:
    """The error to answer with."""
    return ApiError(500, "The server had an error while processing your request. Its log has the details.")


@as_api_error.register
def _(exc: ApiError) -> ApiError:
    return exc


@as_api_error.register
def _(exc: DomainError) -> ApiError:
    status = 409 if isinstance(exc, Conflict) else 413 if exc.code == "file_too_large" else 400
    return ApiError(status, exc.message, exc.code, exc.param)


@as_api_error.register
def _(exc: exceptions.APIException) -> ApiError:
    headers = {"Retry-After": str(wait)} if (wait := getattr(exc, "wait", None)) else {}
    return ApiError(exc.status_code, str(exc.detail), headers=headers)


@as_api_error.register
def _(exc: exceptions.ValidationError) -> ApiError:
    """The first bad parameter, by its path: `output_expires_after.seconds`."""
    path, detail = next(_leaves(exc.detail), ([], exceptions.ErrorDetail("Invalid input.", "invalid")))
    param = ".".join(path) or None
    if detail.code == "required":
        return ApiError(400, f"Missing required parameter: '{param}'.", "missing_required_parameter", param)
    message = f"Invalid value for '{param}': {detail}" if param else str(detail)
    return ApiError(400, message, "invalid_value", param)


def _leaves(detail: Any) -> Iterator[tuple[list[str], exceptions.ErrorDetail]]:
    if isinstance(detail, dict):
        for key, value in detail.items():
            own = [] if key == "non_field_errors" else [str(key)]
            yield from (([*own, *path], leaf) for path, leaf in _leaves(value))
    elif isinstance(detail, list):
        for value in detail:
            yield from _leaves(value)
    else:
        yield [], detail


@as_api_error.register
def _(exc: Http404) -> ApiError:
    return ApiError(404, "Not found.")


@as_api_error.register
def _(exc: PermissionDenied) -> ApiError:
    return ApiError(403, str(exc) or "You may not do this.")


@as_api_error.register(BadRequest)
@as_api_error.register(SuspiciousOperation)
def _(exc: Exception) -> ApiError:
    return ApiError(400, "The request is malformed.")


@as_api_error.register
def _(exc: RequestDataTooBig) -> ApiError:
    return ApiError(413, "The form's fields are too large.", "request_too_large")


@as_api_error.register
def _(exc: DataError) -> ApiError:
    return ApiError(400, "A value is out of the range that can be stored.", "invalid_value")


@as_api_error.register(OperationalError)
@as_api_error.register(InterfaceError)
@as_api_error.register(InternalError)  # a standby that has not taken over yet is read-only
@as_api_error.register(psycopg.OperationalError)  # the pool gave no connection in time
def _(exc: Exception) -> ApiError:
    return ApiError(
        503, "The database cannot be used now. Try again in a few seconds.", "database_unavailable",
        headers={"Retry-After": RETRY_AFTER},
    )  # fmt: skip


@as_api_error.register
def _(exc: OSError) -> ApiError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return ApiError(507, "The server has no space left for files.", "no_space", headers={"x-should-retry": "false"})
    return as_api_error.dispatch(Exception)(exc)


def answer(request: HttpRequest, error: ApiError) -> JsonResponse:
    """The envelope outside of DRF."""
    return JsonResponse(error.envelope, status=error.status_code, headers=error.headers)
