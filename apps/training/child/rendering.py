"""Prompts as the engine builds them, and answers as it would have written them.

A prompt is what vLLM (0.32 and 0.33) makes of the same messages, tools and `chat_template_kwargs`, token by token:
`tests/training/test_prompts_as_served.py` asks vLLM itself. An answer is what the chat template writes after it, up to
the token at which the engine stops. Read by the trainer's child only.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from apps.models.admission.chat_template import environment
from apps.training.child.content_format import ContentFormat, content_format
from apps.training.child.failures import unsupported

THINK, THOUGHT = "<think>", "</think>"
OPENED = re.compile(rf"{THINK}\s*({THOUGHT}\s*)?\Z")
"""The end of a prompt that begins the answer's thinking, or says that there is none."""
CHANNEL = "<|channel>"
NO_THOUGHT = re.compile(r"<\|channel>thought\s*<channel\|>\s*\Z")
"""How a prompt of Gemma 4's ends that says that there is no thinking; answers of earlier turns are written without."""

Row = dict[str, Any]
Tokenizer = Any
"""Transformers' `PreTrainedTokenizerBase`, with offsets."""


class Unlearnable(Exception):
    """An example that teaches nothing. The message says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    prompt: list[int]
    """What the engine shows the model."""
    ids: list[int]
    """What the model should say then, with its end."""


class Renderer:
    """Of one model. `stops` are ids of tokens at which its engine ends an answer; `date` is the run's, for templates
    that write one; `own_prompts`: what the engine builds prompts with in place of the chat template, if anything.

    Raises `Refused` for a tokenizer that nothing can be learned with.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, chat_template: str = "", stops: Sequence[int] = (), date: str = "",
        own_prompts: str = "",
    ) -> None:  # fmt: skip
        if not getattr(tokenizer, "is_fast", False):
            raise unsupported("The model has no tokenizer.json: choose a base model that has one.")
        if tokenizer.eos_token_id is None:
            raise unsupported("The model's tokenizer has no eos_token, so no answer would end: choose another model.")
        self.tokenizer = tokenizer
        self.asks_for_date = False
        """Whether the template has asked for it."""
        self.hid_reasoning = False
        """Whether an answer had reasoning for which the template has no place, since this was last set to false."""
        self._chat_template, self._own_prompts = chat_template or None, own_prompts
        self._date = datetime.fromisoformat(date) if date else datetime.now()
        self._formats = environment()
        self._stops = dict.fromkeys([tokenizer.eos_token_id, *stops])
        texts = sorted(map(self._text_of, self._stops), key=len, reverse=True)
        one = "|".join(re.escape(text) for text in texts if text)
        self._stop = re.compile(rf"\s*(?:{one})")
        self._ends = re.compile(rf"(?:\s*(?:{one}))+\s*\Z")

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """As the engine: conversations without `special` tokens around them, since templates write these."""
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def text(self, row: Mapping[str, Any], messages: Sequence[Row], *, ask: bool) -> str:
        """What the template makes of a row's `messages`; with `ask`, the beginning of an answer too.

        Raises `Unlearnable` with what the template says, `Refused` where there is none.
        """
        tools = [_tool(tool) for tool in row.get("tools") or ()] or None
        template = self._template(tools)
        told = as_served(messages, content_format(template, self._formats), developer=_knows_developer(template))
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    told, tools=tools, chat_template=template, tokenize=False, add_generation_prompt=ask,
                    **{"strftime_now": self._strftime, **(row.get("chat_template_kwargs") or {})},
                )
            )  # fmt: skip
        except Exception as error:  # the template is a program of the model's: whatever it raises is about this row
            raise Unlearnable(f"the model's chat template refuses it: {str(error)[:200]}") from error

    def prompt(self, row: Mapping[str, Any], messages: Sequence[Row]) -> list[int]:
        return self.encode(self.text(row, messages, ask=True))

    def answer(self, row: Mapping[str, Any], messages: Sequence[Row]) -> Answer:
        """The last of `messages`, after those before it. Raises `Unlearnable`."""
        asked, message = self.text(row, messages[:-1], ask=True), messages[-1]
        said = self._said(asked, self.text(row, messages, ask=False), message)
        _check_all_is_there(said, message)
        self.hid_reasoning |= (reasoning_of(message) or "").strip() not in said
        said, ended = self._ended(said, message)
        prompt = self.encode(asked)
        ids = self._continued(prompt, asked, said) + ([] if ended else [self.tokenizer.eos_token_id])
        for token in ids[:-1]:
            if token in self._stops:
                raise Unlearnable(f"its answer holds {self._text_of(token)!r}, at which the engine ends an answer.")
        return Answer(prompt, ids)

    def completion(self, prompt: str, completion: str) -> Answer:
        """Of a text without turns, and the end of the text."""
        shown = self.encode(prompt, special=True)
        ids = self._continued(shown, prompt, completion, special=True)
        end = self.tokenizer.eos_token_id
        return Answer(shown, ids if ids[-1:] == [end] else [*ids, end])

    def _said(self, asked: str, whole: str, message: Row) -> str:
        """What the template writes after the prompt."""
        if whole.startswith(asked):
            return whole[len(asked) :]
        opened = OPENED.search(asked)
        if opened and whole.startswith(asked[: opened.start()]):
            rest = whole[opened.start() :]
            return rest if opened.group(1) else _with_thinking(rest, message)
        none = NO_THOUGHT.search(asked)
        if none and whole.startswith(asked[: none.start()]) and not whole.startswith(CHANNEL, none.start()):
            return whole[none.start() :]
        raise Unlearnable("the model's chat template writes an answer otherwise than its prompt begins it.")

    def _ended(self, said: str, message: Row) -> tuple[str, bool]:
        """Up to the first token that ends it, and whether there is one."""
        if ends := self._ends.search(said):
            first = self._stop.match(said, ends.start())
            return said[: first.end() if first else ends.end()], True
        last = next((text.strip() for text in reversed(_texts(message.get("content"))) if text.strip()), "")
        if last and not message.get("tool_calls") and (at := said.rfind(last)) >= 0:
            return said[: at + len(last)], False
        return said.rstrip(), False

    def _continued(self, prompt: list[int], asked: str, said: str, *, special: bool = False) -> list[int]:
        """The answer's tokens. Where the whole text has other tokens around the border, those that can follow."""
        whole = self.encode(asked + said, special=special)
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        alone, anchor = self.encode(said), self._text_of(self.tokenizer.eos_token_id)
        anchored = self.encode(anchor + said)[len(self.encode(anchor)) :]
        wanted = self._decode(whole)
        for ids in (alone, anchored):
            if self._decode(prompt + ids) == wanted:
                return ids
        raise Unlearnable("its answer has no tokens of its own after the prompt.")

    def _template(self, tools: list[Row] | None) -> str:
        if self._own_prompts:
            raise unsupported(
                f"The engine builds this model's prompts with {self._own_prompts} and not with its chat template, so "
                "conversations cannot be learned as they are served: give lines with 'prompt' and 'completion'."
            )
        try:
            return str(self.tokenizer.get_chat_template(self._chat_template, tools=tools))
        except ValueError as error:
            raise unsupported(
                "The model has no chat template, so it cannot learn conversations: give lines with 'prompt' and "
                "'completion', set a chat_template for the model, or choose a base model that was made for chats."
            ) from error

    def _strftime(self, form: str) -> str:
        self.asks_for_date = True
        return self._date.strftime(form)

    def _text_of(self, token: int) -> str:
        return str(self.tokenizer.convert_ids_to_tokens(token) or "")

    def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def as_served(messages: Sequence[Row], form: ContentFormat, *, developer: bool) -> list[Row]:
    """The messages that a template gets. `developer`: whether it knows that role."""
    told = [_message(message, form) for message in messages]
    if developer or all(message["role"] != "developer" for message in told):
        return told
    systems = [message for message in told if message["role"] in ("system", "developer")]
    if len(systems) == 1 and told[0] is systems[0]:
        return [{**told[0], "role": "system"}, *told[1:]]
    texts = filter(None, (_joined(message["content"]) for message in systems))
    others = [message for message in told if message["role"] not in ("system", "developer")]
    return [{"role": "system", "content": "\n\n".join(texts)}, *others]


def _message(message: Row, form: ContentFormat) -> Row:
    role, texts = message["role"], _texts(message.get("content"))
    in_parts = form == "openai" and role != "tool"
    made: Row = {"role": role, "content": [_part(text) for text in texts] if in_parts else "\n".join(texts)}
    if role == "assistant":
        if calls := message.get("tool_calls"):
            made["tool_calls"] = [_call(call) for call in calls]
        if (reasoning := reasoning_of(message)) is not None:
            made |= {"reasoning": reasoning, "reasoning_content": reasoning}
    if role == "tool" and "tool_call_id" in message:
        made["tool_call_id"] = message["tool_call_id"]
    if isinstance(message.get("name"), str):
        made["name"] = message["name"]
    return made


def reasoning_of(message: Row) -> str | None:
    found = message.get("reasoning")
    return message.get("reasoning_content") if found is None else found


def _texts(content: Any) -> list[str]:
    if content is None:
        return []
    return [content] if isinstance(content, str) else [str(part["text"]) for part in content]


def _part(text: str) -> Row:
    return {"type": "text", "text": text}


def _joined(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


def _call(call: Row) -> Row:
    """In the engine's order, which templates that write JSON show."""
    arguments = call["function"].get("arguments")
    decoded = msgspec.json.decode(arguments) if isinstance(arguments, str) and arguments else arguments or {}
    return {
        "id": call["id"],
        "function": {"arguments": decoded, "name": call["function"]["name"]},
        "type": "function",
    }


def _tool(tool: Row) -> Row:
    """With the keys that the engine adds."""
    function = tool["function"]
    strict = {"strict": function["strict"]} if function.get("strict") is not None else {}
    told = {"name": function["name"], **{key: function.get(key) for key in ("description", "parameters")}, **strict}
    others = {key: value for key, value in tool.items() if key not in ("type", "function")}
    return {"type": "function", "function": told, **others}


def _knows_developer(template: str) -> bool:
    return '"developer"' in template or "'developer'" in template


def _text(message: Row) -> str:
    return "\n".join(_texts(message.get("content")))


def _with_thinking(rest: str, message: Row) -> str:
    """An answer in front of which the prompt has opened the thinking: it has to end that first."""
    before, marked, _ = _text(message).rpartition(THOUGHT)
    thinking = reasoning_of(message) or (before.partition(THINK)[2] or before if marked else "")
    return f"{thinking.strip()}\n{THOUGHT}\n\n{rest.lstrip()}" if thinking.strip() else f"{THOUGHT}\n\n{rest.lstrip()}"


def _check_all_is_there(said: str, message: Row) -> None:
    *earlier, last = _texts(message.get("content")) or [""]
    if any(text.strip() not in said for text in (*earlier, last.rpartition(THOUGHT)[2])):
        raise Unlearnable("the model's chat template hides an answer of it.")
    for call in message.get("tool_calls") or ():
        if call["function"]["name"] not in said:
            raise Unlearnable("the model's chat template has no place for tool calls.")
