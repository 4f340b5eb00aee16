"""Downloads of what was kept in the playground."""

import json

import pytest
from django.test import Client
from django.urls import reverse

from apps.accounts.models import Project
from apps.models.models import ExampleSet, TriedPrompt

streamed = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous")


@pytest.mark.django_db(transaction=True)
@streamed
def test_no_character_breaks_a_line(curator: Client, project: Project) -> None:
    text = "one\u2028two\u2029three\x85four"
    kept = ExampleSet.objects.create(project=project, name="kept")
    question = [{"role": "user", "content": text}]
    TriedPrompt.objects.create(example_set=kept, messages=question, answers={"m": text, f"m{text}": "no"})
    response = curator.get(reverse("admin:models_exampleset_download", args=[kept.pk]))
    written = b"".join(response).decode()
    assert len(written.splitlines()) == written.count("\n") == 2
    assert json.loads(written.splitlines()[0])["messages"] == [*question, {"role": "assistant", "content": text}]
