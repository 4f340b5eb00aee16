"""One thing that a cell of the matrix can show, as HTML: built here, since a page has hundreds, and templates are slow.

Whatever comes from outside goes through `escape`, or was made by `rendering`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import escape
from django.utils.safestring import SafeString


def _rating(value: int | None) -> SafeString:
    """Five buttons; pressed up to none or one of them."""
    buttons = (
        f'<button type="button" tabindex="-1" data-rate="{n}" aria-pressed="{"true" if n == value else "false"}"'
        f' aria-label="Rate {n} of 5">{n}</button>'
        for n in range(1, 6)
    )
    rated = f' data-value="{value}"' if value else ""
    return SafeString(f'<span class="rv-rating" role="group" aria-label="Rating"{rated}>{"".join(buttons)}</span>')


RATINGS = {value: _rating(value) for value in (None, 1, 2, 3, 4, 5)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """One thing that a cell can show: a sample, an edit of it, or what the edit changed."""

    label: str
    title: str
    answer: int
    kind: str  # original, edit, changes
    html: str
    error: str = ""
    figures: str = ""
    finish: str = ""  # where it is not the usual "stop"
    rest: int = 0  # characters that are not shown
    shown: int = 0  # characters that are
    total: str = ""
    starred: bool = False
    star_title: str = ""
    rating: SafeString = RATINGS[None]
    score: int | None = None
    same: bool = False


def faces_html(faces: Sequence[Face], *, column: int, current: int) -> SafeString:
    """All of a cell's, of which one is seen."""
    shown = "".join(_face(face, column, at != current) for at, face in enumerate(faces))
    return SafeString((_switch(faces, current) if len(faces) > 1 else "") + shown)


def _switch(faces: Sequence[Face], current: int) -> str:
    buttons = (
        f'<button type="button" tabindex="-1" data-face="{at}" aria-pressed="{_bool(at == current)}"'
        f' title="{escape(face.title)}">{escape(face.label)}</button>'
        for at, face in enumerate(faces)
    )
    return f'<div class="rv-faces" role="group" aria-label="Versions">{"".join(buttons)}</div>'


def _face(face: Face, column: int, hidden: bool) -> str:
    marks = {"hidden": hidden, "data-starred": face.starred, "data-failed": face.error}
    own = f' data-answer="{face.answer}"' if face.answer else ""
    attributes = own + "".join(f" {name}" for name, is_so in marks.items() if is_so)
    return (
        f'<div class="rv-face" data-kind="{face.kind}"{attributes}>{_acts(face) if face.answer else ""}'
        f'<div class="rv-text" dir="auto">{_text(face)}</div>{_rest(face, column)}{_figures(face)}</div>'
    )


def _acts(face: Face) -> str:
    title = escape(face.star_title)
    parts = [
        f'<button type="button" class="rv-star" tabindex="-1" data-star aria-pressed="{_bool(face.starred)}"'
        f' aria-label="{title}" title="{title}"{" disabled" if face.error else ""}>\N{BLACK STAR}</button>'
    ]
    if not face.error:
        parts.append(face.rating)
    if face.score:
        parts.append(f'<span class="rv-badge" title="The judge\'s score">judge {face.score}</span>')
    if face.kind != "original":
        parts.append(f'<span class="rv-badge" data-tone="edit">{escape(face.title)}</span>')
    if face.same:
        parts.append('<span class="rv-quiet">same as the baseline</span>')
    return f'<div class="rv-acts">{"".join(parts)}</div>'


def _text(face: Face) -> str:
    return f'<span class="rv-error"><b>Failed.</b> {escape(face.error)}</span>' if face.error else face.html


def _rest(face: Face, column: int) -> str:
    """A button for what is not shown. In blind mode an answer is known by its side."""
    if not face.rest:
        return ""
    asked = f"answer={face.answer}" if face.answer else f"side={column}"
    return (
        f'<button type="button" class="rv-rest" tabindex="-1" data-rest="{asked}" data-from="{face.shown}">'
        f"Show all {face.total} characters</button>"
    )


def _figures(face: Face) -> str:
    if not face.figures and not face.finish:
        return ""
    finish = f'<span class="rv-badge" data-tone="warn" title="Why the model ended">{escape(face.finish)}</span>'
    return f'<div class="rv-figures">{escape(face.figures)}{finish if face.finish else ""}</div>'


def _bool(value: bool) -> str:
    return "true" if value else "false"
