"""Whether a page can be used by everybody: axe-core's verdict, in both themes."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

MARKUP = 160  # characters of each element that is shown


def serious(page: Page) -> list[tuple[str, Any]]:
    """What axe finds serious or critical. Only colours differ in the dark: nothing else is looked at again there."""
    found = _violations(page, dark=False) + _violations(page, dark=True, runOnly=["color-contrast"])
    _show(page, dark=False)
    return [
        (each["id"], [node["html"][:MARKUP] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def _violations(page: Page, *, dark: bool, **options: Any) -> list[dict[str, Any]]:
    _show(page, dark=dark)
    return list(Axe().run(page, options={"resultTypes": ["violations"], **options}).response["violations"])


def _show(page: Page, *, dark: bool) -> None:
    turned = page.evaluate(
        "dark => document.documentElement.classList.contains('dark') !== dark"
        " && (document.documentElement.classList.toggle('dark'), true)",
        dark,
    )
    if turned:
        page.wait_for_timeout(400)  # colours change slowly
