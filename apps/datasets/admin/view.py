"""What the address of the review page asks for: everything that somebody else must see the same with the same link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self
from urllib.parse import urlencode

from apps.core.errors import DomainError
from apps.datasets.reviews.filters import Filters

RENDERINGS = ("plain", "markdown", "json")
HEIGHTS = ("s", "m", "l")
NUMBER = 2**31 - 1  # PostgreSQL's largest of the type


@dataclass(frozen=True, kw_only=True)
class View:
    filters: Filters = field(default_factory=Filters)
    after: int = 0
    """The page begins after the example of this number."""
    baseline: int | None = None
    """The position of the column that the others are compared with; None: the first one."""
    diff: bool = False
    render: str = RENDERINGS[0]
    height: str = "m"
    blind: bool = False
    queue: bool = False
    """One example after the other, as they are assigned."""

    @classmethod
    def parse(cls, query: Mapping[str, str], *, show: str) -> Self:
        """`show` is what an address without that parameter means. Raises `DomainError` that names the parameter."""
        return cls(
            filters=Filters.parse({"show": show, **{name: value for name, value in query.items() if value}}),
            after=whole_number(query, "after") or 0,
            baseline=whole_number(query, "baseline"),
            diff=query.get("diff") == "1",
            render=_choice(query, "render", RENDERINGS, "plain"),
            height=_choice(query, "height", HEIGHTS, "m"),
            blind=query.get("blind") == "1",
            queue=query.get("queue") == "1",
        )

    def with_filters(self, **changes: Any) -> Self:
        """From the first page."""
        return replace(self, filters=replace(self.filters, **changes), after=0)

    def address(self, **changes: Any) -> str:
        """The query string of this view with some fields changed."""
        view = replace(self, **changes) if changes else self
        values = {"show": view.filters.show, **view.filters.as_query()}
        for each in fields(view)[1:]:
            value = getattr(view, each.name)
            if value != each.default:
                values[each.name] = "1" if value is True else str(value)
        return "?" + urlencode(values)


def whole_number(query: Mapping[str, str], name: str, *, most: int = NUMBER) -> int | None:
    """None where it is not given."""
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= most):
        raise DomainError(f"'{name}' is a whole number.", param=name)
    return int(text)


def _choice(query: Mapping[str, str], name: str, choices: tuple[str, ...], default: str) -> str:
    text = query.get(name) or default
    if text not in choices:
        raise DomainError(f"'{name}' is one of {', '.join(choices)}.", param=name)
    return text
