"""The real engine on this machine: what the platform adds to a warm one, and `vllm run-batch` beside it."""

import os
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from django.conf import settings

from bench import client
from bench.figures import Figure
from bench.site import Site, write_batch

RUNS = 3
LINES = 300
TOKENS = 16
WINDOW = 64
MODEL = "smollm2-135m-instruct"


def run() -> list[Figure]:
    model = settings.MODELS_DIR / MODEL
    ours: list[float] = []
    bare: list[float] = []
    with Site(model=MODEL, path=model, ENGINE_CONCURRENCY=str(WINDOW)) as site, TemporaryDirectory() as name:
        folder = Path(name)
        cold = site.run_batch(_batch(folder, "cold"))
        for number in range(RUNS):
            ours.append(site.run_batch(_batch(folder, f"ours {number}")))
            bare.append(client.run(site.engine_socket, _batch(folder, f"bare {number}"), window=WINDOW))
    with TemporaryDirectory() as name:
        offline = _run_batch(model, _batch(Path(name), "offline"))
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return [
        Figure(name=f"{LINES} requests of {TOKENS} tokens, warm engine", unit="s", runs=ours),
        Figure(name="bare aiohttp client, same engine", unit="s", runs=bare),
        Figure(name="ratio", unit="", runs=ratios, at_most=1.05),
        Figure(name="first batch, with loading", unit="s", runs=[cold]),
        Figure(name="vllm run_batch, with loading", unit="s", runs=[offline]),
    ]


def _batch(folder: Path, title: str) -> Path:
    """Fresh prompts each time, so that no run profits from another's prefix cache."""
    content = f"{title} {time.monotonic()} {{line}}: write a sentence about the number {{line}}."
    return write_batch(folder / f"{title}.jsonl", model=MODEL, lines=LINES, content=content, max_tokens=TOKENS)


def _run_batch(model: Path, path: Path) -> float:
    command = [
        str(settings.ENGINE_PYTHON), "-m", "vllm.entrypoints.openai.run_batch", "-i", str(path),
        "-o", str(path.with_suffix(".out")), "--model", str(model), "--served-model-name", MODEL,
        "--dtype", "bfloat16", "--enforce-eager", "--max-num-seqs", str(WINDOW),
    ]  # fmt: skip
    env = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    started = time.monotonic()
    subprocess.run(command, env=env, check=True, capture_output=True)
    return time.monotonic() - started
