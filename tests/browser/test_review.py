"""The review page in a real browser: by keyboard alone, two reviewers at once, hostile answers, and for everybody."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.browser.axe import serious
from tests.browser.conftest import PATIENCE, play, shoot, sign_in
from tests.browser.review_cast import LABELS
from tests.stack.live import LiveStack

pytestmark = pytest.mark.browser
RUNS = "/admin/datasets/run"
PASSWORD = "analytical-engine"

SignedIn = Callable[[str], Page]


@pytest.fixture(scope="module")
def runs(site: LiveStack) -> dict[str, int]:
    """The keys of four runs: "tutor", "compared", "hostile" and "lakes"."""
    return play(site, "from tests.browser.review_cast import main; main()")


@pytest.fixture
def as_user(site: LiveStack, browser: Browser) -> Iterator[SignedIn]:
    """More reviewers; what the server refuses them is no failure of the test."""
    contexts = []

    def open_page(name: str) -> Page:
        context = browser.new_context(base_url=site.web_url, viewport={"width": 1280, "height": 820})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        sign_in(page, name, PASSWORD)
        return page

    yield open_page
    for context in contexts:
        context.close()


def review(page: Page, run: int, query: str = "") -> None:
    page.goto(f"{RUNS}/{run}/review/{query}")
    page.locator("#review[data-ready]").wait_for()


def press(page: Page, *keys: str) -> None:
    """As people do: one after the other, each when the one before is done."""
    for key in keys:
        page.locator("#review:not([data-busy])").wait_for()
        page.keyboard.press(key)
    page.locator("#review:not([data-busy])").wait_for()


def selected(page: Page) -> Locator:
    return page.locator('.rv-row[aria-selected="true"]')


def face(page: Page) -> Locator:
    """What is seen of the cell where the reviewer is."""
    return selected(page).locator('.rv-cell[tabindex="0"] > .rv-face:not([hidden])')


def at(page: Page, number: int) -> None:
    expect(selected(page)).to_have_attribute("data-number", str(number))


def test_it_works_by_keyboard_alone(runs: dict[str, int], page: Page) -> None:
    review(page, runs["tutor"])
    at(page, 1)
    shoot(page, "review")
    press(page, "j", "k", "ArrowDown", "l", "Tab")
    at(page, 2)
    expect(selected(page).locator('.rv-cell[tabindex="0"]')).to_have_attribute("data-column", "2")
    press(page, "g", "4")
    expect(face(page)).to_have_attribute("data-starred", "")
    expect(face(page).locator('[data-rate="4"]')).to_have_attribute("aria-pressed", "true")
    press(page, "g")
    expect(face(page)).not_to_have_attribute("data-starred", "")
    press(page, "g", "a")
    expect(selected(page).locator(".rv-verdict")).to_have_text("smol-135m is better than llama-70b")

    press(page, "e")
    page.keyboard.type(" By hand.")
    shoot(page, "review-edit")
    press(page, "Control+Enter")
    expect(face(page).locator(".rv-text")).to_contain_text("By hand.")
    press(page, "]")
    expect(face(page).locator("ins")).to_contain_text("By hand.")
    press(page, "[", "[")
    expect(face(page)).to_have_attribute("data-kind", "original")

    write_about(page)
    see_more(page)
    press(page, "Control+Enter")
    at(page, 3)
    page.reload()
    expect(page.locator("#row-2").get_by_text("done", exact=True)).to_be_visible()


def write_about(page: Page) -> None:
    press(page, "t")
    page.keyboard.type("Easy, easy, for kids")
    press(page, "Enter")
    expect(selected(page).locator(".rv-tags li")).to_have_text(["easy", "for kids"])
    press(page, "n")
    page.keyboard.type("Ask Ben.")
    press(page, "Control+Enter")
    expect(selected(page).locator(".rv-note")).to_have_text("Ask Ben.")
    press(page, "r")
    expect(selected(page).get_by_text("rejected", exact=True)).to_be_visible()
    press(page, "u")
    expect(selected(page).get_by_text("rejected", exact=True)).to_have_count(0)


def see_more(page: Page) -> None:
    press(page, "d")
    expect(page.locator("ins").first).to_be_visible()
    at(page, 2)
    shoot(page, "review-diff")
    press(page, "d", "m")
    expect(page.locator(".rv-text strong").first).to_be_visible()
    press(page, "s")
    expect(page.locator("#review")).to_have_attribute("data-height", "l")
    assert "render=markdown" in page.url
    assert "height=l" in page.url
    press(page, "Enter")
    expect(page.locator("#panel .rv-history li").first).to_be_visible()
    shoot(page, "review-example")
    page.keyboard.press("Escape")
    press(page, "?")
    expect(page.get_by_role("heading", name="Keys")).to_be_visible()
    shoot(page, "review-keys")
    page.keyboard.press("Escape")


def test_an_answer_that_is_not_whole_asks_first(runs: dict[str, int], as_user: SignedIn) -> None:
    """The second press accepts it; a press elsewhere in between does not. Thumbs go by key and by mouse."""
    page = as_user("mia")
    review(page, runs["lakes"], "?show=all")
    expect(selected(page).locator(".rv-call b").first).to_have_text("depth")
    page.locator(".rv-cell .rv-thought summary").first.click()
    shoot(page, "review-calls")
    press(page, "j", "g")
    toast = page.locator("#toast")
    expect(toast).to_contain_text("No answer: cut off after 256 tokens of reasoning.")
    expect(toast).to_contain_text("Press again")
    expect(face(page)).not_to_have_attribute("data-starred", "")
    shoot(page, "review-consent")
    press(page, "j", "+")
    expect(toast).to_contain_text("The model refused: I will not help with that.")
    press(page, "k", "g")
    expect(toast).to_contain_text("Press again")
    press(page, "g")
    expect(face(page)).to_have_attribute("data-starred", "")
    press(page, "u")
    expect(face(page)).not_to_have_attribute("data-starred", "")
    press(page, "l", "+")
    pressed = face(page).locator('[data-thumb][aria-pressed="true"]')
    expect(pressed).to_have_attribute("data-thumb", "up")
    press(page, "-")
    expect(pressed).to_have_attribute("data-thumb", "down")
    press(page, "-")
    expect(pressed).to_have_count(0)
    with page.expect_response("**/do/thumb/**"):  # it is shown before it is saved, and the filter asks what is saved
        face(page).locator('[data-thumb="up"]').click()
    expect(pressed).to_have_attribute("data-thumb", "up")
    review(page, runs["lakes"], "?show=all&thumb=up")
    expect(page.locator("#rows .rv-row")).to_have_count(1)
    page.locator(".rv-number").first.click()
    expect(page.locator("#panel .rv-thought")).to_be_visible()
    shoot(page, "review-panel")


def test_search_filters_and_pages_are_in_the_address(runs: dict[str, int], page: Page) -> None:
    review(page, runs["tutor"], "?show=all")
    press(page, *["j"] * 24)
    at(page, 25)
    press(page, "j")
    at(page, 26)
    assert "after=25" in page.url
    press(page, "k")
    at(page, 25)
    page.get_by_role("link", name="Failed").click()
    expect(page.locator("#row-1")).to_have_count(0)
    assert "failed=yes" in page.url
    page.go_back()
    expect(page.locator("#row-1")).to_be_visible()
    press(page, "/")
    page.keyboard.type("rainbow")
    page.keyboard.press("Enter")
    expect(page.locator("#row-1")).to_have_count(0)
    at(page, 2)
    expect(page.locator("#count")).to_have_text("6 examples")
    page.get_by_role("link", name="llama-70b: make it the baseline").click()
    expect(page.locator('[data-head="2"]')).to_contain_text("baseline")
    assert "baseline=2" in page.url


def test_no_key_decides_while_somebody_types_or_a_decision_is_saved(runs: dict[str, int], page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/do/" in request.url else None)
    review(page, runs["tutor"], "?show=all")
    press(page, "/")
    page.keyboard.type("grx15u")
    page.keyboard.press("Escape")
    for place in ("t", "n"):
        press(page, place)
        page.keyboard.type("gjrx5")
        page.keyboard.press("Escape")
    at(page, 1)
    assert not [url for url in asked if "lock" not in url and "release" not in url]

    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/do/rate/**", hold)
    page.locator("#review:not([data-busy])").wait_for()
    with page.expect_request("**/do/rate/**"):
        page.keyboard.press("3")
    pulsed = page.locator('#dock [data-key="3"].rv-pulse')
    page.keyboard.press("j")
    page.keyboard.press("g")
    at(page, 1)
    expect(face(page).locator('[data-rate="3"]')).to_have_attribute("aria-pressed", "true")  # shown before it is saved
    expect(pulsed).to_have_count(0)
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    page.locator("#review:not([data-busy])").wait_for()
    assert not [url for url in asked if "star" in url]
    press(page, "j")
    at(page, 2)
    page.locator(".rv-cell").first.evaluate(
        "cell => cell.dispatchEvent(new KeyboardEvent('keydown', {key: 'r', bubbles: true, repeat: true}))"
    )
    assert not [url for url in asked if "state" in url]  # a key that is held down only moves


def test_a_refused_decision_is_put_back(runs: dict[str, int], page: Page, as_user: SignedIn) -> None:
    mia = as_user("mia")
    review(mia, runs["tutor"], "?show=all#row-16")  # no other test stays there: its page may close with the lock taken
    at(mia, 16)
    mia.route("**/do/star/**", lambda route: route.fulfill(status=409, json={"error": "Ben was quicker."}))
    press(mia, "l", "g")
    expect(mia.locator("#toast")).to_contain_text("Ben was quicker.")
    expect(face(mia)).not_to_have_attribute("data-starred", "")
    mia.route("**/do/rate/**", lambda route: route.abort())
    press(mia, "2")
    expect(mia.locator("#toast")).to_contain_text("cannot be reached")
    expect(face(mia).locator('[data-rate="2"]')).to_have_attribute("aria-pressed", "false")


def test_two_reviewers_at_once(runs: dict[str, int], as_user: SignedIn) -> None:
    mia, ben = as_user("mia"), as_user("ben")
    review(mia, runs["tutor"], "?show=all#row-12")
    at(mia, 12)
    with mia.expect_response(lambda answer: "/do/lock/" in answer.url and "13" in (answer.request.post_data or "")):
        press(mia, "j")
    review(ben, runs["tutor"], "?show=all#row-13")  # he takes no other row, which the next test may want
    row = ben.locator("#row-13")
    expect(row).to_contain_text("mia works on this")
    row.locator(".rv-cell").first.click()
    press(ben, "g")
    expect(ben.locator("#toast")).to_contain_text("mia works on this")
    expect(row.locator("[data-starred]")).to_have_count(0)


def test_no_edit_is_lost(runs: dict[str, int], as_user: SignedIn) -> None:
    one = as_user("mia")
    review(one, runs["tutor"], "?show=all#row-20")
    press(one, "l", "e")
    one.keyboard.type(" From one tab.")
    other = one.context.new_page()
    review(other, runs["tutor"], "?show=all#row-20")
    press(other, "l", "e")
    other.keyboard.type(" From the other.")
    press(other, "Control+Enter")
    expect(face(other)).to_contain_text("From the other.")
    one.bring_to_front()
    press(one, "Control+Enter")
    expect(one.locator(".rv-box textarea")).to_have_value(re.compile("From one tab"))
    expect(one.locator(".rv-theirs")).to_contain_text("From the other.")
    one.get_by_role("link", name="Starred", exact=True).click()
    expect(one.locator("#toast")).to_contain_text("not saved")
    press(one, "Control+Enter")
    expect(face(one)).to_contain_text("From one tab.")


def test_blind_pairs_hide_names_until_the_vote(runs: dict[str, int], page: Page) -> None:
    review(page, runs["tutor"], "?show=all&blind=1")
    hidden = page.evaluate("document.documentElement.outerHTML")
    assert not [label for label in LABELS if label in hidden]
    press(page, "Control+Enter")
    expect(page.locator("#toast")).to_contain_text("Vote first")
    at(page, 1)
    shoot(page, "review-blind")
    press(page, "g", "5", "e", "d")  # they would tell names, or mean nothing here
    assert not [label for label in LABELS if label in page.evaluate("document.documentElement.outerHTML")]
    press(page, "a")
    reveal = selected(page).locator(".rv-reveal")
    expect(reveal).to_contain_text("A is better")
    assert [label for label in LABELS if label in reveal.inner_text()]
    shoot(page, "review-blind-voted")
    press(page, "Control+Enter")
    at(page, 2)
    press(page, "t")
    expect(selected(page).locator(".rv-reveal")).to_contain_text("A tie")


def test_the_queue_goes_on_by_itself(runs: dict[str, int], as_user: SignedIn) -> None:
    ben = as_user("ben")
    review(ben, runs["compared"])
    expect(ben.locator("#progress")).to_contain_text("0 of 24 done by you")
    ben.get_by_role("link", name="Start reviewing").click()
    expect(ben.locator("#rows .rv-row")).to_have_count(1)
    first = selected(ben).get_attribute("data-number")
    shoot(ben, "review-queue")
    press(ben, "Control+Enter")
    expect(ben.locator("#progress")).to_contain_text("1 of 24 done by you")
    assert selected(ben).get_attribute("data-number") != first
    press(ben, "u")
    expect(ben.locator("#progress")).to_contain_text("0 of 24 done by you")


def test_hostile_texts_do_nothing(runs: dict[str, int], page: Page) -> None:
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    for query in ("", "&render=markdown", "&render=json", "&diff=1", "&blind=1"):
        review(page, runs["hostile"], f"?show=all{query}")
        assert page.locator("#rows :is(script, img, svg, iframe)").count() == 0
        assert "pwned" not in page.title()
    review(page, runs["hostile"], "?show=all")
    press(page, "Enter")
    expect(page.locator("#panel [data-example]")).to_be_visible()
    assert page.locator("#panel :is(script, img, svg, iframe)").count() == 0
    page.keyboard.press("Escape")
    press(page, "e", "Control+Enter", "j", "j", "j")
    at(page, 4)
    long = selected(page).locator(".rv-prompt")
    long.get_by_role("button", name="show all", exact=True).click()
    expect(long.locator(".rv-text")).to_have_attribute("data-opened", "")
    more = selected(page).locator(".rv-cell .rv-rest").first
    expect(more).to_have_text("Show all 200,000 characters")
    more.click()
    expect(more).to_have_text("Show more")
    more.click()
    expect(more).to_have_count(0)
    assert selected(page).locator(".rv-cell .rv-text").first.evaluate("text => text.textContent.length") == 200_000
    assert "pwned" not in page.title()
    shoot(page, "review-hostile")


def test_a_viewer_only_looks(runs: dict[str, int], as_user: SignedIn) -> None:
    vic = as_user("vic")
    review(vic, runs["tutor"])
    press(vic, "j", "g")
    expect(vic.locator("#toast")).to_contain_text("You may look")
    expect(vic.locator('#dock [data-key="g"]')).to_have_count(0)
    expect(vic.get_by_role("link", name="Start reviewing")).to_have_count(0)


def test_axe_finds_nothing_serious(runs: dict[str, int], page: Page) -> None:
    def check(name: str) -> None:
        assert not serious(page), name

    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 820})
        for name, query in (("rows", "?show=all&diff=1"), ("blind", "?show=all&blind=1"), ("queue", "?queue=1")):
            review(page, runs["tutor"], query)
            check(f"{name}, {width}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}, {width}"
    page.set_viewport_size({"width": 1280, "height": 820})
    review(page, runs["tutor"], "?show=all#row-2")
    press(page, "e")
    check("an editor")
    page.keyboard.press("Escape")
    press(page, "Enter")
    expect(page.locator("#panel [data-example]")).to_be_visible()
    check("one example")
    page.keyboard.press("Escape")
    press(page, "?")
    check("keys")
    page.goto(f"{RUNS}/{runs['compared']}/results/")
    expect(page.locator(".rv-confusion")).to_be_visible()
    expect(page.locator(".rv-sentences").first).to_be_visible()
    check("results")
    shoot(page, "review-results")
