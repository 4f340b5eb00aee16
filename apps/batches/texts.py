"""What people read of a request and of an answer, whatever the endpoint. Nothing here trusts what a model wrote."""

import json
from typing import Any

from apps.batches.answers import Said, answers_in, as_text, incomplete


def parsed(body: str) -> Any:
    """The JSON value, or None: what a broken engine answered need not be JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def prompt_text(body: Any) -> str:
    """What a request asks: its last user message, its prompt or its input."""
    if not isinstance(body, dict):
        return ""
    messages = body.get("messages") or body.get("input") or body.get("prompt")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        asked = [message for message in messages if isinstance(message, dict) and message.get("role") == "user"]
        return _text((asked or messages)[-1].get("content"))
    return _text(messages)


def answer_text(body: Any) -> str:
    """What an engine answered: its text, its calls of tools, or why there is neither; or an error."""
    if not isinstance(body, dict):
        return ""
    error = body.get("error")
    if isinstance(error, dict):
        return str(error.get("message", ""))
    said = answers_in(body)
    usage = body.get("usage")
    tokens = usage.get("completion_tokens", usage.get("output_tokens")) if isinstance(usage, dict) else 0
    known = tokens if isinstance(tokens, int) and len(said) == 1 else 0
    return "\n\n".join(_shown(each, known) for each in said) or str(body.get("message", ""))


def reasoning_text(body: Any) -> str:
    """What it thought before it answered, whichever name the engine has for that."""
    said = answers_in(body) if isinstance(body, dict) else []
    return "\n\n".join(each.reasoning for each in said if each.reasoning)


def _shown(said: Said, tokens: int) -> str:
    if text := as_text(said.text, said.tool_calls):
        return text
    why = incomplete(said, tokens)
    return why.sentence if why else ""


def _text(content: Any) -> str:
    """A content is a string or a list of parts; parts that are no text show their type."""
    if isinstance(content, list):
        parts = (part.get("text", f"[{part.get('type', '?')}]") if isinstance(part, dict) else part for part in content)
        return "\n".join(map(str, parts))
    return content if isinstance(content, str) else ""
