"""Conversations that nobody wrote: whatever a row can be, and what some formats can hold of it."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from apps.conversations.conversation import Conversation, FunctionCall, Message, Messages, Role, ToolCall

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)
OBJECTS = st.dictionaries(TEXT, SCALARS | st.lists(SCALARS, max_size=2), max_size=2)
NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXT})
    | st.just({"type": "image_url", "image_url": {"url": "data:,"}}),
    min_size=1, max_size=2,
)  # fmt: skip
TOOLS = st.lists(
    st.fixed_dictionaries({
        "type": st.just("function"),
        "function": st.fixed_dictionaries({"name": NAMES}, optional={"description": TEXT, "parameters": OBJECTS}),
    }),
    min_size=1, max_size=2,
).map(tuple)  # fmt: skip


def call(number: int, name: str, arguments: dict[str, Any]) -> ToolCall:
    text = msgspec.json.encode(arguments).decode()
    return ToolCall(id=f"call_{number}", function=FunctionCall(name=name, arguments=text))


@st.composite
def turns(draw: st.DrawFn, *, calls: bool, plain: bool, roles: Sequence[Role] = ("system", "developer")) -> Messages:
    """Up to a user's question. `plain`: texts alone, and calls of tools where there may be any."""
    found = [Message(role=role, content=draw(TEXT)) for role in draw(st.lists(st.sampled_from(roles), max_size=1))]
    for _ in range(draw(st.integers(0, 2))):
        found.append(user(draw, plain))
        if calls and draw(st.booleans()):
            made = [
                call(sum(len(message.tool_calls) for message in found) + at + 1, draw(NAMES), draw(OBJECTS))
                for at in range(draw(st.integers(1, 2)))
            ]
            found.append(Message(role="assistant", content=None, tool_calls=tuple(made)))
            found += [Message(role="tool", content=draw(TEXT), tool_call_id=each.id) for each in made]
        found.append(draw(replies(plain=plain)))
    return (*found, user(draw, plain))


def user(draw: st.DrawFn, plain: bool) -> Message:
    if plain:
        return Message(role="user", content=draw(TEXT))
    content: Any = draw(TEXT | PARTS)
    return Message(role="user", content=content, name=draw(st.just("") | NAMES))


@st.composite
def replies(draw: st.DrawFn, *, plain: bool) -> Message:
    if plain:
        return Message(role="assistant", content=draw(TEXT))
    return Message(
        role="assistant", content=draw(TEXT | PARTS), reasoning_content=draw(st.just("") | TEXT),
        weight=draw(st.sampled_from([None, 0, 1])),
    )  # fmt: skip


@st.composite
def sides(draw: st.DrawFn, *, plain: bool) -> Messages:
    """Of a pair, of one turn or of two."""
    first = draw(replies(plain=plain))
    if draw(st.booleans()):
        return (first,)
    return (first, user(draw, plain), draw(replies(plain=plain)))


@st.composite
def conversations(
    draw: st.DrawFn, *, chosen: str = "any", rejected: str = "any", calls: bool = True, plain: bool = False,
    beside: bool = True, tools: bool = True, roles: Sequence[Role] = ("system", "developer"),
) -> Conversation:  # fmt: skip
    """`chosen` and `rejected`: "no", "one" message, "some" messages, or "any" of these."""
    more: dict[str, Any] = {}
    if tools and draw(st.booleans()):
        more["tools"] = draw(TOOLS)
    if beside and draw(st.booleans()):
        more["parallel_tool_calls"] = draw(st.booleans())
    if beside and draw(st.booleans()):
        more["chat_template_kwargs"] = draw(st.dictionaries(NAMES, SCALARS, min_size=1, max_size=2))
    kinds = {
        "no": st.just(()),
        "one": replies(plain=plain).map(lambda message: (message,)),
        "some": sides(plain=plain),
    }
    better, worse = (
        draw(kinds[draw(st.sampled_from(list(kinds)))] if asked == "any" else kinds[asked])
        for asked in (chosen, rejected)
    )
    messages = draw(turns(calls=calls, plain=plain, roles=roles))
    return Conversation(messages=messages, chosen=better, rejected=worse, **more)
