"""Checkpoints on the disk: what was sealed counts, and nothing else does."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from django.conf import settings

from apps.training import checkpoints
from apps.training.checkpoints import Corrupt, Sealed, latest, seal, sweep, verify

FILES = {
    "adapter_config.json": b"{}", "adapter_model.safetensors": bytes(range(256)) * 40, "tokenizer.json": b"[]",
    "trainer_state.json": b"{}", "optimizer.pt": b"moments" * 100, "scheduler.pt": b"s", "rng_state.pth": b"r",
}  # fmt: skip


def write(folder: Path, step: int) -> Path:
    """As Transformers leaves it, not sealed."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    (path / "training_args.bin").write_bytes(b"a pickle")
    return path


def sealed(folder: Path, step: int) -> tuple[Path, Sealed]:
    path = write(folder, step)
    return path, seal(path, step=step, metrics={"train_loss": 1.5, "valid_loss": None})


def test_it_works(tmp_path: Path) -> None:
    path, made = sealed(tmp_path, 3)
    manifest = verify(path, digest=made.digest, resume=True)
    assert (manifest.step, manifest.metrics) == (3, {"train_loss": 1.5, "valid_loss": None})
    assert {part.path for part in manifest.files} == set(FILES)  # not the pickle that nothing reads
    assert made.bytes == sum(map(len, FILES.values()))
    assert latest(tmp_path) == path
    assert checkpoints.sealed(path) == made


@pytest.mark.parametrize("name", FILES)
def test_it_rejects_one_changed_byte(tmp_path: Path, name: str) -> None:
    path, _ = sealed(tmp_path, 1)
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(content)
    with pytest.raises(Corrupt, match=f"damaged: {name} is not what was saved"):
        verify(path, resume=True)
    assert latest(tmp_path) is None


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith((".pt", ".pth"))])
def test_it_rejects_a_missing_file(tmp_path: Path, name: str) -> None:
    path, _ = sealed(tmp_path, 1)
    (path / name).unlink()
    with pytest.raises(Corrupt, match=f"lacks {name}"):
        verify(path)


def test_it_rejects_a_file_that_came_later(tmp_path: Path) -> None:
    """Transformers would load it: a pickle is a program."""
    path, _ = sealed(tmp_path, 1)
    (path / "pytorch_model.bin").write_bytes(b"a program")
    with pytest.raises(Corrupt, match=r"a file that was not saved with it: pytorch_model\.bin"):
        verify(path)


def test_it_rejects_a_link_in_place_of_a_file(tmp_path: Path) -> None:
    path, _ = sealed(tmp_path, 1)
    shutil.move(path / "tokenizer.json", tmp_path / "elsewhere")
    (path / "tokenizer.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Corrupt, match=r"damaged: tokenizer.json"):
        verify(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"step": "one"}'])
def test_it_rejects_a_manifest_that_is_none(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, 1)
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(Corrupt, match="was never completed"):
        verify(path)


def test_it_rejects_another_checkpoint_under_its_name(tmp_path: Path) -> None:
    path, made = sealed(tmp_path, 1)
    seal(path, step=2, metrics={})
    verify(path)
    with pytest.raises(Corrupt, match="not the one that was saved"):
        verify(path, digest=made.digest)


def test_an_older_one_keeps_what_is_served(tmp_path: Path) -> None:
    path, made = sealed(tmp_path, 1)
    newer, _ = sealed(tmp_path, 12)
    checkpoints.thin(path)
    assert verify(path, digest=made.digest).step == 1
    with pytest.raises(Corrupt, match=r"lacks optimizer.pt"):
        verify(path, resume=True)
    assert latest(tmp_path) == newer


def test_one_that_was_never_for_resuming_is_not_gone_on_from(tmp_path: Path) -> None:
    path = write(tmp_path, 1)
    seal(path, step=1, metrics={}, keep_resume=False)
    assert not (path / "optimizer.pt").exists()
    verify(path, resume=True)
    assert latest(tmp_path) is None


def test_what_does_not_count_is_swept(tmp_path: Path) -> None:
    """What is older than the checkpoint that is gone on from stays, if it is whole; what is newer goes."""
    for step in (1, 2, 3, 20):
        sealed(tmp_path, step)
    checkpoints.thin(tmp_path / "checkpoint-1")
    (tmp_path / "checkpoint-2/tokenizer.json").write_bytes(b"{}")
    (tmp_path / "checkpoint-20/optimizer.pt").write_bytes(b"other moments")
    write(tmp_path, 21)
    (tmp_path / "checkpoint-x").mkdir()
    last, told = sweep(tmp_path)
    assert last == tmp_path / "checkpoint-3"
    assert [path.name for path in checkpoints.saved(tmp_path)] == ["checkpoint-1", "checkpoint-3"]
    assert [sentence.split("/")[-1] for sentence in told] == [
        "checkpoint-2 is damaged: tokenizer.json is not what was saved. It is deleted.",
        "checkpoint-20 cannot be gone on from. It is deleted.",
        "checkpoint-21 was never completed: it has no manifest that can be read. It is deleted.",
    ]
    assert sweep(tmp_path) == (last, [])


def test_nothing_is_gone_on_from_where_there_is_nothing(tmp_path: Path) -> None:
    assert latest(tmp_path / "nowhere") is None
    assert sweep(tmp_path) == (None, [])


SEALER = """
import sys
from pathlib import Path
from apps.training import checkpoints
folder = Path(sys.argv[1])
for step in range(1, 10_000):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    for name in ("adapter_model.safetensors", "tokenizer.json", "optimizer.pt", "scheduler.pt"):
        (path / name).write_bytes(bytes([step % 256]) * 50_000)
    checkpoints.seal(path, step=step, metrics={})
    print(step, flush=True)
    for older in checkpoints.saved(folder)[:-1]:
        checkpoints.thin(older)
"""


def test_it_survives_being_killed_at_any_moment(tmp_path: Path) -> None:
    """Between two files, during the seal, while older ones are thinned: the last one that was told is there, whole."""
    moments = random.Random(5)
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        sealer = subprocess.Popen(
            [sys.executable, "-c", SEALER, folder], cwd=settings.BASE_DIR, stdout=subprocess.PIPE, text=True
        )
        assert sealer.stdout
        sealer.stdout.readline()
        time.sleep(moments.uniform(0, 0.05))
        os.kill(sealer.pid, signal.SIGKILL)
        told = [int(line) for line in sealer.stdout.read().split()]
        sealer.wait()
        last = latest(folder)
        assert last
        assert checkpoints.step_of(last) in (max(told, default=1), max(told, default=1) + 1)
        assert sweep(folder)[0] == last
        for path in checkpoints.saved(folder):
            assert verify(path).step == checkpoints.step_of(path)


def test_a_manifest_can_be_read_by_people(tmp_path: Path) -> None:
    path, _ = sealed(tmp_path, 7)
    content = (path / "manifest.json").read_text()
    assert '\n  "step": 7,' in content
    assert msgspec.json.decode(content)["files"][0]["path"] == "adapter_config.json"
