"""An adapter's adapter_config.json: each key of PEFT's LoraConfig, and whether vLLM 0.32 serves what it asks for.

vLLM passes over the keys that it does not know, and then answers differently than the adapter was trained to: those are
refused by name.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from apps.models.admission.documents import read_json
from apps.models.admission.refusal import Refused

MAX_RANK = 512  # the largest that vLLM serves
MODULE = re.compile(r"[\w.-]{1,200}")
# The keys of a pattern are regular expressions, which the engine evaluates: none that could keep it busy.
PATTERN = re.compile(r"[\w.\\|()\[\]^$*+?-]{1,200}")
COSTLY = re.compile(r"\)[*+?{]|([*+?].*){4}")
MERGE = "merge it into its base model (PEFT's merge_and_unload), and install the merged model"
PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")  # which leave the base model's weights as they are

# What the engine reads, and serves.
SERVED = frozenset({
    "peft_type", "r", "lora_alpha", "target_modules", "bias", "use_rslora", "init_lora_weights", "rank_pattern",
    "alpha_pattern", "modules_to_save", "target_parameters",
})  # fmt: skip
# What trained or loads the adapter, and changes none of its answers.
NO_EFFECT = frozenset({
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "exclude_modules", "lora_dropout", "fan_in_fan_out", "layers_to_transform", "layers_pattern", "megatron_config",
    "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "velora_config",
    "qalora_group_size", "runtime_config", "merge_weights",
    "lora_dtype", "lorap_lr_ratio", "lorap_emb_lr",  # ms-swift's
})  # fmt: skip
# What vLLM does not do: why, and what to do instead.
UNSERVED = {
    "use_dora": f"It is a DoRA adapter, which vLLM does not serve: {MERGE}.",
    "lora_bias": f"Its B has biases, which vLLM does not serve: {MERGE}.",
    "alora_invocation_tokens": "It is an activated LoRA, which vLLM does not serve: train it as a plain one.",
    "layer_replication": f"It repeats layers of its base model, which vLLM does not serve: {MERGE}.",
    "use_qalora": f"It is a QALoRA adapter, which vLLM does not serve: {MERGE}.",
    "use_bdlora": f"Its matrices are block-diagonal, which vLLM does not serve as such: {MERGE}.",
    "arrow_config": "It chooses among other adapters for each token, which vLLM does not serve: install one of them.",
    "kasa_config": f"It changes the base model's own weights (KaSA), which vLLM does not: {MERGE}.",
    "monteclora_config": f"It draws its weights at random (MonteCLoRA), which vLLM does not: {MERGE}.",
    "trainable_token_indices": f"It has embeddings of its own for some tokens, which vLLM does not serve: {MERGE}.",
    "ensure_weight_tying": f"It ties its embeddings, which vLLM does not: {MERGE}.",
    "enable_lora": f"It adapts parts of a module, which vLLM does not serve: {MERGE}.",
}


def read_lora_config(path: Path) -> dict[str, Any]:
    """Raises `Refused`, with the key, for what is not a LoRA adapter that vLLM serves as it was trained."""
    config = read_json(path)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise Refused("It is not a LoRA adapter (peft_type LORA), and no other kind is served.")
    for key, value in config.items():
        if value in (None, False, {}, [], ""):
            continue
        if key in UNSERVED:
            raise Refused(f"{key}: {UNSERVED[key]}")
        if key not in SERVED | NO_EFFECT:
            raise Refused(f"{key[:100]!r} is a key that vLLM passes over, so that its answers may be wrong: {MERGE}.")
    for check in CHECKS:
        check(config)
    return config


def rank_and_alpha(config: Mapping[str, Any], module: str) -> tuple[int, float]:
    """Of a module, by its name in the adapter: as PEFT and vLLM find them. The first pattern that fits counts."""
    return _of(config, "rank_pattern", "r", module), _of(config, "alpha_pattern", "lora_alpha", module)


def _of(config: Mapping[str, Any], patterns: str, default: str, module: str) -> Any:
    found: Mapping[str, Any] = config.get(patterns) or {}
    fitting = (value for key, value in found.items() if re.match(rf"(.*\.)?({key})$", module))
    return next(fitting, config[default])


def _check_ranks(config: Mapping[str, Any]) -> None:
    rank = config.get("r")
    if not _is_rank(rank):
        raise Refused(f"Its rank r must be a whole number from 1 to {MAX_RANK}, not {str(rank)[:20]}.")
    for key, value in _patterns(config, "rank_pattern"):
        if not _is_rank(value):
            problem = f"the rank r must be a whole number from 1 to {MAX_RANK}"
            raise Refused(f"rank_pattern: of {key[:100]!r} {problem}, not {str(value)[:20]}.")


def _check_alphas(config: Mapping[str, Any]) -> None:
    alphas = [("lora_alpha", config.get("lora_alpha")), *_patterns(config, "alpha_pattern")]
    for key, alpha in alphas:
        if type(alpha) not in (int, float) or not math.isfinite(alpha):
            raise Refused(f"lora_alpha: of {key[:100]!r} it must be a number, not {str(alpha)[:20]}.")
    if not any(alpha for _, alpha in alphas):
        raise Refused("lora_alpha: it is 0, so that the adapter changes nothing.")


def _check_switches(config: Mapping[str, Any]) -> None:
    if config.get("bias", "none") != "none":  # not even null
        raise Refused(f"bias: it is {str(config['bias'])[:20]!r}, and vLLM serves no biases of an adapter: {MERGE}.")
    if not isinstance(config.get("use_rslora") or False, bool):
        raise Refused("use_rslora: it must be true or false.")
    if config.get("modules_to_save"):
        raise Refused(f"It replaces whole modules (modules_to_save), which vLLM does not serve: {MERGE}.")
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.lower() not in PLAIN_INITS:
        raise Refused(
            f"init_lora_weights: {init[:30]!r} changes the base model's own weights when PEFT loads the adapter, and "
            "vLLM does not: save it with PEFT's path_initial_model_for_weight_conversion, which makes a plain LoRA."
        )


def _check_targets(config: Mapping[str, Any]) -> None:
    targets = config.get("target_modules")
    if targets is None and config.get("target_parameters"):
        return
    if not isinstance(targets, str) and not (
        isinstance(targets, list) and all(isinstance(name, str) and MODULE.fullmatch(name) for name in targets)
    ):
        raise Refused("Its target_modules are not a list of names.")


CHECKS: tuple[Callable[[Mapping[str, Any]], None], ...] = (_check_ranks, _check_alphas, _check_switches, _check_targets)


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_RANK


def _patterns(config: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    """Raises `Refused` where a key is no pattern that the engine may evaluate."""
    found = config.get(name) or {}
    if not isinstance(found, dict):
        raise Refused(f"{name}: it must map names of modules to numbers.")
    for key in found:
        if not PATTERN.fullmatch(key) or COSTLY.search(key) or not _compiles(key):
            raise Refused(f"{name}: {key[:100]!r} is not the name of a module, nor a simple pattern of names.")
    return list(found.items())


def _compiles(pattern: str) -> bool:
    try:
        re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, RecursionError):
        return False
    return True
