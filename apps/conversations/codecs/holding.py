"""What formats can hold: each of these raises `CannotHold` for what a row would lose without a word."""

from typing import Any

from apps.conversations.codecs.codec import CannotHold
from apps.conversations.conversation import Conversation, Message, Messages, text_of

NO_ANSWER = "an example without an answer"
REJECTED = "a rejected answer"
NOT_A_PAIR = "an example without two answers"
SEVERAL_TURNS = "an answer of several turns"
CALLS = "calls of tools"
RESULTS = "results of tools"
TOOLS = "tools"
REASONING = "reasoning"
WEIGHTS = "messages that are not to be learned"
NAMES = "names of speakers"
PARTS = "images and other parts that are not text"
DEVELOPER = "messages of a developer"
REQUEST = "settings of the request"
ORDER = "turns that do not alternate"


def beside(conversation: Conversation) -> dict[str, Any]:
    """The keys that stand beside messages, as OpenAI and vLLM name them."""
    found: dict[str, Any] = {}
    if conversation.tools:
        found["tools"] = conversation.tools
    if conversation.parallel_tool_calls is not None:
        found["parallel_tool_calls"] = conversation.parallel_tool_calls
    if conversation.chat_template_kwargs:
        found["chat_template_kwargs"] = conversation.chat_template_kwargs
    return found


def nothing_beside(conversation: Conversation, *, tools: bool = False) -> None:
    """`tools`: the format has a place for them."""
    if conversation.tools and not tools:
        raise CannotHold(TOOLS)
    if conversation.parallel_tool_calls is not None or conversation.chat_template_kwargs:
        raise CannotHold(REQUEST)


def all_messages(conversation: Conversation) -> Messages:
    """Up to the answer, and the answer where there is one; no rejected one."""
    if conversation.rejected:
        raise CannotHold(REJECTED)
    return conversation.messages + conversation.chosen


def pair(conversation: Conversation) -> tuple[Messages, Messages]:
    """The better and the worse answer."""
    if not conversation.chosen or not conversation.rejected:
        raise CannotHold(NOT_A_PAIR)
    return conversation.chosen, conversation.rejected


def one(answer: Messages) -> Message:
    """The only message of an answer."""
    if not answer:
        raise CannotHold(NO_ANSWER)
    if len(answer) > 1 or answer[0].role != "assistant":
        raise CannotHold(SEVERAL_TURNS)
    return answer[0]


def text(message: Message) -> str:
    """All that the message says, which must be text. Texts in parts become one, a line each."""
    if message.tool_calls:
        raise CannotHold(CALLS)
    if message.role == "tool":
        raise CannotHold(RESULTS)
    check(message)
    return content(message)


def check(message: Message) -> None:
    """That it has a role and a content alone, or calls of tools. A weight of 1 says what none says."""
    if message.reasoning_content:
        raise CannotHold(REASONING)
    if message.weight == 0:
        raise CannotHold(WEIGHTS)
    if message.name and message.role != "tool":  # a result's name says what its call says
        raise CannotHold(NAMES)
    if message.role == "developer":
        raise CannotHold(DEVELOPER)


def content(message: Message) -> str:
    """Its text, of whose parts each must be text."""
    if not isinstance(message.content, list):
        return message.content or ""
    if not all(part.keys() == {"type", "text"} and part["type"] == "text" for part in message.content):
        raise CannotHold(PARTS)
    return text_of(message.content)


def asked(conversation: Conversation) -> tuple[str, tuple[tuple[str, str], ...], str]:
    """The system prompt, earlier turns of (question, answer), and the question, where all of it is text."""
    messages = list(conversation.messages)
    system = text(messages.pop(0)) if messages and messages[0].role == "system" else ""
    roles = [message.role for message in messages]
    if len(roles) % 2 == 0 or roles != ["user", "assistant"] * (len(roles) // 2) + ["user"]:
        for message in messages:
            text(message)  # says what else it is
        raise CannotHold(ORDER)
    said = [text(message) for message in messages]
    return system, tuple(zip(said[:-1:2], said[1::2], strict=True)), said[-1]
