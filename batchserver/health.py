"""Whether this process can serve, for load balancers and for who starts it."""

import psycopg
from django.http import HttpRequest, JsonResponse

from apps.core.db import connect


def healthz(request: HttpRequest) -> JsonResponse:
    """200 when the database answers, 503 when it does not."""
    try:
        connect().close()  # the pool would wait for seconds
    except psycopg.OperationalError:
        return JsonResponse({"status": "the database does not answer"}, status=503)
    return JsonResponse({"status": "ok"})


def api_root(request: HttpRequest) -> JsonResponse:
    """What is here, for people who open /v1 in a browser."""
    return JsonResponse({"object": "api", "docs": "/v1/docs", "schema": "/v1/schema"})
