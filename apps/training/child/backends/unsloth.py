"""Unsloth: the fastest where it runs. On a CPU it trains LoRA and whole models, supervised."""

import importlib.metadata
import importlib.util

from apps.training.child.learner import Learner
from apps.training.spec import Backend, TrainingSpec


class Unsloth:
    """See `apps.training.child.learner.TrainingBackend`."""

    name: Backend = "unsloth"

    def why_not(self, spec: TrainingSpec) -> str:
        if importlib.util.find_spec("unsloth") is None:
            return "The trainer's interpreter has no Unsloth: run `make trainer`."
        if spec.method == "kto":
            return "Unsloth does not learn from thumbs up and down (KTO)."
        if spec.device != "cpu":
            return ""
        if spec.technique == "qlora":
            return "Unsloth trains a model in 4 bits on a GPU only."
        return "Unsloth learns preferences on a GPU only." if spec.method == "dpo" else ""

    def version(self) -> str:
        return importlib.metadata.version("unsloth")

    def load(self, spec: TrainingSpec) -> Learner:
        import unsloth  # noqa: PLC0415 # first: it changes the libraries below
        import trl  # isort: skip # noqa: PLC0415

        options = spec.options
        checkpointing = "unsloth" if options.gradient_checkpointing else False
        if spec.method == "dpo":
            unsloth.PatchDPOTrainer()
        model, tokenizer = unsloth.FastLanguageModel.from_pretrained(
            spec.model,
            max_seq_length=options.max_length,
            load_in_4bit=spec.technique == "qlora",
            full_finetuning=spec.technique == "full",
            use_gradient_checkpointing=checkpointing,
            trust_remote_code=False,
            local_files_only=True,
        )
        if spec.technique != "full":
            model = unsloth.FastLanguageModel.get_peft_model(
                model,
                r=options.rank,
                lora_alpha=options.alpha,
                lora_dropout=options.dropout,
                target_modules=list(options.targets),
                use_gradient_checkpointing=checkpointing,
                random_state=options.seed,
                max_seq_length=options.max_length,
            )
        if spec.method == "dpo":
            return Learner(model, tokenizer, trl.DPOTrainer, trl.DPOConfig, {})
        return Learner(model, tokenizer, trl.SFTTrainer, trl.SFTConfig, {})
