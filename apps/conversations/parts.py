"""Parts of a message's content as people write them: OpenAI's, LLaMA-Factory's
(https://github.com/hiyouga/LLaMA-Factory/blob/main/data/v1_sft_demo.yaml) and axolotl's
(https://docs.axolotl.ai/docs/dataset-formats/conversation.html).

What an assistant thinks and calls may stand among them. What is left of them has OpenAI's form.
"""

from dataclasses import dataclass, field
from typing import Any

from apps.conversations.conversation import Part
from apps.conversations.errors import RowError

TEXTS = ("text", "value", "content")
"""Keys that say a text; the first that is there."""
THOUGHTS = ("reasoning", "thinking")
CALLS = ("tool_call", "function_call")
"""Types of parts that are none of the content."""
MEDIA = ("image_url", "audio_url", "video_url")
WEIGHTS = ("train", "weight", "loss_weight")
"""Of a part alone: whether it is learned. A conversation says that of whole messages."""
WRITE_PART = 'write {"type": "text", "text": "…"}, or the text itself.'


@dataclass(slots=True)
class Parts:
    content: list[Part] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[Any] = field(default_factory=list)
    """As they were written."""
    unused: set[str] = field(default_factory=set)
    """Keys that say something and are not used."""


def read_parts(content: list[Any], where: str, *, of_assistant: bool) -> Parts:
    """`where` names the message in sentences. Raises `RowError`."""
    found = Parts()
    for part in content:
        if not isinstance(part, dict):
            raise _wrong_shape(where)
        given = {key: value for key, value in part.items() if value is not None}
        type_ = given.get("type")
        if of_assistant and type_ in THOUGHTS:
            found.thoughts.append(_text(part, (type_, *TEXTS), where))
        elif of_assistant and type_ in CALLS:
            found.calls.append(next((given[key] for key in (type_, *TEXTS) if key in given), None))
        elif type_ == "text" or (type_ is None and "text" in part):
            found.content.append(_of_text(part, given, where, found.unused))
        elif type_ in MEDIA and isinstance(given.get("value"), str) and type_ not in given:
            found.content.append({"type": type_, type_: {"url": given["value"]}})
        elif isinstance(given.get("text", ""), str):
            found.content.append(given)
        else:
            raise _wrong_shape(where)
    return found


def joined(value: list[Any], where: str) -> str:
    """The text of a list of parts that must all be texts. Raises `RowError`."""
    found = read_parts(value, where, of_assistant=True)
    if found.calls or found.unused or any(part.get("type", "text") != "text" for part in found.content):
        raise _wrong_shape(where)
    return "".join([*found.thoughts, *(part["text"] for part in found.content)])


def _of_text(part: Part, given: Part, where: str, unused: set[str]) -> Part:
    said = next((key for key in TEXTS if key in given), "text")
    unused.update(key for key in WEIGHTS if given.get(key) in (0, False))
    rest = {key: value for key, value in given.items() if key not in (said, *WEIGHTS)}
    return {**rest, "text": _text(part, TEXTS, where)}


def _text(part: Part, names: tuple[str, ...], where: str) -> str:
    """The first of these keys; null is an empty text. Raises `RowError`."""
    found = next((part[key] for key in names if part.get(key) is not None), "")
    if not isinstance(found, str) or not part.keys() & set(names):
        raise _wrong_shape(where)
    return found


def _wrong_shape(where: str) -> RowError:
    return RowError(f"A part of {where} has a wrong shape: {WRITE_PART}", "invalid_content_part")
