"""Rows as well-known data sets and other tools write them: read whole, or refused, or what is lost of them is named."""

import json
from typing import Any

import pytest

from apps.accounts.models import Project
from apps.core.errors import DomainError
from apps.datasets import services
from apps.datasets.services import Preview
from tests.datasets.files import jsonl, upload

pytestmark = pytest.mark.django_db

ASK, SAY, WORSE = (
    {"role": "user", "content": "Warm in Orn?"}, {"role": "assistant", "content": "No."},
    {"role": "assistant", "content": "Yes."},
)  # fmt: skip
BRIEF = {"role": "system", "content": "Be brief."}
TURNS = [{"from": "human", "value": "Warm in Orn?"}, {"from": "gpt", "value": "No."}]
TOOL = {"name": "t", "description": "Looks.", "parameters": {"a": {"type": "int", "description": "Which."}}}


def seen(project: Project, *rows: dict[str, Any], name: str = "rows.jsonl") -> Preview:
    return services.preview(file=upload(project, jsonl(rows), name))


def told(preview: Preview) -> Any:
    """Shape, messages, the chosen and the rejected answer of the first row, and what would be lost."""
    (made,) = preview.drafts
    messages = [(message["role"], message["content"]) for message in made.messages]
    return preview.shape, messages, made.reference, made.rejected, {each.name for each in preview.losses}


USER, SYSTEM = ("user", "Warm in Orn?"), ("system", "Be brief.")
SO = "\n\nHuman: So.\n\nAssistant:"
HH = "\n\nHuman: Warm in Orn?\n\nAssistant:"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        # a flag for each turn that says whether it is learned
        ({"conversations": [{**TURNS[0], "loss": None}, {**TURNS[1], "loss": False}]},
         ("sharegpt", [USER], "No.", "", {"conversations[].loss"})),
        ({"conversations": TURNS, "system": "Be brief.", "tools": ""}, ("sharegpt", [SYSTEM, USER], "No.", "", set())),
        ({"conversations": [{"from": "system", "value": "Be brief.", "weight": None}, *TURNS], "source": "x"},
         ("sharegpt", [SYSTEM, USER], "No.", "", set())),
        # a worse answer beside a conversation
        ({"messages": [ASK, SAY], "rejected_response": "Yes."}, ("chat", [USER], "No.", "", {"rejected_response"})),
        ({"messages": [ASK, SAY], "rejected_messages": [ASK, WORSE]},
         ("chat", [USER], "No.", "", {"rejected_messages"})),
        ({"messages": [ASK, SAY], "images": ["a.png"]}, ("chat", [USER], "No.", "", {"images"})),
        ({"messages": [ASK, SAY], "prompt": "Warm in Orn?", "prompt_id": "ab12"}, ("chat", [USER], "No.", "", set())),
        # conversations as one text
        ({"chosen": f"{HH} No.", "rejected": f"{HH} Yes."}, ("preference", [USER], "No.", "Yes.", set())),
        ({"chosen": f"{HH} Why?{SO} No.", "rejected": f"{HH} Why?{SO} Yes."},
         ("preference", [USER, ("assistant", "Why?"), ("user", "So.")], "No.", "Yes.", set())),
        # sides that are whole conversations, with their scores
        ({"chosen": [BRIEF, ASK, SAY], "rejected": [BRIEF, ASK, WORSE], "chosen_rating": 5.0, "rejected_rating": 2.0},
         ("preference", [SYSTEM, USER], "No.", "Yes.", set())),
        ({"system": "Be brief.", "question": "Warm in Orn?", "chosen": "No.", "rejected": "Yes."},
         ("preference", [SYSTEM, USER], "No.", "Yes.", set())),
        ({"system": "Be brief.", "chosen": [ASK, SAY], "rejected": [ASK, WORSE]},
         ("preference", [SYSTEM, USER], "No.", "Yes.", set())),
        ({"input": "Warm in Orn?", "generations": ["No.", "Yes."], "chosen": "No.", "rejected": "Yes."},
         ("preference", [USER], "No.", "Yes.", set())),
        # calls as the expected answers of a column
        ({"query": "Warm in Orn?", "answers": '[{"name": "t", "arguments": {"a": 1}}]', "tools": json.dumps([TOOL])},
         ("columns", [USER], "", "", {"answers", "tools"})),
        ({"prompt": "Warm in Orn?", "response": "No.", "helpfulness": 4, "verbosity": 1},
         ("columns", [USER], "No.", "", set())),
        ({"instruction": "Warm in Orn?", "input": None, "output": "No.", "text": "Warm in Orn? No."},
         ("alpaca", [USER], "No.", "", set())),
        ({"messages": [{**ASK, "date": "2026-01-05"}, {**SAY, "channel": "final", "thinking": "3 is cold."}]},
         ("chat", [USER], "No.", "", {"messages[].channel", "messages[].date"})),
    ],
)  # fmt: skip
def test_it_works(project: Project, row: dict[str, Any], expected: Any) -> None:
    assert told(seen(project, row)) == expected


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"conversation": [{"input": "Warm in Orn?", "output": "No."}]}, "A turn must have 'value'"),
        ({"chosen": "No.", "rejected": "Yes."}, "'prompt' must be text"),
        ({"conversation_a": [ASK, SAY], "conversation_b": [ASK, WORSE], "winner": "tie"}, "leave it out"),
        ({"messages": [ASK, {"role": "model", "content": "No."}]}, "write system, user, assistant or tool"),
        ({"messages": [ASK, {"role": "assistant", "content": {"text": "No."}}]}, "write it as text"),
        ({"messages": [ASK, {"role": "function", "content": "3"}, SAY]}, "answers no call"),
    ],
)
def test_what_cannot_be_read_is_a_bad_row(project: Project, row: dict[str, Any], says: str) -> None:
    (flaw,) = seen(project, row).errors
    assert says in flaw.message


@pytest.mark.parametrize(
    "row",
    [
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Warm in Orn?"}]},
                {"role": "model", "parts": [{"text": "No."}]},
            ]
        },
        {"system": "SYSTEM: Be brief.", "chat": "USER: Warm in Orn? ASSISTANT: No."},
        {"context": [ASK], "response1": "No.", "response2": "Yes.", "overall_preference": -2},
    ],
)
def test_a_file_whose_question_cannot_be_told_asks_for_a_mapping(project: Project, row: dict[str, Any]) -> None:
    with pytest.raises(DomainError, match="Say which column is the prompt"):
        seen(project, row)
