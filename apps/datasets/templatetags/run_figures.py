"""Figures of runs for their templates."""

from typing import Any

from django import template

register = template.Library()


@register.filter
def of(pages: dict[str, str], key: str) -> str:
    """The value of a key; empty where there is none."""
    return pages.get(key, "")


@register.filter
def roughly(seconds: float | None) -> str:
    """`5400` → `1 h 30 min`: what is estimated is said in whole minutes."""
    if seconds is None:
        return "not known"
    minutes = round(seconds / 60)
    if minutes >= 2880:
        return f"{minutes / 1440:.1f} days"
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else "under a minute"


@register.filter
def money(cost: float | None, currency: Any) -> str:
    if cost is None:
        return "\N{EN DASH}"
    return f"{cost:,.2f} {currency}" if cost >= 0.01 else f"under 0.01 {currency}"
