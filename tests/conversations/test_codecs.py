"""Each format reads what it has written as the same conversation, and says what it cannot hold."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.conversations.codecs import (
    CODECS,
    CannotHold,
    Codec,
    alpaca,
    judged,
    label_studio,
    label_studio_min,
    openai_batch,
    openai_chat,
    preference,
    prompt_completion,
    sharegpt,
    sharegpt_pairs,
    single_turn,
    unpaired,
)
from apps.conversations.conversation import Conversation, Message, Messages, encode, is_plain
from tests.conversations.generated import conversations

MANY = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def is_text(answer: Messages) -> bool:
    return not answer or (is_plain(answer) and isinstance(answer[0].content, str))


def without_history(messages: Messages) -> Messages:
    return tuple(message for message in messages[:1] if message.role == "system") + messages[-1:]


HELD: dict[str, tuple[Codec, Callable[[Conversation], dict[str, Any]], st.SearchStrategy[Conversation]]] = {
    "chat": (openai_chat.CODEC, openai_chat.CODEC.write, conversations(chosen="one", rejected="no")),
    "batch": (openai_batch.CODEC, openai_batch.CODEC.write, conversations(chosen="one", rejected="no")),
    "completion": (
        prompt_completion.CODEC, prompt_completion.CODEC.write, conversations(chosen="some", rejected="no"),
    ),
    "completion of texts": (
        prompt_completion.CODEC, prompt_completion.write_text,
        conversations(chosen="one", rejected="no", plain=True, calls=False, tools=False, beside=False).map(
            lambda made: msgspec.structs.replace(made, messages=made.messages[-1:])
        ),
    ),
    "preference": (preference.CODEC, preference.CODEC.write, conversations(chosen="some", rejected="some")),
    "preference of OpenAI": (preference.CODEC, preference.write_openai, conversations(chosen="one", rejected="one")),
    "kto": (
        unpaired.CODEC, unpaired.CODEC.write,
        conversations(chosen="some", rejected="no") | conversations(chosen="no", rejected="some"),
    ),
    "alpaca": (
        alpaca.CODEC, alpaca.CODEC.write,
        conversations(
            chosen="one", rejected="no", plain=True, calls=False, tools=False, beside=False, roles=["system"]
        ),
    ),
    "sharegpt": (
        sharegpt.CODEC, sharegpt.CODEC.write,
        conversations(chosen="one", rejected="no", plain=True, beside=False, roles=["system"]),
    ),
    "dolly": (
        single_turn.DOLLY, single_turn.DOLLY.write,
        conversations(chosen="one", rejected="no", plain=True, calls=False, tools=False, beside=False).map(
            lambda made: msgspec.structs.replace(made, messages=made.messages[-1:])
        ),
    ),
    "orca": (
        single_turn.ORCA, single_turn.ORCA.write,
        conversations(
            chosen="one", rejected="no", plain=True, calls=False, tools=False, beside=False, roles=["system"]
        ).map(lambda made: msgspec.structs.replace(made, messages=without_history(made.messages))),
    ),
    "label_studio": (
        label_studio.CODEC, label_studio.CODEC.write,
        (conversations(chosen="no", rejected="no") | conversations(rejected="no") | conversations()).filter(
            lambda made: is_text(made.chosen) and is_text(made.rejected) and (made.chosen or not made.rejected)
        ),
    ),
    "label_studio_min": (
        label_studio_min.CODEC, label_studio_min.CODEC.write,
        (conversations(chosen="no", rejected="no") | conversations(rejected="no") | conversations()).filter(
            lambda made: is_text(made.chosen) and is_text(made.rejected) and (made.chosen or not made.rejected)
        ),
    ),
    "lmsys": (
        judged.ARENA, judged.ARENA.write,
        conversations(chosen="some", rejected="some", beside=False, tools=False).filter(
            lambda made: made.chosen[0] != made.rejected[0]
        ),
    ),
    "ultrafeedback": (
        judged.SCORED, judged.SCORED.write,
        conversations(chosen="one", rejected="one", plain=True, calls=False, tools=False, beside=False).map(
            lambda made: msgspec.structs.replace(made, messages=made.messages[-1:])
        ),
    ),
    "sharegpt_pairs": (
        sharegpt_pairs.CODEC, sharegpt_pairs.CODEC.write,
        conversations(chosen="one", rejected="one", plain=True, beside=False, roles=["system"]),
    ),
}  # fmt: skip


def through(row: dict[str, Any]) -> dict[str, Any]:
    """As a file holds it."""
    return dict(msgspec.json.decode(encode(row)))


@pytest.mark.parametrize("name", HELD)
def test_it_works(name: str) -> None:
    codec, write, within = HELD[name]

    @MANY
    @given(within)
    def same(conversation: Conversation) -> None:
        unused: set[str] = set()
        row = through(write(conversation))
        assert codec.read(row, unused) == conversation
        assert not unused
        assert row.keys() <= codec.columns.keys()
        assert codec.fits(row)

    same()


def essence(conversation: Conversation) -> Any:
    """What no format may lose, however it writes it: ids of calls, and where the answer begins, are its own affair."""
    said = [conversation.messages + conversation.chosen, conversation.rejected]
    return [[_essence(message) for message in side] for side in said], {
        "tools": conversation.tools, "parallel": conversation.parallel_tool_calls,
        "kwargs": conversation.chat_template_kwargs,
    }  # fmt: skip


def _essence(message: Message) -> dict[str, Any]:
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls]
    texts = isinstance(message.content, list) and all(part["type"] == "text" for part in message.content)
    return {
        "role": message.role, "content": message.text if texts else message.content, "calls": calls,
        "reasoning": message.reasoning_content, "name": message.name, "learned": message.weight != 0,
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in HELD if name != "completion of texts"])
def test_what_a_format_cannot_hold_is_said(name: str) -> None:
    """Whatever a conversation is, it comes through whole, or the format names what it has no place for."""
    codec, write, _ = HELD[name]

    @MANY
    @given(conversations() | conversations(plain=True))
    def whole_or_refused(conversation: Conversation) -> None:
        try:
            row = through(write(conversation))
        except CannotHold:
            return
        assert essence(codec.read(row, set())) == essence(conversation)

    whole_or_refused()


def test_every_codec_is_tried() -> None:
    assert {codec.name for codec, *_ in HELD.values()} == CODECS.keys()


def message(role: Any, content: Any, **more: Any) -> Message:
    return Message(role=role, content=content, **more)


ASKED = (message("user", "Warm in Orn?"),)
ANSWER = (message("assistant", "No."),)


def test_tools_may_stand_beside_the_input_of_a_pair() -> None:
    sides = {name: [{"role": "assistant", "content": name}] for name in ("preferred_output", "non_preferred_output")}
    tool = {"type": "function", "function": {"name": "depth"}}
    row = {"input": {"messages": [{"role": "user", "content": "How deep?"}]}, **sides, "tools": [tool]}
    assert CODECS["preference"].read(row, set()).tools == (tool,)


def test_texts_in_parts_become_one_text_where_there_are_no_parts() -> None:
    parts = (message("user", [{"type": "text", "text": "Warm"}, {"type": "text", "text": "in Orn?"}]),)
    row = alpaca.CODEC.write(Conversation(messages=parts, chosen=ANSWER))
    assert row["instruction"] == "Warm\nin Orn?"


@pytest.mark.parametrize(
    ("asked", "answer", "says"),
    [
        ((*ASKED, *ASKED), ANSWER, "turns that do not alternate"),
        ((message("developer", "Be brief."), *ASKED), ANSWER, "messages of a developer"),
        (ASKED, (message("assistant", "No.", reasoning_content="Far north."),), "reasoning"),
        (ASKED, (message("assistant", "No.", weight=0),), "messages that are not to be learned"),
        ((message("user", "Warm in Orn?", name="Ada"),), ANSWER, "names of speakers"),
        ((message("user", [{"type": "image_url"}]),), ANSWER, "images and other parts that are not text"),
        (ASKED, (*ANSWER, *ASKED, *ANSWER), "an answer of several turns"),
        (ASKED, (), "an example without an answer"),
    ],
)
def test_a_format_of_texts_names_what_it_cannot_hold(asked: Messages, answer: Messages, says: str) -> None:
    with pytest.raises(CannotHold, match=says):
        alpaca.CODEC.write(Conversation(messages=asked, chosen=answer))
