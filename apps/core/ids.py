"""Public ids: a prefix that says what it is, and 128 random bits that nobody guesses."""

import secrets


def new_id(prefix: str) -> str:
    return f"{prefix}{secrets.token_hex(16)}"
