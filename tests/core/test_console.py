"""What commands print: whole on a narrow terminal, whole in a file; and the question before something is deleted."""

import io

import pytest
from django.core.management import CommandError
from rich.console import Console
from rich.table import Table

from apps.core.console import confirm, show, terminal

ID = "batch_0123456789abcdef0123456789abcdef"
MODEL = "organisation/a-model-with-a-rather-long-name-7B-instruct"


def printed(width: int) -> str:
    table = Table("batch", "progress", "model", "created")
    table.add_row(ID, "[####    ]", MODEL, "2026-11-28 10:00")
    out = io.StringIO()
    show(table, drop=("progress", "created"), console=Console(file=out, width=width))
    return out.getvalue()


def test_it_works() -> None:
    assert "2026-11-28 10:00" in printed(200)
    assert "…" not in printed(200)


@pytest.mark.parametrize("width", [120, 80, 60])
def test_a_narrow_terminal_has_fewer_columns_and_whole_names(width: int) -> None:
    text = printed(width)
    assert "…" not in text
    columns = [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if line.startswith("│")]
    names = ["".join(row[at] for row in columns) for at in range(len(columns[0]))]
    assert any(ID in name for name in names)
    assert any(MODEL in name for name in names)
    assert "progress" not in text


def test_a_pipe_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal().width > 1_000  # standard output is no terminal here


@pytest.mark.parametrize(("typed", "says"), [("n\n", "Nothing was done."), ("\n", "Nothing was done."), ("", "--yes")])
def test_it_asks_before_it_deletes(monkeypatch: pytest.MonkeyPatch, typed: str, says: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    with pytest.raises(CommandError, match=says):
        confirm("Delete it?")


def test_yes_is_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Yes\n"))
    confirm("Delete it?")
