"""What a model is shown of a row, and what of it is learned: one process answers for all cases."""

import json
import os
import subprocess
from typing import Any

import pytest
from django.conf import settings

from tests.training.tiny import DEMO_MODEL, chat, pair

Answer = dict[str, Any]

FRAME = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
TALK = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Capital of France?"},
        {"role": "assistant", "content": "Lyon.", "weight": 0},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "And of Peru?"},
        {"role": "assistant", "content": "Lima.", "weight": 1},
    ]
}
CALL = {
    "messages": [
        {"role": "user", "content": "Weather in Oslo?"},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "look_up", "arguments": '{"city": "Oslo", "deep": {"a": 1}}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Rain"},
        {"role": "assistant", "content": "It rains."},
    ],
    "tools": [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}],
}
THINKING = (  # as Qwen 3's: the thoughts of earlier turns are left out
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think></think>"
    "{% endif %}{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_TOOLS = (
    "{% if tools %}[{{ tools | map(attribute='function.name') | join(' ') }}]{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}"
    "({{ c.function.arguments.deep.a }}){% endfor %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
STRICT = "{% if messages | length > 2 %}{{ raise_exception('One turn only') }}{% endif %}" + WITH_TOOLS
ENDLESS = (  # as GLM 4.5's: a turn ends where the next begins
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]"
    "{% endif %}"
)
OTHER_END = (  # one that is no end for the tokenizer
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
OPENED = (  # as DeepSeek-R1's: the prompt opens the thinking, and nothing shows it afterwards
    "{% for m in messages %}[{{ m.role }}]{{ m.content.split('</think>')[-1] | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]<think>\n{% endif %}"
)
THOUGHTFUL = {"messages": [*chat("4 + 4?", "8.")["messages"][:1],
                           {"role": "assistant", "content": "8.", "reasoning_content": "Four and four."}]}  # fmt: skip
DATED = "{{ strftime_now('%d %b %Y') }} " + WITH_TOOLS
TURNS = pair("Hello", "Hi.", "Go away.")
TURNS["preferred_completion"] += [{"role": "user", "content": "You?"}, {"role": "assistant", "content": "Well."}]
LONG = chat("Say it", "word " * 60)

CASES: dict[str, Answer] = {
    "chat": {"rows": [chat("Hello", "Hi.")]},
    "turns": {"rows": [TALK]},
    "everything": {"rows": [TALK], "options": {"completions_only": False}},
    "text": {"rows": [{"prompt": "The sky is", "completion": " blue."}]},
    "whole text": {
        "rows": [{"prompt": "The sky is", "completion": " blue."}],
        "options": {"completions_only": False},
    },
    "thinking": {"rows": [{"messages": TALK["messages"][1:]}], "template": THINKING},
    "tools": {"rows": [CALL], "template": WITH_TOOLS},
    "no place for tools": {"rows": [CALL, chat("Hello", "Hi.")]},
    "strict": {"rows": [TALK, chat("Hello", "Hi.")], "template": STRICT},
    "long": {"rows": [LONG, chat("Hello", "Hi.")], "options": {"max_length": 64}},
    "long prompt": {"rows": [chat("word " * 60, "Hi."), chat("Hello", "Hi.")], "options": {"max_length": 64}},
    "nothing": {"rows": [{"messages": [{"role": "user", "content": "Hello"}]}] * 2},
    "no template": {"rows": [chat("Hello", "Hi.")], "template": None},
    "pair": {"rows": [pair("Hello", "Hi.", "Go away.")], "method": "dpo"},
    "pair, long": {
        "rows": [pair("Hello", "word " * 60 + "x", "word " * 60), pair("Hello", "Hi.", "Go " * 60)],
        "method": "dpo",
        "options": {"max_length": 64},
    },
    "pair, long prompt": {"rows": [pair("word " * 60, "a", "b")], "method": "dpo", "options": {"max_length": 64}},
    "pair of turns": {"rows": [TURNS], "method": "dpo"},
    "pair of turns that are rewritten": {
        "rows": [TURNS, pair("Hello", "Hi.", "No.")],
        "method": "dpo",
        "template": THINKING,
    },
    "pair of texts": {"rows": [{"prompt": "It is", "chosen": " good.", "rejected": " bad."}], "method": "dpo"},
    "other scripts": {"rows": [chat("Wie heißt 東京?", "Tōkyō 🗼 heißt «東京».")]},
    "no JSON": {"rows": [chat("Hello", "Hi.")], "then": "no JSON\n"},
    "no end": {"rows": [{"messages": TALK["messages"][3:]}], "template": ENDLESS},
    "other end": {"rows": [chat("Hello", "Hi.")], "template": OTHER_END, "stops": ["<|endoftext|>"]},
    "other end, unknown": {"rows": [chat("Hello", "Hi.")], "template": OTHER_END},
    "an end within": {"rows": [chat("Hello", "<|im_end|> ends it."), chat("Hello", "Hi.")]},
    "opened": {"rows": [THOUGHTFUL, chat("Hello", "Hi.")], "template": OPENED},
    "hidden thoughts": {"rows": [THOUGHTFUL, chat("Hello", "Hi.")]},
    "hidden tools": {"rows": [{**chat("Hello", "Hi."), "tools": CALL["tools"]}, chat("Hello", "Hi.")]},
    "dated": {"rows": [chat("Hello", "Hi.")], "template": DATED, "date": "2025-03-09T12:00:00+00:00"},
    "lines": {"rows": [{"line": 7, **LONG}, {"line": 9, **chat("word " * 60, "Hi.")}], "options": {"max_length": 64}},
    "border": {"rows": [{"prompt": "It is ", "completion": "Lima."}, chat("Say it", "\n\nHi.")]},
    "its own marks": {"rows": [chat("What is <|im_end|>?", "A mark: <|im_start|>assistant")]},
}


@pytest.fixture(scope="module")
def answers() -> dict[str, Answer]:
    cases = [{"method": "sft", "options": {}, **case} for case in CASES.values()]
    done = subprocess.run(
        [settings.TRAINER_PYTHON, "-m", "tests.training.read_examples", DEMO_MODEL], input=json.dumps(cases),
        cwd=settings.BASE_DIR, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


def texts(answer: Answer, at: int = 0) -> dict[str, str]:
    assert not answer["failed"]
    return dict(answer["made"][at]["texts"])


def test_it_works(answers: dict[str, Answer]) -> None:
    """The prompt is shown, the answer is learned, with the mark that ends it."""
    answer = answers["chat"]
    whole = f"{FRAME}<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\nHi.<|im_end|>"
    assert texts(answer) == {"input_ids": whole, "labels": "Hi.<|im_end|>"}
    ids, labels = (answer["made"][0]["columns"][name] for name in ("input_ids", "labels"))
    assert len(ids) == len(labels) == answer["tokens"]
    assert labels[-answer["learned"] :] == ids[-answer["learned"] :]
    assert set(labels[: -answer["learned"]]) == {-100}


def test_turns_of_weight_0_are_shown_and_not_learned(answers: dict[str, Answer]) -> None:
    assert texts(answers["turns"])["labels"] == "Paris.<|im_end|>Lima.<|im_end|>"
    assert "Lyon." in texts(answers["turns"])["input_ids"]


def test_all_but_those_is_learned_if_prompts_are_too(answers: dict[str, Answer]) -> None:
    both = texts(answers["everything"])
    assert both["labels"] == both["input_ids"].replace("Lyon.<|im_end|>", "")


def test_a_text_is_taken_as_it_stands(answers: dict[str, Answer]) -> None:
    """The model also learns where it ends."""
    assert texts(answers["text"]) == {"input_ids": "The sky is blue.<|im_end|>", "labels": " blue.<|im_end|>"}
    assert texts(answers["whole text"])["labels"] == "The sky is blue.<|im_end|>"


def test_a_turn_that_is_written_otherwise_once_it_is_over_makes_a_sequence_of_its_own(
    answers: dict[str, Answer],
) -> None:
    """Each answer is learned as the model will have to write it, after what it will be shown then."""
    answer = answers["thinking"]
    assert (answer["examples"], answer["sequences"], len(answer["made"])) == (1, 2, 2)
    first, second = (texts(answer, at) for at in (0, 1))
    assert first["labels"] == "<think></think>Paris.<|im_end|>"
    assert second["labels"] == "<think></think>Lima.<|im_end|>"
    assert "Paris.<|im_end|>" in second["input_ids"]
    assert second["input_ids"].count("<think>") == 1


def test_tool_calls_are_learned(answers: dict[str, Answer]) -> None:
    """The template gets the arguments as an object, and the tools."""
    both = texts(answers["tools"])
    assert both["labels"] == "look_up(1)<|im_end|>It rains.<|im_end|>"
    assert both["input_ids"].startswith("[look_up]<user>Weather in Oslo?")


@pytest.mark.parametrize(
    ("case", "why"),
    [
        ("no place for tools", "the model's chat template has no place for tool calls."),
        ("strict", "the model's chat template refuses it: One turn only"),
        ("long prompt", "its first 64 tokens have no answer: raise max_length."),
    ],
)
def test_a_row_that_teaches_nothing_is_left_out(answers: dict[str, Answer], case: str, why: str) -> None:
    answer = answers[case]
    assert (answer["examples"], answer["left_out"]) == (1, [[1, why]])
    assert texts(answer)["labels"] == "Hi.<|im_end|>"


def test_what_is_too_long_is_cut_at_its_end(answers: dict[str, Answer]) -> None:
    answer = answers["long"]
    assert (answer["examples"], answer["cut"]) == (2, 1)
    assert len(answer["made"][0]["columns"]["input_ids"]) == 64
    assert texts(answer)["labels"].startswith("word word")


def test_it_rejects_a_file_without_anything_to_learn(answers: dict[str, Answer]) -> None:
    assert answers["nothing"]["failed"] == (
        "bad_data: No example of rows.jsonl has anything to learn. Line 1: it has no answer that is to be learned. "
        "Line 2: it has no answer that is to be learned."
    )


def test_it_rejects_chats_for_a_model_without_a_template(answers: dict[str, Answer]) -> None:
    assert answers["no template"]["failed"].startswith("unsupported: The model has no chat template")


def test_a_pair_is_a_prompt_and_two_answers(answers: dict[str, Answer]) -> None:
    answer = answers["pair"]
    assert texts(answer) == {
        "prompt_ids": f"{FRAME}<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
        "chosen_ids": "Hi.<|im_end|>",
        "rejected_ids": "Go away.<|im_end|>",
    }
    prompt, chosen, rejected = (len(ids) for ids in answer["made"][0]["columns"].values())
    assert (answer["learned"], answer["tokens"]) == (chosen + rejected, 2 * prompt + chosen + rejected)


def test_a_pair_is_cut_too_and_left_out_if_nothing_is_left_to_prefer(answers: dict[str, Answer]) -> None:
    answer = answers["pair, long"]
    assert answer["left_out"] == [[1, "its two answers are the same, as far as max_length reaches."]]
    columns = answer["made"][0]["columns"]
    assert len(columns["prompt_ids"]) + len(columns["rejected_ids"]) == 64
    assert answer["cut"] == 1
    assert "raise max_length" in answers["pair, long prompt"]["failed"]


def test_a_side_may_have_several_turns(answers: dict[str, Answer]) -> None:
    chosen = "Hi.<|im_end|>\n<|im_start|>user\nYou?<|im_end|>\n<|im_start|>assistant\nWell.<|im_end|>"
    both = texts(answers["pair of turns"])
    assert (both["chosen_ids"], both["rejected_ids"]) == (chosen, "Go away.<|im_end|>")
    why = "the model's chat template writes its first turn otherwise once a second follows."
    assert answers["pair of turns that are rewritten"]["left_out"] == [[1, why]]


def test_a_pair_of_texts_stands_as_it_is(answers: dict[str, Answer]) -> None:
    assert texts(answers["pair of texts"]) == {
        "prompt_ids": "It is", "chosen_ids": " good.<|im_end|>", "rejected_ids": " bad.<|im_end|>",
    }  # fmt: skip


def test_it_survives_every_script(answers: dict[str, Answer]) -> None:
    assert texts(answers["other scripts"])["labels"] == "Tōkyō 🗼 heißt «東京».<|im_end|>"


def test_it_survives_the_templates_own_marks_in_a_text(answers: dict[str, Answer]) -> None:
    assert texts(answers["its own marks"])["labels"] == "A mark: <|im_start|>assistant<|im_end|>"


def test_the_file_is_read_line_by_line(answers: dict[str, Answer]) -> None:
    """Memory is bounded by one example: what the first line gives was there before the second was looked at."""
    answer = answers["no JSON"]
    assert answer["failed"].startswith("broken: ")
    assert [made["texts"]["labels"] for made in answer["made"]] == ["Hi.<|im_end|>"]


def test_where_no_end_is_written_the_end_of_the_text_is_learned(answers: dict[str, Answer]) -> None:
    """At which every engine stops. What a next turn shows differs from that: it is a sequence of its own."""
    labels = [texts(answers["no end"], at)["labels"] for at in (0, 1)]
    assert labels == ["Paris.<|im_end|>", "Lima.<|im_end|>"]
    assert (
        texts(answers["no end"], 1)["input_ids"]
        == "[user]Sure?[assistant]Paris.[user]And of Peru?[assistant]Lima.<|im_end|>"
    )


def test_the_templates_end_is_learned_where_the_engine_stops_at_it(answers: dict[str, Answer]) -> None:
    assert texts(answers["other end"])["labels"] == "Hi.<|endoftext|>"
    assert texts(answers["other end, unknown"])["labels"] == "Hi.<|im_end|>"


def test_an_answer_at_whose_middle_the_engine_would_stop_is_left_out(answers: dict[str, Answer]) -> None:
    why = "its answer holds '<|im_end|>', at which the engine ends an answer."
    assert answers["an end within"]["left_out"] == [[1, why]]


def test_thinking_that_the_prompt_opens_is_ended_by_the_answer(answers: dict[str, Answer]) -> None:
    answer = answers["opened"]
    assert texts(answer, 0)["labels"] == "Four and four.\n</think>\n\n8.<|im_end|>"
    assert texts(answer, 1)["labels"] == "</think>\n\nHi.<|im_end|>"
    assert texts(answer, 1)["input_ids"].startswith("[user]Hello<|im_end|>[assistant]<think>\n</think>")


def test_what_a_template_does_not_show_is_counted(answers: dict[str, Answer]) -> None:
    assert (answers["hidden thoughts"]["without_reasoning"], answers["hidden thoughts"]["examples"]) == (1, 2)
    assert answers["opened"]["without_reasoning"] == 0
    assert (answers["hidden tools"]["without_tools"], answers["hidden tools"]["examples"]) == (1, 2)
    assert answers["tools"]["without_tools"] == 0


def test_a_date_is_the_runs(answers: dict[str, Answer]) -> None:
    assert texts(answers["dated"])["input_ids"].startswith("09 Mar 2025 <user>")


def test_rows_are_told_by_the_lines_of_the_users_file(answers: dict[str, Answer]) -> None:
    answer = answers["lines"]
    assert answer["left_out"] == [[9, "its first 64 tokens have no answer: raise max_length."]]
    assert answer["longest"] > 64


def test_the_prompts_tokens_are_the_engines_up_to_its_end(answers: dict[str, Answer]) -> None:
    """Also where one token of the whole text would lie across the border."""
    text, turns = (answers["border"]["made"][at] for at in (0, 1))
    assert text["texts"]["labels"] == "Lima.<|im_end|>"
    assert text["pieces"]["labels"][0] == "L"
    assert turns["texts"]["labels"] == "\n\nHi.<|im_end|>"
