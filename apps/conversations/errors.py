"""What is wrong with a row."""

from typing import Any


class RowError(Exception):
    """This row cannot be used. The message is a sentence that says what is wrong and, where it can, what to write.

    `code` names the kind, for programs: "invalid_weight" for example.
    """

    def __init__(self, message: str, code: str = "invalid_row") -> None:
        super().__init__(message)
        self.code = code


def kind(value: Any) -> str:
    """What a value is, for people."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds = {str: "a text", list: "a list", dict: "an object"}
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), "a number")
