"""Turns a Parquet file into lines of JSON, in a process of its own: such a file may be made to eat memory or crash us.

    python -m apps.datasets.imports.parquet_rows PATH ROW_BYTES UNPACKED_BYTES

The first line is `{"rows": N}`; then `{"row": {…}}` or `{"flaw": "…"}` for each row; `{"error": "…"}` ends it early.
"""

import base64
import json
import math
import resource
import sys
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, TextIO
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq

MEMORY_BYTES = 1536 * 1024**2  # of address space, the libraries' own included
CPU_SECONDS = 900
BATCH_ROWS = 64
SMALL_BATCH_BYTES = 1024**2  # a larger batch is turned into Python row by row
MAX_COLUMNS = 500

NO_MEMORY = "A part of the Parquet file unpacks to more than can be held in memory: write it with smaller row groups."
DAMAGED = "The Parquet file cannot be read: it is damaged, or not Parquet."


class Refused(Exception):
    pass


def main(path: str, row_bytes: int, unpacked_bytes: int, out: TextIO) -> int:
    """Write the lines. Returns the exit code."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        for line in _lines(path, row_bytes, unpacked_bytes):
            out.write(f"{line}\n")
    except (MemoryError, pa.ArrowMemoryError):
        return _fail(out, NO_MEMORY)
    except Refused as error:
        return _fail(out, str(error))
    except (pa.ArrowException, OSError, ValueError, OverflowError, KeyError, RecursionError):
        return _fail(out, DAMAGED)
    out.flush()
    return 0


def _fail(out: TextIO, message: str) -> int:
    out.write(json.dumps({"error": message}) + "\n")
    out.flush()
    return 1


def _lines(path: str, row_bytes: int, unpacked_bytes: int) -> Iterator[str]:
    pa.set_memory_pool(pa.system_memory_pool())
    file = pq.ParquetFile(path, memory_map=True, read_dictionary=_texts(pq.read_schema(path, memory_map=True)))
    columns = file.schema_arrow.names
    if len(columns) > MAX_COLUMNS:
        raise Refused(f"The file has {len(columns):,} columns; at most {MAX_COLUMNS} can be read.")
    if len(set(columns)) < len(columns):
        raise Refused("Two columns of the file have the same name: rename one of them.")
    yield json.dumps({"rows": file.metadata.num_rows})
    unpacked = 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS, use_threads=False):
        for text in map(_json, _rows(batch)):
            size = len(text.encode("utf-8", "surrogatepass"))
            unpacked += size
            if unpacked > unpacked_bytes:
                raise Refused(f"The file unpacks to more than {unpacked_bytes:,} bytes: split it.")
            yield f'{{"row": {text}}}' if size <= row_bytes else _too_long(row_bytes)


def _texts(schema: pa.Schema) -> list[str]:
    """Columns that stay a dictionary of texts in memory: a long text that comes a million times is held once."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return [field.name for field in schema if any(kind(field.type) for kind in kinds)]


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    if batch.nbytes < SMALL_BATCH_BYTES:
        yield from batch.to_pylist()
        return
    for number in range(batch.num_rows):
        yield from batch.slice(number, 1).to_pylist()


def _json(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, default=_plain, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(row), ensure_ascii=False, default=_plain)


def _too_long(row_bytes: int) -> str:
    return json.dumps({"flaw": f"This row has more than {row_bytes:,} bytes, which is the limit."})


def _plain(value: Any) -> Any:
    """What JSON has no word for, as text."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID | timedelta):
        return str(value)
    raise Refused(f"The file holds values of the kind {type(value).__name__}, which cannot be read.")


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="surrogatepass")  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.stdout))
