"""The landing page."""

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from apps.models.models import Model


def landing(request: HttpRequest) -> HttpResponse:
    """What this is, and how to send the first batch to the address under which the reader sees it."""
    known = Model.objects.filter(project=None).first() if request.user.is_authenticated else None
    context = {"api": f"{api_origin(request)}/v1", "model": known.name if known else "your-model"}
    return render(request, "landing.html", context)


def api_origin(request: HttpRequest) -> str:
    """The API's address as the reader reaches us: its own port when they came to the web's, else (a proxy) the same."""
    origin = urlsplit(f"{request.scheme}://{request.get_host()}")
    if origin.port == settings.WEB_PORT:
        host = f"[{origin.hostname}]" if ":" in (origin.hostname or "") else origin.hostname
        return f"{origin.scheme}://{host}:{settings.API_PORT}"
    return f"{origin.scheme}://{origin.netloc}"
