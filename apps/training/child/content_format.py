"""Whether a chat template wants a message's content as text or as a list of parts, as vLLM finds out (0.32 and 0.33).

It looks at the template's program: one that loops over the contents of messages gets {"type": "text", "text": …}
parts, any other gets text.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from jinja2 import Environment, TemplateError, nodes

ContentFormat = Literal["string", "openai"]

MESSAGES, CONTENT = "messages", "content"


class _NotUnderstood(Exception):
    """vLLM gives up here, and takes text."""


@lru_cache(maxsize=8)
def content_format(template: str, environment: Environment) -> ContentFormat:
    try:
        program = environment.parse(template)
        return "openai" if any(_loops_over_content(program)) else "string"
    except (TemplateError, _NotUnderstood):
        return "string"


def _loops_over_content(program: nodes.Template) -> Iterator[bool]:
    """For every loop, whether it goes through the parts of a message."""
    messages = set(_loop_variables(program))
    given = _parameters_with_content(program, messages)
    inside = {id(loop) for macro in program.find_all(nodes.Macro) for loop in macro.find_all(nodes.For)}
    for loop in program.find_all(nodes.For):
        name = loop.iter.name if isinstance(loop.iter, nodes.Name) else ""
        own = any(_is(loop.iter, message, CONTENT) for message in messages)
        passed = bool(name) and name in given.get(id(loop), ())
        found = own or passed or (name == CONTENT and id(loop) not in inside)
        if found:
            _name_of(loop.target)
        yield found


def _loop_variables(program: nodes.Template) -> Iterator[str]:
    """The names that stand for a message in some loop."""
    lists = _names_of_messages(program)
    for loop in program.find_all(nodes.For):
        if any(_is(loop.iter, name) for name in lists):
            yield _name_of(loop.target)


def _names_of_messages(program: nodes.Template) -> list[str]:
    """`messages`, and what it or a part of it is assigned to."""
    names = [MESSAGES]
    for name in names:  # grows while it is read
        for assignment in program.find_all(nodes.Assign):
            if _is(assignment.node, name) and (other := _name_of(assignment.target)) not in names:
                names.append(other)
    return names


def _parameters_with_content(program: nodes.Template, messages: set[str]) -> dict[int, set[str]]:
    """For each loop in a macro: the macro's parameters that are a message's content in some call."""
    found: dict[int, set[str]] = {}
    calls = [call for call in program.find_all(nodes.Call) if isinstance(call.node, nodes.Name)]
    for macro in program.find_all(nodes.Macro):
        names = [argument.name for argument in macro.args]
        passed = {
            name
            for call in calls
            if isinstance(call.node, nodes.Name) and call.node.name == macro.name
            for name, value in [*zip(names, call.args, strict=False), *((word.key, word.value) for word in call.kwargs)]
            if name in names and any(_is(value, message, CONTENT) for message in messages)
        }
        if passed:
            found |= {id(loop): passed for loop in macro.find_all(nodes.For)}
    return found


def _is(node: nodes.Node | None, name: str, key: str = "") -> bool:
    """Whether it is the variable, or its `key`: filtered, tested or sliced as may be."""
    while isinstance(node, (nodes.Filter, nodes.Test)) or (
        isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
    ):
        node = node.node
    if not key:
        return isinstance(node, nodes.Name) and node.ctx == "load" and node.name == name
    if isinstance(node, nodes.Getattr):
        return node.attr == key and _is_plain(node.node, name)
    at = node.arg if isinstance(node, nodes.Getitem) else None
    return (
        isinstance(at, nodes.Const)
        and at.value == key
        and isinstance(node, nodes.Getitem)
        and _is_plain(node.node, name)
    )


def _is_plain(node: nodes.Node, name: str) -> bool:
    return isinstance(node, nodes.Name) and node.ctx == "load" and node.name == name


def _name_of(target: nodes.Node) -> str:
    if not isinstance(target, nodes.Name):
        raise _NotUnderstood
    return target.name
