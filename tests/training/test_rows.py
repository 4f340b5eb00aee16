"""Lines of training files: what is taken, and more than thirty kinds of what is not."""

import io
import json
from typing import Any

import msgspec
import pytest

from apps.conversations.errors import RowError
from apps.training.files.reading import MAX_ERRORS, Limits, LineError, Reader
from apps.training.files.rows import check
from apps.training.spec import Method

USER = {"role": "user", "content": "What is the capital of Peru?"}
ANSWER = {"role": "assistant", "content": "Lima."}
WORSE = {"role": "assistant", "content": "Cusco."}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": "Peru"}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "Lima"}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
ASKS = {"role": "user", "content": "a?"}
RETORT = {"role": "user", "content": "Sure?"}
PAIR = {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [WORSE]}


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def asked(**change: Any) -> dict[str, Any]:
    return chat({**USER, **change}, ANSWER)


def answered(**change: Any) -> dict[str, Any]:
    return chat(USER, {**ANSWER, **change})


def calling(**change: Any) -> dict[str, Any]:
    return chat(USER, {**CALLING, "tool_calls": [{**CALL, **change}]}, RESULT, ANSWER)


def pair(**change: Any) -> dict[str, Any]:
    return {key: value for key, value in {**PAIR, **change}.items() if value != "nothing"}


def raw(line: Any) -> bytes:
    return line if isinstance(line, bytes) else json.dumps(line).encode()


def read_row(line: Any, method: Method = "sft") -> Any:
    """As the trainer reads it."""
    return json.loads(msgspec.json.encode(check(raw(line), method)))


LABELLED = {"prompt": [USER], "completion": [ANSWER], "label": True}


@pytest.mark.parametrize(
    ("line", "method", "row"),
    [
        (chat(USER, ANSWER), "sft", chat(USER, ANSWER)),
        (chat({"role": "developer", "content": "Be brief."}, USER, ANSWER), "sft", None),
        (chat({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, ANSWER),
         "sft", None),
        (
            chat(USER, {**WORSE, "weight": 0}, USER, {**ANSWER, "weight": 1, "name": "bot", "refusal": None}),
            "sft",
            chat(USER, {**WORSE, "weight": 0}, USER, {**ANSWER, "weight": 1, "name": "bot"}),
        ),
        (
            chat(USER, CALLING, RESULT, ANSWER, tools=[TOOL], parallel_tool_calls=False),
            "sft",
            chat(USER, CALLING, RESULT, ANSWER, tools=[TOOL]),
        ),
        (chat(USER, CALLING, tools=[TOOL]), "sft", None),
        (chat(USER, ANSWER, tools=None), "sft", chat(USER, ANSWER)),
        (chat(USER, ANSWER, tools=[], parallel_tool_calls=True), "sft", chat(USER, ANSWER)),
        (chat(USER, ANSWER, chat_template_kwargs={"enable_thinking": False}), "sft", None),
        ({"prompt": "2 + 2 =", "completion": " 4"}, "sft", None),
        (
            {"prompt": [USER, WORSE, USER], "completion": [ANSWER]}, "sft",
            chat(USER, {**WORSE, "weight": 0}, USER, ANSWER),
        ),
        ({"prompt": "2 + 2 =", "completion": [ANSWER]}, "sft", chat({"role": "user", "content": "2 + 2 ="}, ANSWER)),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, "sft",
         chat({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"})),
        ({"instruction": "a", "input": "", "output": "b", "history": [["c", "d"]]}, "sft",
         chat({"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}, {"role": "user", "content": "a"},
              {"role": "assistant", "content": "b"})),
        (PAIR, "dpo", {"input": chat(USER), "preferred_completion": [ANSWER], "non_preferred_completion": [WORSE]}),
        (
            {"input": chat(USER, CALLING, RESULT, tools=[TOOL]), "preferred_completion": [ANSWER],
             "non_preferred_completion": [WORSE]},
            "dpo", None,
        ),
        (
            {"prompt": ASKS["content"], "chosen": [ASKS, ANSWER], "rejected": [ASKS, WORSE]}, "dpo",
            {"input": chat(ASKS), "preferred_completion": [ANSWER], "non_preferred_completion": [WORSE]},
        ),
        (
            {"chosen": [USER, ANSWER], "rejected": [USER, WORSE], "tools": [TOOL]}, "dpo",
            {"input": chat(USER, tools=[TOOL]), "preferred_completion": [ANSWER], "non_preferred_completion": [WORSE]},
        ),
        ({"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}, "dpo", None),
        (
            pair(preferred_output=[ANSWER, USER, ANSWER], non_preferred_output=[ANSWER, USER, WORSE]), "dpo",
            {"input": chat(USER, ANSWER, USER), "preferred_completion": [ANSWER], "non_preferred_completion": [WORSE]},
        ),
        (
            pair(preferred_output=[ANSWER, USER, ANSWER]), "dpo",
            {"input": chat(USER), "preferred_completion": [ANSWER, USER, ANSWER], "non_preferred_completion": [WORSE]},
        ),
        (pair(non_preferred_output="Cusco."), "dpo",
         {"input": chat(USER), "preferred_completion": [ANSWER], "non_preferred_completion": [WORSE]}),
        (LABELLED, "kto", {"input": chat(USER), "completion": [ANSWER], "label": True}),
        ({**LABELLED, "label": 0, "tools": [TOOL]}, "kto",
         {"input": chat(USER, tools=[TOOL]), "completion": [ANSWER], "label": False}),
        (chat(USER, ANSWER, label=False), "kto", {"input": chat(USER), "completion": [ANSWER], "label": False}),
        ({"conversations": [{"from": "human", "value": USER["content"]}, {"from": "gpt", "value": "Lima."}],
          "kto_tag": False}, "kto", {"input": chat(USER), "completion": [ANSWER], "label": False}),
        ({"instruction": USER["content"], "input": "", "output": "Lima.", "label": True}, "kto",
         {"input": chat(USER), "completion": [ANSWER], "label": True}),
        ({"messages": [{"role": "user", "content": [{"type": "text", "value": USER["content"]}], "loss_weight": 0.0},
                       {**ANSWER, "loss_weight": 1.0}]}, "sft",
         chat({**USER, "content": [{"type": "text", "text": USER["content"]}]}, {**ANSWER, "weight": 1})),
        ({"prompt": "2 + 2 =", "completion": " 4", "label": True}, "kto", None),
    ],
)  # fmt: skip
def test_it_works(line: Any, method: Method, row: Any) -> None:
    """Without a `row`, it stays as it is."""
    assert read_row(line, method) == (line if row is None else row)


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_kept(key: str) -> None:
    assert read_row(answered(**{key: "hm"})) == answered(reasoning_content="hm")


@pytest.mark.parametrize(
    ("calling", "result"),
    [
        ({"function_call": CALL["function"]}, {"role": "function", "name": "look_up"}),
        ({"tool_calls": [{"function": {"name": "look_up", "arguments": {"q": "Peru"}}}]}, {"role": "tool"}),
        ({"tool_calls": [{"name": "look_up", "arguments": {"q": "Peru"}}]}, {"role": "tool", "name": "look_up"}),
        ({"tool_calls": json.dumps([{**CALL, "id": None}])}, {"role": "tool", "tool_call_id": None}),
    ],
)
def test_calls_of_other_formats_become_openai_s(calling: Any, result: Any) -> None:
    functions = [{"name": "look_up", "parameters": {"type": "object"}}]
    turns = [USER, {"role": "assistant", "content": None, **calling}, {**result, "content": "Lima"}, ANSWER]
    row = read_row(chat(*turns, functions=functions))
    (call,) = row["messages"][1]["tool_calls"]
    assert json.loads(call["function"].pop("arguments")) == {"q": "Peru"}
    assert call == {"id": "call_1", "type": "function", "function": {"name": "look_up"}}
    assert row["messages"][2]["role"] == "tool"
    assert row["messages"][2]["tool_call_id"] == "call_1"
    assert row["tools"] == [TOOL]


@pytest.mark.parametrize(
    ("line", "method", "keys"),
    [
        (chat(USER, ANSWER, source="web", split="train", note=None), "sft", {"source", "split"}),
        (chat({**USER, "weight": 1, "score": 2}, ANSWER), "sft", {"messages[].weight", "messages[].score"}),
        (chat({**USER, "tool_call_id": "c1"}, ANSWER, label="geography"), "sft", {"messages[].tool_call_id", "label"}),
        ({"prompt": "a", "completion": "b", "id": 7}, "sft", {"id"}),
        (pair(score=1, input={**chat(USER), "temperature": 0}), "dpo", {"score", "input.temperature"}),
        (pair(preferred_output=[{**ANSWER, "weight": 1}], input=chat(USER, {**WORSE, "weight": 0}, USER)), "dpo",
         {"messages[].weight"}),
        ({**LABELLED, "rater": "ada"}, "kto", {"rater"}),
    ],
)  # fmt: skip
def test_keys_that_are_not_used_are_named(line: Any, method: Method, keys: set[str]) -> None:
    unused: set[str] = set()
    check(raw(line), method, unused)
    assert unused == keys


BAD: list[tuple[str, Any, str]] = [  # the code, the line, and how the cure begins
    ("invalid_json", b"{no", "write one whole object"),
    ("invalid_json", raw(chat(USER, ANSWER))[:-9], "write one whole object"),
    ("invalid_json", raw(chat(USER, ANSWER)) * 2, "write one whole object"),
    ("invalid_json", b'{"prompt": 1e999, "completion": "a"}', "write it as text"),
    ("invalid_utf8", b'{"prompt": "\xff", "completion": "a"}', "save the file as UTF-8"),
    ("nul_character", b'{"prompt": "\\u0000", "completion": "a"}', "remove it"),
    ("nul_character", b'{"prompt": "\0", "completion": "a"}', "remove it"),
    ("nul_character", raw(chat(USER, {"role": "assistant", "content": "a\0"})), "remove it"),
    ("lone_surrogate", b'{"prompt": "\\ud83d", "completion": "a"}', "remove or complete it"),
    ("not_an_object", [USER, ANSWER], "write each example as"),
    ("not_an_object", 42, "write each example as"),
    ("nested_too_deeply", b"[" * 100_000 + b"]" * 100_000, "make it flatter"),
    ("nested_too_deeply", {"messages": json.loads("[" * 80 + "]" * 80)}, "make it flatter"),
    ("missing_messages", {}, "write {"),
    ("messages_not_a_list", {"messages": "hi"}, "write a list"),
    ("messages_not_a_list", {"messages": None}, "write a list"),
    ("messages_not_a_list", {"messages": {}}, "write a list"),
    ("empty_messages", chat(), "write at least"),
    ("message_not_an_object", chat(USER, "Lima."), "write an object"),
    ("missing_role", chat({"content": "a"}, ANSWER), "write system"),
    ("unknown_role", asked(role="human"), "write system"),
    ("unknown_role", asked(role=["user"]), "write system"),
    ("missing_content", chat({"role": "user"}, ANSWER), "write its text"),
    ("missing_content", answered(content=None), "write its text"),
    ("missing_content", chat(USER, {"role": "assistant", "tool_calls": []}), "write its text"),
    ("content_not_text", answered(content=7), "write it as text"),
    ("content_not_text", answered(content={"text": "a"}), "write it as text"),
    ("empty_content", answered(content=""), "write some text"),
    ("empty_content", asked(content=[]), "write some text"),
    ("content_part_not_text", asked(content=[{"type": "image_url", "image_url": {"url": "x"}}]), "remove the example"),
    ("content_part_not_text", asked(content=[{"type": "input_audio"}]), "remove the example"),
    ("invalid_content_part", asked(content=["a"]), 'write {"type"'),
    ("invalid_content_part", asked(content=[{"type": "text"}]), 'write {"type"'),
    ("first_message_not_user", chat(ANSWER, USER, ANSWER), "begin with a user message"),
    ("system_message_not_first", chat(USER, {"role": "system", "content": "a"}, ANSWER), "put it first"),
    ("no_assistant_message", chat(USER), "add the answer"),
    ("last_message_not_assistant", chat(USER, ANSWER, USER), "end with the assistant's answer"),
    ("nothing_to_learn", answered(weight=0), "give one the weight 1"),
    ("invalid_weight", answered(weight=2), "write 0 or 1"),
    ("invalid_weight", answered(weight=0.5), "write 0 or 1"),
    ("invalid_weight", answered(weight=True), "write 0 or 1"),
    ("invalid_name", asked(name=5), "write it as text"),
    ("invalid_tool_calls", answered(tool_calls="f()"), "write a list of"),
    ("invalid_tool_calls", calling(type="retrieval"), "only 'function'"),
    ("invalid_function_name", calling(function={"name": "", "arguments": "{}"}), "write its name"),
    ("arguments_not_json", calling(function={"name": "f", "arguments": "{q"}), "write them as"),
    ("arguments_not_json", calling(function={"name": "f", "arguments": "[]"}), "write them as"),
    ("tool_call_id_twice", chat(USER, {**CALLING, "tool_calls": [CALL, CALL]}), "give each its own"),
    ("tool_calls_not_assistant", asked(tool_calls=[CALL]), "remove them"),
    ("missing_tool_call_id", chat(USER, {"role": "tool", "content": "a"}, ANSWER), "write the id"),
    ("unknown_tool_call_id", calling(id="c2"), "correct its id"),
    ("unknown_tool_call_id", chat(USER, CALLING, RESULT, RESULT, ANSWER), "correct its id"),
    ("tool_call_not_answered", chat(USER, CALLING, USER, ANSWER), "add a tool message"),
    ("invalid_tools", chat(USER, ANSWER, tools={}), "write a list of"),
    ("invalid_tools", chat(USER, ANSWER, tools=[{"type": "web_search"}]), "write a list of"),
    ("invalid_function_name", chat(USER, ANSWER, tools=[{"type": "function", "function": {}}]), "write its name"),
    ("tool_twice", chat(USER, ANSWER, tools=[TOOL, TOOL]), "remove one"),
    (
        "invalid_tool_parameters",
        chat(USER, ANSWER, tools=[{"type": "function", "function": {"name": "f", "parameters": "x"}}]),
        "write an object",
    ),
    ("invalid_parallel_tool_calls", chat(USER, ANSWER, tools=[TOOL], parallel_tool_calls="yes"), "write one"),
    ("missing_prompt", {"completion": "a"}, "write both"),
    ("missing_completion", {"prompt": "a"}, "write both"),
    ("prompt_not_text", {"prompt": [1], "completion": "a"}, "write it as text"),
    ("completion_not_text", {"prompt": "a", "completion": None}, "write it as text"),
    ("empty_prompt", {"prompt": "", "completion": "a"}, "write some text"),
    ("empty_completion", {"prompt": "a", "completion": ""}, "write some text"),
    ("wrong_method", PAIR, "create the job with the method 'dpo'"),
    ("wrong_method", {"chosen": [USER, ANSWER], "rejected": [USER, WORSE]}, "create the job with the method 'dpo'"),
    ("wrong_method", chat(USER, ANSWER, chosen=[ANSWER], rejected=[WORSE]), "create the job with the method 'dpo'"),
    ("wrong_method", {"prompt": "a", "completion": "b", "label": False}, "create the job with the method 'kto'"),
    ("wrong_method", chat(USER, ANSWER, label=True), "create the job with the method 'kto'"),
    ("wrong_method", {"instruction": "a", "output": "b", "kto_tag": False}, "create the job with the method 'kto'"),
    ("unknown_key", answered(refusal="I cannot."), "remove the example"),
    ("unknown_key", asked(images=["a.png"]), "remove the example"),
    ("unknown_key", chat(USER, ANSWER, context="Peru is a country."), "remove the example"),
    ("unknown_key", chat(USER, ANSWER, completion="Lima!"), "remove the example"),
    ("reasoning_not_assistant", asked(reasoning="hm"), "remove it"),
    ("two_reasonings", answered(reasoning="hm", thinking="ah"), "remove one"),
]
BAD_PAIRS: list[tuple[str, Any, str]] = [
    ("wrong_method", chat(USER, ANSWER), "create the job with the method 'supervised'"),
    ("missing_input", pair(input="nothing"), "write {"),
    ("input_not_an_object", pair(input=[USER]), "write it as"),
    ("missing_messages", pair(input={}), "write {"),
    ("input_not_a_question", pair(input=chat(USER, ANSWER)), "end with what"),
    ("missing_preferred_completion", pair(preferred_output="nothing"), "write the assistant's messages"),
    ("missing_non_preferred_completion", pair(non_preferred_output="nothing"), "write the assistant's messages"),
    ("not_one_answer", pair(preferred_output=[]), "write the assistant's messages"),
    ("not_one_answer", pair(preferred_output=7), "write the assistant's messages"),
    ("wrong_method", LABELLED, "create the job with the method 'kto'"),
    ("wrong_method", {"prompt": "a", "completion": "b"}, "create the job with the method 'supervised'"),
    ("answer_not_assistant", pair(preferred_output=[USER]), "end with the answer"),
    ("answer_not_assistant", pair(preferred_output=[RETORT, ANSWER]), "begin it with what the assistant says"),
    ("weight_not_allowed", pair(preferred_output=[{**ANSWER, "weight": 0}]), "leave the example out"),
    ("unknown_key", pair(preferred_output=[{**ANSWER, "refusal": "I cannot."}]), "remove the example"),
    ("equal_pair", pair(non_preferred_output=[ANSWER]), "change one"),
]
BAD_LABELS: list[tuple[str, Any, str]] = [
    ("wrong_method", chat(USER, ANSWER), "create the job with the method 'supervised'"),
    ("wrong_method", {"prompt": "a", "completion": "b"}, "create the job with the method 'supervised'"),
    ("wrong_method", PAIR, "create the job with the method 'dpo'"),
    ("invalid_label", {**LABELLED, "label": "good"}, "write true for a thumb up"),
    ("invalid_label", {**LABELLED, "label": None}, "write true for a thumb up"),
    ("missing_completion", {"prompt": "a", "label": True}, "write both"),
    ("answer_not_assistant", {**LABELLED, "completion": [USER]}, "end with the answer"),
    ("input_not_a_question", {**LABELLED, "prompt": [USER, ANSWER]}, "end with what"),
    ("empty_completion", {"prompt": "a", "completion": "", "label": True}, "write some text"),
]


def test_there_are_many_kinds() -> None:
    assert len({code for code, _, _ in BAD + BAD_PAIRS + BAD_LABELS}) >= 45


@pytest.mark.parametrize(("code", "line", "cure"), BAD)
def test_it_rejects_a_bad_line(code: str, line: Any, cure: str) -> None:
    assert_refused(line, "sft", code, cure)


@pytest.mark.parametrize(("code", "line", "cure"), BAD_PAIRS)
def test_it_rejects_a_bad_pair(code: str, line: Any, cure: str) -> None:
    assert_refused(line, "dpo", code, cure)


@pytest.mark.parametrize(("code", "line", "cure"), BAD_LABELS)
def test_it_rejects_a_bad_label(code: str, line: Any, cure: str) -> None:
    assert_refused(line, "kto", code, cure)


def assert_refused(line: Any, method: Method, code: str, cure: str) -> None:
    """With a sentence that says what is wrong and, after a colon or a comma, what to do."""
    with pytest.raises(RowError) as caught:
        check(raw(line), method)
    said = str(caught.value)
    assert caught.value.code == code
    assert cure in said
    assert said.index(cure) > 10
    assert said[0].isupper() or said.startswith(("messages[", "preferred_output["))
    assert said.endswith((".", "}."))
    assert len(said) < 260


def read(content: bytes, *, method: Method = "sft", least: int = 1, **limits: int) -> tuple[int, list[Any]]:
    """How many good rows, and (line, code) of the errors."""
    reader = Reader(io.BytesIO(content), method, Limits(**{"rows": 1000, "line_bytes": 1000, **limits}, least=least))
    rows = list(reader.rows())
    good, errors = ([row for row in rows if isinstance(row, LineError) == bad] for bad in (False, True))
    assert errors[:MAX_ERRORS] == reader.errors
    assert sum(error.line is not None for error in errors if isinstance(error, LineError)) == reader.bad
    assert all(error.message.endswith(".") for error in reader.errors)
    return len(good), [(error.line, error.code) for error in reader.errors]


GOOD = raw(chat(USER, ANSWER)) + b"\n"


def test_lines_are_numbered_as_an_editor_does() -> None:
    assert read(GOOD + b"\n  \r\n{\n" + GOOD.replace(b"\n", b"\r\n") + b"[]") == (
        2,
        [(4, "invalid_json"), (6, "not_an_object")],
    )


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\x1f\x8b", b"PK\x03\x04", b"PAR1"])
def test_it_rejects_a_file_that_is_no_plain_utf8(mark: bytes) -> None:
    assert read(mark + GOOD * 20) == (0, [(1, "wrong_encoding")])


def test_it_rejects_a_line_that_is_too_long_and_reads_on() -> None:
    long = raw(answered(content="x" * 5_000_000)) + b"\n"
    assert read(GOOD + long + GOOD) == (2, [(2, "line_too_long")])


def test_it_rejects_two_shapes_in_a_file() -> None:
    other = raw({"prompt": "a", "completion": "b"}) + b"\n"
    assert read(GOOD + other + GOOD) == (2, [(2, "mixed_shapes")])


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_it_rejects_an_empty_file(content: bytes) -> None:
    assert read(content) == (0, [(None, "empty_file")])


def test_it_rejects_too_few_examples() -> None:
    assert read(GOOD * 9, least=10) == (9, [(None, "too_few_rows")])
    assert read(GOOD * 10, least=10) == (10, [])


def test_it_rejects_too_many_examples() -> None:
    assert read(GOOD * 5 + b"{\n", rows=3) == (3, [(4, "too_many_rows")])


def test_a_hundred_errors_are_kept_and_all_are_told() -> None:
    good, errors = read(b"{\n" * 500 + GOOD)
    assert (good, len(errors), errors[-1]) == (1, MAX_ERRORS, (100, "invalid_json"))
