"""Answers of several models to one question, and which of them is best: LMSYS's comparisons of two conversations, and
UltraFeedback's scores:
https://huggingface.co/datasets/lmsys/chatbot_arena_conversations, https://huggingface.co/datasets/openbmb/UltraFeedback.
"""

from typing import Any

from apps.conversations.codecs import holding
from apps.conversations.codecs.codec import CannotHold, Codec, Values
from apps.conversations.codecs.fields import asked, assistant, text, user
from apps.conversations.codecs.preference import parted
from apps.conversations.codecs.sharegpt import entry
from apps.conversations.conversation import Conversation, Messages
from apps.conversations.errors import RowError
from apps.conversations.messages import read_messages

WINNERS = {"model_a": True, "model_b": False}
"""Whether the first conversation is the better one."""
SCORES = ("overall_score", "fine-grained_score")
BETWEEN = "completions[] between the best and the worst"
EVEN = "completions[] as good as the best"
WITHOUT = "completions[] without a score"
BEGIN_ALIKE = "answers that begin alike"


def _read_arena(values: Values, unused: set[str]) -> Conversation:
    winner = values.get("winner")
    if not isinstance(winner, str) or winner not in WINNERS:
        message = "Its 'winner' is neither 'model_a' nor 'model_b', so that no answer is the better one: leave it out."
        raise RowError(message, "no_winner")
    first, second = (_turns(values, f"conversation_{side}", unused) for side in "ab")
    better, worse = (first, second) if WINNERS[winner] else (second, first)
    messages, chosen, rejected = parted(better, worse, "'conversation_a' and 'conversation_b'")
    return asked(Conversation(messages=messages, chosen=chosen, rejected=rejected))


def _turns(values: Values, name: str, unused: set[str]) -> Messages:
    given = values.get(name)
    return read_messages(
        [entry(turn, name, unused) for turn in given] if isinstance(given, list) else given, name, unused
    )


def _write_arena(conversation: Conversation) -> dict[str, Any]:
    holding.nothing_beside(conversation)
    better, worse = holding.pair(conversation)
    if better[0] == worse[0]:
        raise CannotHold(BEGIN_ALIKE)
    asks = conversation.messages
    return {"conversation_a": asks + better, "conversation_b": asks + worse, "winner": "model_a"}


ARENA = Codec(
    name="lmsys",
    title="LMSYS comparisons",
    columns={
        "conversation_a": "messages, an answer",
        "conversation_b": "messages, an answer",
        "winner": "which answer is chosen",
    },
    fits=lambda row: {"conversation_a", "conversation_b", "winner"} <= row.keys(),
    read=_read_arena,
    write=_write_arena,
)


def _read_scored(values: Values, unused: set[str]) -> Conversation:
    completions = values.get("completions")
    if not isinstance(completions, list) or not all(isinstance(each, dict) for each in completions):
        raise RowError("'completions' must be a list of answers, each an object with a 'response'.", "invalid_answers")
    scored = [(score, each) for each in completions if (score := _score(each)) is not None]
    if not scored:
        raise RowError("None of the 'completions' has a number as 'overall_score'.", "no_score")
    best, worst = max(scored, key=lambda pair: pair[0]), min(scored, key=lambda pair: pair[0])
    if len(scored) < len(completions):
        unused.add(WITHOUT)
    if len(scored) > 2:
        unused.add(BETWEEN)
    unused.update(f"completions[].{key}" for each in (best[1], worst[1]) for key in each.keys() - {"response", *SCORES})
    chosen = assistant(text(best[1], "response", needed=True))
    rejected = assistant(text(worst[1], "response", needed=True)) if worst[0] < best[0] else ()
    if len(scored) == 2 and not rejected:
        unused.add(EVEN)
    messages = user(text(values, "instruction", needed=True))
    return asked(Conversation(messages=messages, chosen=chosen, rejected=rejected))


def _score(completion: dict[str, Any]) -> float | None:
    found = (completion.get(name) for name in SCORES)
    return next((float(score) for score in found if isinstance(score, int | float)), None)


def _write_scored(conversation: Conversation) -> dict[str, Any]:
    holding.nothing_beside(conversation)
    system, history, question = holding.asked(conversation)
    if system or history:
        raise CannotHold("a system message" if system else "earlier turns")
    better, worse = (holding.text(holding.one(side)) for side in holding.pair(conversation))
    answers = [{"response": better, "overall_score": 10.0}, {"response": worse, "overall_score": 1.0}]
    return {"instruction": question, "completions": answers}


SCORED = Codec(
    name="ultrafeedback",
    title="UltraFeedback scores",
    columns={"instruction": "question", "completions": "the best answer is chosen, the worst rejected"},
    fits=lambda row: "instruction" in row and isinstance(row.get("completions"), list),
    read=_read_scored,
    write=_write_scored,
)
