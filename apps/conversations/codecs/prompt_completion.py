"""A prompt and its completion: https://huggingface.co/docs/trl/dataset_formats#prompt-completion."""

from apps.conversations.codecs.codec import Codec, Values
from apps.conversations.codecs.fields import BESIDE, asked, beside, prompt
from apps.conversations.conversation import Conversation
from apps.conversations.messages import read_answer


def _read(values: Values, unused: set[str]) -> Conversation:
    chosen = read_answer(values.get("completion"), "completion", unused)
    return asked(Conversation(messages=prompt(values, unused), chosen=chosen, **beside(values)))


CODEC = Codec(
    name="completion",
    title="Prompt and completion",
    columns={"prompt": "question", "completion": "chosen answer", "system": "system message", **BESIDE},
    fits=lambda row: {"prompt", "completion"} <= row.keys(),
    read=_read,
)
