"""The workbench from end to end, on the real engine: upload, correct, run two models, review by keyboard, export.

PICTURES=workbench keeps what is seen on the way in docs/img.
"""

import json
import os
import random
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PATIENCE, play, sign_in
from tests.browser.test_review import press, review, selected
from tests.models.test_engine_real import RANK, WIDTH, write_adapter
from tests.stack.live import REPOSITORY, LiveStack

pytestmark = [pytest.mark.browser, pytest.mark.engine, pytest.mark.timeout(900)]

TAKEN = os.environ.get("PICTURES") == "workbench"
WEIGHTS = settings.BASE_DIR / "var/models/smollm2-135m-instruct"  # made by `make setup`
ANSWERED = 400_000  # milliseconds: the engine is started first
ROWS = 40
BAD = 23
SUBJECTS = ("the tides", "a rainbow", "inflation", "yeast", "vaccines", "the moon", "a hash table", "thunder")
PEOPLE = """
from apps.accounts.services import create_project
from apps.models.models import Model
from apps.models.services import register_model
from pathlib import Path
from django.contrib.auth.models import User
User.objects.create_superuser("ada", "ada@example.org", "analytical-engine")
create_project(name="research")
base = register_model(name="smollm2-135m", path=Path({base!r}))
register_model(name="smollm2-135m-tuned", path=Path({adapter!r}), base=base)
"""


def tuned(folder: Path) -> Path:
    """An adapter that changes what the model says: small random weights."""
    write_adapter(folder)
    file = folder / "adapter_model.safetensors"
    content = file.read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    chance = random.Random(7)
    values = [int(chance.gauss(0, 0.04) * 2**15) for _ in range(2 * RANK * WIDTH)]  # upper halves of float32: bfloat16
    floats = b"".join(struct.pack("<f", value / 2**15)[2:] for value in values)
    file.write_bytes(content[:start] + floats)
    return folder


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    folder = tmp_path_factory.mktemp("workbench")
    with LiveStack(folder / "var", env={"GPU_SLOTS": "cpu", "ENGINE_KV_CACHE_GIB": "1"}) as stack:
        script = PEOPLE.format(base=str(WEIGHTS), adapter=str(tuned(folder / "tuned")))
        play(stack, script)
        yield stack


@pytest.fixture
def page(site: LiveStack, browser: Browser) -> Iterator[Page]:
    context = browser.new_context(
        base_url=site.web_url, viewport={"width": 1280, "height": 820}, device_scale_factor=2 if TAKEN else 1
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    sign_in(page)
    yield page
    context.close()


def picture(page: Page, number: int, name: str) -> None:
    if TAKEN:
        page.wait_for_timeout(400)
        page.screenshot(path=REPOSITORY / f"docs/img/workbench-{number:02}-{name}.png")


def rows(*, bad: bool) -> str:
    lines = []
    for number in range(1, ROWS + 1):
        subject, age = SUBJECTS[number % len(SUBJECTS)], 6 + number
        question = {"role": "user", "content": f"Explain {subject} to a {age}-year-old in one sentence."}
        lines.append(json.dumps({"messages": [question]}))
    if bad:
        lines[BAD - 1] = lines[BAD - 1][:-2]
    return "\n".join(lines) + "\n"


def upload(page: Page, folder: Path, name: str, *, bad: bool) -> None:
    file = folder / name
    file.write_text(rows(bad=bad))
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Upload and preview").click()
    expect(page.locator("#preview")).to_contain_text("Explain a rainbow")


def test_it_works(page: Page, tmp_path: Path) -> None:
    page.goto("/admin/datasets/dataset/add/")
    page.get_by_label("Name").fill("explanations")
    page.get_by_role("button", name="Create").click()
    import_it(page, tmp_path)
    run_it(page)
    review_it(page)
    prefer(page)
    export_it(page)


def import_it(page: Page, folder: Path) -> None:
    upload(page, folder, "explanations.jsonl", bad=True)
    picture(page, 1, "preview")
    page.get_by_role("button", name=re.compile("^Import")).click()
    errors = page.locator("#imports")
    expect(errors).to_contain_text(str(BAD))
    expect(page.get_by_role("link", name="Upload a corrected file")).to_be_visible()
    picture(page, 2, "bad-line")
    page.get_by_role("link", name="Upload a corrected file").click()
    upload(page, folder, "explanations-corrected.jsonl", bad=False)
    page.get_by_role("button", name=re.compile("^Import")).click()
    expect(page.get_by_role("link", name="New run").first).to_be_visible()


def run_it(page: Page) -> None:
    page.get_by_role("link", name="New run").first.click()
    for model in ("smollm2-135m", "smollm2-135m-tuned"):
        page.get_by_label(model, exact=True).check()
    page.get_by_label("Max tokens").fill("24")
    expect(page.locator("[data-estimated]")).to_contain_text("960")
    picture(page, 3, "new-run")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("[data-column] [data-field=answered]").first).not_to_have_text("0", timeout=ANSWERED)
    picture(page, 4, "running")
    expect(page.locator("#run[data-status=completed]")).to_be_visible(timeout=ANSWERED)
    page.reload()  # or it would reload itself under the click
    page.get_by_role("link", name="Review").click()
    page.locator("#review[data-ready]").wait_for()


def review_it(page: Page) -> None:
    """By keyboard only."""
    press(page, "g", "5", "l", "2", "d")
    picture(page, 5, "review")
    press(page, "d", "h", "Control+Enter")
    press(page, "l", "e")
    page.keyboard.press("Control+A")
    page.keyboard.type("Light is bent by raindrops, and each colour a little differently.")
    picture(page, 6, "edit")
    press(page, "Control+Enter", "g", "t")
    page.keyboard.type("physics")
    press(page, "Enter", "Control+Enter")
    press(page, "g", "Control+Enter", "r", "Control+Enter")
    expect(page.locator("[data-starred]").first).to_be_visible()
    expect(selected(page)).to_have_count(1)


def prefer(page: Page) -> None:
    run = page.url.split("/run/")[1].split("/")[0]
    review(page, int(run), "?show=all&blind=1")
    picture(page, 7, "blind")
    for verdict in ("a", "b", "t", "a"):
        press(page, verdict, "Control+Enter")
    page.goto(f"/admin/datasets/run/{run}/results/")
    expect(page.get_by_text("smollm2-135m-tuned").first).to_be_visible()
    expect(page.get_by_text("Being computed")).to_have_count(0)
    picture(page, 8, "results")


def export_it(page: Page) -> None:
    page.goto("/admin/datasets/export/add/")
    page.locator("select[name=dataset]").select_option(label="explanations (research)")
    page.locator("select[name=run]").select_option(index=1)
    told = page.get_by_text(re.compile(r"^[123] rows? would be exported"))  # a star on what is cut off asks first
    expect(told).to_be_visible()
    rows = int(told.inner_text()[0])
    picture(page, 9, "export")
    page.get_by_role("button", name="Export", exact=True).click()
    link = page.locator("#export").get_by_role("link", name="Download")
    expect(link).to_be_visible()
    picture(page, 10, "exported")
    with page.expect_download() as download:
        link.click()
    lines = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    answers = [line["messages"][-1] for line in lines]
    assert [answer["role"] for answer in answers] == ["assistant"] * rows
    assert any("raindrops" in said(answer) for answer in answers)


def said(message: dict[str, Any]) -> str:
    return str(message["content"])
