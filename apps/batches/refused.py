"""Lines whose body was refused: their answer is written with the lines themselves, so that they are never sent.

The answer is what OpenAI's endpoint would have said: `response.status_code` 400 with an error envelope in its body.
"""

from typing import Any

import msgspec

from apps.batches.ingest import Line
from apps.core.ids import new_id
from apps.models.sampling import Refused

REFUSED = "failed AND coalesce(status_code, 0) = 400 AND attempts = 0"
"""SQL: a result that is such an answer. The same line would be refused again."""

COLUMNS = (
    "batch_id", "line", "custom_id", "failed", "status_code", "body", "error_code", "error_message", "request_id",
    "attempts", "latency_ms", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens",
)  # fmt: skip


class RefusedLines:
    """The answers to refused lines: noted one by one, and copied into the results on `write`."""

    def __init__(self, cursor: Any, batch_id: int) -> None:
        self._cursor, self._batch = cursor, batch_id
        self._noted: list[tuple[int, str, Refused]] = []

    def note(self, line: Line, refusal: Refused) -> None:
        self._noted.append((line.number, line.custom_id, refusal))

    def write(self) -> None:
        noted, self._noted = self._noted, []
        if not noted:
            return
        with self._cursor.copy(f"COPY batches_result ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            for number, custom_id, refusal in noted:
                answer = msgspec.json.encode(envelope(refusal)).decode()
                copy.write_row(
                    (self._batch, number, custom_id, True, 400, answer, "", "", new_id("req_"), 0, 0, 0, 0, 0, 0)
                )


def envelope(refusal: Refused) -> dict[str, Any]:
    error = {
        "message": str(refusal), "type": "invalid_request_error", "param": refusal.field, "code": refusal.code,
    }  # fmt: skip
    return {"error": error}
