"""The formats of one JSON object a line: what a codec writes, line by line.

`datasets` tells the columns of a file from its first 10 MB. A file whose later rows hold more than that, calls of tools
for example, could not be loaded. So the few rows that show every key come first; all others follow by number.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

from apps.conversations.codecs import (
    CannotHold,
    alpaca,
    openai_chat,
    preference,
    prompt_completion,
    sharegpt,
    sharegpt_pairs,
    unpaired,
)
from apps.conversations.conversation import Conversation, encode
from apps.core.json_lines import escape_separators_in_bytes
from apps.datasets.exports.formats.format import USES, Format, Kind, Row, Setting
from apps.datasets.exports.formats.leading import leading_rows

PIECE = 256 * 1024  # bytes that are gathered before they are passed on

WriteRow = Callable[[Conversation], dict[str, Any]]


MESSAGES = frozenset(USES) - {"turns"}
"""What changes the keys of rows that hold messages as OpenAI and TRL have them."""
TURNS = frozenset({"tools", "weight"})
"""Of rows that hold turns of text."""


def _lines(
    write_row: WriteRow, uses: frozenset[str], *, kwargs: bool
) -> Callable[[Iterable[Row], Setting], Iterator[bytes]]:
    """`uses`: what makes its rows differ in their keys. `kwargs`: every row has "chat_template_kwargs" when one has,
    since TRL takes no null for them."""

    def write(rows: Iterable[Row], setting: Setting) -> Iterator[bytes]:
        filled = kwargs and "chat_template_kwargs" in setting.uses

        def line(row: Row) -> dict[str, Any]:
            written = write_row(row.held())
            return {**written, "chat_template_kwargs": written.get("chat_template_kwargs", {})} if filled else written

        differ = setting.uses & uses
        first = leading_rows(setting.special(differ), line) if differ else []
        places = {(row.number, row.place) for row in first}
        rest = (row for row in rows if (row.number, row.place) not in places) if places else rows
        piece = bytearray()
        for row in chain(first, rest):
            try:
                piece += encode(line(row)) + b"\n"
            except CannotHold as error:
                setting.leave_out(row, str(error))
            if len(piece) >= PIECE:
                yield escape_separators_in_bytes(bytes(piece))
                piece.clear()
        yield escape_separators_in_bytes(bytes(piece))

    return write


def _format(
    name: str, title: str, what_for: str, kind: Kind, write_row: WriteRow, uses: frozenset[str], *,
    purpose: str = "user_data", kwargs: bool = False,
) -> Format:  # fmt: skip
    return Format(
        name=name, title=title, what_for=what_for, suffix=".jsonl", purpose=purpose, kinds=frozenset([kind]),
        write=_lines(write_row, uses, kwargs=kwargs),
    )  # fmt: skip


# https://platform.openai.com/docs/guides/supervised-fine-tuning
CHAT = _format(
    "chat", "OpenAI chat",
    "Fine-tuning here, at OpenAI, and with nearly every trainer; keeps tools, reasoning, weights and images.",
    Kind.ANSWERS, openai_chat.CODEC.write, MESSAGES, purpose="fine-tune",
)  # fmt: skip
PROMPT_COMPLETION = _format(
    "prompt_completion", "Prompt and completion",
    "Base models and classic completions; a conversation becomes one text.",
    Kind.ANSWERS, prompt_completion.write_text, frozenset(),
)  # fmt: skip
# https://huggingface.co/docs/trl/dataset_formats#prompt-completion
TRL_COMPLETION = _format(
    "trl_completion", "TRL prompt and completion",
    "Messages up to the question, and the answer's: SFT with TRL and Unsloth that learns the answer alone.",
    Kind.ANSWERS, prompt_completion.CODEC.write, MESSAGES, kwargs=True,
)  # fmt: skip
ALPACA = _format(
    "alpaca", "Alpaca",
    "Instruction, output, system and history, as LLaMA-Factory takes it; Unsloth and axolotl read no history.",
    Kind.ANSWERS, alpaca.CODEC.write, frozenset({"turns"}),
)  # fmt: skip
SHAREGPT = _format(
    "sharegpt", "ShareGPT",
    "Conversations of human and gpt with calls of tools, as LLaMA-Factory takes it.",
    Kind.ANSWERS, sharegpt.CODEC.write, TURNS,
)  # fmt: skip
SHAREGPT_PAIRS = _format(
    "sharegpt_pairs", "ShareGPT preference pairs",
    "Preference pairs (DPO, ORPO, reward models) with LLaMA-Factory.",
    Kind.PAIRS, sharegpt_pairs.CODEC.write, TURNS,
)  # fmt: skip
# https://platform.openai.com/docs/guides/direct-preference-optimization
DPO = _format(
    "dpo", "OpenAI preference pairs",
    "Direct preference optimization here and at OpenAI, and wherever its files are taken; answers of one message.",
    Kind.PAIRS, preference.write_openai, MESSAGES, purpose="fine-tune",
)  # fmt: skip
# https://huggingface.co/docs/trl/dataset_formats#preference
TRL = _format(
    "trl", "TRL preference pairs",
    "DPO, ORPO and reward models with TRL and Unsloth.",
    Kind.PAIRS, preference.CODEC.write, MESSAGES, kwargs=True,
)  # fmt: skip
# https://huggingface.co/docs/trl/dataset_formats#unpaired-preference
KTO = _format(
    "kto", "TRL thumbs up and down",
    "KTO here and with TRL: one answer each, good or bad; a pair becomes two rows.",
    Kind.LABELS, unpaired.CODEC.write, MESSAGES, purpose="fine-tune", kwargs=True,
)  # fmt: skip
