"""The training that `bench.training` measures, as a user of Unsloth writes it: one save, at the end.

    python -m bench.bare_training MODEL ROWS.jsonl FOLDER STEPS

It runs in the trainer's interpreter, and prints the loss of every step as JSON.
"""

import json
import sys
from pathlib import Path
from typing import Any

from unsloth import FastLanguageModel  # isort: skip # it patches the ones below
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

LENGTH = 512
IGNORED = -100


def tokens(tokenizer: Any, messages: list[dict[str, str]]) -> dict[str, list[int]]:
    """Of a chat; only the answer is learned."""
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    before, ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, whole))
    labels = [IGNORED] * len(before) + ids[len(before) :]
    return {"input_ids": ids[:LENGTH], "labels": labels[:LENGTH]}


def main(model_path: str, rows: str, folder: str, steps: int) -> None:
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_path, max_seq_length=LENGTH, load_in_4bit=False, use_gradient_checkpointing=False
    )
    model = FastLanguageModel.get_peft_model(
        model, r=16, lora_alpha=32, lora_dropout=0, use_gradient_checkpointing=False, random_state=3407
    )
    examples = [json.loads(line)["messages"] for line in Path(rows).read_text().splitlines()]
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([tokens(tokenizer, messages) for messages in examples]),
        args=SFTConfig(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=4, gradient_accumulation_steps=1,
            learning_rate=5e-4, lr_scheduler_type="linear", warmup_steps=0, max_length=LENGTH, seed=3407,
            logging_steps=1, save_strategy="no", report_to="none", gradient_checkpointing=False,
        ),
    )  # fmt: skip
    trainer.train()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print("LOSSES", json.dumps([entry["loss"] for entry in trainer.state.log_history if "loss" in entry]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
