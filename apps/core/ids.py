"""Public ids: a prefix that says what it is, and 128 random bits that nobody guesses."""

import os
import secrets
from collections import deque

DIGITS = 32  # hexadecimal, of an id
AT_ONCE = 256  # ids that one system call is made for: each lets go of the interpreter, which others then take

_ready: deque[str] = deque()
os.register_at_fork(after_in_child=_ready.clear)  # or two processes would give the same


def new_id(prefix: str) -> str:
    while True:
        try:
            return prefix + _ready.popleft()  # one thread's alone
        except IndexError:
            digits = secrets.token_hex(AT_ONCE * DIGITS // 2)
            _ready.extend(digits[at : at + DIGITS] for at in range(0, len(digits), DIGITS))
