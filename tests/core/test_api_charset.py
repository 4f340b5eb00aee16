import pytest

from apps.core.api.body_limit import Receive, Scope, Send
from apps.core.api.charset import Utf8


async def content_type_behind(value: bytes) -> bytes:
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope: Scope = {"type": "http", "headers": [(b"content-type", value), (b"accept", b"x; charset=hex")]}
    await Utf8(application)(scope, None, None)  # type: ignore[arg-type] # nothing is read or sent
    assert seen[0]["headers"][1] == (b"accept", b"x; charset=hex")
    return bytes(seen[0]["headers"][0][1])


@pytest.mark.parametrize(
    "value",
    [b"text/x; charset=hex; boundary=b", b'text/x;CHARSET = "a;b"; boundary=b', b"text/x; boundary=b; charset="],
)
async def test_it_works(value: bytes) -> None:
    assert await content_type_behind(value) == b"text/x; boundary=b"


async def test_it_leaves_the_rest() -> None:
    value = b"multipart/form-data; boundary=charsetboundary"
    assert await content_type_behind(value) == value
