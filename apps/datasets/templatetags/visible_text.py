from django import template

from apps.datasets.reviews.rendering import visible

register = template.Library()


@register.filter
def shown(text: str) -> str:
    """Strangers' words with their invisible characters shown; Django escapes them as any other text."""
    return visible(text)
