"""What may be set for a training: an allow-list, as `apps.models.engines.settings` is for engines.

Django-free: the trainer's child reads its order with this module too. Names are those of Transformers, PEFT and TRL.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Epochs = Annotated[float, Meta(gt=0, le=50, description="How often every example is seen.")]
Steps = Annotated[int, Meta(ge=0, le=1_000_000, description="Steps of the optimizer; 0: as many as the epochs take.")]
Rank = Annotated[int, Meta(ge=1, le=256, description="Of the LoRA matrices: more learns more, and takes more memory.")]
Alpha = Annotated[float, Meta(gt=0, le=1024, description="How strongly the adapter counts, as a multiple of 1/rank.")]
Dropout = Annotated[float, Meta(ge=0, le=0.5, description="Of the adapter's inputs, against overfitting.")]
Target = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
Targets = Annotated[tuple[Target, ...], Meta(min_length=1, max_length=7, description="The layers that get an adapter.")]
Rate = Annotated[float, Meta(gt=0, le=1, description="The learning rate at its highest.")]
Schedule = Annotated[
    Literal["linear", "cosine", "constant"], Meta(description="How the learning rate falls after the warm-up.")
]
Warmup = Annotated[float, Meta(ge=0, le=0.5, description="The share of the steps in which the learning rate rises.")]
Decay = Annotated[float, Meta(ge=0, le=1, description="Weight decay.")]
BatchSize = Annotated[int, Meta(ge=1, le=256, description="Examples computed at once on the device.")]
Accumulation = Annotated[int, Meta(ge=1, le=256, description="Batches that make one step of the optimizer.")]
Length = Annotated[
    int, Meta(ge=16, le=1_000_000, description="Tokens of an example; what is longer is cut at its end.")
]
Seed = Annotated[int, Meta(ge=0, le=2_147_483_647, description="The same seed and data give the same training.")]
Share = Annotated[
    float, Meta(ge=0, le=0.5, description="Of the examples, kept for validation where no validation file is given.")
]
HeldOut = Annotated[
    float,
    Meta(ge=0, le=0.5, description="Of the examples, never learned: a deployment is asked them, to see what it did."),
]
Interval = Annotated[int, Meta(ge=0, le=100_000, description="Steps from one to the next; 0: about ten in all.")]
Patience = Annotated[
    int, Meta(ge=0, le=100, description="Evaluations without progress after which training stops; 0: never.")
]
Beta = Annotated[float, Meta(gt=0, le=2, description="DPO's and KTO's: how closely the model stays with what it was.")]
Desirable = Annotated[
    float, Meta(ge=0, le=1000, description="KTO's: how much a thumb up counts; 0: so that both kinds count alike.")
]
Undesirable = Annotated[
    float, Meta(ge=0, le=1000, description="KTO's: how much a thumb down counts; 0: so that both kinds count alike.")
]
Packing = Annotated[bool, Meta(description="Put several short examples into one sequence.")]
CompletionsOnly = Annotated[bool, Meta(description="Learn the assistant's turns only, not the prompts.")]
Checkpointing = Annotated[bool, Meta(description="Compute some things twice to save memory.")]


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a model is trained. `apps.training.presets` gives what fits a model and its rows."""

    epochs: Epochs = 3.0
    max_steps: Steps = 0
    rank: Rank = 16
    alpha: Alpha = 32.0
    dropout: Dropout = 0.0
    targets: Targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    learning_rate: Rate = 2e-4
    schedule: Schedule = "linear"
    warmup: Warmup = 0.03
    weight_decay: Decay = 0.0
    batch_size: BatchSize = 2
    accumulation: Accumulation = 4
    max_length: Length = 2048
    packing: Packing = False
    completions_only: CompletionsOnly = True
    gradient_checkpointing: Checkpointing = True
    seed: Seed = 3407
    validation_share: Share = 0.0
    held_out_share: HeldOut = 0.0
    eval_steps: Interval = 0
    save_steps: Interval = 0
    early_stopping: Patience = 0
    beta: Beta = 0.1
    desirable_weight: Desirable = 0.0
    undesirable_weight: Undesirable = 0.0


class OptionsRefused(ValueError):
    """Options that no training can be started with. `problems` has a sentence with the cure for each key."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__(" ".join(problems.values()))
        self.problems = dict(problems)


FIELDS = {field.name: field.type for field in msgspec.structs.fields(Options)}


def parse(raw: Any) -> Options:
    """The options in `raw`, a dictionary. Raises `OptionsRefused`, a ValueError."""
    if not isinstance(raw, Mapping):
        raise OptionsRefused({"": "Give the options as an object, such as {}."})
    if problems := {key: problem for key, value in raw.items() if (problem := _problem(key, value))}:
        raise OptionsRefused(problems)
    return msgspec.convert(dict(raw), Options)


def _problem(key: str, value: Any) -> str:
    if key not in FIELDS:
        return f"{str(key)[:50]!r} cannot be set: leave it out. What can: {', '.join(FIELDS)}."
    try:
        msgspec.convert(value, FIELDS[key])
    except msgspec.ValidationError as error:
        return f"{key} cannot be {str(value)[:50]}: {error}."
    return ""
