"""The parser of tool calls and of thinking follows the model's family."""

import json
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from django.conf import settings as site

from apps.models.engines import parsers
from apps.models.engines.command import command
from apps.models.engines.settings import EngineSettings, ReasoningParser, ToolParser
from tests.models.test_engine_command import make_spec

QWEN3 = "{%- if tools %}<tools></tools>{% endif %}{{ '<tool_call>' }}{{ '<think>' }}"


def folder(at: Path, kind: str, template: str, *, vocabulary: tuple[str, ...] = (), jinja: bool = False) -> Path:
    (at / "config.json").write_text(json.dumps({"model_type": kind}))
    if jinja:
        (at / "chat_template.jinja").write_text(template)
    else:
        (at / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    (at / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"content": word} for word in vocabulary]}))
    return at


@pytest.mark.parametrize("jinja", [True, False])
def test_it_works(tmp_path: Path, jinja: bool) -> None:
    found = parsers.with_parsers(
        EngineSettings(), folder(tmp_path, "qwen3", QWEN3, vocabulary=("<think>", "</think>"), jinja=jinja)
    )
    assert (found.tool_call_parser, found.reasoning_parser) == ("hermes", "qwen3")
    arguments = command(make_spec(settings=found))
    assert "--enable-auto-tool-choice" in arguments
    assert arguments[arguments.index("--reasoning-parser") + 1] == "qwen3"


@pytest.mark.parametrize(
    ("kind", "template", "wanted"),
    [
        ("qwen2", "{% if tools %}<tool_call>{% endif %}", "hermes"),
        ("qwen3_moe", "{% if tools %}<tool_call><function=x>{% endif %}", "qwen3_coder"),
        ("mistral", "{% if tools %}[TOOL_CALLS]{% endif %}", "mistral"),
        ("llama", "{% if tools %}<|python_tag|>{% endif %}", "llama3_json"),
        ("deepseek_v3", "{% if tools %}<\uff5ctool▁calls▁begin\uff5c>{% endif %}", "deepseek_v3"),
        ("kimi_k2", "{% if tools %}<|tool_calls_section_begin|>{% endif %}", "kimi_k2"),
        ("glm4_moe", "{% if tools %}<tool_call><arg_key>{% endif %}", "glm45"),
        ("gpt_oss", "{% if tools %}<|channel|>{% endif %}", "openai"),
        ("llama", "{{ messages }}", None),
        ("llama", "{% if tools %}{{ tools }}{% endif %}", None),
    ],
)
def test_families_are_known_by_their_template(tmp_path: Path, kind: str, template: str, wanted: str | None) -> None:
    assert parsers.with_parsers(EngineSettings(), folder(tmp_path, kind, template)).tool_call_parser == wanted


def test_what_was_chosen_stays(tmp_path: Path) -> None:
    model = folder(tmp_path, "qwen3", QWEN3, vocabulary=("<think>",))
    chosen = EngineSettings(tool_call_parser="none", reasoning_parser="none")
    assert parsers.with_parsers(chosen, model) == chosen
    arguments = command(make_spec(settings=chosen))
    assert not {"--tool-call-parser", "--reasoning-parser", "--enable-auto-tool-choice"} & set(arguments)


def test_no_parser_is_chosen_whose_marks_are_no_tokens(tmp_path: Path) -> None:
    assert parsers.with_parsers(EngineSettings(), folder(tmp_path, "qwen3", QWEN3)).reasoning_parser is None


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"model_type": 5, "chat_template": 5}'])
def test_broken_files_choose_nothing(tmp_path: Path, content: bytes) -> None:
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes(content)
    assert parsers.with_parsers(EngineSettings(), tmp_path) == EngineSettings()


def test_json_by_a_schema_is_compact_unless_a_model_s_settings_say_otherwise() -> None:
    arguments = command(make_spec())
    config = json.loads(arguments[arguments.index("--structured-outputs-config") + 1])
    assert config == {"backend": "xgrammar", "disable_any_whitespace": True}
    assert "--structured-outputs-config" not in command(make_spec(settings=EngineSettings(json_whitespace=True)))
    assert "--structured-outputs-config" not in command(make_spec(runner="pooling"))


def test_calls_of_tools_are_bound_as_vllm_does_unless_a_model_s_settings_say_otherwise() -> None:
    assert "--tool-strict-level" not in command(make_spec(settings=EngineSettings(tool_call_parser="hermes")))
    strict = EngineSettings(tool_call_parser="hermes", tool_strict_level="parameter")
    arguments = command(make_spec(settings=strict))
    assert arguments[arguments.index("--tool-strict-level") + 1] == "parameter"


@pytest.mark.engine
def test_every_parser_is_vllm_s() -> None:
    script = (
        "import json\nfrom vllm.tool_parsers import ToolParserManager as t\n"
        "from vllm.reasoning import ReasoningParserManager as r\n"
        "print(json.dumps([t.list_registered(), r.list_registered()]))"
    )
    done = subprocess.run([str(site.ENGINE_PYTHON), "-c", script], capture_output=True, text=True, check=True)
    tools, thinking = (set(names) | {"none"} for names in json.loads(done.stdout.strip().splitlines()[-1]))
    assert set(_choices(ToolParser)) <= tools
    assert set(_choices(ReasoningParser)) <= thinking
    assert {name for *_, name in parsers.TOOLS} <= set(_choices(ToolParser))
    assert {name for *_, name in parsers.REASONING} <= set(_choices(ReasoningParser))


def _choices(annotated: Any) -> tuple[str, ...]:
    return get_args(get_args(annotated)[0])
