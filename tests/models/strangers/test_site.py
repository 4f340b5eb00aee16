"""Adapters of strangers on a live site: each is served, or refused; nobody who chats with their base model notices."""

import json
from collections import Counter
from pathlib import Path

import pytest
from django.conf import settings

from tests.models.strangers.adapters import Stranger, corpus
from tests.models.strangers.site import BASE, Client, Site
from tests.stack.live import REPOSITORY

MODEL = settings.BASE_DIR / "var" / "models" / "smollm2-135m-instruct"  # made by `make setup`
FAKE = {"ENGINE_PYTHON": str(REPOSITORY / "tests/fakes/engine/python"), "ENGINE_PASS_ENV": "FAKE_ENGINE_*"}
PAUSE_SECONDS = 5.0


def named(*names: str) -> list[Stranger]:
    found = {stranger.name: stranger for stranger in corpus()}
    return [found[name] for name in names]


def behaving(name: str, how: str, refusal: str = "") -> Stranger:
    """One that passes admission, and is bad on the engine."""
    (good,) = named("good-r8")
    return Stranger(name, {**good.files, "fake-engine.txt": how.encode()}, refusal)


def bring_all(site: Site, strangers: list[Stranger], restarts: int) -> None:
    """Each as it should be, and the client's chats as if nobody had come."""
    first, *others = strangers
    assert site.api.chat(BASE).problem == "", site.live.output()
    assert site.bring(first)["status"] == "ready"  # the engine restarts once, since it had no adapters
    with Client(site.api, BASE) as client, Client(site.api, first.name) as second:
        wrong = [f"{stranger.name}: {problem}" for stranger in others if (problem := judge(site, stranger))]
    assert not wrong, "\n".join(wrong)
    for each in (client, second):
        longest = max(answer.pause for answer in each.answers)
        said = Counter(answer.text for answer in each.answers)
        print(f"{each.model}: {len(each.answers)} answers, longest pause {longest:.1f} s, {said}", flush=True)
        assert len(each.answers) > len(others)
        assert not each.failed, each.failed[:3]
        assert len(each.pauses(PAUSE_SECONDS)) <= restarts, each.pauses(PAUSE_SECONDS)


def judge(site: Site, stranger: Stranger) -> str:
    """What is wrong with what became of it; empty where nothing is."""
    install = site.bring(stranger)
    said = f"{install['status']}: {install['message']} {json.dumps(install['refusals'])}"
    print(f"{stranger.name}: {said}", flush=True)  # for those who read a long run
    if stranger.refusal:
        refused = install["status"] in ("refused", "failed") and stranger.refusal in said
        unknown = site.api.answer(stranger.name)[0] == 404
        return "" if refused and unknown else said
    if install["status"] != "ready":
        return said
    status, answer = site.api.answer(stranger.name)
    return "" if status == 200 and answer != site.api.answer(BASE)[1] else f"{status}: {answer}"


def test_it_works(tmp_path: Path) -> None:
    """On the fake engine, which dies, refuses and overflows as the real one does."""
    strangers = [
        *named("good-r8", "wrong-prefix"),
        behaving("nothing", "nothing", "exactly as its base model"),
        behaving("deadly", "die", "died when it loaded the adapter"),
        behaving("overflowing-late", "overflow", "Its numbers overflow"),
        *named("good-r16-rslora"),
    ]
    with Site(tmp_path, MODEL, **FAKE) as site:
        bring_all(site, strangers, restarts=2)  # what an engine dies of, and what spoils it


@pytest.mark.engine
@pytest.mark.soak
@pytest.mark.timeout(0)
def test_the_corpus_on_the_real_engine(tmp_path: Path) -> None:
    """One planned restart, where a good adapter needs a higher rank than the engine has room for."""
    good = [stranger for stranger in corpus() if not stranger.refusal]
    bad = [stranger for stranger in corpus() if stranger.refusal]
    with Site(tmp_path, MODEL, ENGINE_KV_CACHE_GIB="1", ENGINE_CONCURRENCY="8") as site:
        bring_all(site, [*good, *bad], restarts=1)
