"""A batch of a million lines, where the operator raised the limits: it runs, and no process grows with it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.site import Site, peak_memory, write_batch

pytestmark = pytest.mark.soak

LINES = 1_000_000
GROWTH_MIB = 256.0
PARTS = ("web", "control", "gpu-cpu")


@pytest.fixture
def site() -> Iterator[Site]:
    limits = {"BATCH_MAX_REQUESTS": str(LINES), "BATCH_FILE_MAX_BYTES": str(2**30), "FILE_MAX_BYTES": str(2**30)}
    with Site.with_fake_engine(GPU_SLOTS="cpu", ENGINE_CONCURRENCY="256", **limits) as site:
        yield site


def test_it_works(site: Site, tmp_path: Path) -> None:
    site.run_batch(write_batch(tmp_path / "warm.jsonl", model=site.model, lines=50, content="{line}"))
    path = write_batch(tmp_path / "million.jsonl", model=site.model, lines=LINES, content="{line}", max_tokens=1)
    with ExitStack() as stack:
        grown = {part: stack.enter_context(peak_memory(site.stack.pid_of(part))) for part in PARTS}
        batch_id = site.create(site.upload(path))
        batch = site.wait(batch_id, every=2)
        first, last, size = site.download(batch["output_file_id"])
    assert batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}, batch
    assert size > LINES * 100
    spans = {
        name: round(site.seconds(batch_id, since, until), 1)
        for name, since, until in (
            ("validating", "created_at", "in_progress_at"),
            ("running", "in_progress_at", "finalizing_at"),
            ("finalizing", "finalizing_at", "completed_at"),
        )
    }
    memory = {part: round(runs[0]) for part, runs in grown.items()}
    print(
        f"\n{LINES:,} lines, {path.stat().st_size / 1e6:.0f} MB: {spans} s; first byte {first:.2f} s, all {last:.1f} s"
    )
    print(f"memory grew by {memory} MiB")
    assert all(growth <= GROWTH_MIB for growth in memory.values())
