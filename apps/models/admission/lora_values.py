"""The numbers of an adapter: finite, not all of them zero, and of a size that a model can bear. Looked at as bytes.

A request whose numbers overflow leaves NaN in the engine's KV cache, where other requests read them: such an adapter
spoils the answers of its base model too.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from apps.models.admission.lora_config import rank_and_alpha
from apps.models.admission.refusal import Refused
from apps.models.admission.safetensors import PREFIX, Tensor

PIECE = 4 * 1024**2  # bytes; a multiple of every number's size
SIZES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}
# How the exponent's last bits stand in the two highest bytes of Infinity and NaN: (mask of the highest, of the next).
ALL_ONES = {"BF16": (0x7F, 0x80), "F32": (0x7F, 0x80), "F16": (0x7C, 0), "F64": (0x7F, 0xF0)}
# The exponent in the highest byte alone: (value of its last bit, bias).
EXPONENTS = {"BF16": (2, 127), "F32": (2, 127), "F16": (0.25, 15), "F64": (16, 1023)}
WITHOUT_SIGN = bytes(byte & 0x7F for byte in range(256))
MAX_CHANGE = 1_000.0  # of a weight; those of models are below 1, and of few outliers below 100


def check_values(path: Path, pairs: Mapping[str, dict[str, Tensor]], config: Mapping[str, Any]) -> None:
    """Raises `Refused`, with the name of a tensor or module. `config` is the adapter's, `pairs` its A and B."""
    zero = True
    with path.open("rb") as file:
        (length,) = PREFIX.unpack(file.read(PREFIX.size))
        for module, pair in pairs.items():
            sizes = {side: _largest(file, PREFIX.size + length, tensor) for side, tensor in pair.items()}
            zero = zero and not sizes["B"]
            rank, alpha = rank_and_alpha(config, module)
            change = sizes["A"] * sizes["B"] * abs(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
            if change > MAX_CHANGE:
                raise Refused(
                    f"{module[:200]} changes weights by {change:.3g}, and a model's are below 1: its training went "
                    "wrong, and the engine's numbers would overflow."
                )
    if zero:
        raise Refused("Every lora_B is zero: it changes nothing, and was not trained.")


def _largest(file: BinaryIO, start: int, tensor: Tensor) -> float:
    """The size of its largest number, or down to a few times less; 0 where all are zero. Raises `Refused`."""
    file.seek(start + tensor.start)
    left, highest = tensor.end - tensor.start, 0
    size, (weight, bias) = SIZES[tensor.dtype], EXPONENTS[tensor.dtype]
    zero = True
    while left > 0 and (piece := file.read(min(PIECE, left))):
        left -= len(piece)
        high = piece[size - 1 :: size].translate(WITHOUT_SIGN)
        if _has_infinite(piece, high, tensor.dtype):
            raise Refused(f"{tensor.name[:200]} has numbers that are NaN or infinite: its training went wrong.")
        highest = max(highest, *high)
        zero = zero and not piece.translate(WITHOUT_SIGN).strip(b"\0")
    return 0.0 if zero else 2.0 ** max(math.floor(highest * weight) - bias, -1000)


def _has_infinite(piece: bytes, high: bytes, dtype: str) -> bool:
    """`high` are the highest bytes of the numbers in `piece`, without their signs."""
    mask, next_mask = ALL_ONES[dtype]
    if not next_mask:
        return max(high) >= mask
    size, at = SIZES[dtype], high.find(mask)
    while at >= 0:
        if piece[at * size + size - 2] & next_mask == next_mask:
            return True
        at = high.find(mask, at + 1)
    return False
