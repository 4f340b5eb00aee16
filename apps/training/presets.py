"""Options of a training that nobody set: by the model's size, the method, and how much there is to learn from.

Django-free and pure. What fits a device follows from the model's size; how long is trained follows from the rows and
their tokens, which are known once the file was read. What was chosen always counts more.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from apps.training.options import Options, parse
from apps.training.spec import Method, Technique

SIZES: tuple[tuple[float, dict[str, Any]], ...] = (
    (1e9, {"rank": 16, "alpha": 32.0, "learning_rate": 1e-3, "batch_size": 4, "max_length": 1024}),
    (4e9, {"rank": 16, "alpha": 32.0, "learning_rate": 4e-4, "batch_size": 4}),
    (15e9, {"rank": 16, "alpha": 32.0, "learning_rate": 2e-4, "batch_size": 2}),
    (float("inf"), {"rank": 8, "alpha": 16.0, "learning_rate": 1e-4, "batch_size": 1}),
)
"""Parameters up to which a row is meant, and what it sets: the rate of LoRA, and the examples that fit at once."""
LEAST_BATCH_OF_THUMBS = 2
"""Rows at once: KTO compares the answers of a batch with each other."""
WHOLE = 0.1  # of LoRA's rate, where all weights learn
PREFERENCES = 0.1  # of the rate for answers, where preferences are learned: these are overdone soon
MANY_STEPS, LATER = 500, 0.5  # more steps than that are done at this share of the rate

STEPS = ((250, 200), (1_000, 120), (math.inf, 80))
"""Mean tokens of a row, and the steps that such rows need at least: a short one is a fact, and says it only once."""
STEPS_PREFERENCES = 100
EPOCHS = ((5_000, 3), (20_000, 2), (math.inf, 1))
"""Rows, and how often they are seen at least."""
MOST_EPOCHS = 40
TOKENS = 30_000_000  # that are seen at most, as long as that is every row once
STEP_EXAMPLES = ((25, 2), (250, 4), (2_500, 8), (25_000, 16), (math.inf, 32))
"""Rows, and how many of them make one step."""
ENOUGH = 0.3  # of the steps that rows need, each weighed by its learning rate; with fewer, facts are not learned


HELD_OUT_FROM = 20  # rows of a file of which some are held out; what fewer rows teach, few of them cannot show
HELD_OUT = (6, 16)  # at least, and at most; between them a tenth


@dataclass(frozen=True, slots=True)
class Data:
    """What there is to learn from, once: without the rows that validate or are held out."""

    rows: int
    tokens: int
    exact: bool = True
    """Whether the tokens were counted by the model's tokenizer, to the last row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a training will be done with, and why."""

    options: dict[str, Any]
    """Whole but for what is `Options`' own default."""
    steps: int
    """Of the optimizer; packing and rows that are left out make them fewer. 0: the rows are not counted yet."""
    reason: str
    warning: str = ""
    """A sentence with the cure, where so few steps, or so small ones, cannot teach what is in the rows."""

    def as_dict(self) -> dict[str, Any]:
        """All but the options."""
        return {name: value for name, value in asdict(self).items() if name != "options"}


def usual(parameters: float, method: Method = "sft", technique: Technique = "lora") -> dict[str, Any]:
    """What to begin with for a model of so many parameters, before its rows are counted."""
    found = dict(next(chosen for most, chosen in SIZES if parameters <= most))
    share = (WHOLE if technique == "full" else 1.0) * (1.0 if method == "sft" else PREFERENCES)
    found["learning_rate"] = _round(found["learning_rate"] * share)
    if method == "kto":
        found["batch_size"] = max(found["batch_size"], LEAST_BATCH_OF_THUMBS)
    return found


def plan(
    parameters: float, data: Data, *, chosen: Mapping[str, Any], method: Method = "sft",
    technique: Technique = "lora", multiplier: float = 1.0,
) -> Plan:  # fmt: skip
    """`chosen` over what fits these rows; `multiplier` is OpenAI's, of the rate. Raises `OptionsRefused`."""
    least = usual(parameters, method, technique)
    found = least | _batch(data.rows, least["batch_size"], chosen)
    examples = _examples_of_step(parse(found | dict(chosen)))
    if "max_steps" not in chosen:
        found["epochs"] = _epochs(data, examples, method)
    steps = steps_of(data.rows, parse(found | dict(chosen)))
    if steps > MANY_STEPS:
        found["learning_rate"] = _round(found["learning_rate"] * LATER)
    usual_rate = found["learning_rate"]
    found["learning_rate"] = _round(usual_rate * multiplier)
    options = found | dict(chosen)
    warning = _warning(parse(options), data, method, steps, usual_rate)
    return Plan(options=options, steps=steps, reason=_reason(options, data, chosen, steps), warning=warning)


def held_out_share(rows: int) -> float:
    """Of the rows of a file without validation: what a deployment is asked later, to see what was learned."""
    least, most = HELD_OUT
    return min(max(rows // 10, least), most) / rows if rows >= HELD_OUT_FROM else 0.0


def steps_of(rows: int, options: Options) -> int:
    """Of the optimizer, at most: packing and rows that are left out make them fewer."""
    return options.max_steps or math.ceil(options.epochs * math.ceil(rows / _examples_of_step(options)))


def needed_steps(data: Data, method: Method) -> int:
    """That such rows take at least, to be learned."""
    if method != "sft":
        return STEPS_PREFERENCES
    return next(steps for most, steps in STEPS if data.tokens <= most * max(data.rows, 1))


def _batch(rows: int, at_once: int, chosen: Mapping[str, Any]) -> dict[str, int]:
    """Examples at once, and batches of a step, so that the product is right for the rows."""
    wanted = next(examples for most, examples in STEP_EXAMPLES if rows <= most)
    size = chosen.get("batch_size", min(at_once, wanted))
    return {"batch_size": size, "accumulation": max(wanted // size, 1)} if _is_count(size) else {}


def _epochs(data: Data, examples: int, method: Method) -> float:
    """So many that there are enough steps, and not more tokens than TOKENS; each row is seen at least once."""
    a_while = math.ceil(needed_steps(data, method) / max(math.ceil(data.rows / examples), 1))
    least = next(epochs for most, epochs in EPOCHS if data.rows <= most) if method == "sft" else 1
    most = max(TOKENS // max(data.tokens, 1), 1)
    return float(min(max(a_while, least), most, MOST_EPOCHS))


def _examples_of_step(options: Options) -> int:
    return options.batch_size * options.accumulation


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _round(rate: float) -> float:
    """Without the tail of a product of floats."""
    return float(f"{rate:.6g}")


def _reason(options: Mapping[str, Any], data: Data, chosen: Mapping[str, Any], steps: int) -> str:
    whole = parse(options)
    about = "" if data.exact else "about "
    length = f"{whole.max_steps:,} steps" if whole.max_steps else f"{whole.epochs:g} epochs"
    told = (
        f"{data.rows:,} rows, {about}{data.tokens:,} tokens: {length} with {_examples_of_step(whole)} examples a step "
        f"make {steps:,} steps, at a learning rate of {whole.learning_rate:g}."
    )
    mine = [name for name in ("epochs", "max_steps", "batch_size", "accumulation", "learning_rate") if name in chosen]
    return f"{told} As you set it: {', '.join(mine)}." if mine else told


def _warning(options: Options, data: Data, method: Method, steps: int, usual_rate: float) -> str:
    needed = needed_steps(data, method)
    effort = steps * min(options.learning_rate / usual_rate, 1.0)
    if effort >= ENOUGH * needed:
        return ""
    what = f"{steps:,} steps at a learning rate of {options.learning_rate:g}"
    cures = [] if steps >= needed else [_more_steps(options, data, needed)]
    cures += [] if options.learning_rate >= usual_rate else [f"learning_rate to {usual_rate:g}"]
    return (
        f"{what} can hardly teach what is in these rows: about {needed} steps at {usual_rate:g} are needed. Set "
        f"{' and '.join(cures)}, or leave that to the server."
    )


def _more_steps(options: Options, data: Data, needed: int) -> str:
    if options.max_steps:
        return f"max_steps to {needed}"
    epochs = min(math.ceil(needed / max(math.ceil(data.rows / _examples_of_step(options)), 1)), MOST_EPOCHS)
    if options.epochs < epochs:
        return f"epochs to {epochs}"
    examples = next(examples for most, examples in STEP_EXAMPLES if data.rows <= most)
    return f"batch_size to {examples} and accumulation to 1"
