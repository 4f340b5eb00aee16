"""A real Chromium before a live site, whose engine is the fake one, made slow enough to be watched."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser import cast
from tests.stack.live import REPOSITORY, LiveStack

DEBIAN = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--force-prefers-reduced-motion"]  # fmt: skip
CURE = "No Chromium: `apt-get install chromium` as root, or `var/venv/server/bin/playwright install chromium`."
PATIENCE = 30_000  # milliseconds
SHOTS = os.environ.get("SHOTS")  # a folder for pictures of every page

Start = Callable[..., Page]


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Debian's, else Playwright's own. Asked for before a site is started: without one there is no need to."""
    with sync_playwright() as playwright:
        program = DEBIAN if DEBIAN.exists() else Path(playwright.chromium.executable_path)
    if not program.exists():
        pytest.skip(CURE)
    return program


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    """Not longer than a module: Playwright's event loop is in others' way."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """How the models of the site's engine begin their answers, by name."""
    path = tmp_path_factory.mktemp("voices") / "voices.json"
    path.write_text("{}")
    return path


@pytest.fixture(scope="session")
def site(chromium: Path, voices: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """One for all modules that need no other settings: each brings data of its own with `play`."""
    env = {
        "ENGINE_PYTHON": str(REPOSITORY / "tests/fakes/engine/python"), "GPU_SLOTS": "cpu", "ENGINE_CONCURRENCY": "4",
        "TRAINER_PYTHON": str(REPOSITORY / "tests/fakes/trainer/python"),
        "ENGINE_PASS_ENV": "FAKE_ENGINE_*", "FAKE_ENGINE_LATENCY": "0.1", "FAKE_ENGINE_VOICES": str(voices),
        "GPU_HOUR_COST": "2.5", "BATCH_SHARD_LINES": "10",
    }  # fmt: skip
    with LiveStack(tmp_path_factory.mktemp("browser"), env=env) as stack:
        play(stack, "from tests.browser.cast import main; main()")
        yield stack


def play(site: LiveStack, script: str) -> dict[str, int]:
    """Run it in the site's shell; what it printed after "KEYS" are names and keys of what it made."""
    made = site.manage("shell", "-v", "0", "-c", script)
    assert made.returncode == 0, made.stderr
    keys: dict[str, int] = json.loads(made.stdout.partition("KEYS ")[2] or "{}")
    return keys


@pytest.fixture
def page(site: LiveStack, browser: Browser) -> Iterator[Page]:
    """A signed-in page. A script that fails, or a file that is missing, fails the test."""
    context = browser.new_context(base_url=site.web_url, permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
    sign_in(page)
    yield page
    context.close()
    assert not wrong


def sign_in(page: Page, name: str = cast.NAME, password: str = cast.PASSWORD) -> None:
    page.goto("/admin/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Running")).to_be_visible()


@pytest.fixture
def start(page: Page, tmp_path: Path) -> Start:
    """Upload so many lines through the form; the page is then the new batch's."""

    def start(lines: int, name: str = "questions.jsonl") -> Page:
        file = tmp_path / name
        file.write_text("".join(f"{line_of(number)}\n" for number in range(1, lines + 1)))
        page.goto("/admin/batches/batch/add/")
        page.locator("input[type=file]").set_input_files(file)
        page.get_by_role("button", name="Upload and start").click()
        expect(page.get_by_text("is being validated")).to_be_visible()
        return page

    return start


def line_of(number: int) -> str:
    message = {"role": "user", "content": f"What is {number} times {number}?"}
    body = {"model": cast.MODEL, "messages": [message]}
    return json.dumps({"custom_id": f"square-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body})


def shoot(page: Page, name: str) -> None:
    """In light, dark, and on a phone."""
    if not SHOTS:
        return
    folder = Path(SHOTS)
    folder.mkdir(parents=True, exist_ok=True)
    page.set_viewport_size({"width": 1360, "height": 900})
    page.screenshot(path=folder / f"{name}.png", full_page=True)
    page.evaluate("document.documentElement.classList.add('dark')")
    page.wait_for_timeout(300)
    page.screenshot(path=folder / f"{name}-dark.png", full_page=True)
    page.evaluate("document.documentElement.classList.remove('dark')")
    page.set_viewport_size({"width": 390, "height": 844})
    page.screenshot(path=folder / f"{name}-phone.png", full_page=True)
    page.set_viewport_size({"width": 1360, "height": 900})
