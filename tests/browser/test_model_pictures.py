"""The pictures of a model's life in the docs, taken anew: PICTURES=models pytest PATH. The engine is the real one."""

import os
import re
from collections.abc import Iterator

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from tests.browser import cast
from tests.browser.conftest import PATIENCE, play, sign_in
from tests.models.hubs import RunningHub, running_hub
from tests.stack.live import REPOSITORY, LiveStack

FOLDER = REPOSITORY / "docs/img"
WEIGHTS = settings.BASE_DIR / "var/models/smollm2-135m-instruct"  # made by `make setup`
NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
RATE = 14_000_000  # bytes a second
BOOT = 240_000  # milliseconds
MEASURE = 600_000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.environ.get("PICTURES") != "models", reason="Taken only when asked: PICTURES=models."),
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """The demo model, under the name that it has on the hub."""
    with running_hub(tmp_path_factory.mktemp("hub") / "repositories") as hub:
        folder = hub.add(NAME, {}, rate=RATE, license="apache-2.0")
        for file in WEIGHTS.iterdir():
            (folder / file.name).symlink_to(file)
        yield hub


@pytest.fixture(scope="module")
def site(browser: Browser, hub: RunningHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    with LiveStack(tmp_path_factory.mktemp("models"), env={"GPU_SLOTS": "cpu", "HF_ENDPOINT": hub.endpoint}) as stack:
        play(stack, "from tests.browser.cast import main; main()")
        yield stack


@pytest.fixture
def photographer(browser: Browser, site: LiveStack) -> Iterator[Page]:
    context = browser.new_context(
        base_url=site.web_url, viewport={"width": 1280, "height": 800}, device_scale_factor=2
    )  # fmt: skip
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    sign_in(page, cast.NAME, cast.PASSWORD)
    yield page
    context.close()


def shoot(page: Page, name: str) -> None:
    for scheme, mark in (("light", ""), ("dark", "-dark")):
        page.evaluate(f"document.documentElement.classList.toggle('dark', {str(scheme == 'dark').lower()})")
        page.wait_for_timeout(300)
        page.screenshot(path=FOLDER / f"{name}{mark}.png")
    page.evaluate("document.documentElement.classList.remove('dark')")


def test_a_models_life(photographer: Page) -> None:
    page = photographer
    page.goto("/admin/models/install/add/")
    page.get_by_label("Model", exact=False).first.fill(NAME)
    page.get_by_role("button", name="Install").click()
    share = page.locator("#install [data-bar=bytes]")
    expect(share).to_have_attribute("style", re.compile(r"width: ?[4-7]\d"), timeout=BOOT)
    shoot(page, "install")
    expect(page.locator("#install .bs-pill")).to_have_text("ready", timeout=BOOT)

    page.get_by_role("link", name="Try it").click()
    page.get_by_label("Prompt", exact=True).fill("Explain in two sentences why the sky is blue.")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".bs-column .bs-figures").first).to_contain_text("tokens in", timeout=BOOT)
    shoot(page, "playground")

    page.goto(f"/admin/models/benchmark/add/?model={NAME}")
    page.get_by_label("Requests in flight").fill("1, 2, 4, 8, 16, 32")
    page.get_by_label("Requests", exact=True).fill("16")
    page.get_by_label("Prompt tokens").fill("64")
    page.get_by_label("Output tokens").fill("16")
    page.get_by_role("button", name="Measure").click()
    expect(page.locator("#benchmark .bs-pill")).to_have_text("completed", timeout=MEASURE)
    page.wait_for_timeout(500)
    shoot(page, "benchmark")
