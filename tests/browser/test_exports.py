"""An export is chosen and watched in a real Chromium, while a real worker writes it."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import play
from tests.stack.live import LiveStack

pytestmark = pytest.mark.browser

DATA = """
from apps.accounts.models import Project
from tests.datasets.exports import starred_run
starred_run(Project.objects.get(name="research"), name="capitals of the world")
"""


@pytest.fixture(scope="module")
def run(site: LiveStack) -> None:
    play(site, DATA)


def test_it_works(run: None, page: Page) -> None:
    page.goto("/admin/datasets/export/add/")
    page.locator("select[name=dataset]").select_option(label="capitals of the world (research)")
    page.locator("select[name=run]").select_option(label="run")
    expect(page.get_by_text("3 rows would be exported")).to_be_visible()
    page.get_by_text("TRL preference pairs").click()
    expect(page.get_by_text("Nothing would be exported")).to_be_visible()  # nobody preferred anything yet
    expect(page.get_by_text("Best rated")).to_be_hidden()
    page.get_by_text("Gold star against the rest").click()
    expect(page.get_by_text("2 pairs would be exported")).to_be_visible()
    page.get_by_role("button", name="Export", exact=True).click()
    link = page.locator("#export").get_by_role("link", name="Download")
    expect(link).to_be_visible()  # by itself, once it is done
    with page.expect_download() as download:
        link.click()
    assert len(download.value.path().read_text().splitlines()) == 2


def test_a_filter_is_taken_away(run: None, page: Page) -> None:
    page.goto("/admin/datasets/export/add/")
    page.locator("select[name=dataset]").select_option(label="capitals of the world (research)")
    page.locator("select[name=run]").select_option(label="run")
    expect(page.get_by_text("3 rows would be exported")).to_be_visible()
    page.goto(f"{page.url}&show=differs")
    expect(page.get_by_text("2 rows would be exported")).to_be_visible()
    page.get_by_role("button", name="Take away: answers: differs").click()
    expect(page.get_by_text("3 rows would be exported")).to_be_visible()
