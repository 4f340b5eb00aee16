"""An adapter's tensors: each belongs to a module of the base model, has its sizes and the rank that is declared.

The engine finds modules by their whole names, and passes over what fits none of them: an adapter with another prefix is
loaded, and answers as the base model does.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apps.models.admission.lora_config import MERGE, rank_and_alpha
from apps.models.admission.refusal import Refused
from apps.models.admission.safetensors import Tensor

PREFIX = "base_model.model."
SUFFIXES = {  # of a tensor's name -> A or B; those of embeddings lack the ".weight"
    ".lora_A.weight": "A", ".lora_B.weight": "B", ".lora_embedding_A": "A", ".lora_embedding_B": "B",
}  # fmt: skip
COPIED = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")  # the base model's own, which vLLM skips
FLOATS = ("BF16", "F16", "F32", "F64")
SHOWN = 3  # names in a message
EXPERTS = ".experts"
TIED = ("lm_head", "model.embed_tokens")

Shape = tuple[int, ...] | None
Pair = dict[str, Tensor]
"""By "A" and "B"."""


def modules_of(tensors: Iterable[Tensor]) -> dict[str, Shape]:
    """The modules of a model that an adapter can ride on, with the shape of each weight: (out, in).

    None where it is packed. Norms and biases have one dimension, and are no such modules.
    """
    found: dict[str, Shape] = {}
    for tensor in tensors:
        module, _, part = tensor.name.rpartition(".")
        if part == "weight" and tensor.dtype in (*FLOATS, "F8_E4M3", "F8_E5M2"):
            if len(tensor.shape) > 1:
                found[module] = tensor.shape
        elif part != "bias" and len(tensor.shape) > 1:
            found.setdefault(module, None)
    return found


def pairs_of(tensors: Iterable[Tensor]) -> dict[str, Pair]:
    """A and B of each module. Raises `Refused` for tensors of any other kind, and for one without the other."""
    pairs: dict[str, Pair] = defaultdict(dict)
    odd = []
    for tensor in tensors:
        module, side = _parse(tensor.name)
        if side:
            pairs[module][side] = tensor
        elif not tensor.name.endswith(COPIED):
            odd.append(tensor.name)
    if odd:
        default = any(".default." in name for name in odd)
        cure = "save the adapter with PEFT's save_pretrained" if default else "merge it into its base model"
        raise Refused(f"vLLM serves lora_A.weight and lora_B.weight of a module, and not {_names(odd)}: {cure}.")
    for module, pair in pairs.items():
        if missing := {"A", "B"} - pair.keys():
            raise Refused(f"{module[:200]} has no lora_{missing.pop()}: the file is not complete, save it anew.")
    return pairs


def check_kinds(pairs: Mapping[str, Pair]) -> None:
    """Raises `Refused` for numbers that are no weights, and where no module is left."""
    if not pairs:
        raise Refused("It has no lora_A and lora_B: it changes nothing.")
    for pair in pairs.values():
        for tensor in pair.values():
            if tensor.dtype not in FLOATS:
                raise Refused(f"{tensor.name[:200]} has numbers of the type {tensor.dtype}, and not {_or(FLOATS)}.")


def check_ranks(pairs: Mapping[str, Pair], config: Mapping[str, Any]) -> None:
    """Raises `Refused` where a module's rank is not the declared one, by which the engine scales it."""
    for module, pair in pairs.items():
        if EXPERTS in module:
            continue  # several experts in one tensor: the engine judges those
        if any(len(tensor.shape) != 2 for tensor in pair.values()):
            raise Refused(f"{module[:200]}: its lora_A and lora_B are no matrices.")
        rank, _ = rank_and_alpha(config, module)
        given = pair["A"].shape[0], pair["B"].shape[1]
        if given != (rank, rank):
            raise Refused(
                f"{module[:200]} has the rank {given[0] if given[0] == given[1] else given}, and adapter_config.json "
                f"says {rank} (r, rank_pattern): the configuration is of another adapter."
            )


def check_modules(pairs: Mapping[str, Pair], modules: Mapping[str, Shape], base: Mapping[str, Any]) -> None:
    """Raises `Refused`, with names, where modules are not the base model's, or have other sizes there.

    `modules` are those of its files, `base` is its config.json.
    """
    known = dict(modules)
    if (base.get("text_config") or base).get("tie_word_embeddings") and TIED[1] in known:
        known.setdefault(TIED[0], known[TIED[1]])
    fitting = {module: _fitting(module, known, base) for module in pairs}
    if unfit := [module for module, found in fitting.items() if found is None]:
        raise Refused(_unfit(unfit, len(pairs), known))
    for module, found in fitting.items():
        if found and (shape := known.get(found)):
            _check_sizes(module, pairs[module], shape)


def check_copies(tensors: Iterable[Tensor], base: Iterable[Tensor]) -> None:
    """Raises `Refused` where the embeddings that were saved along have more rows than those of the base model.

    The engine passes over them: it would not know the tokens that were added.
    """
    rows = {tensor.name: tensor.shape for tensor in base}
    for tensor in tensors:
        if tensor.name.endswith(COPIED):
            name = tensor.name.removeprefix(PREFIX).replace(".base_layer", "")
            known = rows.get(name) or rows.get(f"{TIED[1]}.weight", tensor.shape)
            if tensor.shape != known:
                raise Refused(
                    f"{tensor.name[:200]} is {_by(tensor.shape)}, the base model's {_by(known)}: it was trained with "
                    f"tokens of its own, which vLLM does not serve: {MERGE}."
                )


def _by(shape: Sequence[int]) -> str:
    return " by ".join(map(str, shape))


def _parse(name: str) -> tuple[str, str]:
    """The module and "A" or "B", as vLLM reads a tensor's name; ("", "") for others."""
    for suffix, side in SUFFIXES.items():
        if name.endswith(suffix):
            module = name.removesuffix(suffix)
            return module.replace(PREFIX, "") if module.startswith(PREFIX) else module, side
    return "", ""


def _fitting(module: str, known: Mapping[str, Shape], base: Mapping[str, Any]) -> str | None:
    """The name of the base model's module; empty where the engine has to judge, None where there is none."""
    if module in known:
        return module
    if EXPERTS in module:
        return "" if any(EXPERTS in name for name in known) else None
    architectures = base.get("architectures") or [""]
    if "text_config" in base or not str(architectures[0]).endswith("ForCausalLM"):
        # The engine renames the modules of models that see, and looks with and without "model." for embeddings.
        tail = module[module.find("layers.") :] if "layers." in module else module.rpartition(".")[2]
        return next((name for name in known if name == tail or name.endswith(f".{tail}")), None)
    return None


def _unfit(unfit: Sequence[str], count: int, known: Mapping[str, Shape]) -> str:
    message = f"{len(unfit)} of its {count} modules are none of the base model's: {_names(unfit)}."
    renamed = [_renamed(module, known) for module in unfit]
    if found := [new for new in renamed if new]:
        old = next(module for module, new in zip(unfit, renamed, strict=True) if new)
        if len(found) == len(unfit) and len(set(found)) == len(found):
            return f"{message} They fit with another prefix: {PREFIX}{found[0]} in place of {PREFIX}{old}."
    return f"{message} It was trained on another model: say which one (base)."


def _renamed(module: str, known: Mapping[str, Shape]) -> str:
    """The base model's module whose name ends as this one's does, from its first word that matters on."""
    words = module.split(".")
    for start in range(len(words) - 1):
        tail = ".".join(words[start:])
        for name in known:
            if name == tail or name.endswith(f".{tail}"):
                return name
    return ""


def _check_sizes(module: str, pair: Pair, shape: tuple[int, ...]) -> None:
    high, wide = shape[0], shape[-1]
    if any(tensor.name.endswith(("_embedding_A", "_embedding_B")) for tensor in pair.values()):
        high, wide = wide, high  # it looks rows up
    given = pair["B"].shape[0], pair["A"].shape[-1]
    for wanted, size in ((wide, given[1]), (high, given[0])):
        if wanted != size:
            raise Refused(
                f"Its {module[:200]} is {size} wide, the base model's {wanted}: it was trained on another model."
            )


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(name[:200] for name in names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
