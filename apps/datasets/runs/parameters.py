"""What a run, or a judge, may ask of its models: sampling parameters, checked before anything is made."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from apps.core.errors import DomainError
from apps.models import sampling

SYSTEM_CHARACTERS = 100_000
MAX_TOKENS = 1_000_000
MAX_SAMPLES = 8

# Least and most. What vLLM would refuse for every single line is refused here, once.
NUMBERS = {
    "temperature": (0.0, 2.0),
    "top_p": (0.001, 1.0),
    "min_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.01, 10.0),
}
WHOLE_NUMBERS = {
    "max_tokens": (1, MAX_TOKENS),
    "min_tokens": (0, MAX_TOKENS),
    "top_k": (-1, 1_000_000),
    "seed": (-(2**63), 2**63 - 1),
}
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # as JSON writes it; PostgreSQL takes none
OBJECTS = ("response_format", "chat_template_kwargs")
TOOL_CHOICES = ("auto", "none", "required")
"""For the examples that have tools."""
NAMES = (*NUMBERS, *WHOLE_NUMBERS, "stop", "system", "tool_choice", *OBJECTS)


def check(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are set, in the order of NAMES. Raises `DomainError`, its param "parameters.NAME"."""
    if unknown := [name for name in parameters if name not in NAMES]:
        message = f"There is no parameter {str(unknown[0])[:60]!r}; choose from {', '.join(NAMES)}."
        raise DomainError(message, param="parameters")
    checked = {name: parameters[name] for name in NAMES if parameters.get(name) not in (None, "", [], {})}
    for name, value in checked.items():
        _check(name, value)
    _check_as_engine(checked)
    return checked


def check_samples(samples: int) -> None:
    if not 1 <= samples <= MAX_SAMPLES:
        raise DomainError(f"samples must be from 1 to {MAX_SAMPLES}, not {samples}.", param="samples")


def parse(pairs: list[str]) -> dict[str, Any]:
    """ "temperature=0.2" and so on: a value is JSON where it can be, a text otherwise. Raises `DomainError`."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise DomainError(f"A parameter is NAME=VALUE, not {pair!r}.", param="parameters")
        try:
            found[name.strip()] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            found[name.strip()] = text
    return found


def _check(name: str, value: Any) -> None:
    if name in NUMBERS or name in WHOLE_NUMBERS:
        _check_number(name, value)
    elif name == "system" and not (isinstance(value, str) and len(value) <= SYSTEM_CHARACTERS and _storable(value)):
        raise _bad(name, f"must be a text of at most {SYSTEM_CHARACTERS:,} characters")
    elif name == "stop" and not all(isinstance(text, str) for text in (value if isinstance(value, list) else [value])):
        raise _bad(name, "must be a text or a list of texts")
    elif name == "tool_choice" and value not in TOOL_CHOICES:
        raise _bad(name, f"must be one of {', '.join(TOOL_CHOICES)}")
    elif name in OBJECTS and not isinstance(value, dict):
        raise _bad(name, "must be an object")


def _check_number(name: str, value: Any) -> None:
    whole = name in WHOLE_NUMBERS
    least, most = WHOLE_NUMBERS[name] if whole else NUMBERS[name]
    right = isinstance(value, int) if whole else isinstance(value, int | float)
    if not right or isinstance(value, bool) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise _bad(name, f"must be {kind} from {least:,} to {most:,}")


def _check_as_engine(checked: dict[str, Any]) -> None:
    """The bounds of every request: lengths of lists, sizes of grammars."""
    body = {name: value for name, value in checked.items() if name not in ("system", "tool_choice")}
    try:
        encoded = msgspec.json.encode({"model": "any", "messages": [], **body})
        if NUL.search(encoded):
            raise DomainError("The parameters must not hold NUL characters.", param="parameters")
        sampling.check(encoded, "/v1/chat/completions")
    except sampling.Refused as error:
        raise DomainError(str(error), param=f"parameters.{error.field}" if error.field else "parameters") from error
    except DomainError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DomainError("The parameters cannot be written as JSON.", param="parameters") from error


def _storable(text: str) -> bool:
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)


def _bad(name: str, what: str) -> DomainError:
    return DomainError(f"{name} {what}.", param=f"parameters.{name}")
