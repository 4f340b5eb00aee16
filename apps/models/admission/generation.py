"""A model's generation_config.json: defaults that an engine takes for requests that do not choose themselves."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from apps.models.admission.documents import read_json
from apps.models.admission.refusal import Refused

NAME = "generation_config.json"
SHORT_ANSWER = 256  # tokens; a default bound below this is worth a warning


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_token(value: Any) -> bool:
    return type(value) is int


def _is_tokens(value: Any) -> bool:
    return all(map(_is_token, value if isinstance(value, list) else [value]))


# What an engine takes from it (vLLM, `ModelConfig.get_diff_sampling_param`): the values that stand for "no default",
# whether a value can be used, and what it should be. A value of another type ends the engine, or every request.
DEFAULTS: dict[str, tuple[tuple[float, ...], Callable[[Any], bool], str]] = {
    "max_new_tokens": ((), lambda value: _is_token(value) and value > 0, "a whole number above 0"),
    "temperature": ((1,), lambda value: _is_number(value) and value >= 0, "a number from 0"),
    "top_p": ((1,), lambda value: _is_number(value) and 0 < value <= 1, "a number above 0 and up to 1"),
    "top_k": ((0, -1), lambda value: _is_token(value) and value >= -1, "a whole number from -1"),
    "min_p": ((0,), lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"),
    "repetition_penalty": ((1,), lambda value: _is_number(value) and value > 0, "a number above 0"),
    "presence_penalty": ((0,), lambda value: _is_number(value) and -2 <= value <= 2, "a number from -2 to 2"),
    "frequency_penalty": ((0,), lambda value: _is_number(value) and -2 <= value <= 2, "a number from -2 to 2"),
}
# What transformers reads at the start, whatever the engine makes of it.
OTHERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "eos_token_id": (_is_tokens, "a token's number, or a list of them"),
    "bos_token_id": (_is_tokens, "a token's number"),
    "pad_token_id": (_is_tokens, "a token's number"),
    "early_stopping": (lambda value: isinstance(value, bool) or value == "never", 'true, false or "never"'),
    "compile_config": (lambda value: isinstance(value, dict), "an object"),
    "watermarking_config": (lambda value: isinstance(value, dict), "an object"),
}
INHERITED = ("max_new_tokens", "min_p")  # that transformers takes from config.json in its place
RULES = {key: (fits, should) for key, (_, fits, should) in DEFAULTS.items()} | OTHERS


def check_generation_config(path: Path) -> None:
    """Raises `Refused`, with the keys, for values that no engine starts with or that spoil every request."""
    config = read_json(path)
    if not isinstance(config, dict):
        raise Refused("It is no JSON object.")
    _check({key: config[key] for key in RULES if key in config})


def check_inherited(path: Path) -> None:
    """The same for the keys of config.json that count where there is no generation_config.json."""
    config = read_json(path)
    _check({key: config[key] for key in INHERITED if key in config})


def _check(config: Mapping[str, Any]) -> None:
    wrong = [
        f"{key} is {str(config[key])[:40]!r}, and must be {should}"
        for key, (fits, should) in RULES.items()
        if config.get(key) is not None and not fits(config[key])
    ]
    if wrong:
        raise Refused(f"{'; '.join(wrong)}: correct the file in a copy, or look for another version of the model.")


def sampling_defaults(folder: Path) -> dict[str, Any]:
    """Parameter -> the value that requests get when they leave it out; only what differs from the engine's own."""
    path = folder / NAME
    if path.is_file():
        config = read_json(path)
    else:
        whole = read_json(folder / "config.json")
        config = {key: whole[key] for key in INHERITED if key in whole}
    return {
        key: config[key]
        for key, (neutral, _, _) in DEFAULTS.items()
        if config.get(key) is not None and config[key] not in neutral
    }


def sentences(defaults: Mapping[str, Any]) -> list[str]:
    """What a user of the model has to know about them."""
    if not defaults:
        return []
    told = []
    if (bound := defaults.get("max_new_tokens")) is not None:
        short = ": far too short for most answers" if bound < SHORT_ANSWER else ""
        told.append(f"Answers end after {bound:,} tokens unless a request gives max_tokens{short}.")
    if others := ", ".join(f"{key} {value}" for key, value in defaults.items() if key != "max_new_tokens"):
        told.append(f"Requests that do not choose get the model's own defaults: {others}.")
    return told
