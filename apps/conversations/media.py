"""Images, videos and sound that stand in columns of their own, put where the messages say that they belong:
`<image>` in a text, as LLaMA-Factory writes it (https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md), or
a part {"type": "image"}, as TRL does.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from apps.conversations.conversation import Message, Messages, Part

COLUMNS = {"images": "image", "videos": "video", "audios": "audio"}
"""Each with what marks a place for one of its entries."""
MEANINGS = {"images": "images", "videos": "videos", "audios": "sound"}
_MARKS = re.compile(f"<({'|'.join(COLUMNS.values())})>")


def placed(messages: Messages, values: Mapping[str, Any], unused: set[str]) -> Messages:
    """The messages with the media of the row in them, in order. Those of a column that does not fit its marks, and
    those that are no addresses, stay out: `unused` gets the name of the column."""
    given = {name: values[name] for name in COLUMNS if values.get(name)}
    if not given:
        return messages
    marks = [mark for message in messages for mark in _marks(message)]
    fitting = {
        COLUMNS[name]: iter(found) for name, found in given.items()
        if _are_addresses(found) and len(found) == marks.count(COLUMNS[name])
    }  # fmt: skip
    unused.update(name for name in given if COLUMNS[name] not in fitting)
    return tuple(_filled(message, fitting) for message in messages) if fitting else messages


def _are_addresses(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(each, str) and each for each in found)


def _marks(message: Message) -> Iterator[str]:
    if isinstance(message.content, str):
        yield from _MARKS.findall(message.content)
        return
    for part in message.content or ():
        if part.get("type") == "text":
            yield from _MARKS.findall(part["text"])
        elif _is_mark(part):
            yield part["type"]


def _is_mark(part: Part) -> bool:
    return part.keys() == {"type"} and part["type"] in COLUMNS.values()


def _filled(message: Message, fitting: Mapping[str, Iterator[str]]) -> Message:
    if not fitting.keys() & set(_marks(message)):
        return message
    given = [{"type": "text", "text": message.content}] if isinstance(message.content, str) else message.content or []
    content = [made for part in given for made in _of_part(part, fitting)]
    return msgspec.structs.replace(message, content=content)


def _of_part(part: Part, fitting: Mapping[str, Iterator[str]]) -> Iterator[Part]:
    if _is_mark(part) and part["type"] in fitting:
        yield _medium(part["type"], fitting)
    elif part.get("type") != "text":
        yield part
    else:
        yield from _of_text(part, fitting)


def _of_text(part: Part, fitting: Mapping[str, Iterator[str]]) -> Iterator[Part]:
    """What stands between the marks, which is every other one of the pieces."""
    text = ""
    for at, piece in enumerate(_MARKS.split(part["text"])):
        if at % 2 == 0 or piece not in fitting:
            text += piece if at % 2 == 0 else f"<{piece}>"
            continue
        if text:
            yield {**part, "text": text}
        text = ""
        yield _medium(piece, fitting)
    if text:
        yield {**part, "text": text}


def _medium(kind: str, fitting: Mapping[str, Iterator[str]]) -> Part:
    return {"type": f"{kind}_url", f"{kind}_url": {"url": next(fitting[kind])}}
