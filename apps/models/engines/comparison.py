"""Whether an adapter changes anything: the same prompts to it and to its base model, at temperature 0.

The first look, when it is loaded. What was trained here is compared with more prompts before it is deployed, by the
same rule (`differs`, in `apps.training.deployments.parity`).

An adapter whose tensors fit no module is loaded without a word, and answers bit for bit as its base model does.
Ask while nobody else is answered. Other requests that are computed at the same time turn last bits, so that an answer
of the base counts only where it says the same twice.
"""

from collections.abc import Callable

from apps.models.engines.canary import Canary

PROMPTS = (
    "Count: one, two, three, four,", "The capital of France is", "def add(a, b):", "Once upon a time there was",
    "Water boils at",
)  # fmt: skip

Ask = Callable[[str, str], Canary]
"""(the model's name, a prompt) -> what it answers; raises where it does not."""


def differs(answer: object, *base: object) -> bool | None:
    """Whether it is none of the base model's answers to the same prompt.

    None: it is none, but the base model's differ from each other as well, so that it says nothing.
    """
    if answer in base:
        return False
    return True if all(other == base[0] for other in base) else None


def changes_nothing(ask: Ask, adapter: str, base: str) -> str:
    """A sentence where every answer is the base model's; empty where one differs, or nothing can be told."""
    told = False
    for prompt in PROMPTS:
        before, answer, after = ask(base, prompt), ask(adapter, prompt), ask(base, prompt)
        if (differing := differs(answer, before, after)) is None:
            continue  # last bits turn
        if differing:
            return ""
        told = True
    if not told:
        return ""
    return (
        f"It answers exactly as its base model {base} does, to the last bit of {len(PROMPTS)} prompts: none of its "
        "tensors has an effect. Check that it was trained, and on this model."
    )
