"""What a service says when it may not do what was asked: sentences for people, in API, admin and commands."""


class DomainError(ValueError):
    """The input is not acceptable. The message says why and what to do; `param` names the offending argument."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.param, self.code = message, param, code


class Conflict(DomainError):
    """The object's state does not allow it now."""


class Stopped(Exception):
    """Work that was taken on is not ours any more: it goes on elsewhere, or later."""
