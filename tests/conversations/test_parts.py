"""Parts of contents as LLaMA-Factory, axolotl and TRL write them, and media that stand in columns of their own."""

import json
from typing import Any

import pytest

from apps.conversations.codecs import CODECS, detect
from apps.conversations.conversation import encode
from apps.conversations.errors import RowError
from apps.conversations.messages import read_messages

USER = {"role": "user", "content": "Warm in Orn?"}
IMAGE = {"type": "image_url", "image_url": {"url": "orn.jpg"}}


def read(*messages: dict[str, Any]) -> tuple[list[dict[str, Any]], set[str]]:
    unused: set[str] = set()
    made = read_messages(list(messages), "messages", unused)
    return json.loads(encode(made)), unused


def read_row(row: dict[str, Any]) -> tuple[str, dict[str, Any], set[str]]:
    """Its format, what is not empty of its conversation, and what is not used of it."""
    codec, unused = detect([row]), set[str]()
    assert codec
    made = json.loads(encode(codec.read(row, unused)))
    return codec.name, {key: value for key, value in made.items() if value}, unused


def value(text: str, type_: str = "text") -> dict[str, str]:
    return {"type": type_, "value": text}


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


@pytest.mark.parametrize("key", ["text", "value", "content"])
def test_it_works(key: str) -> None:
    made, unused = read({"role": "user", "content": [{"type": "text", key: "Warm?"}]})
    assert made == [{"role": "user", "content": [text("Warm?")]}]
    assert unused == set()


def test_thoughts_and_calls_among_the_parts_have_their_own_places() -> None:
    calls = [value(json.dumps({"name": "depth", "arguments": {"of": lake}}), "tool_call") for lake in ("Orn", "Ul")]
    made, unused = read(
        USER, {"role": "assistant", "content": [value("Ask both.", "reasoning"), *calls]},
        {"role": "tool", "content": [value("41")]}, {"role": "tool", "content": [value("7")]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "41 > 7"}, value("Orn.")]},
    )  # fmt: skip
    assert made[1]["reasoning_content"] == "Ask both."
    assert made[1]["content"] is None
    assert [call["function"] for call in made[1]["tool_calls"]] == [
        {"name": "depth", "arguments": '{"of":"Orn"}'}, {"name": "depth", "arguments": '{"of":"Ul"}'},
    ]  # fmt: skip
    assert [message["tool_call_id"] for message in made[2:4]] == ["call_1", "call_2"]
    assert made[4] == {"role": "assistant", "content": [text("Orn.")], "reasoning_content": "41 > 7"}
    assert unused == set()


def test_an_image_has_openais_form() -> None:
    made, _ = read({"role": "user", "content": [value("orn.jpg", "image_url"), value("Warm?")]})
    assert made[0]["content"] == [IMAGE, text("Warm?")]


def test_reasoning_in_parts_is_one_text() -> None:
    made, unused = read(USER, {"role": "assistant", "content": "8", "reasoning_content": [text("4"), text(" + 4")]})
    assert made[1] == {"role": "assistant", "content": "8", "reasoning_content": "4 + 4"}
    assert unused == set()


@pytest.mark.parametrize("key", ["train", "weight"])
def test_a_part_that_is_not_to_be_learned_is_named(key: str) -> None:
    parts = [{**text("Hm."), key: 0 if key == "weight" else False}, {**text(" No."), key: 1}]
    made, unused = read(USER, {"role": "assistant", "content": parts})
    assert made[1]["content"] == [text("Hm."), text(" No.")]
    assert unused == {f"messages[].content[].{key}"}


@pytest.mark.parametrize(
    ("given", "weight"),
    [({"loss_weight": 0.0}, 0), ({"loss_weight": 1.0}, 1), ({"train": False}, 0), ({"training": True}, 1),
     ({"weight": 0, "train": False}, 0), ({"train": None}, None)],
)  # fmt: skip
def test_weights_have_one_name(given: dict[str, Any], weight: int | None) -> None:
    made, unused = read({**USER, "loss_weight": 0.0, "train": False}, {"role": "assistant", "content": "No.", **given})
    assert made[1].get("weight") == weight
    assert unused == set(), "nobody learns the user's messages"


def test_a_users_message_that_is_to_be_learned_is_named() -> None:
    assert read({**USER, "train": True})[1] == {"messages[].train"}


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({"content": "x", "loss_weight": 0.3}, "write 0 or 1"),
        ({"content": "x", "train": 1}, "write true or false"),
        ({"content": "x", "train": True, "weight": 0}, "'weight' and 'train', which differ"),
        ({"content": [{"type": "text"}]}, "wrong shape"),
        ({"content": [{"type": "text", "value": 3}]}, "wrong shape"),
        ({"content": [{"type": "reasoning", "of": "x"}]}, "wrong shape"),
        ({"content": "x", "reasoning": [IMAGE]}, "wrong shape"),
        ({"content": [value("no JSON", "tool_call")]}, "no JSON"),
        ({"content": [value('{"name": "f"}', "tool_call")], "tool_calls": [{"name": "g"}]}, "in 'tool_calls'"),
    ],
)
def test_it_rejects(message: dict[str, Any], says: str) -> None:
    with pytest.raises(RowError, match=says):
        read(USER, {"role": "assistant", **message})


ANSWER = {"role": "assistant", "content": "No."}


@pytest.mark.parametrize(
    ("row", "codec"),
    [
        ({"messages": [{"role": "user", "content": "<image>Warm?"}, ANSWER], "images": ["orn.jpg"]}, "chat"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}, text("Warm?")]}, ANSWER],
          "images": ["orn.jpg"]}, "chat"),
        ({"conversations": [{"from": "human", "value": "<image>Warm?"}, {"from": "gpt", "value": "No."}],
          "images": ["orn.jpg"]}, "sharegpt"),
        ({"conversations": [{"from": "human", "value": "<image>Warm?"}], "chosen": {"from": "gpt", "value": "No."},
          "rejected": {"from": "gpt", "value": "Yes."}, "images": ["orn.jpg"]}, "sharegpt_pairs"),
        ({"messages": [{"role": "user", "content": "<image>Warm?"}, ANSWER], "label": True, "images": ["orn.jpg"]},
         "kto"),
    ],
)  # fmt: skip
def test_media_of_a_column_stand_where_they_belong(row: dict[str, Any], codec: str) -> None:
    name, made, unused = read_row(row)
    assert name == codec
    assert made["messages"] == [{"role": "user", "content": [IMAGE, text("Warm?")]}]
    assert made["chosen"] == [ANSWER]
    assert unused == set()
    assert CODECS[codec].columns["images"] == "images"


def test_media_of_several_kinds_and_turns() -> None:
    turns = ["<video><audio>Who?", "She.", "And here, <image>?", "He."]
    roles = ("user", "assistant") * 2
    messages = [{"role": role, "content": said} for role, said in zip(roles, turns, strict=True)]
    row = {"messages": messages, "images": ["a.jpg"], "videos": ["b.mp4"], "audios": ["c.mp3"]}
    _, made, unused = read_row(row)
    assert [message["content"] for message in made["messages"]] == [
        [{"type": "video_url", "video_url": {"url": "b.mp4"}}, {"type": "audio_url", "audio_url": {"url": "c.mp3"}},
         text("Who?")],
        "She.",
        [text("And here, "), {"type": "image_url", "image_url": {"url": "a.jpg"}}, text("?")],
    ]  # fmt: skip
    assert unused == set()


@pytest.mark.parametrize("images", [["a.jpg", "b.jpg"], [{"bytes": "…"}], "a.jpg"])
def test_media_that_have_no_place_are_named(images: Any) -> None:
    messages = [{"role": "user", "content": "<image>Warm?"}, ANSWER]
    _, made, unused = read_row({"messages": messages, "images": images})
    assert made["messages"] == messages[:1]
    assert unused == {"images"}


def test_a_mark_without_media_is_text() -> None:
    messages = [{"role": "user", "content": "What does <image> do in HTML?"}, ANSWER]
    assert read_row({"messages": messages, "images": []})[1]["messages"] == messages[:1]


SIDES = [{"role": "assistant", "content": "No."}, {"role": "assistant", "content": "Yes."}]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [USER], "chosen": SIDES[0], "rejected": SIDES[1]},
        {"messages": [USER, SIDES[0]], "chosen": SIDES[:1], "rejected": SIDES[1:]},
        {"instruction": "Warm in Orn?", "chosen_response": "No.", "rejected_response": "Yes."},
        {"chosen_messages": [USER, SIDES[0]], "rejected_messages": [USER, SIDES[1]]},
        {"input": "Warm in Orn?", "chosen": "No.", "rejected": "Yes."},
    ],
)
def test_pairs_of_other_names(row: dict[str, Any]) -> None:
    name, made, unused = read_row(row)
    assert name == "preference"
    assert made == {"messages": [USER], "chosen": SIDES[:1], "rejected": SIDES[1:]}
    assert unused == set()


def test_a_prompt_that_ends_with_another_answer_is_refused() -> None:
    row = {"messages": [USER, {"role": "assistant", "content": "Hm."}], "chosen": SIDES[0], "rejected": SIDES[1]}
    with pytest.raises(RowError, match="end it with the question"):
        read_row(row)


def test_an_instruction_with_its_input_and_a_response() -> None:
    name, made, _ = read_row({"instruction": "Is it warm?", "input": "Orn", "response": "No."})
    assert name == "dolly"
    assert made["messages"] == [{"role": "user", "content": "Is it warm?\n\nOrn"}]


@pytest.mark.parametrize("key", ["label", "kto_tag"])
@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "Warm in Orn?"}, {"from": "gpt", "value": "No."}]},
        {"instruction": "Warm in Orn?", "input": "", "output": "No."},
        {"messages": [USER, ANSWER]},
    ],
)
def test_thumbs_beside_any_conversation(row: dict[str, Any], key: str) -> None:
    for good, side in ((True, "chosen"), (False, "rejected")):
        name, made, _ = read_row({**row, key: good})
        assert (name, made) == ("kto", {"messages": [USER], side: [ANSWER]})


def test_a_number_beside_an_instruction_is_no_thumb() -> None:
    assert read_row({"instruction": "Warm?", "output": "No.", "label": 1})[0] == "alpaca"


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [{"from": "human", "value": "Warm?"}], "label": True},
        {"messages": [USER], "label": True},
        {"instruction": "Warm?", "output": "", "label": False},
    ],
)
def test_a_thumb_needs_an_answer(row: dict[str, Any]) -> None:
    with pytest.raises(RowError, match="answer"):
        read_row(row)
