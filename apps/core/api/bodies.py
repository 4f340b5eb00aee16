"""Request bodies hold what their serializer names: a field that would be passed over in silence is refused."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request

from apps.core.api.errors import ApiError
from apps.core.text import MAX_NAME, nearest_name, unrecognized

IGNORED_HEADER = "x-ignored-parameter"
MAX_IGNORED = 8
"""Unknown fields that an answer names in its headers, where they are let through."""
IGNORED = "ignored parameters"
"""Where a request's `parser_context` keeps the sentences for its answer."""


def validated_body(serializer: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """What the body says. Raises `ApiError` 400 for a field that the serializer does not have, at any depth.

    With REQUEST_UNKNOWN_FIELDS=warn such fields are let through, and the view's answer names them. Raises DRF's
    `ValidationError` for bad values.
    """
    form = serializer(data=request.data)
    unknown = list(_unknown(form, request.data, ""))
    if unknown and settings.REQUEST_UNKNOWN_FIELDS != "warn":
        path, nearest = unknown[0]
        raise ApiError(400, unrecognized(path, nearest), "unknown_parameter", path)
    if request.parser_context is not None:
        request.parser_context[IGNORED] = [unrecognized(*one) for one in unknown]
    form.is_valid(raise_exception=True)
    return dict(form.validated_data)


def header_text(sentence: str) -> str:
    """As a header's value: names come from clients, and may hold line ends."""
    return sentence.encode("unicode_escape").decode("ascii")


def _unknown(field: Any, value: Any, path: str) -> Iterator[tuple[str, str]]:
    """The paths of names that are no fields, each with the path that was meant, or ""."""
    if isinstance(field, serializers.ListSerializer):
        for index, item in enumerate(value if isinstance(value, list) else ()):
            yield from _unknown(field.child, item, f"{path}[{index}]")
    elif isinstance(field, serializers.Serializer) and isinstance(value, Mapping):
        fields = {name: inner for name, inner in field.fields.items() if not inner.read_only}
        start = f"{path}." if path else ""
        for name, inner in value.items():
            if name in fields:
                yield from _unknown(fields[name], inner, start + name)
            else:
                nearest = nearest_name(name, fields)
                yield start + name[:MAX_NAME], nearest and start + nearest
