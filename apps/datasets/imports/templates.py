"""Maps the columns of a row to an example by templates: a small part of Jinja that can neither call nor count.

What a template may hold is a list of what is allowed, checked before anything of it runs: names, items, a few filters,
if and else. Values have no attributes, only items. What it writes is bounded as it is written.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jinja2 import TemplateError, Undefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from apps.conversations.codecs.fields import asked, assistant, tags_of, user
from apps.conversations.conversation import Conversation
from apps.conversations.errors import RowError
from apps.core.errors import DomainError

FIELDS = ("prompt", "system", "reference", "rejected", "key", "tags")
MEANINGS = {
    "prompt": "question", "system": "system message", "reference": "chosen answer", "rejected": "rejected answer",
    "key": "key", "tags": "tags",
}  # fmt: skip
"""What a field becomes, in the words of the formats (`Codec.columns`)."""
GUESSES = {
    "prompt": ("prompt", "question", "instruction", "input", "query", "text"),
    "system": ("system", "system_prompt"),
    "reference": ("reference", "answer", "output", "response", "completion", "target", "expected"),
    "rejected": ("rejected",),
    "key": ("custom_id", "id", "key", "uuid"),
    "tags": ("tags",),
}
"""Which column a field is, unless a mapping says otherwise."""

MAX_SOURCE = 4_000  # characters
MAX_FILTERS = 20
MAX_NODES = 400
ROW = "row"  # the name under which a template finds the whole row: {{ row["a column with spaces"] }}

ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem,
    nodes.Filter, nodes.Test, nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
)  # fmt: skip
ALLOWED_WORDS = "A template may hold columns, filters, comparisons, if and else"
RESERVED = {"self", "super", "loop", "caller", "varargs", "kwargs"}  # Jinja's own; a column of that name is row["self"]
TESTS = {
    "defined": lambda value: not isinstance(value, Undefined),
    "undefined": lambda value: isinstance(value, Undefined),
    "none": lambda value: value is None,
    "string": lambda value: isinstance(value, str),
}


class Mapper:
    """Templates, checked: a row in, a conversation out."""

    def __init__(self, mapping: Mapping[str, str], *, columns: list[str], max_bytes: int) -> None:
        """Raises `DomainError`, with `mapping` as its param, for a template that is not allowed or names no column."""
        for field in mapping:
            if field not in FIELDS:
                raise _refused(f"There is no field {field[:40]!r} to map; choose from {', '.join(FIELDS)}.")
        self._limit = max_bytes
        chosen = {field: source for field, source in mapping.items() if source.strip()}
        if "prompt" not in chosen:
            raise _refused("Say what the prompt is: a template such as {{ question }}.")
        environment = _Environment(max_bytes)
        self._templates = {field: _compiled(environment, field, source, columns) for field, source in chosen.items()}
        self.uses = _uses({field: environment.parse(source) for field, source in chosen.items()}, columns)
        """The columns that the templates name, with what each becomes."""

    def read(self, values: Mapping[str, Any], unused: set[str]) -> Conversation:
        """`unused` says which tags cannot be kept. Raises `RowError`."""
        texts = {field: self._render(field, values) for field in self._templates}
        system = texts.get("system", "")
        return asked(
            Conversation(
                messages=user(texts["prompt"], system if system.strip() else ""),
                chosen=assistant(texts.get("reference", "")),
                rejected=assistant(texts.get("rejected", "")),
                key=texts.get("key", "").strip(),
                tags=tags_of(texts.get("tags"), unused),
            )
        )

    def _render(self, field: str, values: Mapping[str, Any]) -> str:
        pieces: list[str] = []
        size = 0
        try:
            for piece in self._templates[field].generate({**values, ROW: values.get(ROW, values)}):
                size += len(piece)
                if size > self._limit:
                    raise RowError(f"{field!r} becomes longer than {self._limit:,} characters.")
                pieces.append(piece)
        except (TemplateError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise RowError(f"The template of {field!r} cannot be used for this row: {error}") from error
        return "".join(pieces)


def guess(columns: list[str]) -> dict[str, str]:
    """A template for each field that a column is named after. Without a prompt among them, there is no guess."""
    by_name = {column.lower(): column for column in reversed(columns)}
    found: dict[str, str] = {}
    for field, names in GUESSES.items():
        column = next((by_name[name] for name in names if name in by_name), None)
        if column is not None:
            found[field] = f"{{{{ {column} }}}}" if column.isidentifier() else f"{{{{ {ROW}[{json.dumps(column)}] }}}}"
    return found


def _compiled(environment: "_Environment", field: str, source: str, columns: list[str]) -> Any:
    if len(source) > MAX_SOURCE:
        raise _refused(f"The template of {field!r} has more than {MAX_SOURCE:,} characters.")
    try:
        _check(environment.parse(source), field, columns)
        return environment.from_string(source)
    except DomainError:
        raise  # it is a ValueError too
    except TemplateError as error:
        raise _refused(f"The template of {field!r} cannot be read: {error}.") from error
    except (RecursionError, ValueError, SyntaxError, MemoryError) as error:
        raise _refused(f"The template of {field!r} cannot be read.") from error


def _check(tree: nodes.Template, field: str, columns: list[str]) -> None:
    filters = 0
    for count, node in enumerate(_walk(tree)):
        if not isinstance(node, ALLOWED):
            kind = type(node).__name__.lower()
            raise _refused(f"{ALLOWED_WORDS}; the one of {field!r} holds '{kind}' in line {node.lineno}.")
        filters += isinstance(node, nodes.Filter)
        if filters > MAX_FILTERS or count > MAX_NODES:
            raise _refused(f"The template of {field!r} is too long: use fewer parts and filters.")
        _check_node(node, field, columns)


def _uses(trees: Mapping[str, nodes.Template], columns: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for field, tree in trees.items():
        for column in dict.fromkeys(_columns_in(tree, columns)):
            found.setdefault(column, []).append(MEANINGS[field])
    return {column: ", ".join(meanings) for column, meanings in found.items()}


def _columns_in(node: nodes.Node, columns: list[str]) -> Iterator[str]:
    """The columns that a template names; the whole row is all of them."""
    if _is_row(getattr(node, "node", None), columns) and (column := _name(node)) is not None:
        yield column
        return
    if isinstance(node, nodes.Name):
        yield from columns if _is_row(node, columns) else [node.name]
    for child in node.iter_child_nodes():
        yield from _columns_in(child, columns)


def _is_row(node: Any, columns: list[str]) -> bool:
    return isinstance(node, nodes.Name) and node.name == ROW and ROW not in columns


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    """Every part, parents first, so that what holds a part is refused before it."""
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


def _check_node(node: nodes.Node, field: str, columns: list[str]) -> None:
    name = _name(node)
    if name is not None and name.startswith("_"):
        raise _refused(f"Names must not start with an underscore, as {name[:40]!r} does.")
    if isinstance(node, nodes.Name) and (node.name in RESERVED or node.name not in {*columns, ROW}):
        known = ", ".join(columns[:20])
        raise _refused(f"There is no column {node.name[:40]!r} for {field!r}; the file has: {known}.")
    if isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Const):
        raise _refused("An item is named by a text or a number, as in row['question'].")
    if isinstance(node, nodes.Filter):
        if node.name not in FILTERS:
            raise _refused(f"There is no filter {node.name[:40]!r}; choose from {', '.join(FILTERS)}.")
        if node.node is None or node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise _refused(f"The filter {node.name!r} takes plain values only, as in replace('a', 'b').")
    if isinstance(node, nodes.Test) and (node.name not in TESTS or node.args or node.kwargs):
        raise _refused(f"There is no test {node.name[:40]!r}; choose from {', '.join(TESTS)}.")


def _name(node: nodes.Node) -> str | None:
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        return node.arg.value
    return None


def _refused(message: str) -> DomainError:
    return DomainError(message, param="mapping", code="invalid_value")


class _Environment(ImmutableSandboxedEnvironment):
    """Values are plain: `a.b` and `a["b"]` are items of objects and lists, never attributes of Python's."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(finalize=_written, keep_trailing_newline=True)
        self.globals.clear()
        self.filters = {name: _bounded(run, max_bytes) for name, run in FILTERS.items()}
        self.tests = dict(TESTS)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, dict) and argument in obj:
            return obj[argument]
        if isinstance(obj, list | str) and type(argument) is int and -len(obj) <= argument < len(obj):
            return obj[argument]
        return self.undefined(obj=obj, name=argument)

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)


def _written(value: Any) -> str:
    """How a value shows: nothing for what is not there, JSON for what is no text."""
    if value is None or isinstance(value, Undefined):
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _bounded(run: Callable[..., Any], limit: int) -> Callable[..., Any]:
    def filter_(value: Any, *arguments: Any) -> Any:
        made = run(limit, value, *arguments)
        if isinstance(made, str) and len(made) > limit:
            raise RowError(f"A filter makes more than {limit:,} characters of a value.")
        return made

    return filter_


def _replace(limit: int, value: Any, old: Any, new: Any) -> str:
    text, old, new = _written(value), _written(old), _written(new)
    if not old:
        raise RowError("The filter 'replace' must be told what to replace.")
    if len(text) + text.count(old) * (len(new) - len(old)) > limit:
        raise RowError(f"The filter 'replace' makes more than {limit:,} characters of a value.")
    return text.replace(old, new)


def _join(limit: int, value: Any, separator: Any = ", ") -> str:
    parts = [_written(part) for part in value] if isinstance(value, list) else [_written(value)]
    between = _written(separator)
    if sum(map(len, parts)) + len(between) * len(parts) > limit:
        raise RowError(f"The filter 'join' makes more than {limit:,} characters of a value.")
    return between.join(parts)


def _truncate(_limit: int, value: Any, length: Any = 255, end: Any = "…") -> str:
    text = _written(value)
    if type(length) is not int or length < 0:
        raise RowError("The filter 'truncate' takes a number of characters.")
    return text if len(text) <= length else text[:length] + _written(end)


def _item(at: int) -> Callable[..., Any]:
    def pick(_limit: int, value: Any) -> Any:
        return value[at] if isinstance(value, list | str) and value else None

    return pick


FILTERS: dict[str, Callable[..., Any]] = {
    "trim": lambda _limit, value: _written(value).strip(),
    "lower": lambda _limit, value: _written(value).lower(),
    "upper": lambda _limit, value: _written(value).upper(),
    "default": lambda _limit, value, instead="": instead if value is None or isinstance(value, Undefined) else value,
    "tojson": lambda _limit, value: json.dumps(None if isinstance(value, Undefined) else value, ensure_ascii=False),
    "replace": _replace,
    "truncate": _truncate,
    "join": _join,
    "first": _item(0),
    "last": _item(-1),
}
"""The allowed ones: the first argument of each is the longest text that it may make."""
