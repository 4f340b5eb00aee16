"""The header of a safetensors file, read without trusting it: https://github.com/huggingface/safetensors#format

Eight bytes with the header's length, little-endian; the header, a JSON object; then the tensors' bytes, which the
offsets must tile exactly: what lies between or behind them would be carried along unseen.
"""

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.models.admission.refusal import Refused, refuse_pointer

PREFIX = struct.Struct("<Q")
MAX_HEADER_BYTES = 100_000_000  # as in the reference implementation
MAX_METADATA_BYTES = 1_000_000
MAX_RANK = 16  # of a tensor
BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    """In bytes, from the end of the header."""
    end: int

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


def read_tensors(path: Path) -> list[Tensor]:
    """The file's tensors, in the order of their bytes. Raises `Refused` unless they tile the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(PREFIX.size)
        refuse_pointer(prefix)
        if len(prefix) < 8:
            raise Refused("It is too short to be a safetensors file.")
        (length,) = PREFIX.unpack(prefix)
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise Refused(f"Its header would have {length:,} bytes: it is no safetensors file, or it was cut off.")
        header = _parse(file.read(length))
    _check_metadata(header.pop("__metadata__", {}))
    tensors = sorted((_tensor(name, entry) for name, entry in header.items()), key=lambda t: (t.start, t.end))
    _check_tiles(tensors, size - 8 - length)
    return tensors


def _parse(raw: bytes) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        raise Refused("Its header does not begin as a JSON object: it is no safetensors file.")
    try:
        header: dict[str, Any] = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Refused(f"Its header is not valid: {error}") from error
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Refused("Its __metadata__ is not a map of texts.")
    if sum(len(name) + len(value) for name, value in metadata.items()) > MAX_METADATA_BYTES:
        raise Refused("Its __metadata__ is larger than a megabyte.")


def _tensor(name: str, entry: Any) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise Refused(f"The tensor {name[:100]!r} is not described by dtype, shape and data_offsets.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise Refused(f"The tensor {name[:100]!r} has the unknown type {str(dtype)[:30]!r}.")
    if not _is_sizes(shape) or len(shape) > MAX_RANK or not _is_sizes(offsets) or len(offsets) != 2:
        raise Refused(f"The tensor {name[:100]!r} has a shape or offsets that are no sizes.")
    tensor = Tensor(name, dtype, tuple(shape), *offsets)
    if tensor.parameters * BITS[dtype] != (tensor.end - tensor.start) * 8:
        raise Refused(f"The tensor {name[:100]!r} does not have the bytes that its shape needs.")
    return tensor


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**63 for number in value)


def _check_tiles(tensors: list[Tensor], size: int) -> None:
    if not tensors:
        raise Refused("It holds no tensor.")
    end = 0
    for tensor in tensors:
        if tensor.start != end:
            what = "overlaps the one before it" if tensor.start < end else "leaves bytes before it that nobody names"
            raise Refused(f"The tensor {tensor.name[:100]!r} {what}.")
        end = tensor.end
    if end > size:
        raise Refused(
            f"It is shorter than its header says, cut off: {end:,} bytes of tensors are named, {size:,} are there. "
            "Fetch the file again."
        )
    if end < size:
        raise Refused(
            f"It has bytes behind its last tensor that nobody names: {end:,} bytes are named, {size:,} are there."
        )
