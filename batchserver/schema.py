"""GET /v1/schema: made once per process. Anybody may ask, and making it takes most of a second of computing."""

from threading import Lock
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request
from rest_framework.response import Response

_made: dict[str, tuple[bytes, dict[str, str]]] = {}
_lock = Lock()  # drf-spectacular loads its extensions at the first call, and fails where two are the first


class SchemaView(SpectacularAPIView):
    """drf-spectacular's, remembered for each format."""

    @extend_schema(exclude=True)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        renderer = request.accepted_renderer
        with _lock:
            if renderer.format not in _made:
                _made[renderer.format] = self._make(super().get(request, *args, **kwargs), renderer)  # type: ignore[no-untyped-call]
            body, headers = _made[renderer.format]
        return HttpResponse(body, headers={**headers, "Content-Type": renderer.media_type})

    def _make(self, response: Response, renderer: Any) -> tuple[bytes, dict[str, str]]:
        body = renderer.render(response.data, renderer.media_type, self.get_renderer_context())
        return body, dict(response.headers)
