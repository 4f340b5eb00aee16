"""The README's picture, taken anew from a site that `make demo` left running: PICTURES=var/demo.env pytest PATH."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PATIENCE, sign_in
from tests.stack.live import REPOSITORY

DEMO = os.environ.get("PICTURES", "")
FOLDER = REPOSITORY / "docs/img"
SUBJECTS = (
    "the tides",
    "a rainbow",
    "inflation",
    "photosynthesis",
    "a hash table",
    "the moon's phases",
    "vaccines",
    "yeast",
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not DEMO, reason="Taken only when asked: PICTURES=var/demo.env, after `make demo`."),
]


@pytest.fixture(scope="module")
def demo() -> dict[str, str]:
    lines = Path(DEMO).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture(params=["light", "dark"])
def photographer(browser: Browser, demo: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(
        base_url=demo["WEB_URL"],
        color_scheme=request.param,
        viewport={"width": 1280, "height": 860},
        device_scale_factor=2,
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    sign_in(page, demo["ADMIN_USER"], demo["ADMIN_PASSWORD"])
    yield page
    context.close()


def questions(model: str) -> str:
    """Eighty requests that a small model can answer."""
    lines = []
    for number in range(80):
        content = (
            f"Explain {SUBJECTS[number % len(SUBJECTS)]} to a {8 + number // len(SUBJECTS)}-year-old in one sentence."
        )
        body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 48}
        line = {"custom_id": f"explain-{number + 1}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        lines.append(json.dumps(line))
    return "\n".join(lines)


def test_a_running_batch(
    photographer: Page, demo: dict[str, str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    page, mark = photographer, "-dark" if request.node.callspec.params["photographer"] == "dark" else ""
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = tmp_path / "explain.jsonl"
    file.write_text(questions(demo["MODEL"]))
    page.goto("/admin/batches/batch/add/")
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Upload and start").click()
    page.wait_for_function(
        "parseFloat(document.querySelector('.bs-large [data-bar=completed]').style.width) > 30", timeout=180_000
    )
    page.reload()
    expect(page.locator("#lines tbody tr").first).to_be_visible()
    page.screenshot(path=FOLDER / f"batch-running{mark}.png")
