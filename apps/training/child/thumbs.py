"""What KTO needs beside token ids: thumbs up and down mixed, foreign answers to each prompt, and weights. Pure.

TRL's trainer takes the rows of each batch as they come and estimates from prompts with foreign answers how far the
model has moved (https://huggingface.co/docs/trl/kto_trainer): so the order is chosen here, once, by the seed.
"""

import random
from collections.abc import Iterator, Sequence

from apps.training.options import Options

LEAST_BATCH = 2  # rows; alone in its batch, an answer has no foreign one


def mixed(rows: int, seed: int) -> list[int]:
    """An order of the rows: files often have all thumbs up before those down."""
    order = list(range(rows))
    random.Random(seed).shuffle(order)  # noqa: S311 - the same seed must give the same training
    return order


def with_foreign_answers(order: Sequence[int], batch_size: int) -> Iterator[tuple[int, int]]:
    """Each row with the one whose answer is foreign to it: the one before it in its batch, of the first the last.

    A row that is alone in the last batch gets that of the batch before.
    """
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        for at, row in enumerate(batch):
            yield row, order[start + at - 1] if len(batch) == 1 else batch[at - 1]


def weights(ups: int, downs: int, options: Options) -> tuple[float, float]:
    """How much a thumb up and a thumb down count. What is not set makes both kinds count alike in all.

    The KTO paper (https://arxiv.org/abs/2402.01306, equation 8) wants the kinds' sums between 1:1 and 4:3.
    """
    up, down = options.desirable_weight, options.undesirable_weight
    if not ups or not downs:
        return up or 1.0, down or 1.0
    if up and down:
        return up, down
    if up:
        return up, _round(up * ups / downs)
    if down:
        return _round(down * downs / ups), down
    return (1.0, _round(ups / downs)) if ups > downs else (_round(downs / ups), 1.0)


def _round(weight: float) -> float:
    return float(f"{weight:.4g}")
