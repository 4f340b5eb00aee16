"""What people read of a request and of an answer, whatever the endpoint. Nothing here trusts what a model wrote."""

import json
from collections.abc import Iterator
from typing import Any


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
    """What an engine answered: a message, a completion, a response, an embedding's size, or an error."""
    if not isinstance(body, dict):
        return ""
    error = body.get("error")
    if isinstance(error, dict):
        return str(error.get("message", ""))
    parts = [text for item in _items(body) if (text := _item_text(item))]
    return "\n\n".join(parts) or str(body.get("message", ""))


def _items(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The answers within: `choices` of completions, `output` of responses, `data` of embeddings."""
    for name in ("choices", "output", "data"):
        items = body.get(name)
        if isinstance(items, list):
            yield from (item for item in items if isinstance(item, dict))


def _item_text(item: dict[str, Any]) -> str:
    if isinstance(vector := item.get("embedding"), list):
        return f"[{len(vector)} numbers]"
    message = item.get("message")
    if isinstance(message, dict):
        return _text(message.get("content")) or _text(message.get("reasoning_content"))
    return _text(item.get("content")) or _text(item.get("text"))


def _text(content: Any) -> str:
    """A content is a string or a list of parts; parts that are no text show their type."""
    if isinstance(content, list):
        parts = (part.get("text", f"[{part.get('type', '?')}]") if isinstance(part, dict) else part for part in content)
        return "\n".join(map(str, parts))
    return content if isinstance(content, str) else ""
