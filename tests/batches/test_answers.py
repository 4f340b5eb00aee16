"""One rule for what an answer is."""

import json
from typing import Any

import pytest

from apps.batches import answers
from apps.batches.answers import Said, incomplete
from apps.batches.texts import answer_text
from apps.datasets.runs import completions

CUT_WHILE_THINKING = {
    "choices": [
        {
            "index": 0,
            "finish_reason": "length",
            "message": {"role": "assistant", "content": None, "reasoning": "four and four makes"},
        }
    ]
}
CALLED = '[{"id":"c1","function":{"name":"depth","arguments":"{\\"lake\\": \\"Orn\\"}"},"type":"function"}]'
CALL = {"id": "c1", "type": "function", "function": {"name": "depth", "arguments": '{"lake": "Orn"}'}}


def completion(message: dict[str, Any], reason: str | None = "stop") -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": reason}]}


def test_it_works() -> None:
    (said,) = answers.answers_in(CUT_WHILE_THINKING)
    assert said == Said("", "four and four makes", "", "", "length")
    assert incomplete(said, 7) == ("blank", "No answer: cut off after 7 tokens of reasoning.")


SAID = [
    ({"content": "4", "reasoning": "2 and 2"}, Said("4", "2 and 2")),
    ({"content": "4", "reasoning_content": "2 and 2", "reasoning": None}, Said("4", "2 and 2")),
    ({"content": "4", "reasoning": "2 and 2", "reasoning_content": "2 and 2"}, Said("4", "2 and 2")),
    ({"content": None, "refusal": "No."}, Said(refusal="No.")),
    ({"content": None, "tool_calls": [CALL]}, Said(tool_calls=CALLED)),
    ({"content": "Wait.", "tool_calls": [CALL], "reasoning": "Hm"}, Said("Wait.", "Hm", CALLED)),
    ({"content": "", "tool_calls": []}, Said()),
    ({"content": "a\0b", "reasoning": "c\0"}, Said("a\N{REPLACEMENT CHARACTER}b", "c\N{REPLACEMENT CHARACTER}")),
    ({"content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "No."}]}, Said("a", refusal="No.")),
    (
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"text": "a"}]},
        Said("a", "Hm"),
    ),
    ({"content": None, "function_call": {"name": "f", "arguments": "{}"}},
     Said(tool_calls='[{"id":"call_1","function":{"name":"f","arguments":"{}"},"type":"function"}]')),
    ({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
     Said(tool_calls='[{"id":"call_1","function":{"name":"f","arguments":"{\\"a\\": 1}"},"type":"function"}]')),
    ({"content": 5, "tool_calls": "x"}, Said()),
]  # fmt: skip


@pytest.mark.parametrize(("message", "wanted"), SAID)
def test_every_reader_says_the_same(message: dict[str, Any], wanted: Said) -> None:
    body = completion(message)
    assert answers.answers_in(body) == [wanted._replace(finish_reason="stop")]
    (choice,) = completions.read(json.dumps(body), 5)
    assert choice == (wanted._replace(finish_reason="stop"), 5)


def test_calls_that_no_model_should_write_are_kept() -> None:
    (said,) = answers.answers_in(completion({"tool_calls": [{"function": {"name": "f", "arguments": "{not"}}, 7]}))
    assert [(call.function.name, call.function.arguments) for call in answers.calls_of(said.tool_calls)] == [
        ("f", "{not"), ("", "7"),
    ]  # fmt: skip


def test_a_response_s_items() -> None:
    body = {
        "output": [
            {"type": "reasoning", "content": [], "summary": [{"type": "summary_text", "text": "Hm"}]},
            {
                "type": "message",
                "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "No"}],
            },
            {"type": "function_call", "call_id": "c1", "name": "depth", "arguments": '{"lake": "Orn"}'},
        ],
        "incomplete_details": {"reason": "content_filter"},
    }
    assert answers.answers_in(body) == [Said("a", "Hm", CALLED, "No", "content_filter")]


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        (Said("a", finish_reason="stop"), "", ""),
        (Said("", tool_calls=CALLED, finish_reason="tool_calls"), "", ""),
        (Said("a", refusal="No."), "refused", "The model refused: No."),
        (Said("a", finish_reason="content_filter"), "content_filter", "filter"),
        (Said(" \n"), "blank", "the text is empty"),
        (Said("", "Hm", finish_reason="stop"), "blank", "only thought"),
        (Said("", finish_reason="length"), "blank", "No answer: cut off after 1,234 tokens."),
        (Said("a", finish_reason="length"), "cut_off", "Cut off after 1,234 tokens."),
        (Said("a", finish_reason="MAX_TOKENS"), "cut_off", "Cut off"),
        (Said("", tool_calls=CALLED, finish_reason="length"), "cut_off", "Cut off"),
        (Said("a", finish_reason="abort"), "cut_off", "Cut off"),
    ],
)
def test_what_is_no_whole_answer(said: Said, code: str, words: str) -> None:
    found = incomplete(said, 1_234)
    assert (found.code if found else "") == code
    assert words in (found.sentence if found else "")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (CUT_WHILE_THINKING | {"usage": {"completion_tokens": 7}}, "No answer: cut off after 7 tokens of reasoning."),
        (completion({"content": None, "tool_calls": [CALL]}), 'depth({"lake": "Orn"})'),
        (completion({"content": "a", "reasoning_content": "Hm"}), "a"),
        (completion({"content": "", "refusal": "No."}), "The model refused: No."),
        ({"choices": [{"text": "a"}, {"text": "b"}]}, "a\n\nb"),
        ({"data": [{"embedding": [1, 2]}, {"embedding": [1, 2]}]}, "[2 numbers]\n\n[2 numbers]"),
        ({"error": {"message": "Too long."}}, "Too long."),
        ({"message": "Gone."}, "Gone."),
        ({"choices": []}, ""),
        ([], ""),
    ],
)
def test_what_people_read(body: Any, text: str) -> None:
    assert answer_text(body) == text
