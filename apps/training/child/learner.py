"""What every backend has in common: what it hands over, and the arguments that Transformers and TRL are given."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

from apps.training.child import thumbs
from apps.training.spec import Backend, TrainingSpec

BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # what a CPU says that computes in bfloat16; others emulate it, slowly


class Learner(NamedTuple):
    """What a backend loaded, and what trains it."""

    model: Any
    tokenizer: Any
    trainer: Any
    """A subclass of Transformers' Trainer: TRL's for the method, maybe changed by the backend."""
    config: Any
    """The class of its arguments."""
    extra: dict[str, Any]
    """More arguments for the trainer."""


class TrainingBackend(Protocol):
    """One way to train."""

    @property
    def name(self) -> Backend: ...

    def why_not(self, spec: TrainingSpec) -> str:
        """Empty when it can do this here, else a sentence with the cure."""

    def version(self) -> str:
        """Of its library, for the record."""

    def load(self, spec: TrainingSpec) -> Learner:
        """The model on its device, ready to learn. Raises `Refused`."""


def arguments(spec: TrainingSpec, ups: int = 0, downs: int = 0) -> dict[str, Any]:
    """`ups` and `downs`: thumbs of the training examples.

    What the trainer is configured with. When to evaluate and save is left to `apps.training.child.reporter`."""
    options = spec.options
    return {
        "output_dir": spec.folder,
        "num_train_epochs": options.epochs,
        "max_steps": options.max_steps or -1,
        "per_device_train_batch_size": options.batch_size,
        "per_device_eval_batch_size": options.batch_size,
        "gradient_accumulation_steps": options.accumulation,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if options.schedule == "constant" else options.schedule,
        "warmup_steps": options.warmup,  # below 1, it is a share of all steps
        "weight_decay": options.weight_decay,
        "optim": "adamw_torch_fused",
        "gradient_checkpointing": options.gradient_checkpointing,
        "max_length": options.max_length,
        "seed": options.seed,
        "data_seed": options.seed,
        "use_cpu": spec.device == "cpu",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "include_num_input_tokens_seen": "non_padding",
        "prediction_loss_only": True,
        "eval_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": spec.device != "cpu",
        **_of_method(spec, ups, downs),
    }


def _of_method(spec: TrainingSpec, ups: int, downs: int) -> dict[str, Any]:
    if spec.method == "sft":
        return _packing(spec)
    if spec.method == "dpo":
        return {"beta": spec.options.beta}
    up, down = thumbs.weights(ups, downs, spec.options)
    return {"beta": spec.options.beta, "desirable_weight": up, "undesirable_weight": down}


def _packing(spec: TrainingSpec) -> dict[str, Any]:
    return {"packing": packs(spec), "eval_packing": False}


def packs(spec: TrainingSpec) -> bool:
    """A CPU has no attention that keeps the examples of one sequence apart: there they stay alone."""
    return spec.options.packing and spec.method == "sft" and spec.device != "cpu"


def cpu_has_bf16() -> bool:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.lower().startswith(("flags", "features")):
            return bool(BF16 & set(line.lower().split()))
    return False
