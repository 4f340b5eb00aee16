"""Who looks at the pages of fine-tuning."""

from typing import Any

from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Membership, Project
from tests.datasets.cast import make_reviewer


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def member(project: Project, role: str = "curator") -> Client:
    return signed_in(make_reviewer(project, role, Membership.Role(role)))


def outsider() -> Client:
    """The owner of another project."""
    elsewhere = Project.objects.create(name="elsewhere")
    return signed_in(make_reviewer(elsewhere, "outsider", Membership.Role.OWNER))


def html_of(response: Any) -> str:
    assert response.status_code == 200
    return str(response.content.decode())


def said(response: Any) -> str:
    """The last message that a verb left."""
    assert response.status_code == 302
    return [str(message) for message in get_messages(response.wsgi_request)][-1]


def queries_of(client: Client, path: str) -> int:
    client.get(path)
    with CaptureQueriesContext(connection) as captured:
        html_of(client.get(path))
    return len(captured)
