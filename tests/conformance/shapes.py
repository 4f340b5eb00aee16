"""Every JSON answer against the SDK's own types, strictly: no wrong type, and no key missing that the SDK knows."""

from typing import Any

from openai.types import Batch, FileDeleted, FileObject, Model, Upload
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from openai.types.uploads import UploadPart
from pydantic import BaseModel

OPTIONAL = {"Model.shutdown_date"}  # OpenAI leaves these out
OBJECTS: dict[str, type[BaseModel]] = {
    "batch": Batch,
    "file": FileObject,
    "upload": Upload,
    "upload.part": UploadPart,
    "model": Model,
    "fine_tuning.job": FineTuningJob,
    "fine_tuning.job.event": FineTuningJobEvent,
    "fine_tuning.job.checkpoint": FineTuningJobCheckpoint,
}
LIST = {"object", "data", "first_id", "last_id", "has_more"}
ERROR = {"message", "type", "param", "code"}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    416: "invalid_request_error",
    429: "rate_limit_error",
    502: "server_error",
    503: "server_error",
    504: "server_error",
    507: "server_error",
}
OURS = {  # held against our schema, by the fuzzer
    "model.install", "benchmark", "dataset", "run", "export", "judge", "deployment", "deployment.evaluation",
}  # fmt: skip


def check_answer(status: int, raw: Any) -> None:
    """Raises AssertionError or pydantic's ValidationError unless this is what OpenAI would answer."""
    if status >= 400:
        check_error(status, raw)
    elif raw["object"] == "list":
        check_list(raw)
    else:
        check_object(raw)


def check_error(status: int, raw: Any) -> None:
    """The envelope has its four keys, and a sentence for people."""
    assert set(raw) == {"error"}
    assert set(raw["error"]) == ERROR
    assert raw["error"]["type"] == ERROR_TYPES[status]
    assert " " in raw["error"]["message"]


def check_list(raw: dict[str, Any]) -> None:
    assert set(raw) == LIST
    for item in raw["data"]:
        check_object(item)
    ids = [item["id"] for item in raw["data"]] or [None]
    assert (raw["first_id"], raw["last_id"]) == (ids[0], ids[-1])


def check_object(raw: dict[str, Any]) -> None:
    if raw["object"] in OURS:
        return
    kind = FileDeleted if "deleted" in raw else OBJECTS[raw["object"]]
    _check_keys(kind.model_validate(raw, strict=True), raw)


def _check_keys(model: BaseModel, raw: dict[str, Any]) -> None:
    missing = {f"{type(model).__name__}.{name}" for name in type(model).model_fields if name not in raw}
    assert missing <= OPTIONAL
    for name, value in model:
        if isinstance(value, BaseModel):
            _check_keys(value, raw[name])
        elif isinstance(value, list):
            for item, raw_item in zip(value, raw[name], strict=True):
                if isinstance(item, BaseModel):
                    _check_keys(item, raw_item)
