class RowError(Exception):
    """This row cannot be used. The message is a sentence that says what is wrong and, where it can, what to write."""
