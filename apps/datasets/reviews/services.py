"""What reviewers do. Each verb is one transaction with one row of history; what changes nothing writes nothing.

Who may do it is the caller's to know. Here is checked that the objects belong together, that nobody else holds the
example (`locks`), and that what is written can be kept. Every verb returns its `Change`, or None if it changed nothing.
To be quick, pass answers with `example__dataset` and `column` selected, examples with `dataset`.
"""

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.db.models.functions import Now

from apps.core.errors import Conflict, DomainError
from apps.datasets.models import Answer, Change, Dataset, Example, Preference, Review, Thumb
from apps.datasets.reviews import decisions, locks, words
from apps.datasets.reviews.decisions import Decision
from apps.events.services import announce

NOTE_CHARACTERS = 10_000
EDIT_CHARACTERS = 1_000_000

Verdict = Preference.Verdict
MIRRORED = {"left": "right", "right": "left"}


class NeedsConsent(Conflict):
    """The answer is blank, cut off, filtered or refused: learning it has to be meant. The code says which it is."""


def star(*, answer: Answer, reviewer: User, accept: bool = False) -> Change | None:
    """Accept the answer as its example's best; a star that another answer had moves here, and takes the new giver.

    Raises `NeedsConsent` for an answer that is not whole, unless the reviewer knows and will `accept` that.
    """
    if answer.error:
        raise DomainError("This answer failed: it cannot have the star. Edit it, and star the edit.", param="answer")
    decision = _star_of(answer.example, reviewer)
    before = decision.read()
    if before and before["answer"] == answer.pk:
        return None
    _check_whole(answer, accept, "star")
    return _decide(decision, reviewer, {"answer": answer.pk, "reviewer": reviewer.pk})


def unstar(*, example: Example, reviewer: User, answer: Answer | None = None) -> Change | None:
    """Take the example's star away, whoever gave it; the reviewer's own where each reviewer has one.

    Given an answer, only if that is the one which has it.
    """
    decision = _star_of(example, reviewer)
    before = decision.read() if answer else None
    if answer and (before is None or before["answer"] != answer.pk):
        return None
    return _decide(decision, reviewer, None)


def rate(*, answer: Answer, reviewer: User, value: int | None) -> Change | None:
    """1 to 5; None takes the rating away."""
    if value is not None and not 1 <= value <= 5:
        raise DomainError("A rating is a number from 1 to 5.", param="value")
    if answer.error:
        raise DomainError("This answer failed: there is nothing to rate.", param="answer")
    decision = decisions.RatingOf(example=answer.example, answer=answer.pk, reviewer=reviewer.pk)
    return _decide(decision, reviewer, value)


def thumb(*, answer: Answer, reviewer: User, verdict: str | None, accept: bool = False) -> Change | None:
    """`verdict` is one of `Thumb.Verdict`; None takes the reviewer's thumb away.

    Raises `NeedsConsent` as `star` does, for a thumb up.
    """
    if verdict is not None and verdict not in Thumb.Verdict.values:
        raise DomainError(f"'verdict' is one of {', '.join(Thumb.Verdict.values)}.", param="verdict")
    if answer.error:
        raise DomainError("This answer failed: there is nothing to give a thumb to.", param="answer")
    if verdict == Thumb.Verdict.UP:
        _check_whole(answer, accept, "thumb")
    decision = decisions.ThumbOf(example=answer.example, answer=answer.pk, reviewer=reviewer.pk)
    return _decide(decision, reviewer, verdict and str(verdict))


def prefer(*, left: Answer, right: Answer, reviewer: User, verdict: str | None, blind: bool = False) -> Change | None:
    """`verdict` is as the reviewer saw the two; it is kept with the older row as the left one. None takes it away."""
    if left.example_id != right.example_id:
        raise DomainError("These answers are to different examples: they cannot be compared.", param="right")
    if left.pk == right.pk:
        raise DomainError("These are one and the same answer: there is nothing to compare.", param="right")
    if verdict is not None and verdict not in Verdict.values:
        raise DomainError(f"'verdict' is one of {', '.join(Verdict.values)}.", param="verdict")
    if left.pk > right.pk:
        left, right, verdict = right, left, MIRRORED.get(verdict, verdict) if verdict else None
    after = None if verdict is None else {"verdict": str(verdict), "blind": blind}
    decision = decisions.PreferenceOf(example=left.example, left=left.pk, right=right.pk, reviewer=reviewer.pk)
    return _decide(decision, reviewer, after)


def tag(*, example: Example, reviewer: User, tags: Sequence[str]) -> Change | None:
    """These are the example's tags from now on, for every reviewer. Lower case, each once."""
    return _decide(decisions.TagsOf(example=example), reviewer, words.tags(tags))


def note(*, example: Example, reviewer: User, text: str) -> Change | None:
    """The reviewer's own note; empty takes it away."""
    after = words.checked(text.strip(), longest=NOTE_CHARACTERS, param="note")
    return _decide(decisions.NoteOf(example=example, reviewer=reviewer.pk), reviewer, after)


def set_state(*, example: Example, reviewer: User, state: str) -> Change | None:
    """Where the reviewer stands with the example: one of `Review.State`."""
    if state not in Review.State.values:
        raise DomainError(f"'state' is one of {', '.join(Review.State.values)}.", param="state")
    return _decide(decisions.StateOf(example=example, reviewer=reviewer.pk), reviewer, str(state))


def edit(*, answer: Answer, reviewer: User, text: str | None) -> Change | None:
    """Make a better answer of this one; None takes the reviewer's edit away. The model's answer stays as it is.

    An edit of somebody's edit becomes the reviewer's own edit of the same model's answer.
    """
    origin = answer.edit_of or answer
    after = text if text is None else words.checked(text, longest=EDIT_CHARACTERS, param="text")
    if after is not None and not after.strip():
        raise DomainError("An edit needs a text. To go back to the model's answer, remove the edit.", param="text")
    return _decide(decisions.EditOf(answer=origin, author=reviewer.pk), reviewer, after)


def undo(*, reviewer: User, dataset: Dataset, change: int | None = None) -> Change | None:
    """Put back what the reviewer's latest change in the dataset found, or the one with the id `change`.

    None: there is nothing to undo. Raises `Conflict` when it is not any more as that change left it.
    """
    own = Change.objects.filter(dataset=dataset, reviewer=reviewer, undone_at=None).select_related("example")
    own = own if change is None else own.filter(pk=change)
    while found := own.order_by("-pk").first():
        with transaction.atomic():
            decision = decisions.of(found)
            locked_by = _hold(decision.example, reviewer)
            if Change.objects.filter(pk=found.pk, undone_at=None).update(undone_at=Now()):
                _put_back(found, decision, dataset, locked_by)
                return found
    return None


def _put_back(change: Change, decision: Decision, dataset: Dataset, locked_by: User | None) -> None:
    if decision.read() != change.after:
        raise _changed_since(change)
    _check_lock(decision, dataset, locked_by, change.before, change.after)
    _write(decision, dataset, change.before)


def _decide(decision: Decision, reviewer: User, after: Any) -> Change | None:
    example, dataset = decision.example, decision.example.dataset
    with transaction.atomic():
        locked_by = _hold(example, reviewer)
        before = decision.read()
        if before == after:
            return None
        _check_lock(decision, dataset, locked_by, before, after)
        change = Change.objects.create(
            dataset=dataset, example=example, reviewer=reviewer, kind=decision.kind, target=decision.target,
            before=before, after=after,
        )  # fmt: skip
        _write(decision, dataset, after)
    return change


def _hold(example: Example, reviewer: User) -> User | None:
    """Changes of one example come one after the other. Who else has the example's lock."""
    others = locks.live().filter(example=OuterRef("pk")).exclude(reviewer=reviewer)
    rows = Example.objects.select_for_update(no_key=True).annotate(locked_by=Subquery(others.values("reviewer")))
    held = rows.filter(pk=example.pk).order_by().values_list("locked_by", flat=True)[:1]
    for locked_by in held:
        return User.objects.get(pk=locked_by) if locked_by else None
    raise Conflict("This example has been removed.")


def _check_lock(decision: Decision, dataset: Dataset, locked_by: User | None, *states: Any) -> None:
    if locked_by and (dataset.overlap == 1 or decision.shares(*states)):
        raise locks.taken(locked_by)


def _write(decision: Decision, dataset: Dataset, state: Any) -> None:
    decision.write(state)
    decision.refresh()
    if isinstance(decision, decisions.StarOf) and state is not None:
        giver = User.objects.values_list("username", flat=True).get(pk=state["reviewer"])
        number, answer = decision.example.number, state["answer"]
        data = {"id": dataset.uid, "example": number, "answer": answer, "reviewer": giver}
        announce(type="example.starred", project=dataset.project, data=data)


def _check_whole(answer: Answer, accept: bool, what: str) -> None:
    why = None if accept else answer.incomplete
    if why is not None:
        advice = f"Edit it and give the {what} to the edit, or say that you accept it as it is."
        raise NeedsConsent(f"{why.sentence} {advice}", param="accept", code=f"{why.code}_answer")


def _star_of(example: Example, reviewer: User) -> Decision:
    shared = example.dataset.star_policy == Dataset.StarPolicy.SHARED
    return decisions.StarOf(example=example, reviewer=None if shared else reviewer.pk)


def _changed_since(change: Change) -> Conflict:
    later = Change.objects.filter(example=change.example_id, kind=change.kind, target=change.target, pk__gt=change.pk)
    latest = later.filter(undone_at=None).exclude(reviewer=change.reviewer_id).select_related("reviewer").first()
    who = latest.reviewer.username if latest and latest.reviewer else "Somebody"
    noun = f"{change.kind} of example {change.example.number}"
    return Conflict(f"{who} changed the {noun} since: it cannot be undone. Look at it again, and decide anew.")
