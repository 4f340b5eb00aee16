"""Chat messages as examples keep them."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from typing import Any


def fingerprint(messages: Sequence[dict[str, Any]]) -> uuid.UUID:
    """Equal for messages that differ in case and spacing only: 128 bits of BLAKE2b."""
    words = [[message.get("role"), " ".join(_text(message.get("content")).casefold().split())] for message in messages]
    digest = hashlib.blake2b(json.dumps(words, ensure_ascii=False).encode("utf-8", "surrogatepass"), digest_size=16)
    return uuid.UUID(bytes=digest.digest())


def _text(content: Any) -> str:
    """Of parts that are no text (images, audio), their JSON."""
    return content if isinstance(content, str) else json.dumps(content, sort_keys=True)
