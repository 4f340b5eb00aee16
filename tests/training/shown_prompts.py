"""What the trainer shows and learns of conversations, for many chat templates.

    python -m tests.training.shown_prompts MODEL < [{"template", "rows", "stops"}, …]

It runs in the trainer's interpreter. A line of JSON comes out for each: for each row what is learned of it, as
{"prompt", "ids", "text"}, or why it is left out.
"""

import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any, cast

from apps.training.child.examples import Sequence, conversation
from apps.training.child.failures import Refused
from apps.training.child.rendering import Renderer, Unlearnable
from apps.training.options import parse

Row = dict[str, Any]


def learned(renderer: Renderer, row: Row, ends: set[int]) -> dict[str, Any]:
    try:
        sequences = conversation(renderer, row, parse({}))
    except (Unlearnable, Refused) as error:
        return {"answers": [], "why": str(error)}
    answers = [answer for sequence in sequences for answer in runs(sequence, renderer.tokenizer, ends)]
    return {"answers": answers, "why": ""}


def runs(sequence: Sequence, tokenizer: Any, ends: set[int]) -> Iterator[Row]:
    """Every stretch of it that is learned, up to an end, and all that stands before."""
    start, last = -1, len(sequence.ids) - 1
    for at, (token, counts) in enumerate(zip(sequence.ids, sequence.learned, strict=True)):
        if counts and start < 0:
            start = at
        if start >= 0 and (token in ends or at == last or not sequence.learned[at + 1]):
            ids = sequence.ids[start : at + 1]
            text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            yield {"prompt": sequence.ids[:start], "ids": ids, "text": text}
            start = -1


def main(model: str) -> None:
    cast(dict[str, Any], sys.modules)["torch"] = None  # it is quicker without
    tokenizer = importlib.import_module("transformers").AutoTokenizer.from_pretrained(model)
    for case in json.load(sys.stdin):
        renderer = Renderer(tokenizer, chat_template=case["template"], stops=case["stops"])
        ends = {tokenizer.eos_token_id, *case["stops"]}
        print(json.dumps([learned(renderer, row, ends) for row in case["rows"]]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
