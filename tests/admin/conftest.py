"""The cast of the admin: people with a role each in one project, and batches made by hand."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from apps.accounts.models import Membership, Project
from apps.batches.models import Batch, Request, Result, Shard
from apps.models.models import Model

MakeBatch = Callable[..., Batch]


def _signed_in(name: str, project: Project | None = None, role: str = "", *, superuser: bool = False) -> Client:
    user = User.objects.create_user(name, is_staff=True, is_superuser=superuser)
    if project is not None:
        Membership.objects.create(project=project, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def admin(db: None) -> Client:
    """A superuser, member of nothing."""
    return _signed_in("admin", superuser=True)


@pytest.fixture
def boss(project: Project) -> Client:
    return _signed_in("boss", project, Membership.Role.OWNER)


@pytest.fixture
def curator(project: Project) -> Client:
    return _signed_in("curator", project, Membership.Role.CURATOR)


@pytest.fixture
def viewer(project: Project) -> Client:
    return _signed_in("viewer", project, Membership.Role.VIEWER)


@pytest.fixture
def outsider(db: None) -> Client:
    """The owner of another project."""
    return _signed_in("outsider", Project.objects.create(name="elsewhere"), Membership.Role.OWNER)


@pytest.fixture
def make_batch(project: Project, model: Model) -> MakeBatch:
    """Make a batch of `lines` lines, of which the first `completed` and the next `failed` have ended."""

    def make(
        lines: int = 6, completed: int = 0, failed: int = 0, *, status: str = "in_progress", answer: str = "Paris."
    ) -> Batch:
        batch = Batch.objects.create(
            project=project, endpoint="/v1/chat/completions", input_file_id="file-gone", status=status, total=lines,
            model=model, model_name=model.name, in_progress_at=timezone.now(),
            expires_at=timezone.now() + timedelta(hours=24),
        )  # fmt: skip
        body = json.dumps({"messages": [{"role": "user", "content": "Capital of France?"}]})
        numbers = range(1, lines + 1)
        Request.objects.bulk_create(Request(batch=batch, line=n, custom_id=f"id-{n}", body=body) for n in numbers)
        good = json.dumps({"choices": [{"message": {"content": answer}}]})
        Result.objects.bulk_create(
            Result(
                batch=batch,
                line=n,
                custom_id=f"id-{n}",
                failed=False,
                status_code=200,
                body=good,
                output_tokens=3,
                attempts=1,
            )
            if n <= completed
            else Result(
                batch=batch,
                line=n,
                custom_id=f"id-{n}",
                failed=True,
                error_code="engine_timeout",
                error_message="Too slow.",
            )
            for n in numbers[: completed + failed]
        )
        for first in range(1, lines + 1, 10):
            last = min(first + 9, lines)
            done = max(0, min(last, completed) - first + 1)
            bad = max(0, min(last, completed + failed) - first + 1) - done
            Shard.objects.create(
                batch=batch, first_line=first, last_line=last, lines=last - first + 1,
                completed=done, failed=bad, output_tokens=3 * done,
            )  # fmt: skip
        return batch

    return make
