"""A run by hand: chosen with its estimate, watched, asked again, judged."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import cast
from tests.browser.conftest import play, shoot
from tests.stack.live import LiveStack

pytestmark = pytest.mark.browser
SETUP = """
import json
from pathlib import Path
from django.conf import settings
from apps.accounts.models import Project
from apps.datasets.models import Example
from apps.models.models import Model
from apps.models.services import register_model
from tests.browser import cast
from tests.datasets.cast import make_version
project = Project.objects.get(name=cast.PROJECT)
prompts = [f"What is {n} times {n}? !slow:0.2" for n in range(1, 120)] + ["Broken. !400"]
version = make_version(project, prompts, name="squares")
folder = Path(settings.MODELS_DIR) / "other"
folder.mkdir(parents=True)
(folder / "config.json").write_text("{}")
register_model(name="large-fake", path=folder)
"""


@pytest.fixture(scope="module", autouse=True)
def squares(site: LiveStack) -> None:
    play(site, SETUP)


def test_it_works(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto("/admin/datasets/run/")
    page.get_by_role("link", name="New run").click()
    page.get_by_label("Dataset").select_option(label=f"squares ({cast.PROJECT})")
    for model in (cast.MODEL, "large-fake"):
        page.get_by_label(model).check()
    page.get_by_label("Max tokens").fill("8")
    estimate = page.locator("[data-estimated]")
    expect(estimate).to_contain_text("960")  # 120 examples of 8 tokens, without a reload
    shoot(page, "run-new")
    page.get_by_role("button", name="Start").click()

    column = page.locator("[data-column]").first
    answered = column.locator("[data-field=answered]")
    expect(answered).not_to_have_text("0")
    expect(column).to_have_attribute("data-status", "in_progress")
    expect(page.get_by_role("link", name="Review")).to_be_visible()
    shoot(page, "run-going")
    page.goto("/admin/datasets/run/")
    shoot(page, "run-list")
    page.get_by_role("link", name="squares v1, 2 models").click()
    expect(page.locator("#run[data-status=completed]")).to_be_visible(timeout=90_000)
    expect(page.get_by_role("button", name="Re-run 2 missing")).to_be_visible()
    expect(answered).to_have_text("119")
    expect(page.get_by_role("link", name="Review")).to_be_visible()

    page.locator("#judges select[name=model]").select_option(cast.MODEL)
    page.get_by_label("Rubric").fill("5: right. 1: wrong.")
    page.get_by_role("button", name="Judge").click()
    judge = page.locator("[data-judge]")
    expect(judge).to_be_visible()
    expect(page.locator("[data-judge][data-status=failed], [data-judge][data-status=completed]")).to_be_visible(
        timeout=90_000
    )
    page.wait_for_function("!document.querySelector('[data-watch]')")  # a fresh page, once all has ended
    shoot(page, "run-judged")


def test_answers_made_elsewhere(page: Page, tmp_path: Path) -> None:
    answers = tmp_path / "elsewhere.jsonl"
    answers.write_text("".join(f'{{"number": {number}, "answer": "{number * number}"}}\n' for number in range(1, 121)))
    page.goto("/admin/datasets/run/")
    page.get_by_role("link", name="squares v1, 2 models").click()
    page.get_by_text("Import answers").click()
    page.get_by_label("JSON, CSV or Parquet, packed or not").set_input_files(answers)
    expect(page.get_by_label("Name of the column")).to_have_value("")  # not the theme's: a plain input shows its file
    page.get_by_role("button", name="Import", exact=True).click()
    column = page.locator("[data-column]", has_text="elsewhere.jsonl")
    expect(column.locator("[data-field=answered]")).to_have_text("120")


def test_what_is_typed_is_not_lost_to_a_fresh_page(page: Page) -> None:
    """The run ends while somebody writes a rubric."""
    page.goto("/admin/datasets/run/add/")
    page.get_by_label("Dataset").select_option(label=f"squares ({cast.PROJECT})")
    page.get_by_label(cast.MODEL).check()
    page.get_by_label("Name").fill("second")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("[data-column] [data-field=answered]")).not_to_have_text("0")
    page.reload()  # there are answers now, so there can be a judge
    page.get_by_label("Rubric").fill("5: right, and I am still wri")
    expect(page.locator("#run[data-status=completed]")).to_be_visible(timeout=90_000)
    page.wait_for_timeout(1_500)
    expect(page.get_by_label("Rubric")).to_have_value("5: right, and I am still wri")
