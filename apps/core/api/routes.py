"""What to say about an address that is nobody's: an envelope for programs, with the address that was meant."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponseBase
from django.urls import Resolver404, resolve
from django.views import defaults

from apps.core.api.errors import ApiError, answer

PREFIX = "/v1"


def is_api(request: HttpRequest) -> bool:
    """Whether a program asks: under /v1, on the API's port, for a route that lacks its /v1, or not by a browser."""
    path = request.path
    if path == PREFIX or path.startswith(f"{PREFIX}/"):
        return True
    if path.startswith(("/admin/", settings.STATIC_URL)):
        return False
    on_api_port = settings.API_PORT != settings.WEB_PORT and request.META.get("SERVER_PORT") == str(settings.API_PORT)
    return on_api_port or request.method not in ("GET", "HEAD") or _serves(PREFIX + path)


def unknown_route(request: HttpRequest) -> ApiError:
    """Names the route that was meant, where only the base URL is wrong."""
    path = request.path[:200]
    message = f"Unknown request URL: {request.method} {path}."
    if path.startswith(f"{PREFIX}{PREFIX}/") and _serves(path.removeprefix(PREFIX)):
        meant = path.removeprefix(PREFIX)
        message += f" Did you mean {meant}? The client's base_url ends in {PREFIX} once."
    elif not path.startswith(f"{PREFIX}/") and _serves(PREFIX + path):
        message += f" Did you mean {PREFIX}{path}? Set the client's base_url to {_origin(request)}{PREFIX}."
    else:
        message += f" See {PREFIX}/docs."
    return ApiError(404, message, "unknown_url")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler of 404: pages for people, envelopes for programs."""
    if not is_api(request):
        return defaults.page_not_found(request, exception)
    error = unknown_route(request) if isinstance(exception, Resolver404) else ApiError(404, "Not found.")
    return answer(request, error)


def _serves(path: str) -> bool:
    """Whether a route of the API has this address."""
    try:
        view = resolve(path).func
    except Http404:
        return False
    return not getattr(getattr(view, "cls", None), "is_unknown_route", False)


def _origin(request: HttpRequest) -> str:
    return f"{request.scheme}://{request.get_host()}"
