"""Who may do what: every /v1 route with every bad key."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from openai.types import Batch

from tests.conformance.lines import CHAT, CHAT_MODEL, chats, jsonl, line
from tests.conformance.site import Site
from tests.routes import OPEN, ROUTES

pytestmark = pytest.mark.live

NOTHING = re.compile("<uid:([a-z]+)_id>")  # of those, nothing is there
ENGINES = {"POST chat/completions", "POST completions", "POST embeddings", "POST responses"}
OF_AN_OBJECT = [route for route in ROUTES if "<uid:file_id>" in route or "<uid:batch_id>" in route]
REFUSALS = {
    "no key": (401, "missing_api_key"),
    "sk-unknown": (401, "invalid_api_key"),
    "revoked": (401, "invalid_api_key"),
    "expired": (401, "expired_api_key"),
    "no scope": (403, "missing_scope"),
}


@dataclass(frozen=True)
class Owned:
    """What the owner has, and nobody else may see."""

    batch: Batch
    running: Batch

    def path(self, route: str) -> tuple[str, str]:
        """Method and path of a route to them."""
        method, _, path = route.partition(" ")
        batch = self.running if path.endswith(("cancel", "pause")) else self.batch
        ids = {"<uid:file_id>": self.batch.input_file_id, "<uid:batch_id>": batch.id, "<path:name>": CHAT_MODEL}
        for place, value in ids.items():
            path = path.replace(place, value)
        return method, "/" + NOTHING.sub(lambda place: f"{place[1]}_1", path).replace("<int:number>", "1")

    def body(self, route: str) -> dict[str, Any]:
        """What a good request brings along."""
        if route == "POST files":
            return {"files": {"file": ("in.jsonl", jsonl(chats("one")))}, "data": {"purpose": "batch"}}
        if route == "POST batches":
            wanted = {"input_file_id": self.batch.input_file_id, "endpoint": CHAT, "completion_window": "24h"}
            return {"json": wanted}
        if route in ENGINES:
            return {"json": line(1, url=f"/v1/{route.removeprefix('POST ')}")["body"]}
        return {}


@pytest.fixture(scope="module")
def owned(site: Site) -> Iterator[Owned]:
    running = site.wait(site.start(chats("!slow:600")).id, ["in_progress"])
    yield Owned(site.run(chats("one", "two !400")), running)
    site.client().batches.cancel(running.id)
    site.wait_until_idle()


def served() -> set[str]:
    """Every route under /v1, by the URL configuration."""
    return set(_routes(get_resolver().url_patterns, ""))


def _routes(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[str]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, path)
        elif path.startswith("v1/"):
            view: Any = getattr(pattern.callback, "view_class", None) or getattr(pattern.callback, "cls", None)
            for method in ("get", "post", "put", "patch", "delete"):
                if hasattr(view, method):
                    yield f"{method.upper()} {path.removeprefix('v1/')}"


def test_every_route_is_in_this_table() -> None:
    assert served() == set(ROUTES) | OPEN


@pytest.mark.parametrize("route", sorted(OPEN))
def test_the_documentation_is_open(site: Site, route: str) -> None:
    assert site.http("").get(f"/{route.removeprefix('GET ')}").status_code == 200


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("reason", REFUSALS)
def test_it_rejects(site: Site, owned: Owned, reason: str, route: str) -> None:
    roles = {"no key": "", "no scope": f"no {ROUTES[route]}"}
    before, running = site.belongings(), site.client().batches.retrieve(owned.running.id)
    method, path = owned.path(route)
    answer = site.http(roles.get(reason, reason)).request(method, path, **owned.body(route))
    status, code = REFUSALS[reason]
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert site.has_only(before)
    assert site.client().batches.retrieve(owned.running.id) == running


@pytest.mark.parametrize("route", OF_AN_OBJECT)
def test_a_stranger_learns_nothing(site: Site, owned: Owned, route: str) -> None:
    """The answer to somebody else's id is the answer to no id at all."""
    before = site.belongings()
    method, path = owned.path(route)
    answer = site.http("stranger").request(method, path)
    assert answer.status_code == 404
    uid = path.split("/")[2]
    unknown = uid[:-8] + "0" * 8
    assert site.http("stranger").request(method, path.replace(uid, unknown)).text.replace(unknown, uid) == answer.text
    assert site.has_only(before)


def test_a_stranger_cannot_make_a_batch_of_our_file(site: Site, owned: Owned) -> None:
    made = site.http("stranger").post("/batches", **owned.body("POST batches")).json()
    ended = site.wait(made["id"], role="stranger")
    assert ended.status == "failed"
    assert ended.errors
    assert ended.errors.data
    assert (ended.errors.data[0].message or "").startswith("No such file")


def test_a_stranger_lists_only_what_is_his(site: Site, owned: Owned) -> None:
    theirs = site.client("stranger")
    assert owned.batch.input_file_id not in {file.id for file in theirs.files.list()}
    assert owned.batch.id not in {batch.id for batch in theirs.batches.list()}
    for path, uid in (("/files", owned.batch.input_file_id), ("/batches", owned.batch.id)):
        assert site.http("stranger").get(path, params={"after": uid}).status_code == 400


@pytest.mark.parametrize("route", ROUTES)
def test_every_other_scope_suffices(site: Site, owned: Owned, route: str) -> None:
    """A key that lacks only a scope of another route gets past the door: no route asks for two."""
    if route.startswith("DELETE"):
        return
    other = next(scope for scope in ROUTES.values() if scope != ROUTES[route])
    method, path = owned.path(route)
    with site.http(f"no {other}").stream(method, path, **owned.body(route)) as answer:
        if route in OF_AN_OBJECT or route in ENGINES or route == "POST batches":
            assert answer.status_code in (200, 409)
        else:  # there may be nothing, or nothing was said
            assert answer.status_code in (200, 400, 404) or answer.json()["error"]["code"] == "key_without_user"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer \t x", "Basic abc", "sk-abc", "Bearer \xff", "Bearer a b"])
def test_it_rejects_a_malformed_header(site: Site, header: str) -> None:
    answer = site.http("").get("/models", headers=[(b"Authorization", header.encode("latin-1"))])
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
