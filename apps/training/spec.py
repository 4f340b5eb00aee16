"""What the server and the trainer's child say to each other: a frozen order in, lines of news out. Django-free."""

from typing import Any, Literal, get_args

import msgspec

from apps.training.options import Options

Method = Literal["sft", "dpo", "kto"]
Technique = Literal["lora", "qlora", "full"]
Backend = Literal["unsloth", "plain"]

REWARDS = {
    "reward_chosen": "rewards/chosen",
    "reward_rejected": "rewards/rejected",
    "reward_margin": "rewards/margins",
    "reward_accuracy": "rewards/accuracies",
    "kl": "kl",
}
"""What is measured besides where preferences (DPO) or thumbs (KTO) are learned, and TRL's names of it.

A reward is `beta` times how much likelier an answer is than for the base model (natural logarithm, summed over its
tokens). The margin is that of good answers above bad ones; the accuracy the share of pairs whose better answer has the
higher reward (DPO); kl how far the model has moved (KTO). See https://huggingface.co/docs/trl/dpo_trainer.
"""

FileKind = Literal["training", "validation"]
"""What a prepared file is for."""
FILE_KINDS: tuple[FileKind, ...] = get_args(FileKind)

LEFT_OUT = "left_out.jsonl"
"""In a job's folder: {"file": a `FileKind`, "line", "reason"} of each row of which nothing is learned."""


class TrainingSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One training, whole: the same spec in an empty folder gives the same curves."""

    method: Method
    technique: Technique
    backend: Backend | Literal["auto"]
    """auto: Unsloth where it can do what is asked here, else plain."""
    model: str
    """The base model's folder."""
    train_file: str
    """JSON lines as `apps.training.files.rows` writes them."""
    valid_file: str = ""
    chat_template: str = ""
    """That is set for the model; empty: the model's own."""
    stops: tuple[int, ...] = ()
    """Tokens at which the engine ends an answer, besides the tokenizer's eos_token."""
    date: str = ""
    """ISO: what chat templates that write the date are told, in all examples; empty: now."""
    folder: str
    """Where checkpoints go, `checkpoint-STEP` each; what is sealed there is gone on from."""
    device: str
    """"cpu", or the GPU's index."""
    options: Options
    reserve_bytes: int = 0
    """Of the disk, that must stay free after a save."""


class Started(msgspec.Struct, frozen=True, kw_only=True, tag="started", tag_field="event"):
    backend: Backend
    version: str
    """Of its library, for the record."""
    examples: int
    valid_examples: int
    sequences: int = 0
    """What the training examples became: more than they are where some had to be split."""
    left_out: int = 0
    """Training examples of which nothing is learned; `left_out.jsonl` in the folder says which, and why."""
    tokens: int
    """Of the training examples, once."""
    trained_tokens: int
    """Of these, those that are learned."""
    cut: int
    """Examples that were longer than `max_length`."""
    steps: int
    """In all."""
    save_steps: int
    ups: int = 0
    """Examples with a thumb up."""
    downs: int = 0
    up_weight: float = 0.0
    """How much each of them counts; 0: the method knows no thumbs."""
    down_weight: float = 0.0
    resumed_from: int
    """The step of the checkpoint that it goes on from; 0: it begins."""


class Stepped(msgspec.Struct, frozen=True, kw_only=True, tag="step", tag_field="event"):
    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float | None = None
    token_accuracy: float | None = None
    tokens: int = 0
    """Seen so far, in this training."""
    tokens_per_second: float = 0.0
    memory_bytes: int = 0
    """Of the device at its highest; of a CPU, the process's."""
    rewards: dict[str, float] = {}
    """By the names of REWARDS, as far as this step's rows have them: a batch may lack thumbs down."""


class Evaluated(msgspec.Struct, frozen=True, kw_only=True, tag="eval", tag_field="event"):
    step: int
    loss: float
    token_accuracy: float | None = None
    rewards: dict[str, float] = {}
    """As a step's."""


class Saved(msgspec.Struct, frozen=True, kw_only=True, tag="saved", tag_field="event"):
    """A checkpoint is whole: its manifest is on the disk."""

    step: int
    folder: str
    digest: str
    """SHA-256 of its manifest."""
    bytes: int


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended", tag_field="event"):
    """finished: all steps; early: it got no better; stopped: asked to, and what was done is saved."""

    reason: Literal["finished", "early", "stopped"]
    step: int
    best_step: int
    """Whose checkpoint is the result: the lowest validation loss, or without validation the last."""


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed", tag_field="event"):
    code: Literal["out_of_memory", "disk_full", "bad_data", "unsupported", "diverged", "checkpoint", "internal"]
    message: str
    """A sentence that says what to do."""


News = Started | Stepped | Evaluated | Saved | Ended | Failed


class FileCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Of a prepared file, as far as there was time to read it; see `apps.training.child.examples.Counts`."""

    rows: int
    examples: int
    tokens: int
    cut: int
    longest: int
    without_reasoning: int
    without_tools: int
    left_out: list[tuple[int, str]]
    """The first lines of the user's file, each with why; all are in `LEFT_OUT`."""
    left_out_count: int
    reasons: dict[str, int]
    """Why rows are left out, and how many, the most frequent first."""


class Checked(msgspec.Struct, frozen=True, kw_only=True, tag="checked", tag_field="event"):
    training: FileCheck
    validation: FileCheck | None = None
    dated: bool = False
    """Whether the chat template writes the date."""


class MergeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Make one 16-bit model of a base and an adapter, on the CPU, in an empty folder."""

    model: str
    adapter: str
    folder: str
    generation_config: dict[str, Any] | None = None
    """What generation_config.json has to say in place of the base's; None: the base's will do."""


class Merged(msgspec.Struct, frozen=True, kw_only=True, tag="merged", tag_field="event"):
    changed: int
    """Tensors that differ from the base's."""
    tensors: int
    bytes: int


decode_check = msgspec.json.Decoder(Checked | Failed).decode
decode_news = msgspec.json.Decoder(News).decode
encode = msgspec.json.Encoder().encode
