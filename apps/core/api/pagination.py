"""OpenAI's lists: keyset pages with `after`, `limit` and `order`; two queries a page, however many rows there are."""

import re
from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from rest_framework import serializers
from rest_framework.request import Request

from apps.core.api.errors import ApiError

UID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

Row = TypeVar("Row", bound=Model)


class PageQuery(serializers.Serializer[Any]):
    """The query parameters of a list; a route with other bounds makes its own by `page_query`."""

    after = serializers.CharField(required=False, help_text="The id of the last item of the page before.")
    limit = serializers.IntegerField(required=False, min_value=1)
    order = serializers.ChoiceField(["asc", "desc"], default="desc", help_text="By time of creation.")


def page_query(*, default: int, maximum: int) -> type[PageQuery]:
    class BoundedPageQuery(PageQuery):
        limit = serializers.IntegerField(default=default, min_value=1, max_value=maximum)

    return BoundedPageQuery


def page(rows: QuerySet[Row], query: dict[str, Any]) -> tuple[list[Row], bool]:
    """The rows that a validated query asks for, and whether more follow. `rows` have a `uid` and are the asker's."""
    newest_first = query["order"] == "desc"
    if after := query.get("after"):
        last = rows.filter(uid=after).values_list("pk", flat=True).first() if UID.fullmatch(after) else None
        if last is None:
            raise ApiError(
                400, f"No item {after!r} to go on after. Start again without 'after'.", "invalid_value", "after"
            )
        rows = rows.filter(pk__lt=last) if newest_first else rows.filter(pk__gt=last)
    limit = query["limit"]
    found = list(rows.order_by("-pk" if newest_first else "pk")[: limit + 1])
    return found[:limit], len(found) > limit


def validated_query(serializer: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    form = serializer(data=request.query_params)
    form.is_valid(raise_exception=True)
    return dict(form.validated_data)


def list_object(item: type[serializers.Serializer[Any]], rows: list[Any], *, has_more: bool) -> dict[str, Any]:
    """A page in OpenAI's shape. Its items have an `id`."""
    data: list[Any] = list(item(rows, many=True).data)
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
