"""Plain Transformers, PEFT and TRL: slower than Unsloth, and at home everywhere."""

import importlib.metadata
import importlib.util
from typing import Any

from apps.training.child.failures import unsupported
from apps.training.child.learner import Learner, cpu_has_bf16
from apps.training.spec import Backend, TrainingSpec


class Plain:
    """See `apps.training.child.learner.TrainingBackend`."""

    name: Backend = "plain"

    def why_not(self, spec: TrainingSpec) -> str:
        needed = ["torch", "transformers", "peft", "trl", *(["bitsandbytes"] if spec.technique == "qlora" else [])]
        if missing := [name for name in needed if not importlib.util.find_spec(name)]:
            return f"The trainer's interpreter has no {', '.join(missing)}: run `make trainer`."
        return ""

    def version(self) -> str:
        return f"trl {importlib.metadata.version('trl')}, peft {importlib.metadata.version('peft')}"

    def load(self, spec: TrainingSpec) -> Learner:
        import torch  # noqa: PLC0415
        import trl  # noqa: PLC0415
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

        dtype = _dtype(torch, spec)
        model = AutoModelForCausalLM.from_pretrained(
            spec.model,
            dtype=dtype,
            device_map="cpu" if spec.device == "cpu" else "cuda:0",
            quantization_config=_quantization(dtype) if spec.technique == "qlora" else None,
            trust_remote_code=False,
            local_files_only=True,
        )
        model.config.use_cache = False
        tokenizer = AutoTokenizer.from_pretrained(spec.model, trust_remote_code=False, local_files_only=True)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        _compute_log_probs_without_triton()
        extra = {} if spec.technique == "full" else {"peft_config": _lora(model, spec)}
        if spec.method == "dpo":
            return Learner(model, tokenizer, trl.DPOTrainer, trl.DPOConfig, extra)
        if spec.method == "kto":
            return Learner(model, tokenizer, trl.KTOTrainer, trl.KTOConfig, extra)
        return Learner(model, tokenizer, trl.SFTTrainer, trl.SFTConfig, extra)


def _dtype(torch: Any, spec: TrainingSpec) -> Any:
    if spec.device == "cpu":
        return torch.bfloat16 if cpu_has_bf16() else torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _quantization(dtype: Any) -> Any:
    from transformers import BitsAndBytesConfig  # noqa: PLC0415

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def _lora(model: Any, spec: TrainingSpec) -> Any:
    """Models that have other layers than Llama's get an adapter on those of the chosen ones that they have."""
    from peft import LoraConfig  # noqa: PLC0415

    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    targets = [target for target in spec.options.targets if target in there]
    if not targets:
        raise unsupported(f"The model has none of the layers {', '.join(spec.options.targets)}: set other targets.")
    options = spec.options
    return LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=targets,
        bias="none", task_type="CAUSAL_LM",
    )  # fmt: skip


def _compute_log_probs_without_triton() -> None:
    """TRL 1.15 computes every loss in a kernel of Triton's, which a CPU does not have: there, PyTorch does it."""
    from trl.trainer import utils  # noqa: PLC0415

    if utils._ChunkedLogProbFunction is None:
        utils._ChunkedLogProbFunction = _LogProbs


class _LogProbs:
    """In place of TRL's kernel of the same arguments and results, all logits at once."""

    @staticmethod
    def apply(
        hidden: Any, weight: Any, bias: Any, targets: Any, temperature: float, _chunk: int, softcap: float | None,
        scale: float, outputs: tuple[str, ...],
    ) -> tuple[Any, ...]:  # fmt: skip
        import torch  # noqa: PLC0415

        logits = torch.nn.functional.linear(hidden, weight, bias).float() * scale
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        logs = torch.log_softmax(logits / temperature, dim=-1)
        found = logs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        entropy = -(logs.exp() * logs).sum(-1) if "entropy" in outputs else None
        squares = torch.logsumexp(2 * logs, dim=-1) if "log_sum_sq_probs" in outputs else None
        mean = (logits / temperature).mean(-1) if "mean_logits" in outputs else None
        right = logs.argmax(-1) == targets if "is_top1" in outputs else None
        return found, entropy, squares, mean, right
