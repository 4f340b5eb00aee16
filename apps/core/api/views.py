"""What all /v1 views share."""

from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request
from rest_framework.views import APIView

from apps.core.api.bodies import IGNORED, IGNORED_HEADER, MAX_IGNORED, header_text
from apps.core.api.errors import ApiError
from apps.core.api.routes import unknown_route

Row = TypeVar("Row", bound=Model)


class OneFormat(DefaultContentNegotiation):
    """Answers in the view's own format whatever the client accepts: OpenAI's SDK asks for `application/binary`."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class ApiView(APIView):
    """A route. `required_scopes` maps its methods to the scope that a key needs for each."""

    content_negotiation_class = OneFormat
    required_scopes: dict[str, str] = {}

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """It names what was passed over of the request's body."""
        answer = super().finalize_response(request, response, *args, **kwargs)
        if ignored := (request.parser_context or {}).get(IGNORED):
            answer.headers[IGNORED_HEADER] = ", ".join(header_text(sentence) for sentence in ignored[:MAX_IGNORED])
        return answer


class UnknownRoute(APIView):
    """Any /v1 path that is nobody else's."""

    authentication_classes = ()
    permission_classes = ()
    content_negotiation_class = OneFormat
    schema = None

    is_unknown_route = True  # for `routes`, which asks whether an address has a view of its own

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise unknown_route(request)


def find(rows: QuerySet[Row], uid: str, noun: str) -> Row:
    """The row with this public id, or a 404: whoever may not see it learns nothing from the answer."""
    row = rows.filter(uid=uid).first()
    if row is None:
        raise ApiError(404, f"No such {noun}: {uid}", f"{noun}_not_found", "id")
    return row
