"""Texts of strangers, as HTML."""

import re
import time

import pytest

from apps.datasets.reviews import rendering
from apps.datasets.reviews.differences import LINES, WORDS
from apps.datasets.reviews.rendering import diff_html, json, markdown, plain, pretty_json, render, word_diff

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<a href='javascript:alert(1)'>x</a>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\nscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:x)",
    "[x](//evil.example)",
    "[x](/admin/logout)",
    "[x](file:///etc/passwd)",
    "<javascript:alert(1)>",
    "![x](https://evil.example/pixel.png)",
    "![x](data:image/svg+xml,<svg onload=alert(1)>)",
    "[a]: javascript:alert(1)\n\n[a]",
    '[x](https://a.example "\\" onmouseover=alert(1) ")',
    "```html\n<script>alert(1)</script>\n```",
    "`<script>`",
    "<style>*{display:none}</style>",
    "<form action=/admin><button>x",
    "<!--<img src='--><img src=x onerror=alert(1)>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "</textarea></title></style></script><script>alert(1)</script>",
    "{{ 7 * 7 }}{% debug %}",
    '{"a": "<script>alert(1)</script>"}',
    "\x1b[31mred\x1b]8;;https://evil.example\x07link",
    "\u202egnp.exe",
    "a\u2066b\u2069",
    "\ufeff\u200b\u0000\u0085",
]
TAG = re.compile(r"<\s*/?\s*([a-zA-Z0-9]+)([^>]*)>")
HREF = re.compile(r'href="([^"]*)"')


def test_it_works() -> None:
    html = markdown("# Title\n\n**bold** `code` [a](https://a.example/?b=1&c=2)\n\n|a|\n|-|\n|b|\n\n3. c")
    assert "<h1>Title</h1>" in html
    assert "<strong>bold</strong> <code>code</code>" in html
    assert 'href="https://a.example/?b=1&amp;c=2"' in html
    assert 'rel="noopener nofollow"' in html
    assert "<td>b</td>" in html
    assert '<ol start="3">' in html
    assert json('{"b":1.10,"a":[1e400]}') == "{\n  &quot;b&quot;: 1.10,\n  &quot;a&quot;: [\n    1e400\n  ]\n}"
    assert plain("a < b\r\n\tc") == "a &lt; b\n\tc"


@pytest.mark.parametrize("mode", ["plain", "markdown", "json", "another"])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_inert(text: str, mode: str) -> None:
    html = render(text, mode)
    for tag, attributes in TAG.findall(html):
        assert mode == "markdown", html
        assert tag in rendering.TAGS
        assert not re.search(r"\son\w+\s*=|\bstyle\s*=|\bsrc\s*=", re.sub(r'"[^"]*"', '""', attributes))
    assert all(link.startswith(("https://", "http://", "mailto:")) for link in HREF.findall(html))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", html)


def test_hidden_characters_are_shown() -> None:
    assert plain("\u202eabc\x1b[0m") == "⟦U+202E⟧abc␛[0m"
    assert markdown("a\u2067b") == "<p>a⟦U+2067⟧b</p>\n"
    assert plain("👩‍👩‍👧 می‌خواهم") == "👩‍👩‍👧 می‌خواهم"  # joiners belong to what people write


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a": 1', "{'a': 1}", "[1, 2,]", "5", '"a"', "", "[" * 5_000_000])
def test_what_is_no_json_stays_as_it_is(text: str) -> None:
    assert pretty_json(text) is None
    assert json(text) == plain(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000, "**a_b" * 4_000, "|a" * 3_000 + "\n" + "|-" * 3_000 + "\n" + "|\n" * 3_000,
        "|a" * 3_000 + "\n" + "|-" * 3_000 + "\n" + "b\n" * 3_000, "&#x" * 6_000, "![" * 10_000, "`" * 20_000,
        "> " * 10_000, "a" * 5_000_000,
    ],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    markdown(text)
    assert time.process_time() - began < 2


def test_words_that_differ() -> None:
    assert word_diff("The capital is Paris.", "The city is Lima.") == (
        ("equal", "The "), ("delete", "capital"), ("insert", "city"), ("equal", " is "),
        ("delete", "Paris"), ("insert", "Lima"), ("equal", "."),
    )  # fmt: skip
    assert word_diff("a big old cat", "a small new cat") == (
        ("equal", "a "), ("delete", "big old"), ("insert", "small new"), ("equal", " cat"),
    )  # fmt: skip
    assert word_diff("same", "same") == (("equal", "same"),)
    assert word_diff("", "new") == (("insert", "new"),)
    assert word_diff("", "") == ()
    assert word_diff("日本語です", "日本人です") == (
        ("equal", "日本"), ("delete", "語"), ("insert", "人"), ("equal", "です"),
    )  # fmt: skip


@pytest.mark.parametrize(("a", "b"), [("a b c", "c b a "), ("x\n\ny z", "\nx y\tz!"), ("é ß", "é"), ("ab" * 99, "b a")])
def test_a_diff_holds_both_texts(a: str, b: str) -> None:
    pieces = word_diff(a, b)
    assert pieces is not None
    assert "".join(text for op, text in pieces if op != "insert") == a
    assert "".join(text for op, text in pieces if op != "delete") == b


def test_long_texts_are_compared_by_lines_and_longer_ones_not_at_all() -> None:
    lines = [f"line {number} of many\n" for number in range(WORDS)]
    pieces = word_diff("".join(lines), "".join([*lines[:-1], "another line\n"]))
    assert pieces is not None
    assert pieces[1:] == (("delete", lines[-1]), ("insert", "another line\n"))
    assert word_diff("a\n" * (LINES + 1) + "b", "a\n" * (LINES + 1)) is None
    assert word_diff("a" * 2_000_000, "b") is None


def test_a_diff_is_safe_html() -> None:
    assert diff_html((("equal", "<b>"), ("delete", "a&\u202e"), ("insert", "{}"))) == (
        "&lt;b&gt;<del>a&amp;⟦U+202E⟧</del><ins>{}</ins>"
    )
