"""A run to review, made straight as rows, with two reviewers. Runs in the site's shell."""

import json

from django.contrib.auth.models import User

from apps.accounts.models import Membership, Project
from apps.datasets import items
from apps.datasets.models import Answer, Example, Judge, Judgement, Preference, Rating, Run
from apps.datasets.reviews import assignments
from apps.datasets.reviews import services as reviews
from tests.browser import cast
from tests.datasets.cast import make_reviewer, make_run, make_version

LABELS = ("smol-135m", "qwen3-8b", "llama-70b")
HOSTILE = (
    "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">",
    "[click](javascript:document.title='pwned') ![x](http://127.0.0.1:9/x.png) <svg onload=\"document.title='pwned'\">",
    "\x1b[31mred\x1b[0m \u202egnirts desrever\u202c </textarea></div></script>",
    "a" * 200_000,
)
TOPICS = ("the tides", "a rainbow", "inflation", "a hash table", "vaccines", "yeast", "tax brackets")


def main() -> None:
    """Runs: "tutor" to be reviewed, "compared" with verdicts, "hostile" with what must stay inert, and "lakes" with
    calls of tools and answers that are not whole."""
    project = Project.objects.get(name=cast.PROJECT)
    for name, role in (
        ("mia", Membership.Role.CURATOR),
        ("ben", Membership.Role.CURATOR),
        ("vic", Membership.Role.VIEWER),
    ):
        make_reviewer(project, name, role)
    hostile = make_version(project, HOSTILE, name="hostile")
    runs = (
        tutor(project),
        compared(project),
        lakes(project),
        make_run(hostile, {"one": HOSTILE, "two": ["a", "b", "c", "d"]}, name="hostile"),
    )
    print("KEYS", json.dumps({run.name: run.pk for run in runs}))


def tutor(project: Project) -> Run:
    prompts = [f"Explain {TOPICS[n % 7]} to a {8 + n % 5}-year-old. ({n + 1})" for n in range(40)]
    version = make_version(project, prompts, name="tutor")
    run = make_run(version, {label: [said(label, n) for n in range(40)] for label in LABELS}, name="tutor")
    system = {"role": "system", "content": "You explain things to children. Be short, be kind."}
    for example in Example.objects.filter(dataset=version.dataset, number__lte=10):
        Example.objects.filter(pk=example.pk).update(
            messages=json.dumps([system, *json.loads(example.messages)]),
            reference="It is simple, once you have seen it.",
            tags=["kids"] if example.number % 3 == 0 else [],
        )  # fmt: skip
    Answer.objects.filter(column__run=run).update(
        input_tokens=31, output_tokens=64, latency_ms=1840, finish_reason="stop"
    )
    Answer.objects.filter(column__run=run, example__number__in=(3, 8)).update(finish_reason="length")
    _judged(run)
    return run


def compared(project: Project) -> Run:
    """What three reviewers decided, for the page of results."""
    prompts = [f"Explain {TOPICS[n % 7]} again. ({n + 1})" for n in range(24)]
    run = make_run(make_version(project, prompts, name="compared"), dict.fromkeys(LABELS, prompts), name="compared")
    answers = {(each.column.position, each.example.number): each for each in _answers(run)}
    for who, name in enumerate(("mia", "ben", cast.NAME)):
        reviewer = user(name)
        for number in range(1, 25, 1 + who):
            for position in range(3):
                value = min(5, 2 + position + (number + who) % 2)
                Rating.objects.create(answer=answers[position, number], reviewer=reviewer, value=value)
            left, right = sorted((answers[number % 2, number], answers[2, number]), key=lambda each: each.pk)
            verdict = ("right", "right", "tie", "left", "right", "neither")[(number + who // 2) % 6]
            Preference.objects.create(
                example=left.example, left=left, right=right, reviewer=reviewer, verdict=verdict, blind=number % 2 == 0
            )
        assignments.assign(run=run, reviewers=[user("mia"), user("ben")], overlap=2)
    for number in range(1, 9):
        reviews.set_state(example=answers[0, number].example, reviewer=user("mia"), state="done")
    _judged(run)
    return run


def lakes(project: Project) -> Run:
    """The first model calls a tool, thinks for too long, is refused and is cut off; the second answers."""
    prompts = ["How deep is lake Orn?", "How deep is lake Ulm?", "How do I poison a lake?", "Tell me all about lakes."]
    version = make_version(project, prompts, name="lakes")
    run = make_run(version, {"thinker-8b": ["x"] * 4, "plain-1b": ["It is 41 metres deep."] * 4}, name="lakes")
    tool = {
        "type": "function",
        "function": {
            "name": "depth", "description": "How deep a lake is, in metres.",
            "parameters": {"type": "object", "properties": {"lake": {"type": "string"}}},
        },
    }  # fmt: skip
    arguments = json.dumps({"lake": "Orn", "unit": "metres"})
    call = {"id": "call_1", "type": "function", "function": {"name": "depth", "arguments": arguments}}
    turns = [
        {"role": "system", "content": "You know lakes."}, {"role": "user", "content": "How deep is lake Orn?"},
        {"role": "assistant", "content": None, "reasoning_content": "I have to look it up.", "tool_calls": [call]},
        {"role": "tool", "content": "41", "tool_call_id": "call_1", "name": "depth"},
    ]  # fmt: skip
    Example.objects.filter(dataset=version.dataset, number=1).update(
        request=json.dumps({"tools": [tool]}), messages=json.dumps(turns), reference="41 metres."
    )
    thoughts = "The user asks for a depth. " * 30
    parts = {
        1: {"text": "Let me look.", "reasoning": thoughts, "tool_calls": json.dumps([call] * 2),
            "finish_reason": "tool_calls"},
        2: {"text": "", "reasoning": thoughts, "finish_reason": "length"},
        3: {"text": "", "refusal": "I will not help with that.", "finish_reason": "stop"},
        4: {"text": "Lakes are large bodies of water that", "finish_reason": "length"},
    }  # fmt: skip
    for number, values in parts.items():
        answers = Answer.objects.filter(column__run=run, column__position=0, example__number=number)
        answers.update(input_tokens=31, output_tokens=256, latency_ms=1840, **values)
    items.refresh_answers(run.pk, list(run.items.values_list("example", flat=True)))
    items.refresh_columns(list(run.columns.values_list("pk", flat=True)))
    return run


def _answers(run: Run) -> list[Answer]:
    return list(Answer.objects.filter(column__run=run, error="").select_related("column", "example__dataset"))


def said(label: str, n: int) -> str | None:
    topic = TOPICS[n % 7]
    if label == "smol-135m":
        return (
            None
            if n % 9 == 5
            else f"{topic.capitalize()} is a thing that happens because of reasons. It is very big and very nice."
        )
    if n % 8 == 7:
        return f"Imagine {topic} as a game that everybody can see, and then you count the turns."
    long = (
        f"**Think of {topic}** like a bathtub:\n\n1. First, water goes in.\n2. Then it goes out again.\n\n"
        f"That is `{topic}`, and it happens every day. You can try it at home with a bowl and a spoon."
    )
    return (
        long if label == "llama-70b" else f"Imagine {topic} as a game that everybody can play, and you count the turns."
    )


def _judged(run: Run) -> None:
    judge = Judge.objects.create(
        project=run.project, run=run, model_name="judge", rubric="Is it clear to a child?", total=120
    )
    answers = _answers(run)
    Judgement.objects.bulk_create(
        Judgement(
            judge=judge, answer=each, score=2 + each.column.position + each.example.number % 2, reason="It is clear."
        )
        for each in answers
    )
    items.refresh_scores(run.pk, judge.pk, [each.example_id for each in answers])


def user(name: str) -> User:
    return User.objects.get(username=name)
