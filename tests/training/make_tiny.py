"""Writes a tiny random Llama with the tokenizer and the chat template of the model in SOURCE.

    python -m tests.training.make_tiny SOURCE TARGET

It runs in the trainer's interpreter. The same seed gives the same weights.
"""

import shutil
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SEED = 7
SHAPE = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 49152, "max_position_embeddings": 2048,
}  # fmt: skip
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def main(source: Path, target: Path) -> None:
    torch.manual_seed(SEED)
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    config = LlamaConfig(**SHAPE, **tokens, tie_word_embeddings=True)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(target)
    for name in TOKENIZER:
        shutil.copy(source / name, target / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
