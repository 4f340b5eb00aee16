"""How far one reviewer is. Counted apart from the page, which has no need to wait for it."""

from django.contrib.auth.models import User
from django.db.models import Count, Exists, OuterRef

from apps.datasets.models import Assignment, Review, Run


def of(*, run: Run, reviewer: User) -> dict[str, int]:
    """Of what is assigned to the reviewer; of the whole run, where nothing is assigned to anybody."""
    decided = Review.objects.filter(reviewer=reviewer).exclude(state=Review.State.OPEN)
    assigned = Assignment.objects.filter(run=run)
    if not assigned.exists():
        return {"assigned": run.items_total, "done": decided.filter(example__items__run=run).count()}
    done = Exists(decided.filter(example=OuterRef("example")))
    return dict(assigned.filter(reviewer=reviewer).aggregate(assigned=Count("pk"), done=Count("pk", filter=done)))
