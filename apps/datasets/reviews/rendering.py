"""Texts of models as HTML that can do nothing: they are strangers' words.

Whatever the mode, no script runs, no picture is fetched, and characters that would hide or reorder what is written are
shown as what they are. Every function here returns HTML that is safe to put into an element's content.
"""

import re
from collections.abc import Callable, Sequence

import msgspec
import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString
from markdown_it import MarkdownIt

from apps.datasets.reviews.differences import Piece, word_diff

__all__ = ["MODES", "diff_html", "json", "markdown", "plain", "pretty_json", "render", "visible", "word_diff"]

MARKDOWN_CHARACTERS = 20_000  # longer ones are shown plain: a hostile one takes 0.3 s at this length
TABLE_CELLS = 10_000  # of a Markdown text; short rows are filled up to the widest, so a short text can ask for millions
JSON_CHARACTERS = 200_000

TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)


def _parser(*more: str) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", *more]).disable("image")
    parser.validateLink = lambda url: LINK.match(url.strip()) is not None  # type: ignore[method-assign]
    return parser


_markdown, _without_tables = _parser("table"), _parser()
_cleaner = nh3.Cleaner(
    tags=TAGS,
    attributes=ATTRIBUTES,
    url_schemes={"http", "https", "mailto"},
    link_rel="noopener nofollow",
    set_tag_attribute_values={"a": {"target": "_blank"}},
    url_relative="deny",
)

# Control characters (ESC starts ANSI sequences) have pictures of their own in Unicode.
_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: "\u2421"}
# C1 controls, bidi controls, what breaks lines or has no width, tags, interlinear marks: their numbers.
_HIDDEN = [
    *range(0x80, 0xA0), 0x061C, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF,
    *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080),
]  # fmt: skip
_VISIBLE = _PICTURES | {code: f"⟦U+{code:04X}⟧" for code in _HIDDEN}


def visible(text: str) -> str:
    """The text with its invisible characters shown; not HTML yet."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def plain(text: str) -> SafeString:
    return escape(visible(text))


def markdown(text: str) -> SafeString:
    """Without HTML of its own and without pictures; links lead to http, https and mailto only, in a new tab."""
    if len(text) > MARKDOWN_CHARACTERS:
        return plain(text)
    pipes = [line.count("|") for line in text.splitlines()]
    parser = _markdown if max(pipes, default=0) * len(pipes) <= TABLE_CELLS else _without_tables
    return SafeString(_cleaner.clean(parser.render(visible(text))))


def pretty_json(text: str) -> str | None:
    """The text with line breaks and indents, if it is a JSON object or array; numbers stay as they are written."""
    if len(text) > JSON_CHARACTERS or not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return msgspec.json.format(text, indent=2)
    except (msgspec.DecodeError, RecursionError):
        return None


def json(text: str) -> SafeString:
    """Pretty where the text is JSON, else as it is."""
    pretty = pretty_json(text)
    return plain(text if pretty is None else pretty)


MODES: dict[str, Callable[[str], SafeString]] = {"plain": plain, "markdown": markdown, "json": json}


def render(text: str, mode: str) -> SafeString:
    """By a name in MODES; any other is plain."""
    return MODES.get(mode, plain)(text)


def diff_html(pieces: Sequence[Piece]) -> SafeString:
    """`<del>` and `<ins>` around what differs."""
    marks = {"equal": "{}", "delete": "<del>{}</del>", "insert": "<ins>{}</ins>"}
    return SafeString("".join(marks[op].format(plain(text)) for op, text in pieces))
