"""The pictures of fine-tuning in the docs, taken anew: PICTURES=training pytest PATH. Trainer and engine are real."""

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import cast
from tests.browser.conftest import PATIENCE, play, sign_in
from tests.browser.test_model_pictures import shoot
from tests.browser.training_cast import DATASET
from tests.stack.live import LiveStack

JOBS = "/admin/training/trainingjob/"
STEPS = "40"
TRAIN = 1_200_000  # milliseconds, on a machine that does much else
BOOT = 600_000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.environ.get("PICTURES") != "training", reason="Taken only when asked: PICTURES=training."),
]


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    with LiveStack(tmp_path_factory.mktemp("training"), env={"GPU_SLOTS": "cpu"}) as stack:
        play(stack, "from tests.browser.training_cast import doors; doors()")
        yield stack


@pytest.fixture
def photographer(browser: Browser, site: LiveStack) -> Iterator[Page]:
    context = browser.new_context(
        base_url=site.web_url, viewport={"width": 1280, "height": 860}, device_scale_factor=2
    )  # fmt: skip
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    sign_in(page, cast.NAME, cast.PASSWORD)
    yield page
    context.close()


def begin(page: Page, suffix: str, rate: str) -> None:
    """The form, filled in; the page is then the form's still."""
    page.locator("[name=model][value=smollm2-135m-instruct]").check()
    page.get_by_label("Suffix").fill(suffix)
    page.locator("[name=o_learning_rate]").fill(rate)
    page.locator("[name=o_validation_share]").fill("0.15")
    page.get_by_text("More options").click()
    for name, value in (
        ("max_steps", STEPS),
        ("batch_size", "8"),
        ("accumulation", "1"),
        ("eval_steps", "4"),
        ("max_length", "128"),
    ):
        page.locator(f"[name=o_{name}]").fill(value)
    page.get_by_text("More options").click()
    expect(page.locator("[data-told=steps]")).to_have_text(STEPS)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)


def choose_the_stars(page: Page) -> None:
    page.goto(f"{JOBS}stars/")
    page.locator("select[name=dataset]").select_option(label=f"{DATASET} ({cast.PROJECT})")
    page.wait_for_url("**dataset=**")
    page.locator("select[name=run]").select_option(label="codes")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("[data-told=examples]")).to_have_text("48")


def test_a_fine_tuned_models_life(photographer: Page) -> None:
    page = photographer
    choose_the_stars(page)
    begin(page, "doors", "0.001")
    shoot(page, "training-new")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_function("Number(document.querySelector('#job')?.dataset.completed) >= 30", timeout=TRAIN)
    page.wait_for_timeout(1500)
    shoot(page, "training-job")
    expect(page.locator("#job[data-status=succeeded]")).to_be_visible(timeout=TRAIN)
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.locator("#deployment[data-status=ready]")).to_be_visible(timeout=BOOT)
    page.evaluate("document.querySelector('#parity').scrollIntoView()")
    shoot(page, "training-deployment")
    page.get_by_role("link", name="Lineage").click()
    expect(page.locator("#lineage")).to_be_visible()
    shoot(page, "training-lineage")

    choose_the_stars(page)
    begin(page, "slower", "0.0003")
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#job[data-status=succeeded]")).to_be_visible(timeout=TRAIN)
    page.goto(JOBS)
    expect(page.locator("#result_list polyline")).to_have_count(2)
    shoot(page, "training-list")
    for box in page.locator("#result_list input.action-select").all():
        box.check()
    page.locator("select[name=action]").select_option(label="Compare curves")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("[data-chart=compared] polyline")).to_have_count(2)
    shoot(page, "training-compared")
