"""One file's bytes from the hub to the disk: where it was, it goes on, and an answer that says "later" is obeyed.

Not in charge of: whether it is the right file (`checking`), and of a hub that is too slow (`errand`).
huggingface_hub's own `http_get` waits in silence when the hub asks to wait, so it is not used; its client is, which
follows redirects to other hosts without the token.
"""

import email.utils
import io
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import httpx2
from huggingface_hub.utils._http import get_session, hf_raise_for_status

from apps.models.installs.errand import READ_SECONDS, Failed

TRIES = 5  # in a row that brought nothing, on one connection after another
PAUSE_SECONDS = 1.0
CUT_OFF = (httpx2.ConnectError, httpx2.TimeoutException, httpx2.RemoteProtocolError, httpx2.ReadError)


class TooMuch(Failed):
    """More came than was announced."""


def receive(url: str, target: io.RawIOBase | io.BytesIO, *, expected: int, headers: Mapping[str, str]) -> None:
    """Add what `target` lacks of `expected` bytes, written as they come: what a kill costs was in no buffer.

    Raises huggingface_hub's errors for an answer that is none, httpx2's after TRIES, Failed where the file changed.
    """
    fruitless = 0
    while (have := target.tell()) < expected or expected == 0:
        try:
            _receive(url, target, have, expected, headers)
            return
        except CUT_OFF:
            fruitless = 0 if target.tell() > have else fruitless + 1
            if fruitless > TRIES:
                raise
            time.sleep(PAUSE_SECONDS)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a hub asks to wait, in either form of the header; None where it does not say.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        at = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max((at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def _receive(url: str, target: io.RawIOBase | io.BytesIO, have: int, expected: int, headers: Mapping[str, str]) -> None:
    ranged = {**headers, "Range": f"bytes={have}-"} if have else dict(headers)
    with get_session().stream("GET", url, headers=ranged, timeout=READ_SECONDS) as response:
        if response.status_code >= 400:
            response.read()
            hf_raise_for_status(response)
        if have and response.status_code != 206:  # it sends the whole file again
            target.seek(0)
            target.truncate()
        elif have and (total := _total(response.headers)) not in (None, expected):
            raise Failed(f"The hub has another version of the file now ({total:,} bytes, not {expected:,}): try again.")
        for chunk in response.iter_raw():
            target.write(chunk)
            if target.tell() > expected:
                raise TooMuch
    if target.tell() < expected:
        raise httpx2.RemoteProtocolError(f"The hub ended after {target.tell():,} of {expected:,} bytes")


def _total(headers: Mapping[str, str]) -> int | None:
    """Of a part's file."""
    total = headers.get("content-range", "").rpartition("/")[2]
    return int(total) if total.isascii() and total.isdigit() else None
