class RowError(Exception):
    """This row cannot be used. The message is a sentence that says what is wrong and, where it can, what to write.

    `code` names the kind, for programs: "invalid_weight" for example.
    """

    def __init__(self, message: str, code: str = "invalid_row") -> None:
        super().__init__(message)
        self.code = code
