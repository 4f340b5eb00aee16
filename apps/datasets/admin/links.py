"""Links on an export's page to what apps above make of it: they register here, since this app does not know them."""

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest

from apps.datasets.models import Export


@dataclass(frozen=True, slots=True)
class Link:
    title: str
    icon: str
    """A name of Material Symbols."""
    url: str


Offer = Callable[[HttpRequest, Export], Link | None]
"""The link for this reader; None where it makes no sense."""

_offers: list[Offer] = []


def register(offer: Offer) -> None:
    _offers.append(offer)


def links_of(request: HttpRequest, export: Export) -> list[Link]:
    return [link for offer in _offers if (link := offer(request, export)) is not None]
