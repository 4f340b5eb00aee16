"""An engine's errors in OpenAI's words: `{"error": {message, type, param, code}}`, codes that are strings or null.

vLLM answers with its own types, the status as `code`, and sentences about its command line. Here they name what the
sender of the request can change, or whom to ask.
"""

import ast
import json
import re

from apps.core.api.errors import ApiError

UNKNOWN = "The model's engine refused the request without a reason."
LIMIT = 2_000  # characters of a message

OPERATOR = "Its operator can set one: tool_call_parser in the model's engine settings."
SENTENCES: tuple[tuple[str, str, str | None, str | None], ...] = (
    ("--tool-call-parser", f"The model is served without a parser for tool calls. {OPERATOR} Until then leave tools"
     ' out, or set tool_choice to "none".', "tools", "unsupported_parameter"),
    ("--trust-request-chat-template", "Requests cannot bring a chat template of their own: leave chat_template out.",
     "chat_template", "unsupported_parameter"),
    ("VLLM_ENABLE_RESPONSES_API_STORE", "Responses are not kept here, so that none can run in the background: leave"
     " background and store out.", "background", "unsupported_parameter"),
    ("--enable-prompt-embeds", "Embeddings are not taken as a prompt: send text, or token ids.", "prompt_embeds",
     "unsupported_parameter"),
    ("--enable-mm-embeds", "Embeddings of images, audio and video are not taken: send image_url, audio_url or"
     " video_url.", "messages", "unsupported_parameter"),
    ("--allowed-local-media-path", "Files of the server cannot be read: send a data: URL, or https: where the site"
     " allows it.", "messages", "unsupported_parameter"),
)  # fmt: skip
"""A flag or variable in vLLM's message -> what to say instead, the parameter, the code."""
FLAG = re.compile(r"`?--[a-z][a-z0-9-]+|VLLM_[A-Z_]+")
VALIDATION = re.compile(r"\d+ validation errors?:\n")
ENTRY = re.compile(r"""'(type|loc|msg)': ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
PLACE = re.compile(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ")  # of a C++ library: when, and in which of its lines
CONTEXT = re.compile(r"maximum context length|max_model_len|longer than the maximum model length", re.IGNORECASE)


def translated(status: int, answer: bytes) -> bytes:
    """The engine's answer with an error status, in OpenAI's envelope."""
    return json.dumps(as_error(status, answer).envelope).encode()


def as_error(status: int, answer: bytes) -> ApiError:
    """What the engine said, whatever shape it has."""
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        said = answer.decode(errors="replace")
    if isinstance(said, dict) and isinstance(said.get("error"), dict):
        said = said["error"]
    if isinstance(said, dict):
        message = said.get("message") or said.get("detail") or said.get("error") or UNKNOWN
        param = said.get("param") if isinstance(said.get("param"), str) else None
    else:
        message, param = said or UNKNOWN, None
    text = PLACE.sub("", message) if isinstance(message, str) else json.dumps(message)
    return _error(status, text[:LIMIT], param.removeprefix("body.") if param else None)


def translated_event(event: bytes) -> bytes:
    """An event of a stream that holds an error, without its end."""
    head, found, data = event.partition(b"data: ")
    if not found:
        return event
    try:
        status = json.loads(data)["error"]["code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        status = 500
    return head + found + translated(status if isinstance(status, int) else 500, data)


def _error(status: int, message: str, param: str | None) -> ApiError:
    for flag, sentence, name, code in SENTENCES:
        if flag in message:
            return ApiError(status, sentence, code, name)
    if status == 400 and (entry := _validation(message)):
        return _of_validation(entry, param)
    code = None
    if status == 404 and param == "model":
        code = "model_not_found"
    elif CONTEXT.search(message):
        code, param = "context_length_exceeded", param or "messages"
    return ApiError(status, _without_flags(message), code, param)


def _validation(message: str) -> dict[str, str] | None:
    """The first of pydantic's errors, which vLLM writes as Python writes a dictionary, with objects in it."""
    if not VALIDATION.match(message):
        return None
    line = message.partition("\n")[2].partition("\n")[0]
    return {key: ast.literal_eval(text) for key, text in ENTRY.findall(line)} or None


def _of_validation(entry: dict[str, str], param: str | None) -> ApiError:
    kind, where = entry.get("type", ""), param or entry.get("loc", "").removeprefix("body.")
    name = None if where in ("", "body") else where
    reason = entry.get("msg", "").removeprefix("Value error, ")
    if kind == "missing":
        return ApiError(400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name)
    if kind == "json_invalid":
        return ApiError(400, f"The request's body is not valid JSON: {reason}.", "invalid_json")
    code = "invalid_type" if kind.endswith(("_type", "_parsing")) else "invalid_value"
    told = _without_flags(reason)
    return ApiError(400, f"Invalid value for '{name}': {told}" if name else told, code, name)


def _without_flags(message: str) -> str:
    """Without the sentences about vLLM's command line, which its operator alone can change."""
    if not FLAG.search(message):
        return message
    kept = [sentence for sentence in re.split(r"(?<=[.!?])\s+", message) if not FLAG.search(sentence)]
    rest = "The engine of this model is not set up for such a request; its operator can change that."
    return " ".join([*kept, rest])
