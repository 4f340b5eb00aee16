"""What vLLM 0.32 says of an adapter's configuration: the same class, the same sentences."""

import json
from pathlib import Path
from typing import Any

REQUIRED = ("r", "lora_alpha", "target_modules")
INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
UNSUPPORTED = {
    "use_dora": "vLLM does not yet support DoRA.",
    "lora_bias": "vLLM does not support LoRA bias (lora_bias).",
    "alora_invocation_tokens": "vLLM does not support Activated LoRA (aLoRA).",
    "layer_replication": "vLLM does not support layer_replication.",
    "use_bdlora": "vLLM does not support block-diagonal LoRA (BD-LoRA).",
    "use_qalora": "vLLM does not support QALoRA.",
}


class PEFTHelper:
    def __init__(self, config: dict[str, Any]) -> None:
        if missing := {name for name in REQUIRED if name not in config}:
            raise ValueError(f"Missing required configuration fields: {missing}")
        self.config, self.r = config, config["r"]
        if self.r <= 0:
            raise ValueError(f"LoRA rank `r` must be a positive integer, got {self.r}.")
        self.rank_pattern: dict[str, int] = config.get("rank_pattern") or {}
        self.vllm_lora_scaling_factor = config["lora_alpha"] / self.r

    @classmethod
    def from_local_dir(cls, lora_path: str, max_position_embeddings: int | None) -> "PEFTHelper":
        return cls(json.loads((Path(lora_path) / "adapter_config.json").read_text()))

    def validate_legal(self, lora_config: Any) -> None:
        found = [sentence for key, sentence in UNSUPPORTED.items() if self.config.get(key)]
        init = self.config.get("init_lora_weights")
        if isinstance(init, str) and init.lower() not in INITS:
            found.append(f"vLLM does not support init_lora_weights={init!r}.")
        if self.config.get("modules_to_save"):
            found.append("vLLM only supports modules_to_save being either None or for classification models.")
        rank = max([self.r, *self.rank_pattern.values()])
        if rank > lora_config.max_lora_rank:
            found.append(f"LoRA rank {rank} is greater than max_lora_rank {lora_config.max_lora_rank}.")
        if self.config.get("bias", "none") != "none":
            found.append("Adapter bias is not supported.")
        if found:
            raise ValueError(" ".join(found))
