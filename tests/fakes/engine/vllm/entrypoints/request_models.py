"""The request models of the fake: the tables of vLLM 0.32 that the server keeps, as schemas, without pydantic.

FAKE_ENGINE_FIELDS adds fields, with commas between them, to every endpoint: another release of vLLM.
"""

import json
import os
from pathlib import Path
from typing import Any

TABLES = json.loads((Path(__file__).parents[5] / "apps/models/requests/vllm.json").read_text())
MORE = [name for name in os.environ.get("FAKE_ENGINE_FIELDS", "").split(",") if name]


class Model:
    """Of one endpoint."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def model_json_schema(self, *, by_alias: bool = True) -> dict[str, Any]:
        fields = {**TABLES[self._endpoint], **{name: {"type": ["string", "null"]} for name in MORE}}
        return {"type": "object", "properties": fields, "additionalProperties": True}
