"""Who plays in the conformance tests: two models, a project with its keys, and a stranger. Runs in the site's shell."""

import json
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from apps.accounts.models import Project, Scope
from apps.accounts.services import create_api_key, create_project, revoke_api_key
from apps.models.services import register_model
from tests.conformance.lines import CHAT_MODEL, EMBEDDING_MODEL


def main() -> None:
    """Make them, and print the keys' secrets by role as JSON."""
    for name, runner in ((CHAT_MODEL, "generate"), (EMBEDDING_MODEL, "pooling")):
        folder = Path(settings.MODELS_DIR) / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        register_model(name=name, path=folder, runner=runner)
    ours, theirs = create_project(name="ours"), create_project(name="theirs")
    print(json.dumps({"owner": _secret(ours, "owner"), "stranger": _secret(theirs, "stranger"), **_bad_keys(ours)}))


def _secret(project: Project, name: str) -> str:
    return create_api_key(project=project, name=name)[1]


def _bad_keys(project: Project) -> dict[str, str]:
    """Keys that open less than all: one lacks each scope, named `no SCOPE`."""
    lacking = {
        f"no {scope}": create_api_key(project=project, name=scope, scopes=set(Scope.values) - {scope})[1]  # type: ignore[arg-type]
        for scope in Scope.values
    }
    _, expired = create_api_key(project=project, name="expired", expires_at=timezone.now() - timedelta(seconds=1))
    key, revoked = create_api_key(project=project, name="revoked")
    revoke_api_key(key=key)
    _, narrow = create_api_key(project=project, name="narrow", allowed_models=[EMBEDDING_MODEL])
    return {**lacking, "expired": expired, "revoked": revoked, "narrow": narrow}
