"""Lines of JSON that every reader of lines takes for one line.

JSON may hold U+2028, U+2029 and U+0085 as they are, and a carriage return between its tokens; Python's `str.splitlines`
and many readers after it end a line there. The other characters that they split at must be escaped in any JSON.
"""

ESCAPES = {"\u2028": r"\u2028", "\u2029": r"\u2029", "\x85": r"\u0085"}
LAST_BYTES = tuple(separator.encode()[-1] for separator in ESCAPES)


def escape_separators(text: str) -> str:
    """The same JSON, in which nothing but a line feed ends a line."""
    if "\r" in text:
        text = text.replace("\r", " ")  # a string of JSON cannot hold one, so it stands between tokens
    if text.isascii():
        return text
    for separator, escape in ESCAPES.items():
        if separator in text:
            text = text.replace(separator, escape)
    return text


def escape_separators_in_bytes(text: bytes) -> bytes:
    """`escape_separators` for UTF-8 that holds no part of a character. Most texts cost it one look."""
    if b"\r" not in text and (text.isascii() or not any(byte in text for byte in LAST_BYTES)):
        return text
    decoded = text.decode()  # to look for one character there is ten times as fast as for its three bytes here
    escaped = escape_separators(decoded)
    return text if escaped is decoded else escaped.encode()
