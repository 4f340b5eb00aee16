"""An engine's stream of server-sent events, on its way through: its usage is read, and nothing is kept back.

To learn the tokens of a stream we ask the engine for a last event with them. A client that did not ask for it gets the
stream as if we had not: without that event, and with the `system_fingerprint` in the events that end a choice, where
vLLM puts it in streams without one. Those few events wait for it, a moment.
"""

import msgspec

from apps.models.dialect import translated_event
from apps.models.tokens import Answer, Tokens, Usage

END = b"\n\n"  # vLLM's, after each event
FINISHES = b'"finish_reason":"'  # unlike in text, where quotes are escaped
TELLS = b'"usage"'
DONE = b"data: [DONE]"
ERROR = b'data: {"error"'


class _Event(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    usage: Usage | None = None
    system_fingerprint: str | None = None
    response: Answer | None = None
    """In events of the responses route."""


_decode = msgspec.json.Decoder(_Event).decode


class Events:
    """Pass every chunk of the stream through `take`, and send what it returns; `rest` is for the end."""

    def __init__(self, *, hide_usage: bool) -> None:
        self.tokens: Tokens | None = None
        """What the engine said so far."""
        self.count = 0
        """Events with something of the answer."""
        self._hide = hide_usage
        self._part = b""  # of an event that has not come as a whole
        self._held: list[bytes] = []

    def take(self, chunk: bytes) -> bytes:
        if self._part:
            chunk = self._part + chunk
            self._part = b""
        if not chunk.endswith(END):
            whole, end, self._part = chunk.rpartition(END)
            chunk = whole + end
        if TELLS in chunk or ERROR in chunk or (self._hide and (self._held or FINISHES in chunk)):
            events = chunk.split(END)[:-1]
            self.count += len(events)
            return b"".join(map(self._pass, events))
        self.count += chunk.count(END)
        return chunk

    def rest(self) -> bytes:
        """What is left when the engine said no more."""
        return self._release() + self._part

    def _pass(self, event: bytes) -> bytes:
        if ERROR in event:
            return self._release() + translated_event(event) + END
        told = self._read(event) if TELLS in event else None
        if not self._hide:
            return event + END
        if told and told.usage and told.choices == []:
            return self._release(told.system_fingerprint)
        if FINISHES in event:
            self._held.append(event)
            return b""
        if event.startswith(DONE):
            return self._release() + event + END
        return event + END

    def _release(self, fingerprint: str | None = None) -> bytes:
        """What was held."""
        held, self._held = self._held, []
        if fingerprint is not None:
            addition = b',"system_fingerprint":' + msgspec.json.encode(fingerprint) + b"}"
            held = [event.removesuffix(b"}") + addition for event in held]
        return b"".join(event + END for event in held)

    def _read(self, event: bytes) -> _Event | None:
        try:
            read = _decode(event.partition(b"data: ")[2])
        except (msgspec.MsgspecError, RecursionError):
            return None
        usage = read.usage or (read.response.usage if read.response else None)
        if usage:
            self.tokens = usage.tokens
        return read
