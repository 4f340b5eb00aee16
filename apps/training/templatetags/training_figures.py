"""Figures in the words of static/js/training/chart.js, so that the first state looks like the live ones."""

import math

from django import template

register = template.Library()

NONE = "\N{EN DASH}"


@register.filter
def figure(value: float | None) -> str:
    """Four digits: `0.09` , `1.204e-5`; a dash where nothing was measured, or it is no number."""
    if value is None or not math.isfinite(value):
        return NONE
    size = abs(value)
    if size and (size < 0.001 or size >= 1e6):
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"


@register.filter
def whole(value: float | None) -> str:
    """`1203.7` → `1,204`."""
    return NONE if not value or not math.isfinite(value) else f"{value:,.0f}"


@register.filter
def size(value: float | None) -> str:
    """Bytes: `2690000000` → `2.69 GB`."""
    if not value:
        return NONE
    return (
        f"{value / 1e9:.2f} GB"
        if value >= 1e9
        else f"{value / 1e6:.0f} MB"
        if value >= 1e6
        else f"{value / 1e3:.0f} kB"
    )


@register.filter
def whole_seconds(value: float | None) -> int | None:
    """For `duration`."""
    return None if value is None else round(value)
