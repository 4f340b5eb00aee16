"""A conversation: messages up to a question, the answers to it, and the tools that they may call.

The structs encode to OpenAI's chat messages (https://platform.openai.com/docs/api-reference/chat/create), with two keys
beside: `reasoning_content`, as chat templates and vLLM call what a model thought before it answered, and `weight`, 0 or
1, as OpenAI's training files have it.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

Role = Literal["system", "developer", "user", "assistant", "tool"]
Part = dict[str, Any]
"""Of a content: {"type": "text", "text": "…"}, or OpenAI's parts for images, sound and files."""


class FunctionCall(msgspec.Struct, frozen=True):
    name: str
    arguments: str
    """A JSON object, as text."""


class ToolCall(msgspec.Struct, frozen=True):
    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    role: Role
    content: str | list[Part] | None
    """None: an assistant's message that only calls tools, or only thinks."""
    reasoning_content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """Of a tool's message: the call that it answers."""
    name: str = ""
    weight: int | None = None
    """Of an assistant's message in training: 0 is not learned, 1 or None is."""

    @property
    def text(self) -> str:
        """What people read: the text, or the text among its parts; other parts show their type."""
        return text_of(self.content)


Messages = tuple[Message, ...]


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """What one row holds. A thumb up is a `chosen` answer without a rejected one, a thumb down the reverse."""

    messages: Messages
    """Up to the question."""
    chosen: Messages = ()
    """The expected answer: turns that end with the assistant's."""
    rejected: Messages = ()
    """A worse answer to the same question."""
    tools: tuple[dict[str, Any], ...] = ()
    """In OpenAI's form: {"type": "function", "function": {"name", "description", "parameters"}}."""
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] = {}
    key: str = ""
    """The row's own id."""
    tags: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """What people read of the expected answer; "" where its weight says that it is not to be learned."""
        return "" if self.chosen and self.chosen[-1].weight == 0 else answer_text(self.chosen)

    @property
    def question(self) -> str:
        """The last user message; "" where there is none."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")


encode = msgspec.json.Encoder().encode
decode_messages = msgspec.json.Decoder(Messages).decode


def text_of(content: str | Sequence[Part] | None) -> str:
    """See `Message.text`."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.get("text") or f"[{part.get('type', '?')}]" for part in content)


def answer_text(answer: Messages) -> str:
    """What people read of an answer: its last text; where it only calls tools, these calls as JSON."""
    if not answer:
        return ""
    last = answer[-1]
    return last.text or (encode(last.tool_calls).decode() if last.tool_calls else "")


def is_plain(answer: Messages) -> bool:
    """Whether its text says all of it: one message without calls, reasoning, parts or a weight."""
    return len(answer) == 1 and answer[0] == Message(role="assistant", content=answer[0].text)
