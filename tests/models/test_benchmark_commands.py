"""`manage.py benchmark_model`, beside a worker on the fake engine."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.core import leases
from apps.models.benchmarks.console import comparison_table, levels_table
from apps.models.benchmarks.run import BenchmarkKind
from apps.models.benchmarks.services import start_benchmark
from apps.models.models import Benchmark, Model
from tests.batches.lender import Lender

pytestmark = pytest.mark.django_db(transaction=True)
SMALL = ["--concurrency", "1,2", "--prompt-tokens", "16", "--output-tokens", "4", "--requests", "8"]


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One that measures whatever comes."""
    monkeypatch.setenv("COLUMNS", "250")
    ended, keeper = threading.Event(), leases.Keeper()

    def work(lender: Lender) -> None:
        while not ended.wait(0.2):
            BenchmarkKind().run(lender, keeper, 64)
        connection.close()

    with Lender(tmp_path, FAKE_ENGINE_LATENCY="0.02", FAKE_ENGINE_TOKEN_SECONDS="0.005") as lender:
        thread = threading.Thread(target=work, args=[lender])
        thread.start()
        yield
        ended.set()
        thread.join()
    keeper.close()


def rows(shown: str) -> list[list[str]]:
    """The cells of a table's rows."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if "│" in line]


def test_it_works(worker: None, model: Model, capsys: Any) -> None:
    call_command("benchmark_model", model.name, *SMALL, "--wait")
    benchmark = Benchmark.objects.get()
    shown = capsys.readouterr().out
    assert benchmark.status == Benchmark.Status.COMPLETED
    assert shown.startswith(f"{benchmark.uid}\n")
    assert [row[:3] for row in rows(shown)] == [["1", "8", "0"], ["2", "8", "0"]]
    assert float(rows(shown)[0][5]) >= 20  # milliseconds to the first token


def test_it_compares(worker: None, model: Model, capsys: Any) -> None:
    level = {"concurrency": 2, "output_tokens_per_second": 1234.5, "first_token": {"p50": 1, "p95": 2.5, "p99": 3}}
    other = Model.objects.create(name="other", path=model.path)
    done = Benchmark.Status.COMPLETED
    Benchmark.objects.create(model=other, device_name="H200", sweep={}, levels=[level], status=done)
    call_command("benchmark_model", model.name, *SMALL, "--compare", "other")
    shown = capsys.readouterr().out
    assert "other on H200" in shown
    one, two = rows(shown)[-2:]
    assert (one[0], one[2], two[0], two[2], two[6]) == ("1", "-", "2", "1,234.5", "2.5")


def test_it_leaves_it_to_the_worker_unless_told_to_wait(model: Model, capsys: Any) -> None:
    call_command("benchmark_model", model.name)
    benchmark = Benchmark.objects.get()
    assert capsys.readouterr().out == f"{benchmark.uid}\n"
    assert (benchmark.status, benchmark.sweep["concurrencies"]) == ("queued", [1, 2, 4, 8, 16, 32, 64])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "There is no model 'nobody'"),
        (["test-model", "--concurrency", "1;2"], "numbers with commas"),
        (["test-model", "--concurrency", "0"], "each from 1 to"),
        (["test-model", "--output-tokens", "1"], "output_tokens must be from 2"),
        (["test-model", "--compare", "test-model"], "was not measured yet"),
    ],
)
def test_it_rejects(model: Model, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        call_command("benchmark_model", *arguments)
    assert not Benchmark.objects.exists()


def test_it_fails_when_nothing_was_measured(worker: None, model: Model) -> None:
    Model.objects.update(runner=Model.Runner.POOLING)
    with pytest.raises(CommandError, match=r"failed\. The engine answers no request: 404"):
        call_command("benchmark_model", model.name, *SMALL, "--wait")


def test_embeddings_have_no_tokens_to_show(model: Model) -> None:
    benchmark = start_benchmark(model=model)
    benchmark.levels = [{"concurrency": 1, "first_token": None, "requests_per_second": 3.0}]
    assert list(levels_table(benchmark).columns[5].cells) == ["-"]
    assert [list(column.cells) for column in comparison_table([benchmark]).columns] == [
        ["1"], ["-"], ["3.0"], ["-"], ["-"],
    ]  # fmt: skip
