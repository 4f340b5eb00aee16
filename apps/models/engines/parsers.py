"""How a model writes calls of tools and its thinking, by its family: which of vLLM's parsers reads them.

A family is known by its `model_type` and by marks in its chat template and vocabulary, which fine-tuned models keep.
Names are those of vLLM 0.32; a test compares them with the installed one.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from apps.models.engines.settings import EngineSettings

THINK = "<think>"
LARGEST = 64 * 1024 * 1024  # bytes of a tokenizer.json that is looked through

TOOLS: tuple[tuple[str, str, str], ...] = (
    ("gpt_oss", "<|channel|>", "openai"),
    ("", "<|tool_calls_section_begin|>", "kimi_k2"),
    ("", "<minimax:tool_call>", "minimax_m2"),
    ("", "<arg_key>", "glm45"),
    ("", "<start_function_call>", "functiongemma"),
    ("gemma4", "<|tool_call>", "gemma4"),
    ("", "<seed:tool_call>", "seed_oss"),
    ("", "<longcat_tool_call>", "longcat"),
    ("deepseek", "<\uff5cDSML\uff5c", "deepseek_v32"),
    ("deepseek", "<\uff5ctool▁calls▁begin\uff5c>", "deepseek_v3"),
    ("", "<function=", "qwen3_coder"),
    ("llama4", "<|python_start|>", "llama4_pythonic"),
    ("", "<|python_tag|>", "llama3_json"),
    ("llama", '"parameters": dictionary of argument', "llama3_json"),
    ("", "[TOOL_CALLS]", "mistral"),
    ("granite", "<|tool_call|>", "granite"),
    ("phi", "<|tool|>", "phi4_mini_json"),
    ("jamba", "<tool_calls>", "jamba"),
    ("internlm", "<|action_start|>", "internlm"),
    ("hunyuan", "<tool_calls>", "hunyuan_a13b"),
    ("olmo3", "<function_calls>", "olmo3"),
    ("", "<tool_call>", "hermes"),
)  # fmt: skip
"""The beginning of `model_type` ("": any), a mark in the chat template, vLLM's parser: the first that fits."""

REASONING: tuple[tuple[str, str, str], ...] = (
    ("gpt_oss", "<|channel|>", "openai_gptoss"),
    ("qwen3", "<think>", "qwen3"),
    ("glm4_moe", "<think>", "glm45"),
    ("deepseek", "<think>", "deepseek_r1"),
    ("qwen2", "<think>", "deepseek_r1"),
    ("llama", "<think>", "deepseek_r1"),
)
"""The beginning of `model_type`, a mark in the chat template and the vocabulary, vLLM's parser of thinking."""


def with_parsers(settings: EngineSettings, model: Path) -> EngineSettings:
    """The settings with the parsers of the model's family, where none were chosen. Reads the model's folder."""
    kind, template = _model_type(model), settings.chat_template or _template(model)
    tools, thinking = settings.tool_call_parser, settings.reasoning_parser
    if tools is None and "tools" in template:
        tools = _first(TOOLS, kind, template)
    if thinking is None and (THINK not in template or _in_vocabulary(model, THINK)):
        thinking = _first(REASONING, kind, template)
    return msgspec.structs.replace(settings, tool_call_parser=tools, reasoning_parser=thinking)


def reads_tool_calls(settings: EngineSettings, model: Path) -> bool:
    """Whether an engine with these settings takes requests with tools. True, too, where no template can be read."""
    if settings.tool_call_parser:
        return settings.tool_call_parser != "none"
    template = settings.chat_template or _template(model)
    return not template or ("tools" in template and _first(TOOLS, _model_type(model), template) is not None)


def _first(families: tuple[tuple[str, str, str], ...], kind: str, template: str) -> Any:
    return next((name for begin, mark, name in families if kind.startswith(begin) and mark in template), None)


def _in_vocabulary(model: Path, mark: str) -> bool:
    """vLLM does not start where the parser's marks are no tokens of their own."""
    tokenizer = model / "tokenizer.json"
    try:
        if tokenizer.stat().st_size > LARGEST:
            return False
        return json.dumps(mark).encode() in tokenizer.read_bytes()
    except OSError:
        return False


def _model_type(model: Path) -> str:
    return str(_read(model / "config.json").get("model_type") or "")


def _template(model: Path) -> str:
    """The chat template, from either place that models keep it in; of several, all."""
    for name in ("chat_template.jinja", "chat_template.json"):
        try:
            return (model / name).read_text(errors="replace")
        except OSError:
            continue
    found = _read(model / "tokenizer_config.json").get("chat_template") or ""
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
