"""Chat templates are programs that come with a model: each is compiled and rendered here before an engine does.

Run as a script, this file is the child that does it, with limits on time and memory: a JSON list of templates on
standard input, a JSON list of verdicts (null or a sentence) on standard output.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateSyntaxError, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 2  # of which importing takes a part
WALL_SECONDS = 20
MEMORY_BYTES = 512 * 1024**2
MAX_TEMPLATE_CHARACTERS = 500_000
MAX_OUTPUT_CHARACTERS = 1_000_000

TOO_MUCH = "It takes more time or memory than a chat template may: the engine would stand still."
CONVERSATIONS = (
    [{"role": "user", "content": "Hello"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Bye"},
    ],
)


def judge_templates(templates: Sequence[str]) -> list[str | None]:
    """For each template None, or what is wrong with it."""
    return [_judge(template) for template in templates]


def _judge(template: str) -> str | None:
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        return f"It has more than {MAX_TEMPLATE_CHARACTERS:,} characters."
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__], input=json.dumps(template), capture_output=True, text=True,
            timeout=WALL_SECONDS, env={}, check=False,
        )  # fmt: skip
        verdict: str | None = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):  # killed: it never came to a verdict
        return TOO_MUCH
    return verdict


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's own lets a template reach for what is unsafe as long as it does nothing with it."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
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


def _try(template: str) -> str | None:
    try:
        compiled = environment().from_string(template)
    except TemplateSyntaxError as error:
        return f"It is not a valid template: line {error.lineno}: {error.message}"
    for conversation in CONVERSATIONS:
        if verdict := _render(compiled, conversation):
            return verdict
    return None


def _render(compiled: Any, conversation: list[dict[str, str]]) -> str | None:
    length = 0
    try:
        for piece in compiled.generate(messages=conversation, add_generation_prompt=True, bos_token="", eos_token=""):
            length += len(piece)
            if length > MAX_OUTPUT_CHARACTERS:
                return TOO_MUCH
    except SecurityError as error:
        return f"It reaches for what a template may not touch: {error}"
    except (MemoryError, OverflowError, RecursionError):
        return TOO_MUCH
    except Exception:
        return None  # it wants other messages or variables than ours: that is between it and its users
    return None


def _raise(message: str) -> None:
    raise _TemplateRaised(message)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    json.dump(_try(json.load(sys.stdin)), sys.stdout)
