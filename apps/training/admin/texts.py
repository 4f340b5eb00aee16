"""What a comparison's answers look like side by side: what one says otherwise than the other is marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString

from apps.datasets.reviews.differences import word_diff
from apps.datasets.reviews.rendering import diff_html, plain

SHOWN = 50  # prompts
CHARACTERS = 4_000  # of a text


@dataclass(frozen=True, slots=True)
class Side:
    title: str
    html: SafeString
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt, and what each model said."""

    prompt: str
    sides: list[Side]


def pairs_of(parity: Mapping[str, Any]) -> list[Pair]:
    """Of a deployment's `parity`; none while it has not been compared."""
    texts = parity.get("texts")
    return [_pair(text) for text in texts[:SHOWN] if isinstance(text, Mapping)] if isinstance(texts, list) else []


def _pair(text: Mapping[str, Any]) -> Pair:
    base, tuned, merged = (_short(text.get(name)) for name in ("base", "adapter", "merged"))
    sides = [Side("Base", plain(base))]
    if text.get("adapter") is not None:
        sides.append(Side("Adapter", _marked(base, tuned), "as the base" if base == tuned else ""))
    if text.get("merged") is not None:
        before, named = (tuned, "adapter") if text.get("adapter") is not None else (base, "base")
        sides.append(Side("Merged", _marked(before, merged), f"as the {named}" if merged == before else ""))
    return Pair(_short(_prompt(text.get("prompt"))), sides)


def _marked(before: str, after: str) -> SafeString:
    """`after`, with what `before` does not say."""
    pieces = word_diff(before, after)
    return plain(after) if pieces is None else diff_html([piece for piece in pieces if piece[0] != "delete"])


def _prompt(prompt: Any) -> str:
    """A text, or the messages of a chat, of which the last is what was asked."""
    if isinstance(prompt, Sequence) and not isinstance(prompt, str) and prompt and isinstance(prompt[-1], Mapping):
        return str(prompt[-1].get("content", ""))
    return str(prompt if prompt is not None else "")


def _short(text: Any) -> str:
    words = "" if text is None else str(text)
    return words if len(words) <= CHARACTERS else f"{words[:CHARACTERS]}…"
