"""What a comparison's answers look like side by side: what one says otherwise than the other is marked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString

from apps.datasets.reviews.differences import word_diff
from apps.datasets.reviews.rendering import diff_html, plain
from apps.training.deployments import judged
from apps.training.deployments.prompts import text_of

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
    """Of a deployment's `parity`, as far as its prompts are answered."""
    answers = {name: parity.get(name, ()) for name in ("base", "adapter", "merged")}
    pairs, references, scores = [], parity.get("references", ()), _scores(parity)
    for at, prompt in enumerate(parity.get("prompts", ())[:SHOWN]):
        said = {name: _short(texts[at]) for name, texts in answers.items() if at < len(texts)}
        if said:
            reference = text_of(references[at]) if at < len(references) else ""
            sides = [Side("Reference", plain(_short(reference)))] if reference else []
            pairs.append(Pair(_short(_prompt(prompt)), sides + _sides(said, _remarks(scores, at))))
    return pairs


def figures_of(parity: Mapping[str, Any]) -> list[tuple[str, str, int, Any]]:
    """(what the questions were, the model, how many were asked, its score), as far as it was graded."""
    return [
        (title, model, parity[part]["asked"], parity[part][model])
        for part, title in (("unseen", "kept apart"), ("trained", "trained on"))
        for model in (("base", "tuned") if parity.get(part) else ())
    ]


def _scores(parity: Mapping[str, Any]) -> dict[judged.Place, str]:
    """What the judge gave, and why."""
    tuned = "merged" if "merged" in parity else "adapter"
    places = zip(judged.order(parity, tuned), parity.get(judged.SCORES, ()), strict=False)
    return {place: f"judge: {value or 'no score'}. {_short(reason)}".strip() for place, (value, reason) in places}


def _remarks(scores: Mapping[judged.Place, str], question: int) -> dict[str, str]:
    return {place.column: text for place, text in scores.items() if place.question == question}


def _sides(said: dict[str, str], remarks: Mapping[str, str]) -> list[Side]:
    """Each is compared with the one before it."""
    sides, before = [], ""
    for name, text in said.items():
        same = f"as the {before}" if before and text == said[before] else ""
        remark = "; ".join(filter(None, (same, remarks.get(name))))
        sides.append(Side(name.capitalize(), _marked(said[before], text) if before else plain(text), remark))
        before = name
    return sides


def _marked(before: str, after: str) -> SafeString:
    """`after`, with what `before` does not say."""
    pieces = word_diff(before, after)
    return plain(after) if pieces is None else diff_html([piece for piece in pieces if piece[0] != "delete"])


def _prompt(prompt: Any) -> str:
    """What was asked last: of a chat its last turn, else the text itself."""
    messages = prompt.get("messages") if isinstance(prompt, Mapping) else None
    if messages:
        return str(messages[-1].get("content") or "")
    return str(prompt.get("prompt", "") if isinstance(prompt, Mapping) else prompt)


def _short(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"
