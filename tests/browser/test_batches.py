"""The main job in a browser."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Start

pytestmark = pytest.mark.browser

LINES = 400  # about ten seconds of the fake engine


def share(bar: Locator) -> float:
    """The width of a bar in percent."""
    return float(bar.evaluate("bar => parseFloat(bar.style.width)"))


def watch(page: Page, bar: Locator, more_than: float) -> float:
    """Wait until the bar is longer, on the very page that is open now."""
    page.evaluate("window.same = true")
    script = "([bar, more]) => window.same && parseFloat(bar.style.width) > more"
    page.wait_for_function(script, arg=[bar.element_handle(), more_than])
    return share(bar)


def completed(page: Page) -> None:
    expect(page.locator(".bs-large .bs-pill")).to_have_text("completed")
    expect(page.get_by_role("link", name="Download output")).to_be_visible()


def test_it_works(start: Start, tmp_path: Path) -> None:
    page = start(LINES)
    bar = page.locator('.bs-large [data-bar="completed"]')
    seen = watch(page, bar, 0)
    assert watch(page, bar, seen) > seen
    expect(page.locator("#lines tbody tr")).to_have_count(50)  # fetched once the input was validated
    assert page.evaluate("window.same")
    completed(page)  # the page loads itself anew at the end
    expect(page.locator("#lines tbody tr")).to_have_count(50)

    page.get_by_role("searchbox", name="Search custom_id").fill("square-77")
    page.keyboard.press("Enter")
    page.locator("#lines tbody tr", has_text="square-77").locator("a").click()
    expect(page.locator("#prompt")).to_have_text("What is 77 times 77?")
    expect(page.locator("#answer")).to_have_text("Answer to: What is 77 times 77?")
    page.get_by_text("JSON as it was sent").click()
    expect(page.locator("#request-json")).to_contain_text('"messages"')
    page.get_by_role("link", name="All lines").click()

    with page.expect_download() as download:
        page.get_by_role("link", name="Download output").click()
    download.value.save_as(tmp_path / "output.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "output.jsonl").read_text().splitlines()]
    assert [line["custom_id"] for line in lines] == [f"square-{number}" for number in range(1, LINES + 1)]


def test_the_list_moves_too_and_cancels(start: Start) -> None:
    page = start(2000)
    page.goto("/admin/batches/batch/")
    row = page.locator("tr:has([data-batch])").first
    watch(page, row.locator('[data-bar="completed"]'), 0)
    row.locator("input.action-select").check()
    page.get_by_label("Select action to run").select_option("cancel")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("is being cancelled")).to_be_visible()
    expect(page.locator("tr:has([data-status])").first.locator(".bs-pill")).to_have_text("cancelled")


def test_it_pauses_resumes_and_cancels(start: Start) -> None:
    page = start(2000)
    watch(page, page.locator('.bs-large [data-bar="completed"]'), 0)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".bs-large .bs-pill")).to_have_text("paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".bs-large .bs-pill")).to_have_text("in progress")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".bs-large .bs-pill")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_it_shows_what_is_wrong_with_a_file(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "broken.jsonl"
    file.write_text('{"custom_id": "a"\n')
    page.goto("/admin/batches/batch/add/")
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Upload and start").click()
    expect(page.get_by_role("heading", name="What is wrong with the input file")).to_be_visible()
    expect(page.locator("table td").first).to_have_text("1")
