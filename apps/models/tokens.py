"""The tokens that an engine says an answer took."""

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""What the database takes; another number makes the answer garbage."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    input: int = 0
    cached: int = 0
    """Of the input, those that the engine still had from earlier requests."""
    output: int = 0
    reasoning: int = 0
    """Of the output."""


class _Details(msgspec.Struct):
    cached_tokens: Count | None = 0
    reasoning_tokens: Count | None = 0


_NO_DETAILS = _Details()


class Usage(msgspec.Struct):
    """The object in an answer. Chat, completions and embeddings say prompt/completion; responses say input/output."""

    prompt_tokens: Count | None = 0
    completion_tokens: Count | None = 0
    input_tokens: Count | None = 0
    output_tokens: Count | None = 0
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None

    @property
    def tokens(self) -> Tokens:
        given = self.prompt_tokens_details or self.input_tokens_details or _NO_DETAILS
        made = self.completion_tokens_details or self.output_tokens_details or _NO_DETAILS
        return Tokens(
            input=self.prompt_tokens or self.input_tokens or 0,
            cached=given.cached_tokens or 0,
            output=self.completion_tokens or self.output_tokens or 0,
            reasoning=made.reasoning_tokens or 0,
        )


class Answer(msgspec.Struct):
    usage: Usage | None = None


_decode = msgspec.json.Decoder(Answer).decode


def tokens_of(raw: bytes) -> Tokens | None:
    """What a whole answer says; None when it says nothing. Raises `msgspec.MsgspecError`, RecursionError."""
    usage = _decode(raw).usage
    return usage.tokens if usage else None
