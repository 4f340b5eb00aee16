"""What the gateway itself answers with: everything else is the engine's word."""

import json
import math

from apps.core.api.errors import ApiError
from apps.models import demand
from apps.models.engines.causes import without_paths
from apps.models.models import Engine, EngineDeath, Model

RETRY_SECONDS = 10  # for a model that is still on its way


def unknown_model(name: str) -> ApiError:
    message = f"The model '{name}' does not exist or you do not have access to it."
    return ApiError(404, message, "model_not_found", "model")


def wrong_endpoint(model: Model, endpoint: str) -> ApiError:
    message = f"The model '{model.name}' does not answer {endpoint}, but {', '.join(sorted(model.endpoints))}."
    if model.chat_problem:
        message += f" {model.chat_problem}: an operator can give one (engine setting chat_template)."
    return ApiError(400, message, "unsupported_endpoint", "model")


def unknown_token(model: Model, token: str) -> ApiError:
    message = (
        f"The tokenizer of '{model.name}' knows {token[:100]!r}, and the model does not: leave it out, since it would "
        "end the model's engine."
    )
    return ApiError(400, message, "unknown_token")


def wrong_media_type(given: str) -> ApiError:
    return ApiError(415, f"Unsupported media type {given!r}: send application/json.", "unsupported_media_type")


def late(model: Model) -> ApiError:
    """No engine of it came in time. Asks the database."""
    position = demand.position(model)
    message = f"The model '{model.name}' is not loaded yet: it is number {position} of the models that people wait for."
    failed = Engine.objects.filter(model=model.engine_model, state=Engine.State.FAILED).order_by("-since").first()
    if failed:
        message += f" Its engine did not start: {_headline(failed.message)}"
    headers = {"Retry-After": str(RETRY_SECONDS), "x-queue-position": str(position)}
    return ApiError(503, message, "model_not_loaded", "model", headers=headers)


def broken(model: Model, seconds: float) -> ApiError:
    """Its engines died too often. Asks the database."""
    wait = math.ceil(seconds)
    death = EngineDeath.objects.filter(model=model.engine_model).first()
    if death and death.explained:
        message = f"The model '{model.name}' is broken: {death.headline}"
    else:
        message = f"Engines of the model '{model.name}' died again and again: none is started in the next {wait} s."
        message += f" The last one: {death.headline}" if death else ""
    return ApiError(503, message, "model_broken", "model", headers={"Retry-After": str(wait)})


def unserved(model: Model) -> ApiError:
    """An adapter that its base's engine does not take."""
    message = f"The adapter '{model.name}' is not served: {_headline(model.problem)}"
    return ApiError(503, message, "adapter_not_served", "model", headers={"x-should-retry": "false"})


def died() -> ApiError:
    return ApiError(502, "The model's engine died while it worked on the request. Send it again.", "engine_died")


def slow(seconds: int) -> ApiError:
    message = f"The model's engine said nothing for {seconds} s: ask for fewer tokens, or stream the answer."
    return ApiError(504, message, "engine_timeout", headers={"x-should-retry": "false"})


def as_event(error: ApiError, endpoint: str) -> bytes:
    """As the end of a stream that has begun."""
    data = b"data: " + json.dumps(error.envelope).encode() + b"\n\n"
    return b"event: error\n" + data if endpoint == "/v1/responses" else data + b"data: [DONE]\n\n"


def _headline(message: str) -> str:
    """The sentence for people; the log's lines follow it."""
    return without_paths(message.partition("\n")[0])
