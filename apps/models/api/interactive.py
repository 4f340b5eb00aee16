"""The interactive endpoints, for the schema: `apps.models.gateway` answers them before Django sees a request.

What gets here all the same is not a POST, or a server that runs without the site's ASGI application.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api.views import ProjectView
from apps.accounts.models import Scope
from apps.core.api.errors import ApiError
from apps.core.api.schema import responses

NOTE = """

The request goes to the model's vLLM engine, and the answer comes back as it is: every parameter that vLLM knows can be
used, within bounds. A name that it does not know is refused with the nearest right one; legacy names are given their
modern form; OpenAI's own fields that mean nothing here are accepted. An engine's errors come in OpenAI's envelope.
A model that is not loaded is loaded first: the request waits for it, then it is answered 503 with `Retry-After`.
With `stream` the answer is a stream of server-sent events."""
View = TypeVar("View", bound=Callable[..., Response])
ERRORS = (400, 404, 413, 415, 429, 502, 503, 504)


def _body(**fields: Any) -> dict[str, Any]:
    """A request's schema: what it must have, and whatever else the engine takes."""
    properties = {"model": {"type": "string"}, **fields}
    return {
        "application/json": {
            "type": "object", "properties": properties, "required": list(properties), "additionalProperties": True,
        }
    }  # fmt: skip


def _describe(
    name: str, summary: str, body: dict[str, Any], example: dict[str, Any], *, streams: bool = True
) -> Callable[[View], View]:
    answers: dict[Any, Any] = {**responses(OpenApiTypes.OBJECT, *ERRORS)}
    if streams:
        answers[(200, "text/event-stream")] = OpenApiTypes.STR
    shown = OpenApiExample("A request", value={"model": "smollm2-135m-instruct", **example}, request_only=True)
    decorator: Callable[[View], View] = extend_schema(
        operation_id=name, description=summary + NOTE, request=body, responses=answers, examples=[shown]
    )
    return decorator


class InteractiveView(ProjectView):
    required_scopes = {"POST": Scope.MODELS_USE}
    repeats_are_harmless = True  # and the gateway answers them

    def post(self, request: Request) -> Response:
        raise ApiError(404, "Interactive requests are answered by the site's ASGI application only.", "unknown_url")


MESSAGES = {"type": "array", "items": {"type": "object"}}
TEXT: dict[str, Any] = {"oneOf": [{"type": "string"}, {"type": "array", "items": {}}]}


class ChatView(InteractiveView):
    @_describe(
        "create_chat_completion", "Answer a conversation.", _body(messages=MESSAGES),
        {"messages": [{"role": "user", "content": "Name the capital of France."}]},
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        return super().post(request)


class CompletionsView(InteractiveView):
    @_describe("create_completion", "Continue a text.", _body(prompt=TEXT), {"prompt": "The capital of France is"})
    def post(self, request: Request) -> Response:
        return super().post(request)


class ResponsesView(InteractiveView):
    @_describe(
        "create_response", "Answer, in the shape of the Responses API.", _body(input=TEXT),
        {"input": "Name the capital of France."},
    )  # fmt: skip
    def post(self, request: Request) -> Response:
        return super().post(request)


class EmbeddingsView(InteractiveView):
    @_describe("create_embedding", "Embed texts.", _body(input=TEXT), {"input": ["Paris", "Rome"]}, streams=False)
    def post(self, request: Request) -> Response:
        return super().post(request)
