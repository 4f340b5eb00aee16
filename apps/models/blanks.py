"""Answers in JSON that were cut off while the model wrote nothing but blanks: no reader can parse them.

Structured outputs let a model write whitespace between two parts of JSON, and some never stop. By default it is off
(`json_whitespace`); where it is allowed, or asked for, the answer says what became of it.
"""

import re

CUT = b'"finish_reason":"length"'
BLANKS = re.compile(rb'(?: |\\[ntr]){32}"')  # at the end of a text
RUNS = (b" " * 16, rb"\n" * 8, rb"\t" * 8, rb"\r\n" * 4, rb"\n\t")  # what such ends are made of
TAIL = 1024  # bytes at the end of an answer, where the reason of its end stands
WARNING = (
    "The answer was cut off at max_tokens after a run of blanks: it is no whole JSON. Ask for it without whitespace."
)


def ends_in_blanks(answer: bytes) -> bool:
    """Whether a whole answer of a generating route is such a one."""
    if CUT not in answer[-TAIL:] or not any(run in answer for run in RUNS):
        return False
    return BLANKS.search(answer) is not None


def with_warning(answer: bytes) -> bytes:
    """The answer with a field `warning`, if it ends in blanks."""
    if not ends_in_blanks(answer) or not answer.endswith(b"}"):
        return answer
    return answer[:-1] + b',"warning":"' + WARNING.encode() + b'"}'
