"""Every address of the site."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import include, path, re_path, register_converter
from django.views import defaults
from drf_spectacular.views import SpectacularSwaggerView

from apps.core.api.converters import UidConverter
from apps.core.api.errors import ApiError, answer
from apps.core.api.routes import is_api, not_found
from apps.core.api.views import UnknownRoute
from batchserver.health import api_root
from batchserver.schema import SchemaView
from batchserver.views import landing

register_converter(UidConverter, "uid")
admin.autodiscover()

urlpatterns = [
    path("", landing, name="landing"),
    path("admin/", admin.site.urls),
    path("v1", api_root),
    path("v1/", include("apps.batches.api.urls")),
    path("v1/", include("apps.models.api.urls")),
    path("v1/", include("apps.datasets.api.urls")),
    path("v1/", include("apps.training.api.urls")),
    path("v1/schema", SchemaView.as_view(), name="schema"),
    path("v1/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    re_path(r"^v1/", UnknownRoute.as_view()),
]


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase | JsonResponse:
    if is_api(request):
        return answer(request, ApiError(400, "The request is malformed."))
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase | JsonResponse:
    if is_api(request):
        return answer(request, ApiError(500, "The server had an error while processing your request."))
    return defaults.server_error(request)


handler400 = bad_request
handler404 = not_found
handler500 = server_error
