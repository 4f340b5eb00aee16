"""The other pages: models, engines, projects, events, people, the overview and the landing page."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from apps.accounts.models import Membership, Project
from apps.batches.models import Batch
from apps.events.models import Event
from apps.events.services import announce
from apps.models.models import Device, Engine, Model
from batchserver.dashboard import SHOWN
from tests.events.cast import running_batch

PLACES = {
    "batches/batch": "add/", "batches/file": "", "batches/upload": "",
    "models/model": "add/", "models/engine": "", "events/event": "",
    "accounts/project": "add/", "accounts/apikey": "add/", "auth/user": "add/", "auth/group": "add/",
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_it_works(admin: Client, place: str) -> None:
    assert admin.get(f"/admin/{place}/").status_code == 200
    if PLACES[place]:
        assert admin.get(f"/admin/{place}/{PLACES[place]}").status_code == 200


def test_the_overview_says_what_to_do_first(admin: Client) -> None:
    assert "/admin/models/install/add/" in admin.get("/admin/").content.decode()


def test_the_overview_keeps_another_projects_model_to_itself(outsider: Client, model: Model, project: Project) -> None:
    Engine.objects.create(device=Device.objects.create(slot="gpu:box:0"), model=model, state=Engine.State.BUSY)
    assert model.name in outsider.get("/admin/").content.decode()
    Model.objects.update(project=project)
    html = outsider.get("/admin/").content.decode()
    assert model.name not in html
    assert "another project&#x27;s model" in html or "another project's model" in html


def test_engines_are_for_superusers(boss: Client) -> None:
    assert boss.get("/admin/models/engine/").status_code == 403


def test_a_model_is_registered_from_a_folder(admin: Client, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    longer = '{"max_model_len": 4096}'
    fields = {
        "name": "mine", "path": str(tmp_path), "runner": "generate", "owned_by": "us", "engine_settings": longer,
    }  # fmt: skip
    admin.post("/admin/models/model/add/", fields)
    model = Model.objects.get(name="mine")
    assert (model.path, model.owned_by, model.engine_settings) == (str(tmp_path), "us", {"max_model_len": 4096})
    admin.post(f"/admin/models/model/{model.pk}/change/", {**fields, "owned_by": "them", "engine_settings": "{}"})
    model.refresh_from_db()
    assert (model.owned_by, model.engine_settings) == ("them", {})


def test_it_rejects_a_folder_without_a_model(admin: Client, tmp_path: Path) -> None:
    fields = {"name": "mine", "path": str(tmp_path), "runner": "generate", "owned_by": "us"}
    assert "holds no config.json" in admin.post("/admin/models/model/add/", fields).content.decode()
    assert not Model.objects.exists()


def test_it_rejects_models_by_project_owners(boss: Client, model: Model) -> None:
    assert boss.get("/admin/models/model/").status_code == 200
    assert boss.get("/admin/models/model/add/").status_code == 403
    assert boss.post(f"/admin/models/model/{model.pk}/change/", {"path": "/etc"}).status_code == 403


def test_adapters_stand_under_their_base(admin: Client, model: Model) -> None:
    Model.objects.create(name="another", path="/x")
    Model.objects.create(name="an-adapter", path="/y", base=model)
    html = admin.get("/admin/models/model/").content.decode()
    assert html.index(">another<") < html.index(">test-model<") < html.index(">an-adapter<")
    assert "Adapter an-adapter" in admin.get(f"/admin/models/model/{model.pk}/change/").content.decode()


def members_form(project: Project, **values: object) -> dict[str, object]:
    ours = Membership.objects.get(project=project)
    return {
        "name": "renamed",
        "membership_set-TOTAL_FORMS": 1,
        "membership_set-INITIAL_FORMS": 1,
        "membership_set-0-id": ours.pk,
        "membership_set-0-project": project.pk,
        "membership_set-0-user": ours.user_id,
        "membership_set-0-role": "owner",
        **values,
    }


def test_owners_manage_their_project(boss: Client, project: Project) -> None:
    boss.post(f"/admin/accounts/project/{project.pk}/change/", members_form(project))
    project.refresh_from_db()
    assert project.name == "renamed"


def test_members_see_each_other_and_owners_edit_them(boss: Client, viewer: Client, project: Project) -> None:
    path = f"/admin/accounts/project/{project.pk}/change/"
    assert 'name="membership_set-1-role"' in boss.get(path).content.decode()
    html = viewer.get(path).content.decode()
    assert "boss" in html
    assert "membership_set-1-role" not in html


def test_it_rejects_a_curator_who_makes_themselves_owner(curator: Client, project: Project) -> None:
    curator.post(f"/admin/accounts/project/{project.pk}/change/", members_form(project))
    assert Membership.objects.get(project=project).role == "curator"


def test_it_rejects_members_the_owner_does_not_know(boss: Client, outsider: Client, project: Project) -> None:
    stranger = User.objects.get(username="outsider")
    html = boss.get(f"/admin/accounts/project/{project.pk}/change/").content.decode()
    assert "outsider" not in html
    boss.post(
        f"/admin/accounts/project/{project.pk}/change/", members_form(project, **{"membership_set-0-user": stranger.pk})
    )
    assert not project.members.filter(pk=stranger.pk).exists()
    assert outsider.get(f"/admin/accounts/project/{project.pk}/change/").status_code == 404


def test_events_are_delivered_again(curator: Client, viewer: Client, project: Project) -> None:
    event = announce(type="batch.completed", project=project, data={"id": "batch_1"})
    Event.objects.update(delivered_at="2026-01-01T00:00:00Z", attempts=1)
    chosen = {"action": "replay_selected", "_selected_action": [event.pk]}
    viewer.post("/admin/events/event/", chosen)
    assert Event.objects.get().delivered_at
    curator.post("/admin/events/event/", chosen)
    assert Event.objects.get().delivered_at is None


def test_the_landing_page_names_the_readers_address(client: Client, db: None) -> None:
    assert 'base_url="http://localhost:4080/v1"' in client.get("/", HTTP_HOST="localhost:8001").content.decode()
    assert 'base_url="http://localhost/v1"' in client.get("/", HTTP_HOST="localhost").content.decode()


def test_the_landing_page_shows_as_there_what_is_installed(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    html = client.get("/").content.decode()
    assert html.count('<g class="is"') == 6
    assert not re.search("planned|not installed", html, re.IGNORECASE)
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "apps.training")
    html = client.get("/").content.decode()
    assert html.count('<g class="is"') == 4
    assert "Not installed here: Train, Deploy." in html


def test_the_overview_shows_what_ended_last(admin: Client, project: Project) -> None:
    batches = [running_batch(project, total=1) for _ in range(SHOWN + 2)]
    for hours, batch in enumerate(batches):
        ended_at = timezone.now() - timedelta(hours=hours)  # those that were made first ended last
        Batch.objects.filter(pk=batch.pk).update(status=Batch.Status.COMPLETED, completed_at=ended_at)
    html = admin.get("/admin/").content.decode().partition("Ended last")[2]
    shown = [int(pk) for pk in re.findall(r"/admin/batches/batch/(\d+)/change/", html)]
    assert shown == [batch.pk for batch in batches[:SHOWN]]


def test_the_landing_page_names_no_model_to_strangers(client: Client, admin: Client, model: Model) -> None:
    assert model.name not in client.get("/").content.decode()
    assert model.name in admin.get("/").content.decode()


def test_the_landing_page_names_a_model_that_answers_its_sample(admin: Client, model: Model) -> None:
    other = {"name": "a-first", "path": "/x", "findings": {"chat": {"offered": False, "problem": "x", "refused": {}}}}
    Model.objects.create(**other)
    html = admin.get("/").content.decode()
    assert f'"model": "{model.name}"' in html
    assert "a-first" not in html


def test_people_without_a_role_see_nothing(model: Model, project: Project) -> None:
    client = Client()
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert client.get("/admin/").status_code == 200
    assert project.name not in client.get("/admin/accounts/project/").content.decode().partition('id="content"')[2]
    assert client.get("/admin/batches/batch/add/").status_code == 404


def test_a_missing_page_looks_like_the_rest(client: Client, db: None) -> None:
    response = client.get("/nothing")
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()


def test_a_model_that_takes_no_chats_is_not_offered_for_one(admin: Client, model: Model) -> None:
    page, playground = f"/admin/models/model/{model.pk}/change/", "/admin/models/model/playground/"
    offer = f'href="{playground}?model={model.name}"'
    assert offer in admin.get(page).content.decode()
    Project.objects.create(name="any")
    assert f'"name": "{model.name}"' in admin.get(playground).content.decode()
    Model.objects.update(findings={"chat": {"offered": False, "problem": "It has none", "refused": {}}})
    assert offer not in admin.get(page).content.decode()
    assert f'"name": "{model.name}"' not in admin.get(playground).content.decode()


def test_an_empty_list_says_what_to_do(admin: Client) -> None:
    assert "No runs yet" in admin.get("/admin/datasets/run/").content.decode()
    html = admin.get("/admin/datasets/run/?q=nothing").content.decode()
    assert "No runs match" in html
    assert "No files yet" in admin.get("/admin/batches/file/").content.decode()
