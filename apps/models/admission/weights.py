"""Which files of weights an engine reads, by their names and the index alone.

vLLM with `--load-format safetensors` opens every `*.safetensors` of the folder itself; where there is a
`model.safetensors.index.json`, those that it names and no others. A second copy of the weights beside the first is
therefore read as well, unless an index leaves it out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
SHARD = re.compile(r"(.+)-(\d{1,6})-of-(\d{1,6})\.safetensors")
MAX_SHARDS = 10_000
MISTRAL = "consolidated*.safetensors"  # Mistral's own layout, whose names vLLM's loader of safetensors does not know
# Copies in another precision or layout: `model.fp16.safetensors`, Mistral's `consolidated.safetensors`.
COPIES = ("model.*.safetensors", MISTRAL, "model.*-of-*.safetensors")


def is_adapter(names: Iterable[str]) -> bool:
    """Whether these files are a LoRA adapter's; one that lies beside a whole model's weights is left out."""
    found = set(names)
    return ADAPTER[0] in found and not ("config.json" in found and _whole(found))


def files_read(names: Iterable[str], index: Mapping[str, str] | None) -> list[str]:
    """What the engine opens, in the order of their names. `index` maps tensors to files."""
    shards = None if index is None else set(index.values())
    return sorted(name for name in names if _is_weights(name) and (shards is None or name in shards))


def strays(names: Iterable[str], index: Mapping[str, str] | None) -> list[str]:
    """Weights beside those that make the model: other copies of it, or an adapter's."""
    found = set(names)
    if is_adapter(found):
        return []
    wanted = set(files_read(found, index)) if index is not None else _main(_whole(found))
    return sorted(name for name in found if (_is_weights(name) or name in ADAPTER) and name not in wanted)


def missing_shards(names: Iterable[str]) -> list[str]:
    """Of files called `model-00001-of-00003.safetensors` those that are not there."""
    found = set(names)
    missing = set()
    for match in filter(None, map(SHARD.fullmatch, found)):
        stem, number, count = match.groups()
        for other in range(1, min(int(count), MAX_SHARDS) + 1):
            name = f"{stem}-{other:0{len(number)}}-of-{count}.safetensors"
            missing |= {name} - found
    return sorted(missing)


def _is_weights(name: str) -> bool:
    return "/" not in name and name.endswith(".safetensors")


def _whole(names: Iterable[str]) -> list[str]:
    """A model's, not an adapter's."""
    return sorted(name for name in names if _is_weights(name) and name not in ADAPTER)


def _main(names: Sequence[str]) -> set[str]:
    """Without an index: the single file, else the shards of one set, else all that is no copy, else all."""
    if SINGLE in names:
        return {SINGLE}
    sets: dict[tuple[str, str], set[str]] = {}
    for name in names:
        if match := SHARD.fullmatch(name):
            sets.setdefault((match[1], match[3]), set()).add(name)
    plain = [found for (stem, _), found in sets.items() if stem == "model"]
    if plain:
        return max(plain, key=len)
    originals = {name for name in names if not any(fnmatchcase(name, copy) for copy in COPIES)}
    return originals or {name for name in names if not fnmatchcase(name, MISTRAL)}
