"""On a CPU, an adapter changes its own requests alone."""

import subprocess

import pytest
from django.conf import settings

pytestmark = pytest.mark.engine  # its interpreter, not a server

SCRIPT = """
import torch
from apps.models.engines import cpu_server
from vllm.lora.ops.torch_ops import lora_ops
from vllm.lora.punica_wrapper import punica_cpu

def added(indices):
    wrapper = punica_cpu.PunicaWrapperCPU(16, 16, "cpu")
    wrapper.is_prefill = True
    wrapper._token_lora_indices[: len(indices)] = torch.tensor(indices)
    wrapper.indices_len[:] = [len(indices)] * 4
    wrapper._update_prefill_metadata(wrapper.token_lora_indices)
    wrapper._sampler_indices[: len(indices)] = torch.tensor(indices)
    a, b = torch.ones(2, 1, 4, 8), torch.ones(2, 1, 6, 4)  # two slots, rank 4, from 8 to 6
    linear, logits, embedding = (torch.zeros(len(indices), 6) for _ in range(3))
    wrapper.add_lora_linear(linear, torch.ones(len(indices), 8), (a,), (b,), 1.0, (6,))
    wrapper.add_lora_logits(logits, torch.ones(len(indices), 8), a, b, 1.0)
    wrapper.add_lora_embedding(embedding, torch.ones(len(indices), 4), b)
    return [[row.any().item() for row in sums] for sums in (linear, logits, embedding)]

assert added([0, -1, 1]) != [[True, False, True]] * 3, "vLLM's own are right: cpu_server is not needed any more"
cpu_server.mend()
assert added([0, -1, 1]) == [[True, False, True]] * 3, added([0, -1, 1])
assert added([-1, -1]) == [[False, False]] * 3
"""


def test_it_works() -> None:
    done = subprocess.run(
        [str(settings.ENGINE_PYTHON), "-c", SCRIPT], cwd=settings.BASE_DIR, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
