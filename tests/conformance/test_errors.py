"""Errors arrive as the SDK's own exceptions, with everything that it reads from them."""

from collections.abc import Callable

import openai
import pytest

from tests.conformance.lines import CHAT, chats
from tests.conformance.site import Site

pytestmark = pytest.mark.live

CASES: dict[str, tuple[type[openai.APIStatusError], Callable[[Site], object]]] = {
    "bad request": (openai.BadRequestError, lambda site: site.client().files.list(limit=0)),
    "unauthorised": (openai.AuthenticationError, lambda site: site.client("sk-no").models.list()),
    "forbidden": (openai.PermissionDeniedError, lambda site: site.client("no models.read").models.list()),
    "not found": (openai.NotFoundError, lambda site: site.client().files.retrieve("file-nowhere")),
    "conflict": (openai.ConflictError, lambda site: site.client().batches.cancel(site.run(chats("x")).id)),
}


@pytest.mark.parametrize("case", CASES)
def test_it_works(site: Site, case: str) -> None:
    kind, call = CASES[case]
    with pytest.raises(kind) as caught:
        call(site)
    assert type(caught.value) is kind
    error = caught.value
    assert error.request_id
    assert error.message
    assert isinstance(error.body, dict)
    assert {"message", "type", "param", "code"} == set(error.body)


def test_bad_input_is_not_sent_again(site: Site) -> None:
    """What a client did wrong must not look like trouble of ours: SDKs repeat 408, 409, 429 and 5xx."""
    patient = site.client().with_options(max_retries=2)
    with pytest.raises(openai.BadRequestError) as caught:
        patient.batches.create(
            input_file_id="file-x", endpoint=CHAT, completion_window="24h", metadata={"k": "v" * 600}
        )
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"
