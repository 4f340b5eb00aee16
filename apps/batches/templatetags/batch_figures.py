"""Figures in the words of static/js/progress.js, so that the first state looks like the live ones."""

from django import template

register = template.Library()


@register.filter
def spaced(word: str) -> str:
    """`in_progress` → `in progress`."""
    return word.replace("_", " ")


@register.filter
def duration(seconds: int | None) -> str:
    """`4210` → `1 h 10 min`; a dash where nobody knows."""
    if seconds is None:
        return "\N{EN DASH}"
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


@register.filter
def milliseconds(value: int) -> str:
    """`1530` → `1.5 s`."""
    return f"{value} ms" if value < 1000 else f"{value / 1000:.1f} s"
