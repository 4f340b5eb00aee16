"""A question and its answer in columns of text, as Dolly's and Orca's files name them:
https://huggingface.co/datasets/databricks/databricks-dolly-15k, https://huggingface.co/datasets/Open-Orca/OpenOrca.
"""

from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import CannotHold, Codec, Values
from apps.conversations.codecs.fields import SYSTEMS, asked, assistant, instructed, system_of, text, user
from apps.conversations.conversation import Conversation

HISTORY = "earlier turns"
SYSTEM = "a system message"


def _question_alone(conversation: Conversation) -> tuple[str, str, str]:
    """The system prompt, the question and the answer, each text; there is nothing else."""
    if conversation.rejected:
        raise CannotHold(holding.REJECTED)
    holding.nothing_beside(conversation)
    system, history, question = holding.asked(conversation)
    if history:
        raise CannotHold(HISTORY)
    return system, question, holding.text(holding.one(conversation.chosen))


def _read_dolly(values: Values, _unused: set[str]) -> Conversation:
    more = "context" if text(values, "context").strip() else "input"
    question = instructed(values, "instruction", more)
    return asked(Conversation(messages=user(question), chosen=assistant(text(values, "response"))))


def _write_dolly(conversation: Conversation) -> dict[str, Any]:
    system, question, answer = _question_alone(conversation)
    if system:
        raise CannotHold(SYSTEM)
    return {"instruction": question, "context": "", "response": answer}


DOLLY = Codec(
    name="dolly",
    title="Dolly instructions",
    columns={"instruction": "question", "context": "question", "input": "question", "response": "chosen answer"},
    fits=lambda row: {"instruction", "response"} <= row.keys(),
    read=_read_dolly,
    write=_write_dolly,
)


def _read_orca(values: Values, _unused: set[str]) -> Conversation:
    question = text(values, "question", needed=True)
    return asked(Conversation(messages=user(question, system_of(values)), chosen=assistant(text(values, "response"))))


def _write_orca(conversation: Conversation) -> dict[str, Any]:
    system, question, answer = _question_alone(conversation)
    return {"system_prompt": system, "question": question, "response": answer}


ORCA = Codec(
    name="orca",
    title="Orca questions",
    columns={**dict.fromkeys(SYSTEMS, "system message"), "question": "question", "response": "chosen answer"},
    fits=lambda row: {"question", "response"} <= row.keys() and any(name in row for name in SYSTEMS),
    read=_read_orca,
    write=_write_orca,
)
