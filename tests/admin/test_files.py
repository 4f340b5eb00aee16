from pathlib import Path

import pytest
from django.conf import settings
from django.core.files.base import ContentFile
from django.test import Client

from apps.accounts.models import Project
from apps.batches.models import Batch, File
from apps.batches.services import create_file
from tests.events.cast import running_batch

LIST = "/admin/batches/file/"


@pytest.fixture
def file(project: Project) -> File:
    upload = ContentFile(b"{}\n" * 700, name="input.jsonl")
    return create_file(project=project, filename="input.jsonl", purpose="batch", upload=upload)


def test_it_works(viewer: Client, file: File) -> None:
    html = viewer.get(LIST).content.decode()
    assert "input.jsonl" in html
    assert "2.1\xa0KB" in html
    assert f"{LIST}{file.pk}/download/" in viewer.get(f"{LIST}{file.pk}/change/").content.decode()
    assert viewer.get(f"{LIST}{file.pk}/download/")["Content-Disposition"] == 'attachment; filename="input.jsonl"'


@pytest.mark.django_db(transaction=True)
def test_it_deletes_the_bytes_too(curator: Client, file: File) -> None:
    path = Path(settings.FILES_DIR) / str(file.content.name)
    assert path.exists()
    curator.post(LIST, {"action": "delete_files", "_selected_action": [file.pk]})
    assert not File.objects.exists()
    assert not path.exists()


@pytest.mark.django_db(transaction=True)
def test_it_deletes_on_the_files_page(curator: Client, file: File) -> None:
    path = Path(settings.FILES_DIR) / str(file.content.name)
    curator.post(f"{LIST}{file.pk}/delete/", {"post": "yes"})
    assert not File.objects.exists()
    assert not path.exists()


def test_it_rejects_changes_by_a_viewer(viewer: Client, file: File) -> None:
    viewer.post(LIST, {"action": "delete_files", "_selected_action": [file.pk]})
    assert viewer.post(f"{LIST}{file.pk}/delete/", {"post": "yes"}).status_code == 403
    assert File.objects.exists()


def test_it_rejects_edits(curator: Client, file: File) -> None:
    assert curator.post(f"{LIST}{file.pk}/change/", {"filename": "other.jsonl"}).status_code == 403
    assert curator.get(f"{LIST}add/").status_code == 403


@pytest.mark.parametrize("path", ["change/", "download/", "delete/", "history/"])
def test_it_does_not_exist_for_a_stranger(outsider: Client, file: File, path: str) -> None:
    assert outsider.get(f"{LIST}{file.pk}/{path}").status_code == 404
    assert "input.jsonl" not in outsider.get(LIST).content.decode()


def test_it_survives_bytes_that_are_gone(curator: Client, file: File) -> None:
    (Path(settings.FILES_DIR) / str(file.content.name)).unlink()
    assert curator.get(f"{LIST}{file.pk}/download/").status_code == 404


def test_an_output_file_names_its_batch(viewer: Client, project: Project, file: File) -> None:
    name = "batch_0123456789abcdef0123456789abcdef_output.jsonl"
    output = File.objects.create(project=project, filename=name, purpose="batch_output", bytes=2, content="x")
    batch = running_batch(project)
    Batch.objects.filter(pk=batch.pk).update(output_file=output)
    html = viewer.get(LIST).content.decode()
    assert f'title="{name}"' in html
    assert "_output.jsonl</span>" in html
    assert f">{batch.uid}</a>" in viewer.get(f"{LIST}{output.pk}/change/").content.decode()
    assert f">{batch.uid}</a>" not in viewer.get(f"{LIST}{file.pk}/change/").content.decode()
