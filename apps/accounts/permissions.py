"""What a key may do: its scopes, by route and method."""

from typing import Any

from rest_framework.exceptions import MethodNotAllowed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.accounts.models import ApiKey
from apps.core.api.errors import ApiError


class HasScope(BasePermission):
    """Refuses whatever the view does not name a scope for: a forgotten entry is a closed door."""

    def has_permission(self, request: Request, view: Any) -> bool:
        method = "GET" if request.method == "HEAD" else request.method
        scope = view.required_scopes.get(method)
        if scope is None:
            raise MethodNotAllowed(str(request.method))
        if not isinstance(request.auth, ApiKey) or scope not in request.auth.scopes:
            raise missing_scope(scope)
        return True


def missing_scope(scope: str) -> ApiError:
    return ApiError(403, f"This API key lacks the scope '{scope}', which this request needs.", "missing_scope")
