"""ShareGPT's conversations: https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md.

Calls of tools are turns of their own, their arguments an object; results answer the calls in their order.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import CannotHold, Codec, Values
from apps.conversations.codecs.fields import BESIDE, SYSTEMS, of_messages, with_system
from apps.conversations.conversation import Conversation, Message, Messages, encode
from apps.conversations.errors import RowError
from apps.conversations.media import MEANINGS as MEDIA
from apps.conversations.messages import ROLES, read_messages

SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "system": "system", "tool": "tool",
    "observation": "tool", "function_response": "tool", "function_call": "assistant",
}  # fmt: skip
NAMES = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}
LISTS = ("conversations", "conversation")
WHO, SAID = ("from", "role", "user"), ("value", "content", "text")
"""What turns call the one who speaks, and what was said."""
WRITE_TURN = f"A turn must have 'value', a text, and 'from': one of {', '.join(SPEAKERS)}."
OTHER_ORDER = "results of tools in another order than their calls"
TEXT_AND_CALLS = "text beside calls of tools"


def turns(values: Values, unused: set[str]) -> Messages:
    """Of the list of turns, the system prompt that stands beside it first. Raises `RowError`."""
    name = next((name for name in LISTS if values.get(name) is not None), LISTS[0])
    said = values.get(name)
    if not isinstance(said, list) or not said:
        raise RowError(f"{name!r} must be a list of turns.", "messages_not_a_list")
    messages = read_messages([entry(turn, name, unused) for turn in said], name, unused)
    return with_system(messages, values, unused)


def entry(turn: Any, where: str, unused: set[str]) -> dict[str, Any]:
    """The turn as one of OpenAI's messages. `where` names its list. Raises `RowError`."""
    if not isinstance(turn, dict):
        raise RowError(WRITE_TURN, "invalid_turn")
    if isinstance(turn.get("role"), str) and turn["role"] in ROLES and turn.keys() & {"content", "tool_calls"}:
        return turn
    who = next((key for key in WHO if turn.get(key) is not None), "")
    said = next((key for key in SAID if turn.get(key) is not None), "")
    speaker = turn[who].lower() if who and isinstance(turn[who], str) else ""
    role = SPEAKERS.get(speaker)
    if role is None or not said or not isinstance(turn[said], str):
        raise RowError(WRITE_TURN, "invalid_turn")
    rest = {key: value for key, value in turn.items() if key not in (who, said)}
    made: dict[str, Any] = {"role": role, "content": turn[said]}
    if speaker == "function_call":
        made = {"role": role, "content": None, "tool_calls": turn[said]}
    for key in rest.keys() & made.keys():
        if rest[key] not in (None, made[key]):
            unused.add(f"{where}[].{key}")
    return {**rest, **made}


def written(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The turns. Raises `CannotHold`."""
    found, waiting = [], list[str]()
    for message in messages:
        if message.role == "tool" and (not waiting or waiting.pop(0) != message.tool_call_id):
            raise CannotHold(OTHER_ORDER)
        waiting += [call.id for call in message.tool_calls]
        found.append(_turn(message))
    return found


def _turn(message: Message) -> dict[str, Any]:
    if message.weight == 0:
        return _turn(msgspec.structs.replace(message, weight=None)) | {"weight": 0}
    holding.check(message)
    said = holding.content(message)
    if not message.tool_calls:
        return {"from": NAMES[message.role], "value": said}
    if said:
        raise CannotHold(TEXT_AND_CALLS)
    calls = [
        {"name": call.function.name, "arguments": msgspec.Raw(call.function.arguments.encode())}
        for call in message.tool_calls
    ]
    return {"from": "function_call", "value": encode(calls if len(calls) > 1 else calls[0]).decode()}


def tools(conversation: Conversation) -> dict[str, str]:
    """The column of tools, as text; none where there are none."""
    holding.nothing_beside(conversation, tools=True)
    return {"tools": encode(conversation.tools).decode()} if conversation.tools else {}


def _read(values: Values, unused: set[str]) -> Conversation:
    return of_messages(turns(values, unused), values, unused)


def _write(conversation: Conversation) -> dict[str, Any]:
    return {"conversations": written(holding.all_messages(conversation)), **tools(conversation)}


CODEC = Codec(
    name="sharegpt",
    title="ShareGPT conversations",
    columns={**dict.fromkeys(LISTS, "messages"), **dict.fromkeys(SYSTEMS, "system message"), **MEDIA, **BESIDE},
    fits=lambda row: any(isinstance(row.get(name), list) for name in LISTS),
    read=_read,
    write=_write,
)
