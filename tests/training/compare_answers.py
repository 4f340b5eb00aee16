"""How much more likely one answer is than another, for a base model and for one with an adapter.

    python -m tests.training.compare_answers MODEL ADAPTER QUESTION… < BETTER\nWORSE

It runs in the trainer's interpreter. A line of JSON for each question: of the base and of the tuned model, the log of
how many times as likely the better answer is.
"""

import json
import sys
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer


def likelihood(model: Any, tokenizer: Any, question: str, answer: str) -> float:
    turns = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    ids = torch.tensor([tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logs = torch.log_softmax(model(ids).logits.float(), dim=-1)
    return float(logs[0, start - 1 : -1].gather(-1, ids[0, start:, None]).sum())


def main(model: str, adapter: str, questions: list[str]) -> None:
    better, worse = sys.stdin.read().splitlines()
    tokenizer, base = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    tuned = PeftModel.from_pretrained(base, adapter)
    for question in questions:

        def margin(question: str = question) -> float:
            return likelihood(tuned, tokenizer, question, better) - likelihood(tuned, tokenizer, question, worse)

        with tuned.disable_adapter():
            before = margin()
        print(json.dumps([before, margin()]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
