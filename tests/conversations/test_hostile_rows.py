"""Rows with missing, null, foreign and mistyped keys: refused with a sentence, or read and accounted for."""

import random
from typing import Any

import msgspec
import pytest

from apps.conversations.codecs import CODECS
from apps.conversations.conversation import Conversation, encode
from apps.conversations.errors import RowError

ROWS = 300
ASKED = {"role": "user", "content": "Warm in Orn?"}
ANSWER = {"role": "assistant", "content": "No."}
OTHER = {"role": "assistant", "content": "Yes."}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TALK = [
    {"role": "system", "content": "Be brief."}, ASKED, {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "3", "tool_call_id": "c1"}, {**ANSWER, "reasoning_content": "3 is cold", "weight": 1},
]  # fmt: skip
BESIDE = {
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "parallel_tool_calls": False, "chat_template_kwargs": {"enable_thinking": False},
}  # fmt: skip
TURNS = [
    {"from": "system", "value": "Be brief."}, {"from": "human", "value": "Warm in Orn?"},
    {"from": "function_call", "value": '{"name": "f", "arguments": {}}'}, {"from": "observation", "value": "3"},
    {"from": "gpt", "value": "No.", "weight": 0},
]  # fmt: skip
SOUND: dict[str, dict[str, Any]] = {
    "chat": {"messages": TALK, **BESIDE},
    "batch": {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": TALK, **BESIDE}},
    "completion": {"prompt": TALK[:2], "completion": [ANSWER], **BESIDE},
    "preference": {"prompt": TALK[:2], "chosen": [ANSWER], "rejected": [OTHER], **BESIDE},
    "kto": {"prompt": "Warm in Orn?", "completion": "No.", "label": True, "system": "Be brief.", **BESIDE},
    "sharegpt": {"conversations": TURNS, "system": "Be brief.", "tools": "[]"},
    "sharegpt_pairs": {"conversations": TURNS[1:2], "chosen": TURNS[4], "rejected": {"from": "gpt", "value": "Yes."}},
    "alpaca": {
        "instruction": "Warm?", "input": "Orn", "output": "No.", "system": "Be brief.", "history": [["Hello", "Hi."]],
    },
    "dolly": {"instruction": "Warm?", "context": "Orn", "response": "No.", "category": "open_qa"},
    "orca": {"system_prompt": "Be brief.", "question": "Warm in Orn?", "response": "No."},
    "label_studio": {
        "data": {"messages": TALK[:2], "response_a": "No.", "response_b": "Yes.", **BESIDE},
        "annotations": [{
            "ground_truth": True, "was_cancelled": False,
            "result": [{"type": "pairwise", "value": {"selected": "right"}}],
        }],
    },
    "label_studio_min": {
        "messages": TALK[:2], "response_a": "No.", "response_b": "Yes.", "comparison": [{"selected": "left"}],
        "annotator": 1, "annotation_id": 7, "lead_time": 3.2, "id": 5,
    },
    "lmsys": {"conversation_a": [ASKED, ANSWER], "conversation_b": [ASKED, OTHER], "winner": "model_b"},
    "ultrafeedback": {
        "instruction": "Warm in Orn?",
        "completions": [{"response": "No.", "overall_score": 8.0}, {"response": "Yes.", "overall_score": 2}],
    },
}  # fmt: skip
JUNK: list[Any] = [
    None, True, 0, -1, 0.5, 2**63, "", " ", "x", "[", "{}", "null", [], [None], [[]], ["x"], {}, {"role": "user"},
    {"x": {}}, [{"role": "user"}], [{}], [[1, 2]], {"content": []}, float("1e400"), "\u2028", "a" * 5000,
]  # fmt: skip


def spoiled(value: Any, chance: random.Random) -> Any:
    """The value with one thing in it, at any depth, that is not as it should be."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        what = chance.choice(["junk", "deeper", "deeper", "deeper", "missing", "foreign"])
        if what == "missing":
            return {name: kept for name, kept in value.items() if name != key}
        if what == "foreign":
            return {**value, chance.choice(["score", "weight", "name", "label", "role", "from", "x"]): junk(chance)}
        return {**value, key: spoiled(value[key], chance) if what == "deeper" else junk(chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        return [*value[:at], spoiled(value[at], chance), *value[at + chance.choice([0, 1, 1, 1]) :]]
    return junk(chance)


def junk(chance: random.Random) -> Any:
    return chance.choice(JUNK)


@pytest.mark.parametrize("name", CODECS)
def test_it_works(name: str) -> None:
    codec = CODECS[name]
    unused: set[str] = set()
    made = codec.read(SOUND[name], unused)
    assert codec.fits(SOUND[name])
    assert made.question
    assert made.chosen or made.rejected
    assert not unused


@pytest.mark.parametrize("name", CODECS)
def test_it_survives_whatever_comes(name: str) -> None:
    chance, codec, refused = random.Random(name), CODECS[name], 0
    for _ in range(ROWS):
        row = SOUND[name]
        for _ in range(chance.randint(1, 3)):
            row = spoiled(row, chance)
        if not isinstance(row, dict):
            continue
        codec.fits(row)
        unused: set[str] = set()
        try:
            made = codec.read(row, unused)
        except RowError as error:
            refused += is_sentence(str(error))
        else:
            assert isinstance(made, Conversation)
            assert made.question.strip()
            assert not said(row, codec.columns.keys()) - said_in(made) - names(unused)
    assert 0 < refused < ROWS


def is_sentence(text: str) -> bool:
    assert text.endswith("."), text
    assert " " in text
    return True


def said(row: dict[str, Any], columns: Any) -> set[str]:
    """The texts that matter which the columns of a codec hold."""
    return {text for name in columns if name in row for text in _texts(row[name]) if text in MARKS}


MARKS = {"Warm in Orn?", "No.", "Yes.", "Be brief.", "3 is cold", "c1", "Hello", "Hi.", "Warm?", "Orn"}


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in values for text in _texts(each)]


def said_in(made: Conversation) -> set[str]:
    whole = encode((made.messages, made.chosen, made.rejected, made.key)).decode()
    return {mark for mark in MARKS if msgspec.json.encode(mark).decode()[1:-1] in whole}


def names(unused: set[str]) -> set[str]:
    return MARKS if unused else set()
