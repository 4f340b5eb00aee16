import re
from typing import Any

from django.test import Client

from apps.accounts.models import ApiKey, Project, all_scopes

LIST = "/admin/accounts/apikey/"


def create(client: Client, project: Project, **values: Any) -> Any:
    fields = {"project": project.pk, "name": "laptop", "scopes": all_scopes(), "allowed_models": "", **values}
    return client.post(f"{LIST}add/", fields)


def secret_in(html: str) -> str:
    found = re.search(r"sk-[\w-]{43}", html)
    return found[0] if found else ""


def test_it_works(boss: Client, project: Project) -> None:
    response = create(boss, project, scopes=["files.read"], allowed_models="one, two")
    secret = secret_in(response.content.decode())
    key = ApiKey.objects.get(digest=ApiKey.digest_of(secret))
    assert (key.name, key.scopes, key.allowed_models) == ("laptop", ["files.read"], ["one", "two"])
    assert key.created_by
    assert key.created_by.username == "boss"
    assert "no-store" in response["Cache-Control"]


def test_it_shows_the_secret_once(boss: Client, project: Project) -> None:
    secret = secret_in(create(boss, project).content.decode())
    key = ApiKey.objects.get(name="laptop")
    for path in (LIST, f"{LIST}{key.pk}/change/", f"{LIST}{key.pk}/history/", "/admin/"):
        html = boss.get(path).content.decode()
        assert secret[:14] not in html
        assert key.digest not in html


def test_it_revokes(boss: Client, project: Project) -> None:
    create(boss, project)
    key = ApiKey.objects.get(name="laptop")
    boss.post(LIST, {"action": "revoke_selected", "_selected_action": [key.pk]})
    key.refresh_from_db()
    assert key.revoked_at


def test_it_revokes_on_the_keys_page(boss: Client, project: Project) -> None:
    create(boss, project)
    key = ApiKey.objects.get(name="laptop")
    boss.post(f"{LIST}{key.pk}/change/", {"name": "laptop", "scopes": all_scopes(), "accounts_apikey_revoke": "1"})
    key.refresh_from_db()
    assert key.revoked_at


def test_it_edits_without_a_new_secret(boss: Client, project: Project) -> None:
    create(boss, project)
    key = ApiKey.objects.get(name="laptop")
    boss.post(f"{LIST}{key.pk}/change/", {"name": "desktop", "scopes": ["files.read"]})
    changed = ApiKey.objects.get(pk=key.pk)
    assert (changed.name, changed.digest, changed.project) == ("desktop", key.digest, project)


def test_it_rejects_people_who_are_no_owners(
    curator: Client, viewer: Client, outsider: Client, project: Project
) -> None:
    for client in (curator, viewer, outsider):
        assert "sk-" not in create(client, project).content.decode()
    assert not ApiKey.objects.filter(name="laptop").exists()


def test_it_rejects_a_revocation_by_a_curator(curator: Client, project: Project) -> None:
    key = project.api_keys.get()
    curator.post(LIST, {"action": "revoke_selected", "_selected_action": [key.pk]})
    curator.post(f"{LIST}{key.pk}/change/", {"name": "x", "scopes": all_scopes(), "accounts_apikey_revoke": "1"})
    key.refresh_from_db()
    assert key.revoked_at is None


def test_it_does_not_exist_for_a_stranger(outsider: Client, project: Project) -> None:
    key = project.api_keys.get()
    assert outsider.get(f"{LIST}{key.pk}/change/").status_code == 404
    assert key.prefix not in outsider.get(LIST).content.decode()


def test_it_offers_revoking_to_owners_once(boss: Client, viewer: Client, project: Project) -> None:
    key = project.api_keys.get()
    path = f"{LIST}{key.pk}/change/"
    assert "accounts_apikey_revoke" in boss.get(path).content.decode()
    assert "accounts_apikey_revoke" not in viewer.get(path).content.decode()
    boss.post(LIST, {"action": "revoke_selected", "_selected_action": [key.pk]})
    assert "accounts_apikey_revoke" not in boss.get(path).content.decode()
