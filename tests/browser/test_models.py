"""A model from the hub's address to its deletion, by hand: watched, tried, measured."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import cast
from tests.browser.conftest import play, shoot
from tests.fakes.hostile.folders import entries, safetensors, tiny_model
from tests.models.hubs import RunningHub, running_hub
from tests.stack.live import REPOSITORY, LiveStack

pytestmark = pytest.mark.browser
WEIGHTS = {"model.embed_tokens.weight": [4000, 500], "lm_head.weight": [4000, 500]}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("hub") / "repositories") as hub:
        files = tiny_model() | {"model.safetensors": safetensors(entries(WEIGHTS))}
        hub.add("acme/slow", files, rate=1_500_000)
        hub.add("acme/evil", tiny_model(auto_map={"AutoModel": "modeling.Evil"}))
        hub.add("acme/gated", tiny_model(), gated=True)
        yield hub


@pytest.fixture(scope="module")
def site(browser: Browser, hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    env = {
        "ENGINE_PYTHON": str(REPOSITORY / "tests/fakes/engine/python"), "GPU_SLOTS": "cpu", "HF_ENDPOINT": hub.endpoint,
        "ENGINE_PASS_ENV": "FAKE_ENGINE_*", "FAKE_ENGINE_TOKEN_SECONDS": "0.05", "INTERACTIVE_LINGER_SECONDS": "2",
    }  # fmt: skip
    with LiveStack(tmp_path_factory.mktemp("models"), env=env) as stack:
        play(stack, "from tests.browser.cast import main; main()")
        yield stack


def install(page: Page, source: str, name: str = "") -> None:
    page.goto("/admin/models/install/add/")
    page.get_by_label("Model", exact=False).first.fill(source)
    page.get_by_label("Call it").fill(name)
    page.get_by_role("button", name="Install").click()


def test_it_works(page: Page, hub: RunningHub) -> None:
    """Paste the address, watch the bytes, try a prompt, measure, see the chart, delete with a preview."""
    page.goto("/admin/models/model/")
    page.get_by_role("link", name="Install a model").click()
    shoot(page, "install-new")
    install(page, f"{hub.endpoint}/acme/slow", "slow")
    status = page.locator("#install .bs-pill")
    expect(status).to_have_text("downloading")
    page.evaluate("window.notReloaded = true")
    share = page.locator("#install [data-bar=bytes]")
    expect(share).to_have_attribute("style", re.compile(r"width: ?[1-9]"))
    before = float(re.findall(r"[\d.]+", share.get_attribute("style") or "")[0])
    page.wait_for_function(
        "start => parseFloat(document.querySelector('#install [data-bar=bytes]').style.width) > start", arg=before
    )
    assert page.evaluate("window.notReloaded")  # it moved by itself
    shoot(page, "install-downloading")
    expect(status).to_have_text("ready")
    shoot(page, "install-ready")

    try_it(page)
    measure_it(page)
    delete_it(page)


def try_it(page: Page) -> None:
    page.get_by_role("link", name="Try it").click()
    page.get_by_label("Prompt", exact=True).fill("one two three four five six")
    page.get_by_role("button", name="Another model").click()
    page.get_by_label("Model").nth(1).select_option(cast.MODEL)
    page.get_by_role("button", name="Ask").click()
    figures = page.locator(".bs-column .bs-figures")
    expect(figures.nth(0)).to_contain_text("tokens in")
    expect(figures.nth(1)).to_contain_text("tokens in")
    expect(page.locator(".bs-answer").nth(1)).to_contain_text("three")
    assert "model=slow" in page.url
    page.get_by_role("button", name="Copy as curl").click()
    assert '"model": "slow"' in page.evaluate("navigator.clipboard.readText()")
    page.once("dialog", lambda dialog: dialog.accept("favourites"))
    page.get_by_role("button", name="Save as example").click()
    shoot(page, "playground")
    page.get_by_role("link", name="Saved in favourites").click()
    expect(page.get_by_text("one two three four five six").first).to_be_visible()
    shoot(page, "examples")


def measure_it(page: Page) -> None:
    page.goto("/admin/models/benchmark/add/?model=slow")
    page.get_by_label("Requests in flight").fill("1, 2, 4")
    page.get_by_label("Requests", exact=True).fill("8")
    page.get_by_label("Output tokens").fill("8")
    shoot(page, "benchmark-new")
    page.get_by_role("button", name="Measure").click()
    expect(page.locator("#benchmark .bs-pill")).to_have_text("completed")
    expect(page.locator("canvas[data-chart]")).to_have_count(3)
    assert (
        page.evaluate("Chart.getChart(document.querySelector('canvas[data-chart]')).data.datasets[0].data.length") == 3
    )
    shoot(page, "benchmark")


def delete_it(page: Page) -> None:
    page.goto("/admin/models/model/")
    shoot(page, "models")
    page.get_by_role("link", name="slow").click()
    shoot(page, "model")
    page.get_by_role("link", name="Delete").first.click()
    expect(page.get_by_text("Disk space that is freed")).to_be_visible()
    shoot(page, "delete")
    page.get_by_role("button", name="Delete slow").click()
    expect(page.get_by_text("slow is deleted.")).to_be_visible()


def test_a_hostile_repository_is_refused_with_file_and_reason(page: Page) -> None:
    install(page, "acme/evil")
    expect(page.locator("#install .bs-pill")).to_have_text("refused")
    row = page.locator("tr", has_text="config.json")
    expect(row).to_contain_text("needs code of its own")
    shoot(page, "install-refused")


def test_a_gated_repository_says_what_it_needs(page: Page) -> None:
    install(page, "acme/gated")
    expect(page.locator("#install .bs-pill")).to_have_text("refused")
    expect(page.locator("#install .bs-message")).to_contain_text("token")


def test_what_cannot_be_an_address_is_said_beside_the_field(page: Page) -> None:
    install(page, "https://example.com/a/b")
    expect(page.get_by_text("Models come from")).to_be_visible()


def test_hostile_answers_stay_text(page: Page) -> None:
    page.goto(f"/admin/models/model/playground/?model={cast.MODEL}")
    page.get_by_label("Prompt", exact=True).fill("<img src=x onerror=\"document.title='pwned'\">")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".bs-column .bs-figures").first).to_contain_text("tokens in")
    assert page.locator(".bs-answer img").count() == 0
    assert page.title() != "pwned"
