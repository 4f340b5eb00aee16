"""The list of uploads in parts: what is here of each, and an end to one that nobody completes."""

import pytest
from django.core.files.base import ContentFile
from django.test import Client

from apps.accounts.models import Project
from apps.batches.models import Upload, UploadPart
from apps.batches.uploads import add_part, complete_upload, create_upload

LIST = "/admin/batches/upload/"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def upload(project: Project) -> Upload:
    made = create_upload(project=project, filename="big.bin", purpose="user_data", size=5_000, expires_after=None)
    add_part(upload=made, content=ContentFile(b"x" * 2_000, name="part"))
    return made


def cancel(client: Client, upload: Upload) -> None:
    client.post(LIST, {"action": "cancel", "_selected_action": [upload.pk]})


def test_it_works(viewer: Client, upload: Upload) -> None:
    html = viewer.get(LIST).content.decode()
    assert "big.bin" in html
    assert "2.0\xa0KB of 4.9\xa0KB" in html


def test_a_completed_one_leads_to_its_file(viewer: Client, project: Project) -> None:
    made = create_upload(project=project, filename="big.bin", purpose="user_data", size=3, expires_after=None)
    part = add_part(upload=made, content=ContentFile(b"abc", name="part"))
    complete_upload(upload=made, part_ids=[part.uid])
    assert made.file
    assert f"/admin/batches/file/{made.file.pk}/change/" in viewer.get(LIST).content.decode()


def test_it_cancels(curator: Client, upload: Upload) -> None:
    cancel(curator, upload)
    upload.refresh_from_db()
    assert (upload.status, UploadPart.objects.count()) == ("cancelled", 0)


def test_it_rejects_changes_by_others(viewer: Client, outsider: Client, upload: Upload) -> None:
    for client in (viewer, outsider):
        cancel(client, upload)
    upload.refresh_from_db()
    assert upload.status == "pending"
    assert "big.bin" not in outsider.get(LIST).content.decode()
    assert viewer.get(f"{LIST}add/").status_code == 403
