"""A key for the API, made and used by hand."""

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.browser import cast
from tests.stack.live import LiveStack

pytestmark = pytest.mark.browser


def test_it_works(page: Page, site: LiveStack) -> None:
    page.goto("/admin/accounts/apikey/add/")
    page.get_by_label("Project").select_option(label=cast.PROJECT)
    page.get_by_label("Name", exact=False).first.fill("notebook")
    page.get_by_role("button", name="Save", exact=True).click()
    secret = page.locator("#secret").inner_text()
    page.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    models = httpx2.get(f"{site.base_url}/models", headers={"Authorization": f"Bearer {secret}"}).json()
    assert cast.MODEL in [model["id"] for model in models["data"]]

    page.get_by_role("link", name="I have copied it").click()
    expect(page.get_by_text(secret[:10])).to_be_visible()
    assert secret not in page.content()


def test_the_landing_page_can_be_copied(page: Page, site: LiveStack) -> None:
    page.goto("/")
    page.locator("article", has_text="Python").get_by_role("button", name="Copy").click()
    code = page.evaluate("navigator.clipboard.readText()")
    assert f'base_url="{site.base_url}"' in code
    assert cast.MODEL in code
    compile(code, "first_batch.py", "exec")


def test_every_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/", "/admin/", "/admin/batches/batch/", "/admin/batches/batch/add/", "/admin/accounts/apikey/"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
