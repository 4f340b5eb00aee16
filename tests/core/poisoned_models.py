"""Poisoned rows of batches and of models."""

from datetime import UTC, datetime
from typing import Any

from apps.batches.finalize import finalize_next, notice_ended
from apps.batches.models import Batch, File
from apps.batches.validate import validate_next
from apps.models.benchmarks.services import start_benchmark
from apps.models.installs import duty as installing
from apps.models.installs.boot import settle_boots
from apps.models.models import Benchmark, Install, Model
from tests.batches.cast import end_line, make_batch, make_running
from tests.core.poison import (
    Case,
    World,
    crewed,
    failed_message,
    look,
    on_gpu,
    put_folder_in_place_of,
    watched,
)

END_OF_TIME = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)


def batch(world: World) -> Batch:
    made = make_batch(world.project)
    put_folder_in_place_of(File.objects.get(uid=made.input_file_id))
    return made


def batch_to_finalize(world: World) -> Batch:
    made = make_running(world.project, world.model, lines=1)
    end_line(made, 1)
    notice_ended(world.keeper)
    Batch.objects.filter(pk=made.pk).update(outcome="nonsense")
    return made


def batch_failed(row: Any) -> str:
    return str(row.errors[0]["message"]) if row.status == "failed" else ""


def an_install(world: World) -> Install:
    return Install.objects.create(source="\N{SNOWMAN} no source", name="m", project=world.project)


def a_boot(world: World) -> Install:
    """Its deadline cannot be reckoned."""
    Model.objects.filter(pk=world.model.pk).update(ready=False, created_at=END_OF_TIME)
    return Install.objects.create(source="a/b", name="m", model=world.model, status=Install.Status.BOOTING)


def a_boot_to_settle(world: World) -> Install:
    world.break_code("apps.models.installs.boot._settle")
    return a_boot(world)


def a_benchmark(world: World) -> Benchmark:
    benchmark = start_benchmark(model=world.model)
    Benchmark.objects.filter(pk=benchmark.pk).update(sweep={"concurrencies": [1], "nonsense": 1})
    return benchmark


CASES = {
    "validate batches": Case(batch, look(validate_next), batch_failed, watched("batch")),
    "finalize batches": Case(batch_to_finalize, look(finalize_next), batch_failed, watched("batch")),
    "install models": Case(
        an_install, crewed(installing.install_next, installing.crew), failed_message, watched("install")
    ),
    "settle boots": Case(a_boot_to_settle, look(settle_boots), failed_message, watched("install")),
    "boot": Case(a_boot, on_gpu("boot"), failed_message, watched("install")),
    "benchmark": Case(a_benchmark, on_gpu("benchmark"), failed_message, watched("benchmark")),
}
