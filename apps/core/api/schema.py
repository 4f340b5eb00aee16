"""What the OpenAPI schema says about every route."""

from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.utils import OpenApiResponse, inline_serializer
from rest_framework import serializers

MEANINGS = {
    400: "A parameter is missing or bad; `param` names it.",
    401: "No API key, or one that is unknown, revoked or expired.",
    403: "The key lacks the scope for this.",
    404: "There is no such object in the key's project.",
    409: "The object's state does not allow it now.",
    413: "The body is too large.",
    415: "The body is not of the media type that this route takes.",
    416: "The range lies outside of the file.",
    429: "The key is at a limit of its own; `Retry-After` says for how long.",
    502: "The model's engine died while it worked on the request.",
    503: "The model could not be loaded in time, or its engines break; `Retry-After` says when to ask again.",
    507: "The server has no space left for files.",
    504: "The model's engine took too long.",
}


class ErrorDetailSerializer(serializers.Serializer[Any]):
    message = serializers.CharField()
    type = serializers.CharField()
    param = serializers.CharField(allow_null=True)
    code = serializers.CharField(allow_null=True)


class ErrorSerializer(serializers.Serializer[Any]):
    error = ErrorDetailSerializer()


class UnixField(serializers.IntegerField):
    """A moment in Unix seconds."""

    def to_representation(self, value: Any) -> int:
        return int(value.timestamp())


def responses(success: Any, *errors: int, status: int = 200) -> dict[int, Any]:
    """A route's answers: its own, the given errors, and those that every authenticated route has."""
    return {status: success} | {code: _error(code) for code in sorted({401, 403, *errors})}


def _error(code: int) -> Any:
    return OpenApiResponse(ErrorSerializer, MEANINGS[code])


class ConstantField(serializers.ReadOnlyField):
    """A key that always has the same value."""

    def __init__(self, value: str | None, **options: Any) -> None:
        super().__init__(source="*", **options)
        self.value = value

    def to_representation(self, value: Any) -> str | None:
        return self.value


class ConstantFieldSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = ConstantField

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        value = self.target.value
        return {"type": "string", "nullable": True} if value is None else {"type": "string", "enum": [value]}


def list_of(item: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """A page of items, as `pagination.list_object` makes it."""
    fields: dict[str, serializers.Field[Any, Any, Any, Any]] = {
        "object": ConstantField("list"),
        "data": item(many=True),
        "first_id": serializers.CharField(allow_null=True),
        "last_id": serializers.CharField(allow_null=True),
        "has_more": serializers.BooleanField(),
    }
    return inline_serializer(item.__name__.replace("Serializer", "List"), fields)
