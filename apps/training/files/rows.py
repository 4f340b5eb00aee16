"""One line of a training file: what it must hold, and what is wrong with it. Django-free.

What is read is what an import reads (`apps.conversations`): OpenAI's rows
(https://platform.openai.com/docs/guides/supervised-fine-tuning) and TRL's (https://huggingface.co/docs/trl/dataset_formats),
ShareGPT's (pairs too) and Alpaca's. A checked row has one shape whatever was written; see `Shape`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from apps.conversations.codecs import CODECS, Codec
from apps.conversations.codecs.fields import BESIDE, SYSTEMS, beside
from apps.conversations.codecs.preference import OPENAI_SIDES, SIDES
from apps.conversations.codecs.unpaired import LABELS, TURNS, label_of
from apps.conversations.conversation import Conversation
from apps.conversations.errors import RowError, kind
from apps.training.files.exact import are_messages, are_tools
from apps.training.files.json_lines import json_object
from apps.training.files.turns import Turn, check_answers, check_question, check_turns, dicts, turns_of
from apps.training.spec import Method

__all__ = ["Row", "RowError", "Shape", "check", "shape_of"]

Row = dict[str, Any]
Shape = Literal["chat", "completion", "preference", "text preference", "label", "text label"]
"""Each with its keys. A conversation is {"messages", "tools", "chat_template_kwargs"}, the last two if needed.

chat: a conversation. completion: {"prompt", "completion"}, texts. preference: {"input": a conversation,
"preferred_completion", "non_preferred_completion"}, messages. text preference: {"prompt", "chosen", "rejected"}, texts.
label: {"input": a conversation, "completion": messages, "label"}. text label: {"prompt", "completion", "label"}, texts.
"""

OPENAI = {"input", *(name for names in OPENAI_SIDES for name in names)}
TEXTS = ("completion", "text preference", "text label")
"""Shapes that are learned as they stand, without a chat template."""
PAIR = {*SIDES, *OPENAI} - {"input"}
BETTER, WORSE = "preferred_completion", "non_preferred_completion"
ELSEWHERE = {*PAIR, *LABELS}
CONTENT = {
    "context", "history", "images", "image", "videos", "video", "audios", "audio", "documents", "weights", "response",
    "completion", "conversations",
}  # fmt: skip
"""Keys that hold a part of what is said, wherever they are known: without them a row is another."""
INNER = {"messages", *BESIDE}
INNER_CONTENT = {"refusal", "audio", "audios", "image", "images", "video", "videos", "documents"}
"""The same, of a message."""
TAKEN = {
    "messages", "conversation", "tools", "chat_template", "tokenize", "add_generation_prompt", "continue_final_message",
    "padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask",
    "tokenizer_kwargs", "strftime_now", "raise_exception",
}  # fmt: skip
"""What no row can set for a chat template."""


def check(raw: bytes, method: Method, unused: set[str] | None = None) -> Row:
    """The row of a line, in the shape that the trainer reads. Raises `RowError`.

    `unused` gets the keys that nothing is made of, such as "source" or "messages[].score".
    """
    values = json_object(raw)
    found: set[str] = set()
    row = _READERS[method](values, found)
    if found:
        _refuse_lost(found)
        if unused is not None:
            unused |= found
    return row


def shape_of(row: Row) -> Shape:
    if "messages" in row:
        return "chat"
    if "label" in row:
        return "label" if "input" in row else "text label"
    return "preference" if "input" in row else "completion" if "completion" in row else "text preference"


def _supervised(values: Mapping[str, Any], unused: set[str]) -> Row:
    if not ELSEWHERE.isdisjoint(values):
        _refuse_answers_of_other_methods(values)
    if "messages" in values:
        return _chat(values, unused)
    if "prompt" in values or "completion" in values:
        return _completion(values, unused)
    for name in ("sharegpt", "alpaca"):
        if CODECS[name].fits(values):
            return _other(values, name, unused)
    message = "It has no 'messages': write {\"messages\": […]}, or a 'prompt' and a 'completion'."
    raise RowError(message, "missing_messages")


def _refuse_answers_of_other_methods(values: Mapping[str, Any]) -> None:
    if not PAIR.isdisjoint(values):
        message = "It is a preference pair: create the job with the method 'dpo', or use a chat."
        raise RowError(message, "wrong_method")
    if CODECS["kto"].fits(values):
        message = (
            "It has a 'label', a thumb up or down, and supervised training would learn both alike: create the job with "
            "the method 'kto', or leave out the bad answers and all labels."
        )
        raise RowError(message, "wrong_method")


def _chat(values: Mapping[str, Any], unused: set[str]) -> Row:
    row: Row = {"messages": turns_of(values["messages"], "messages", unused)}
    if len(values) > 1:
        _note_unused(values, ("messages", *BESIDE), unused)
        row |= _beside(values, unused)
    check_turns(row["messages"])
    check_answers(row["messages"])
    return row


def _other(values: Mapping[str, Any], name: str, unused: set[str]) -> Row:
    """ShareGPT and Alpaca: every answer is learned, as in a chat."""
    made = _read(values, name, unused)
    turns = dicts((*made.messages, *made.chosen))
    check_turns(turns)
    check_answers(turns)
    return {"messages": turns} | _beside_of(made)


def _completion(values: Mapping[str, Any], unused: set[str]) -> Row:
    """Texts are learned as they stand. Of messages, the completion alone is."""
    if _is_text(values, ("prompt", "completion")):
        _note_unused(values, ("prompt", "completion"), unused)
        return {"prompt": values["prompt"], "completion": values["completion"]}
    _check_texts(values, ("prompt", "completion"))
    made = _read(values, "completion", unused)
    asked = [{**turn, "weight": 0} if turn["role"] == "assistant" else turn for turn in dicts(made.messages)]
    turns = [*asked, *dicts(made.chosen)]
    check_turns(turns)
    check_answers(turns)
    return {"messages": turns} | _beside_of(made)


def _preference(values: Mapping[str, Any], unused: set[str]) -> Row:
    if PAIR.isdisjoint(values):
        if CODECS["kto"].fits(values):
            message = "It has a 'label', and no pair: create the job with the method 'kto', or write pairs."
            raise RowError(message, "wrong_method")
        if "messages" in values or values.keys() & {"prompt", "completion", "conversations", "instruction"}:
            message = "It is no preference pair: create the job with the method 'supervised', or write pairs."
            raise RowError(message, "wrong_method")
    if _is_text(values, ("prompt", *SIDES)):
        _note_unused(values, ("prompt", *SIDES), unused)
        return _unequal({name: values[name] for name in ("prompt", *SIDES)}, *SIDES)
    asked, better, worse, more = _pair(values, unused)
    better, worse = (side[len(asked) :] if side[: len(asked)] == asked else side for side in (better, worse))
    shared = next((at for at, (one, other) in enumerate(zip(better, worse, strict=False)) if one != other), 0)
    asked, better, worse = [*asked, *better[:shared]], better[shared:], worse[shared:]
    check_question(asked, "Its prompt", unused)
    for side in (better, worse):
        _check_side(asked, side, unused)
    return _unequal({"input": {"messages": asked} | more, BETTER: better, WORSE: worse}, BETTER, WORSE)


def _pair(values: Mapping[str, Any], unused: set[str]) -> tuple[list[Turn], list[Turn], list[Turn], Row]:
    """The prompt, the better and the worse side, and what stands beside the prompt."""
    asked = values.get("input")
    better, worse = (values.get(names[0]) or values.get(names[1]) for names in OPENAI_SIDES)
    exact = isinstance(asked, dict) and all(map(are_messages, (asked.get("messages"), better, worse)))
    if isinstance(asked, dict) and exact and values.keys().isdisjoint(SYSTEMS):
        _note_unused(values, OPENAI, unused)
        unused.update(f"input.{key}" for key in asked.keys() - INNER)
        return asked["messages"], better, worse, _beside(asked, unused, "input.")  # type: ignore[return-value] # they were looked at
    name = "sharegpt_pairs" if CODECS["sharegpt_pairs"].fits(values) else "preference"
    if name == "preference":
        _check_pair(values)
    made = _read(values, name, unused)
    return dicts(made.messages), dicts(made.chosen), dicts(made.rejected), _beside_of(made)


def _check_pair(values: Mapping[str, Any]) -> None:
    """What OpenAI's file errors name, before the pair is read."""
    theirs = not PAIR.isdisjoint(values.keys() - SIDES) or isinstance(values.get("input"), dict)
    if theirs and "input" not in values:
        raise RowError('It has no \'input\': write {"input": {"messages": […]}, …}.', "missing_input")
    if theirs and not isinstance(values["input"], dict):
        message = f"Its 'input' is {kind(values['input'])}: write it as {{\"messages\": […]}}."
        raise RowError(message, "input_not_an_object")
    if theirs and "messages" not in values["input"]:
        raise RowError("Its 'input' has no 'messages': write {\"messages\": […]}.", "missing_messages")
    cure = 'write the assistant\'s messages, as in [{"role": "assistant", "content": "…"}].'
    for names in OPENAI_SIDES if theirs else [(side,) for side in SIDES]:
        found = next((values[name] for name in names if values.get(name) is not None), None)
        if found is None:
            raise RowError(f"It has no {names[0]!r}: {cure}", f"missing_{names[-1]}")
        if not isinstance(found, str | list | dict) or not found:
            raise RowError(f"Its {names[0]!r} is {kind(found) if found else 'empty'}: {cure}", "not_one_answer")


def _thumb(values: Mapping[str, Any], unused: set[str]) -> Row:
    if not PAIR.isdisjoint(values):
        message = "It is a preference pair: create the job with the method 'dpo', or write one answer and its 'label'."
        raise RowError(message, "wrong_method")
    if not any(name in values for name in LABELS):
        message = (
            "It has no 'label', true for a thumb up and false for a thumb down: write one, or create the job with the "
            "method 'supervised'."
        )
        raise RowError(message, "wrong_method")
    name = next((name for name in (*TURNS, "instruction") if name in values), "completion")
    if name == "completion":
        _check_texts(values, ("prompt", "completion"))
    if name == "completion" and _is_text(values, ("prompt", "completion")):
        _note_unused(values, ("prompt", "completion", *LABELS), unused)
        return {"prompt": values["prompt"], "completion": values["completion"], "label": label_of(values)}
    made = _read(values, "kto", unused)
    asked, answer = dicts(made.messages), dicts(made.chosen or made.rejected)
    check_question(asked, f"Its {'prompt' if name == 'completion' else name}", unused)
    _check_side(asked, answer, unused)
    return {"input": {"messages": asked} | _beside_of(made), "completion": answer, "label": bool(made.chosen)}


_READERS: dict[Method, Callable[[Mapping[str, Any], set[str]], Row]] = {
    "sft": _supervised, "dpo": _preference, "kto": _thumb,
}  # fmt: skip


def _read(values: Mapping[str, Any], name: str, unused: set[str]) -> Conversation:
    codec: Codec = CODECS[name]
    _note_unused(values, codec.columns, unused)
    if isinstance(values.get("input"), dict):
        unused.update(f"input.{key}" for key in values["input"].keys() - INNER)
    return codec.read(values, unused)


def _note_unused(values: Mapping[str, Any], used: Any, unused: set[str]) -> None:
    for key in values.keys() - used:
        if values[key] or values[key] == 0:
            unused.add(key)


def _refuse_lost(unused: set[str]) -> None:
    """Raises `RowError` where what is not used is a part of the conversation."""
    for path in sorted(unused):
        column, _, inner = path.partition("[].")
        if inner in INNER_CONTENT if inner else column in CONTENT:
            message = f"Its {path[:60]!r} cannot be trained on, and without it the example is another: remove the "
            raise RowError(f"{message}example, or the key if it means nothing.", "unknown_key")


def _beside(values: Mapping[str, Any], unused: set[str], where: str = "") -> Row:
    """What a template is given beside messages. Raises `RowError`."""
    if len(values) == 1:
        return {}
    if len(values) == 2 and are_tools(values.get("tools")):
        return {"tools": values["tools"]}
    return _checked(beside(values, unused, where))


def _beside_of(made: Conversation) -> Row:
    if not made.tools and not made.chat_template_kwargs:
        return {}
    return _checked({"tools": made.tools, "chat_template_kwargs": made.chat_template_kwargs})


def _checked(found: dict[str, Any]) -> Row:
    if taken := sorted(TAKEN & (found.get("chat_template_kwargs") or {}).keys()):
        message = f"Its 'chat_template_kwargs' have {taken[0]!r}, which the engine sets itself: remove it."
        raise RowError(message, "invalid_chat_template_kwargs")
    made = {name: msgspec.to_builtins(found[name]) for name in ("tools", "chat_template_kwargs") if found.get(name)}
    names = [tool["function"]["name"] for tool in made.get("tools", ())]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        message = f"Two of its 'tools' are called {twice[:60]!r}: remove one, or give it another name."
        raise RowError(message, "tool_twice")
    return made


def _check_side(asked: list[Turn], side: list[Turn], unused: set[str]) -> None:
    """An answer and what follows it, up to the last."""
    if not side or side[-1]["role"] != "assistant":
        raise RowError("An answer is not the assistant's: end with the answer.", "answer_not_assistant")
    if side[0]["role"] != "assistant":
        message = f"An answer begins with the role {side[0]['role']!r}: begin it with what the assistant says."
        raise RowError(message, "answer_not_assistant")
    for turn in side:
        if turn.get("weight") == 0:
            message = "An answer has the weight 0, which neither pairs nor thumbs know: leave the example out."
            raise RowError(message, "weight_not_allowed")
        turn.pop("weight", None)
    check_turns([*asked, *side])


def _unequal(row: Row, better: str, worse: str) -> Row:
    if row[better] == row[worse]:
        raise RowError("Both answers are equal, so none is better: change one, or remove the line.", "equal_pair")
    return row


def _check_texts(values: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        value = values.get(name)
        if name not in values:
            raise RowError(f"It has no {name!r}: write both 'prompt' and 'completion'.", f"missing_{name}")
        if not isinstance(value, str | dict) and not (
            isinstance(value, list) and all(isinstance(m, dict) for m in value)
        ):
            message = f"Its {name!r} is {kind(value)}: write it as text, or as a list of messages."
            raise RowError(message, f"{name}_not_text")
        if not value:
            raise RowError(f"Its {name!r} is empty: write some text, or remove the line.", f"empty_{name}")


def _is_text(values: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    """Whether it is plain text, which a model without a chat template learns too."""
    return all(isinstance(values.get(name), str) and values[name] for name in names) and not values.get("system")
