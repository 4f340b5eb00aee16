"""The formats in which conversations come and go: told from the first rows, read, and written."""

from collections.abc import Sequence

from apps.conversations.codecs import (
    alpaca,
    openai_batch,
    openai_chat,
    preference,
    prompt_completion,
    sharegpt,
    sharegpt_pairs,
    unpaired,
)
from apps.conversations.codecs.codec import CannotHold, Codec, Values

__all__ = ["CODECS", "CannotHold", "Codec", "Values", "detect"]

CODECS = {
    module.CODEC.name: module.CODEC
    for module in (
        openai_batch,
        sharegpt_pairs,
        preference,
        unpaired,
        openai_chat,
        sharegpt,
        alpaca,
        prompt_completion,
    )
}
"""By name. A row may look like several: what says more about the answers comes first."""


def detect(rows: Sequence[Values]) -> Codec | None:
    """The first codec that fits most of the rows."""
    return next((codec for codec in CODECS.values() if 2 * sum(map(codec.fits, rows)) > len(rows)), None)
