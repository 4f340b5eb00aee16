"""Chat templates are programs that come with a model: each is compiled and rendered here before an engine does.

Run as a script, this file is the child that does it, with limits on time and memory: a template on standard input as
JSON, and on standard output what `Trial` holds. The conversations are those that people send.
"""

import functools
import io
import json
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jinja2 import TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 3  # of which importing takes a part
WALL_SECONDS = 30
MEMORY_BYTES = 512 * 1024**2
MAX_TEMPLATE_CHARACTERS = 500_000
MAX_OUTPUT_CHARACTERS = 1_000_000
MAX_REASON_CHARACTERS = 200

TOO_MUCH = "It takes more time or memory than a chat template may: the engine would stand still."
SPECIAL = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "")

USER = {"role": "user", "content": "Hello"}
SYSTEM = {"role": "system", "content": "Be brief."}
ASSISTANT = {"role": "assistant", "content": "Hi"}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"id": "callabc12", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "callabc12", "name": "weather", "content": "Sunny"}

# Kind -> messages and tools, as vLLM hands them to a template. The first is what every model for chat must take.
CONVERSATIONS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None]] = {
    "user": ([USER], None),
    "system": ([SYSTEM, USER], None),
    "turns": ([USER, ASSISTANT, USER], None),
    "system and turns": ([SYSTEM, USER, ASSISTANT, USER], None),
    "two user messages in a row": ([USER, USER], None),
    "an empty message": ([{"role": "user", "content": ""}], None),
    "tools": ([USER], [TOOL]),
    "tool results": ([USER, CALLING, RESULT], [TOOL]),
}
PLAIN = "user"
ANSWER = "An-answer-that-no-template-holds"


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of a template."""

    verdict: str | None = None
    """Why no engine may load it; None when it is harmless."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Kind of conversation -> what the template says instead of rendering it."""
    end: str = ""
    """What it writes after an answer, without the tokenizer's own eos_token."""


def judge_templates(templates: Sequence[str]) -> list[str | None]:
    """For each template None, or what is wrong with it."""
    return [try_template(template).verdict for template in templates]


@functools.lru_cache(maxsize=32)
def try_template(template: str) -> Trial:
    """The same for the same text, so it is remembered."""
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        return Trial(f"It has more than {MAX_TEMPLATE_CHARACTERS:,} characters.")
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__], input=json.dumps(template), capture_output=True, text=True,
            timeout=WALL_SECONDS, env={}, check=False,
        )  # fmt: skip
        found = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):  # killed: it never came to a verdict
        return Trial(TOO_MUCH)
    return Trial(found["verdict"], found["refused"], found["end"])


class _Changes(Exception):
    """A template changes a list or an object, which engines forbid as well: that conversation is refused, no more."""


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's own lets a template reach for what is unsafe as long as it does nothing with it."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        if isinstance(obj, (list, dict)) and not attribute.startswith("_"):
            raise _Changes(f"{attribute!r} would change a {type(obj).__name__}")
        raise SecurityError(f"{attribute!r} of a {type(obj).__name__}")


class _TemplateRaised(Exception):
    """The template refuses a conversation: some have no place for a system message."""


class _Generation(Extension):
    """`{% generation %}`, by which trainers find an assistant's words; it renders what it encloses."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """What `transformers` gives to templates, and nothing else. To be used in a child with limits only."""
    made = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def try_here(template: str) -> dict[str, Any]:
    """What `Trial` holds, without limits on time and memory."""
    try:
        compiled = environment().from_string(template)
    except TemplateSyntaxError as error:
        return {
            "verdict": f"It is not a valid template: line {error.lineno}: {error.message}",
            "refused": {},
            "end": "",
        }
    refused: dict[str, str] = {}
    parts = False  # an engine gives messages in parts to a template that looks for them
    for kind, (messages, tools) in CONVERSATIONS.items():
        verdict, reason = _render(compiled, _in_parts(messages) if parts else messages, tools)
        if reason and kind == PLAIN:
            verdict, in_parts = _render(compiled, _in_parts(messages), tools)
            parts = not in_parts
            reason = in_parts and reason
        if verdict:
            return {"verdict": verdict, "refused": {}, "end": ""}
        if reason:
            refused[kind] = reason
    return {"verdict": None, "refused": refused, "end": _end(compiled)}


def _end(compiled: Any) -> str:
    """What follows an answer; empty for a template that does not show it, or nothing after it."""
    messages = [USER, ASSISTANT | {"content": ANSWER}]
    for told in (messages, _in_parts(messages)):
        text = io.StringIO()
        with suppress(Exception):  # what it refuses was said of the same conversation above
            for piece in compiled.generate(
                messages=told, tools=None, documents=None, add_generation_prompt=False, **SPECIAL
            ):
                text.write(piece)
                if text.tell() > MAX_OUTPUT_CHARACTERS:
                    return ""
        _, found, end = text.getvalue().rpartition(ANSWER)
        if found:
            return end[:MAX_REASON_CHARACTERS]
    return ""


def _render(
    compiled: Any, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None
) -> tuple[str | None, str]:
    """Why it is not admitted at all; else why it does not render this conversation, empty when it does."""
    length = 0
    try:
        for piece in compiled.generate(
            messages=messages, tools=tools, documents=None, add_generation_prompt=True, **SPECIAL
        ):
            length += len(piece)
            if length > MAX_OUTPUT_CHARACTERS:
                return TOO_MUCH, ""
    except SecurityError as error:
        return f"It reaches for what a template may not touch: {error}", ""
    except (MemoryError, OverflowError, RecursionError):
        return TOO_MUCH, ""
    except Exception as error:  # it wants other messages or variables than these: its users have to know, no more
        return None, (str(error) or type(error).__name__)[:MAX_REASON_CHARACTERS]
    return None, ""


def _in_parts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [message | {"content": [{"type": "text", "text": message["content"]}]} for message in messages]


def _raise(message: str) -> None:
    raise _TemplateRaised(message)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    json.dump(try_here(json.load(sys.stdin)), sys.stdout)
