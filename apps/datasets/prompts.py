"""Chat messages as examples keep them."""

import hashlib
import json
import uuid

from apps.conversations.conversation import Message, Messages


def fingerprint(messages: Messages) -> uuid.UUID:
    """Equal for messages that differ in case and spacing only: 128 bits of BLAKE2b."""
    words = [[message.role, " ".join(_text(message).casefold().split())] for message in messages]
    digest = hashlib.blake2b(json.dumps(words, ensure_ascii=False).encode("utf-8", "surrogatepass"), digest_size=16)
    return uuid.UUID(bytes=digest.digest())


def _text(message: Message) -> str:
    """Of parts that are no text (images, audio), their JSON."""
    content = message.content
    return content if isinstance(content, str) else json.dumps(content, sort_keys=True)
