"""A trainer that learns nothing, quickly: it says and saves what a real one does, so that the server can be tested.

It does as `fake_trainer.json` in the model's folder tells: seconds of a step, when to die, when to fail and how,
and which rows it leaves out.
"""

import json
import math
import os
import signal
import struct
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from apps.training import checkpoints
from apps.training.spec import LEFT_OUT, Ended, Evaluated, Failed, News, Saved, Started, Stepped, TrainingSpec, encode

RANK, WIDTH = 8, 64  # of the adapter; the width is the tiny model's
STOP: list[int] = []


def tell(news: News) -> None:
    sys.stdout.buffer.write(encode(news) + b"\n")
    sys.stdout.buffer.flush()


def train(spec: TrainingSpec, does: dict[str, Any]) -> None:
    steps = spec.options.max_steps or 20
    save = spec.options.save_steps or max(steps // 5, 1)
    examples = Path(spec.train_file).read_text().count("\n")
    latest = checkpoints.latest(Path(spec.folder))
    begun = int(latest.name.rpartition("-")[2]) if latest else 0
    left_out = does.get("left_out", [])
    (Path(spec.folder) / LEFT_OUT).write_text("".join(json.dumps(row) + "\n" for row in left_out))
    tell(Started(backend="plain", version="0", examples=examples, valid_examples=1, tokens=10 * examples,
                 trained_tokens=5 * examples, cut=0, steps=steps, save_steps=save, resumed_from=begun,
                 left_out=len(left_out)))  # fmt: skip
    best = begun
    for step in range(begun + 1, steps + 1):
        time.sleep(does.get("step_seconds", 0.02))
        if step == does.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if step == does.get("fail_at"):
            tell(Failed(code=does["code"], message=does["message"]))
            sys.exit(1)
        loss, share = 3 * math.exp(-step / steps), step / steps
        kto = {"reward_chosen": share, "reward_rejected": -share, "reward_margin": 2 * share, "kl": share / 2}
        rewards = {"sft": {}, "dpo": {**kto, "reward_accuracy": share}, "kto": kto}[spec.method]
        tell(
            Stepped(
                step=step, epoch=step / steps, loss=loss, learning_rate=1e-3 * (1 - step / steps), grad_norm=1.0,
                token_accuracy=1 - loss / 4, tokens=10 * step, tokens_per_second=500, memory_bytes=2**30,
                rewards=rewards,
            )
        )  # fmt: skip
        if step % save == 0 or step == steps or STOP:
            tell(Evaluated(step=step, loss=loss + 0.1, token_accuracy=1 - loss / 3, rewards=rewards))
            best = step
            save_checkpoint(Path(spec.folder) / f"checkpoint-{step}", step)
        if STOP:
            return tell(Ended(reason="stopped", step=step, best_step=best))
    return tell(Ended(reason="finished", step=steps, best_step=best))


def save_checkpoint(folder: Path, step: int) -> None:
    """An adapter in PEFT's layout for the tests' tiny model, whose numbers are thousandths of its step."""
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    name, half = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight", RANK * WIDTH * 4
    shapes = {"A": ([RANK, WIDTH], [0, half]), "B": ([WIDTH, RANK], [half, 2 * half])}
    tensors = {name.format(side): {"dtype": "F32", "shape": s, "data_offsets": o} for side, (s, o) in shapes.items()}
    header = json.dumps(tensors).encode()
    weights = struct.pack("<Q", len(header)) + header + struct.pack("<f", step / 1000) * (2 * RANK * WIDTH)
    (folder / "adapter_model.safetensors").write_bytes(weights)
    sealed = checkpoints.seal(folder, step=step, metrics={})
    tell(Saved(step=step, folder=str(folder), digest=sealed.digest, bytes=sealed.bytes))


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, _: STOP.append(number))
    spec = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=TrainingSpec)
    instructions = Path(spec.model) / "fake_trainer.json"
    train(spec, json.loads(instructions.read_text()) if instructions.exists() else {})


if __name__ == "__main__":
    main()
