"""The formats in which conversations come and go: told from the first rows, read, and written."""

from collections.abc import Sequence

from apps.conversations.codecs import (
    alpaca,
    judged,
    label_studio,
    label_studio_min,
    openai_batch,
    openai_chat,
    preference,
    prompt_completion,
    sharegpt,
    sharegpt_pairs,
    single_turn,
    unpaired,
)
from apps.conversations.codecs.codec import CannotHold, Codec, Values

__all__ = ["CODECS", "CannotHold", "Codec", "Values", "detect"]

CODECS = {
    codec.name: codec
    for codec in (
        openai_batch.CODEC, label_studio.CODEC, label_studio_min.CODEC, judged.ARENA, judged.SCORED,
        sharegpt_pairs.CODEC, preference.CODEC, unpaired.CODEC, openai_chat.CODEC, sharegpt.CODEC, alpaca.CODEC,
        single_turn.DOLLY, single_turn.ORCA, prompt_completion.CODEC,
    )
}  # fmt: skip
"""By name. A row may look like several: what says more about the answers comes first."""


def detect(rows: Sequence[Values]) -> Codec | None:
    """The first codec that fits most of the rows."""
    return next((codec for codec in CODECS.values() if 2 * sum(map(codec.fits, rows)) > len(rows)), None)
