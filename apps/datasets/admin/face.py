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


def _thumbs(given: str) -> SafeString:
    """Two buttons; at most one is pressed."""
    buttons = (
        f'<button type="button" tabindex="-1" data-thumb="{verdict}"'
        f' aria-pressed="{"true" if verdict == given else "false"}"'
        f' aria-label="Thumb {verdict}" title="Thumb {verdict}">'
        f'<span class="material-symbols-outlined" aria-hidden="true">thumb_{verdict}</span></button>'
        for verdict in ("up", "down")
    )
    return SafeString(f'<span class="rv-thumbs" role="group" aria-label="Thumb">{"".join(buttons)}</span>')


THUMBS = {given: _thumbs(given) for given in ("", "up", "down")}


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
    finish: str = ""  # where it is not the usual "stop", or a call of tools
    why: str = ""  # a sentence, where it should not be learned from as it is
    blank: bool = False  # there is no answer to read
    calls: Sequence[tuple[str, str]] = ()  # name, arguments as HTML
    reasoning: str = ""  # HTML
    reasoning_shown: int = 0  # characters, where there are more
    reasoning_total: str = ""
    rest: int = 0  # characters that are not shown
    shown: int = 0  # characters that are
    total: str = ""
    starred: bool = False
    star_title: str = ""
    rating: SafeString = RATINGS[None]
    thumb: str = ""
    score: int | None = None
    same: bool = False

    @property
    def calls_html(self) -> SafeString:
        return SafeString(calls_html(self.calls))


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
        f'{_reasoning(face, column)}<div class="rv-text" dir="auto">{_text(face)}</div>{_rest(face, column)}'
        f"{calls_html(face.calls)}{_figures(face)}</div>"
    )


def _acts(face: Face) -> str:
    title = escape(face.star_title)
    parts = [
        f'<button type="button" class="rv-star" tabindex="-1" data-star aria-pressed="{_bool(face.starred)}"'
        f' aria-label="{title}" title="{title}"{" disabled" if face.error else ""}>\N{BLACK STAR}</button>'
    ]
    if not face.error:
        parts += [face.rating, THUMBS[face.thumb]]
    if face.score:
        parts.append(f'<span class="rv-badge" title="The judge\'s score">judge {face.score}</span>')
    if face.kind != "original":
        parts.append(f'<span class="rv-badge" data-tone="edit">{escape(face.title)}</span>')
    if face.same:
        parts.append('<span class="rv-quiet">same as the baseline</span>')
    return f'<div class="rv-acts">{"".join(parts)}</div>'


def _text(face: Face) -> str:
    if face.error:
        return f'<span class="rv-error"><b>Failed.</b> {escape(face.error)}</span>'
    return f'<span class="rv-blank">{escape(face.why)}</span>' if face.blank else face.html


def calls_html(calls: Sequence[tuple[str, str]]) -> str:
    """Each with its name and its arguments, which are HTML already."""
    shown = (
        f'<div class="rv-call"><span class="material-symbols-outlined" aria-hidden="true">build</span>'
        f"<b>{escape(name)}</b><pre>{arguments}</pre></div>"
        for name, arguments in calls
    )
    return f'<div class="rv-calls" aria-label="Calls of tools">{"".join(shown)}</div>' if calls else ""


def _reasoning(face: Face, column: int) -> str:
    """Folded: it is not the answer."""
    if not face.reasoning:
        return ""
    rest = ""
    if face.reasoning_shown:
        rest = _more(f"{_source(face, column)}&amp;field=reasoning", face.reasoning_shown, face.reasoning_total)
    return (
        f'<details class="rv-fold rv-thought"><summary tabindex="-1">Reasoning</summary>'
        f'<div class="rv-turn" dir="auto">{face.reasoning}</div>{rest}</details>'
    )


def _source(face: Face, column: int) -> str:
    """In blind mode an answer is known by its side."""
    return f"answer={face.answer}" if face.answer else f"side={column}"


def _rest(face: Face, column: int) -> str:
    """A button for what is not shown."""
    return _more(_source(face, column), face.shown, face.total) if face.rest else ""


def _more(source: str, shown: int, total: str) -> str:
    return (
        f'<button type="button" class="rv-rest" tabindex="-1" data-rest="{source}" data-from="{shown}">'
        f"Show all {total} characters</button>"
    )


def _figures(face: Face) -> str:
    if not face.figures and not face.finish:
        return ""
    title = escape(face.why or "Why the model ended")
    finish = f'<span class="rv-badge" data-tone="warn" title="{title}">{escape(face.finish)}</span>'
    return f'<div class="rv-figures">{escape(face.figures)}{finish if face.finish else ""}</div>'


def _bool(value: bool) -> str:
    return "true" if value else "false"
