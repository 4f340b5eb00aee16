"""What an upload would lose is seen before it is imported, and what became of it afterwards."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.axe import serious
from tests.browser.conftest import play, shoot
from tests.stack.live import LiveStack

pytestmark = pytest.mark.browser

MAKE = """
from apps.accounts.models import Project
from apps.datasets.services import create_dataset
import json
made = create_dataset(project=Project.objects.order_by("pk").first(), name="colours of things")
print("KEYS", json.dumps({"dataset": made.pk}))
"""


def rows() -> str:
    """With a column that only other formats read, a key of a message, and bad rows of two kinds."""
    turns = [{"role": "user", "content": "Is coal white?", "score": 1}, {"role": "assistant", "content": "No, black."}]
    good = [{"messages": turns, "source": "web", "id": n, "rejected": "Yes."} for n in range(40)]
    bad = [{"messages": []}, {"messages": [{"role": "nobody", "content": "?"}]}, {"messages": []}]
    return "".join(f"{json.dumps(row)}\n" for row in [*good, *bad])


def test_it_works(page: Page, site: LiveStack, tmp_path: Path) -> None:
    pk = play(site, MAKE)["dataset"]
    file = tmp_path / "colours.jsonl"
    file.write_text(rows())
    page.goto(f"/admin/datasets/dataset/{pk}/upload/")
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Upload and preview").click()
    expect(page.locator("#losses")).to_contain_text("2 columns or keys would be lost")
    expect(page.locator(".bs-loss")).to_have_count(2)
    shoot(page, "import-losses")
    assert serious(page) == []
    page.get_by_label("Leave bad rows out").check()
    page.get_by_role("button", name="Import").click()
    expect(page.locator(".bs-box")).to_contain_text("'rejected' (rejected answer; 40 rows, the first in line 1)")
    page.get_by_label("Import without what is not used").check()
    page.get_by_role("button", name="Import").click()
    expect(page.get_by_text("3 were left out for 2 reasons")).to_be_visible()
    page.reload()
    imports = page.locator("#imports")
    for part in ("3 rows with errors", "2 reasons", "What became of the columns and keys"):
        imports.locator("summary", has_text=part).click()
    expect(imports.locator(".bs-loss")).to_have_count(2)
    shoot(page, "import-report")
    assert serious(page) == []
    with page.expect_download() as download:
        imports.get_by_role("link", name="Download all bad rows").click()
    listed = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert [error["line"] for error in listed] == [41, 42, 43]
