"""What stops a training, said in one sentence with what to do."""

import errno
import subprocess
from typing import Any

import pytest
from django.conf import settings

from apps.training.child.failures import bad_data, explain
from apps.training.options import parse
from apps.training.spec import TrainingSpec

REAL = """
import sys, torch
try:
    torch.empty(1 << 50)
except RuntimeError as error:
    print(error)
"""


def make(**changes: Any) -> TrainingSpec:
    options = {"batch_size": 4, "accumulation": 2, "max_length": 1024, "gradient_checkpointing": False}
    values: dict[str, Any] = {"method": "sft", "technique": "lora", "backend": "auto", "device": "0"}
    values |= {"model": "/models/m", "train_file": "/jobs/j/train.jsonl", "folder": "/jobs/j"} | changes
    return TrainingSpec(**values | {"options": parse(options | values.get("options", {}))})


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch's is."""


def test_it_works() -> None:
    failed = explain(OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), make())
    assert failed.code == "out_of_memory"
    assert failed.message == (
        "The training does not fit into the memory of GPU 0: set batch_size to 2 (with accumulation 4), max_length to "
        "512 or gradient_checkpointing to true, or several of them."
    )


@pytest.mark.parametrize(
    ("changes", "settings_named"),
    [
        ({"options": {"gradient_checkpointing": True}}, ["batch_size to 2", "max_length to 512", "technique to qlora"]),
        ({"options": {"batch_size": 1}}, ["max_length to 512", "gradient_checkpointing", "technique to qlora"]),
        (
            {"options": {"batch_size": 1, "max_length": 64, "gradient_checkpointing": True}, "technique": "full"},
            ["technique to lora", "technique to qlora", "targets"],
        ),
        (
            {
                "options": {"batch_size": 1, "max_length": 64, "gradient_checkpointing": True, "rank": 1},
                "technique": "qlora",
            },
            ["targets", "base model", "device"],
        ),
        (
            {"device": "cpu", "options": {"batch_size": 1, "gradient_checkpointing": True}},
            ["the machine's memory", "max_length to 512", "rank to 8", "targets"],
        ),
    ],
)
def test_it_names_three_settings_that_are_left_to_change(changes: dict[str, Any], settings_named: list[str]) -> None:
    message = explain(MemoryError(), make(**changes)).message
    assert [name for name in settings_named if name not in message] == []


def test_it_knows_pytorch_on_a_cpu() -> None:
    """The message is PyTorch's own."""
    done = subprocess.run([settings.TRAINER_PYTHON, "-c", REAL], capture_output=True, text=True, check=True)
    assert "can't allocate memory" in done.stdout
    assert explain(RuntimeError(done.stdout), make(device="cpu")).code == "out_of_memory"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/jobs/j/checkpoint-3/optimizer.pt"),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/jobs/j/checkpoint-3/optimizer.pt"),
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data/12"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_it_knows_a_full_disk(error: Exception) -> None:
    failed = explain(error, make())
    assert failed.code == "disk_full"
    assert failed.message.startswith("The disk of /jobs/j is full: make room there")


def test_a_checkpoint_that_cannot_be_written_is_named() -> None:
    failed = explain(PermissionError(errno.EACCES, "Permission denied", "/jobs/j/checkpoint-3"), make())
    assert (failed.code, failed.message) == (
        "checkpoint",
        "/jobs/j/checkpoint-3 cannot be written or read: Permission denied. Look at the disk and its rights.",
    )


def test_what_was_refused_stays_as_it_was_said() -> None:
    assert explain(bad_data("Line 3 is empty."), make()).message == "Line 3 is empty."


def test_what_nobody_expected_is_told_in_short() -> None:
    failed = explain(ValueError("x" * 10_000), make())
    assert failed.code == "internal"
    assert len(failed.message) < 1_100
