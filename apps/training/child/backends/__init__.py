"""What trains: Unsloth where it can do what is asked on this device, else plain Transformers, PEFT and TRL.

Read by the trainer's child only. A backend imports its libraries when it is used: Unsloth changes the others.
"""

from apps.training.child.backends.plain import Plain
from apps.training.child.backends.unsloth import Unsloth
from apps.training.child.failures import unsupported
from apps.training.child.learner import TrainingBackend
from apps.training.spec import TrainingSpec

BACKENDS: dict[str, TrainingBackend] = {"unsloth": Unsloth(), "plain": Plain()}


def choose(spec: TrainingSpec) -> TrainingBackend:
    """Raises `Refused` when none can do what is asked."""
    wanted = list(BACKENDS.values()) if spec.backend == "auto" else [BACKENDS[spec.backend]]
    for backend in wanted:
        why_not = backend.why_not(spec)
        if not why_not:
            return backend
        print(f"{backend.name} is not taken: {why_not}", flush=True)
    raise unsupported(why_not)
