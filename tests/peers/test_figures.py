"""The table of results in docs/peers.md."""

from pathlib import Path

import pytest

from tests.peers.catalogue import PEERS
from tests.peers.figures import END, HEAD, ROW, START, record
from tests.peers.report import Outcome
from tests.stack.live import REPOSITORY

PAGE = f"# Clients\n\n{START}{HEAD}{END}\nMore.\n"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "peers.md"
    path.write_text(PAGE)
    return path


def outcome(name: str, passed: int) -> Outcome:
    return Outcome(name, version="1.2", passed=[f"good {number}" for number in range(passed)])


def test_it_works(page: Path) -> None:
    one = outcome("one", 2)
    one.failed, one.exceptions = {"streams": "it broke"}, {"streams": "a | b"}
    one.left_out["needs a hub"] = 3
    record([one], page, ["one"])
    row = "| `one` | 1.2 | 2 of 3 | streams: a \\| b<br>3 left out: needs a hub |\n"
    assert page.read_text() == f"# Clients\n\n{START}{HEAD}{row}{END}\nMore.\n"


def test_rows_of_other_clients_stay_and_the_order_is_the_catalogue_s(page: Path) -> None:
    order = ["one", "two", "three"]
    record([outcome("two", 1)], page, order)
    record([outcome("three", 1), outcome("one", 1)], page, order)
    record([outcome("two", 5)], page, order)
    assert [(found["name"], found[0].split(" | ")[2]) for found in ROW.finditer(page.read_text())] == [
        ("one", "1 of 1"), ("two", "5 of 5"), ("three", "1 of 1"),
    ]  # fmt: skip


def test_a_client_that_is_no_more_leaves_the_table(page: Path) -> None:
    record([outcome("old", 1)], page, ["old"])
    record([outcome("new", 1)], page, ["new"])
    assert "`old`" not in page.read_text()


def test_the_page_has_rows_of_known_clients_in_their_order() -> None:
    _, results = (REPOSITORY / "docs/peers.md").read_text().split(START)
    rows = [found["name"] for found in ROW.finditer(results)]
    assert rows == [peer.name for peer in PEERS if peer.name in rows]
