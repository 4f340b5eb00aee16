"""Fine-tuning by hand, on a live site: from stars to a served model, its curve moving meanwhile.

The site's processes are real; its trainer and its engine are the small programs that stand in for Unsloth and vLLM.
"""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser import cast
from tests.browser.axe import serious
from tests.browser.conftest import play, shoot
from tests.browser.training_cast import DATASET, EXAMPLES
from tests.stack.live import LiveStack

pytestmark = pytest.mark.browser

JOBS, DEPLOYMENTS = "/admin/training/trainingjob/", "/admin/training/deployment/"
LONG = 120_000  # milliseconds: a training, or an engine that starts


@pytest.fixture(scope="module", autouse=True)
def stars(site: LiveStack) -> None:
    play(site, "from tests.browser.training_cast import main; main()")


@pytest.fixture(scope="module")
def keys(site: LiveStack) -> dict[str, int]:
    """Jobs made as rows: suffix -> key."""
    return play(site, "from tests.browser.training_cast import rows; rows()")


def test_it_works(page: Page, voices: Path) -> None:
    """Stars, a training file of them, a training, a deployment, base beside tuned."""
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(JOBS)
    expect(page.get_by_text("Nothing was trained yet")).to_be_visible()
    shoot(page, "training-empty")
    choose_stars(page)
    fill_in(page)
    watch_it_learn(page)
    name = deploy_it(page, voices)
    page.goto(JOBS)
    expect(page.locator("#result_list polyline")).to_be_visible()
    expect(page.locator("#result_list .bs-pill[data-status=ready]")).to_be_visible()
    shoot(page, "training-list")
    page.get_by_role("link", name="doors-1").click()
    page.get_by_role("link", name="Lineage").click()
    expect(page.locator("#lineage")).to_contain_text(f"{EXAMPLES} stars")
    expect(page.locator("#lineage")).to_contain_text(f"Base model {cast.MODEL}")
    shoot(page, "training-lineage")
    page.get_by_role("link", name=f"Model {name}").click()
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Undeploy").click()
    expect(page.get_by_text("is served no more")).to_be_visible()


def choose_stars(page: Page) -> None:
    page.get_by_role("link", name="From starred examples").click()
    page.wait_for_load_state()
    page.locator("select[name=dataset]").select_option(label=f"{DATASET} ({cast.PROJECT})")
    page.locator("select[name=run]").select_option(label="codes")
    expect(page.get_by_text(f"{EXAMPLES} examples to learn from")).to_be_visible()
    shoot(page, "training-stars")
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("select[name=file]")).to_have_value(re.compile("file-"))  # the export is done meanwhile


def fill_in(page: Page) -> None:
    told = page.locator("#told")
    expect(told.locator("[data-told=examples]")).to_have_text(str(EXAMPLES - 6))
    expect(told.locator("[data-told=held_out]")).to_have_text("6")
    page.get_by_label(cast.MODEL).check()
    expect(told.locator("[data-told=sentence]")).to_contain_text("It takes about")
    page.get_by_label("Suffix").fill("doors-1")
    page.get_by_label("Validation share").fill("0.25")
    expect(told.locator("[data-told=validation]")).to_have_text("6")
    expect(told.locator("[data-told=held_out]")).to_have_text("none")
    expect(told.locator("[data-told=reason]")).to_contain_text(f"{EXAMPLES - 6} rows")
    page.get_by_text("More options").click()
    page.locator("[name=o_rank]").fill("999")
    expect(page.locator("[data-problem=rank]")).to_contain_text("rank cannot be 999")
    page.locator("[name=o_rank]").fill("8")
    expect(page.locator("[data-problem=rank]")).to_be_hidden()
    page.locator("[name=o_max_steps]").fill("40")
    expect(told.locator("[data-told=steps]")).to_have_text("40")
    shoot(page, "training-new")
    page.get_by_role("button", name="Start training").click()


def watch_it_learn(page: Page) -> None:
    expect(page.locator("#job[data-status=running]")).to_be_visible(timeout=LONG)
    curve = '[data-chart=loss] polyline[data-slot="0"]'
    expect(page.locator(curve).first).to_be_attached()
    page.evaluate("window.notReloaded = true")
    count = "document.querySelector('{}').points.length"
    before = page.evaluate(count.format(curve))
    page.wait_for_function(f"start => {count.format(curve)} > start + 5", arg=before)
    assert page.evaluate("window.notReloaded"), "it moved by itself"
    expect(page.locator("#checkpoints tbody tr").first).to_be_visible()
    shoot(page, "training-going")
    page.reload()
    assert page.evaluate(count.format(curve)) >= before, "a reload loses nothing"
    expect(page.locator("#job[data-status=succeeded]")).to_be_visible(timeout=LONG)
    assert page.evaluate(count.format(curve)) == 40
    expect(page.locator("[data-chart=loss] .tr-mark[data-best]")).to_be_attached()


def deploy_it(page: Page, voices: Path) -> str:
    """The name that it is served under."""
    page.get_by_role("link", name="Deploy as…").click()
    name = page.get_by_label("Requests call it").input_value()
    shoot(page, "training-deploy")
    voices.write_text(json.dumps({name: "Tuned: "}))
    page.go_back()
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.locator("#deployment[data-status=unproven]")).to_be_visible(timeout=LONG)
    expect(page.locator("#figures")).to_contain_text("6 kept apart")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Accept and serve").click()
    expect(page.locator("#deployment[data-status=ready]")).to_be_visible(timeout=LONG)
    expect(page.locator("#parity .tr-pair").first.locator("ins").first).to_have_text(re.compile("Tuned"))
    expect(page.get_by_role("link", name="Try it beside its base")).to_be_visible()
    shoot(page, "training-deployment")
    return name


def test_a_bad_file_lists_its_lines(page: Page, tmp_path: Path) -> None:
    good = json.dumps({"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]})
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join([good] * 11 + ["{", '{"messages": []}']))
    page.goto(f"{JOBS}add/")
    page.locator("input[type=file]").set_input_files(file)
    expect(page.locator("[data-told=examples]")).to_have_text("13")
    page.get_by_label(cast.MODEL, exact=False).first.check()
    page.get_by_role("button", name="Start training").click()
    expect(page.locator("#job[data-status=failed]")).to_be_visible(timeout=LONG)
    expect(page.locator("#errors tbody tr td:nth-child(2)")).to_have_text(["12", "13"])
    shoot(page, "training-bad-file")


def test_curves_are_looked_at(page: Page, keys: dict[str, int]) -> None:
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{JOBS}{keys['capitals']}/change/")
    chart = page.locator("[data-chart=loss]")
    expect(chart.locator("svg")).to_have_attribute(
        "aria-label", re.compile("^Loss by step: training from .* at step 120")
    )
    chart.hover(position={"x": 500, "y": 150})
    expect(chart.locator(".tr-tip")).to_contain_text("Step ")
    expect(chart.locator(".tr-tip")).to_contain_text("validation")
    page.get_by_text("The curves as a table").click()
    expect(page.locator("#curve-table tbody tr").first).to_be_visible()
    expect(page.locator("#curve-table")).to_contain_text("80 ★")
    page.get_by_label("Log scale").check()
    page.get_by_label("Smoothing").fill("0")
    expect(chart.locator('polyline[data-slot="0"]')).to_have_count(1)
    page.reload()
    expect(page.get_by_label("Log scale")).to_be_checked()
    expect(page.get_by_label("Smoothing")).to_have_value("0")
    page.get_by_label("Log scale").uncheck()
    page.get_by_label("Smoothing").fill("0.6")


def test_the_rewards_of_thumbs_are_drawn(page: Page, keys: dict[str, int]) -> None:
    page.goto(f"{JOBS}{keys['thumbs']}/change/")
    for chart, lines in (("rewards", "good"), ("margin", "training"), ("kl", "training")):
        label = re.compile(rf": {lines} from .* at step 40")
        expect(page.locator(f"[data-chart={chart}] svg")).to_have_attribute("aria-label", label)
    expect(page.locator("[data-chart=accuracy]")).to_have_count(0)
    page.get_by_text("The curves as a table").click()
    last = page.locator("#curve-table tbody tr").last.locator("td")
    expect(last.nth(7)).to_have_text("-1")
    expect(last.nth(8)).to_have_text("3")


def test_ten_thousand_steps_stay_smooth(page: Page, keys: dict[str, int]) -> None:
    page.goto(f"{JOBS}{keys['long']}/change/")
    slider = page.get_by_label("Smoothing")
    expect(page.locator("[data-chart=loss] polyline").first).to_be_attached()
    drawn = page.evaluate(
        """async () => {
          const slider = document.querySelector("[name=smoothing]"), began = performance.now();
          for (let at = 0; at < 30; at += 1) {
            slider.value = 0.3 + at / 60;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            await new Promise(requestAnimationFrame);
          }
          return (performance.now() - began) / 30;
        }"""
    )
    assert drawn < 150, "milliseconds to draw all of it, on whatever machine this is"
    assert (
        page.evaluate("Math.max(...[...document.querySelectorAll('polyline')].map((line) => line.points.length))")
        <= 600
    )
    expect(slider).to_be_visible()


def test_jobs_are_compared(page: Page, keys: dict[str, int]) -> None:
    page.goto(JOBS)
    for suffix in ("capitals", "faster"):
        page.locator("tr.data-row", has_text=suffix).locator("input.action-select").check()
    page.locator("select[name=action]").select_option(label="Compare curves")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("[data-chart=compared] polyline")).to_have_count(2)
    expect(page.locator(".tr-legend li")).to_have_count(2)
    expect(page.get_by_role("region", name="What was different")).to_contain_text("learning_rate")
    page.locator("[name=shown]").select_option(label="validation loss")
    expect(page.locator("[data-chart=compared] svg")).to_have_attribute("aria-label", re.compile("^Validation loss"))
    shoot(page, "training-compared")


def test_axe_finds_nothing_serious(page: Page, keys: dict[str, int]) -> None:
    capitals, going, long = (f"{JOBS}{keys[name]}/change/" for name in ("capitals", "going", "long"))
    addresses = [
        JOBS, f"{JOBS}add/", f"{JOBS}add/?o_rank=999&model={cast.MODEL}&file=gone", f"{JOBS}stars/", capitals,
        going, long, f"{JOBS}{keys['capitals']}/lineage/", f"{JOBS}{keys['capitals']}/events/", f"{JOBS}compare/",
        DEPLOYMENTS, f"{JOBS}{keys['thumbs']}/change/",
    ]  # fmt: skip
    page.goto(DEPLOYMENTS)
    addresses += [page.locator("#result_list a.bs-id").first.get_attribute("href") or ""]
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 820})
        for address in addresses:
            page.goto(address)
            assert not serious(page), f"{address}, {width}"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{address}, {width}"
