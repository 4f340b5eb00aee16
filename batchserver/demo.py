"""What `manage.py demo` stands on: a site in the background, somebody to use it, a batch sent through its API."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from django.conf import settings
from django.contrib.auth.models import User

from apps.accounts.models import ApiKey, Project
from apps.accounts.services import create_api_key, create_project
from batchserver import stack
from batchserver.claim import holder
from batchserver.embedded import StartError
from batchserver.secrets import file_secret

START_SECONDS = 180
ADMIN = "admin"
PROJECT = "Demo"
PASSWORD_LENGTH = 20


class DemoError(Exception):
    """What went wrong, as one sentence."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to use the site: what `var/demo.env` holds."""

    base_url: str
    web_url: str
    api_key: str
    admin_user: str
    admin_password: str
    """Empty once the user has changed it."""
    model: str


def ensure_site() -> None:
    """Have the site of this VAR_DIR run, in the background if it does not yet. Raises StartError."""
    log = settings.LOG_DIR / "up.log"
    process = None if holder(settings.VAR_DIR) else _start_site(log)
    deadline = time.monotonic() + START_SECONDS
    while not (holder(settings.VAR_DIR) and stack.web_answers()):
        if process and process.poll() is not None:
            raise StartError(log.read_text().strip().rpartition("CommandError: ")[2])
        if time.monotonic() > deadline:
            raise StartError(f"The site does not answer: see {log}.")
        time.sleep(0.2)


def grant(model: str) -> Access:
    """An administrator, a project with a key, and the note of both in `var/demo.env`; what is there is kept."""
    note = settings.VAR_DIR / "demo.env"
    user, password = _admin()
    access = Access(
        base_url=stack.api_url(),
        web_url=stack.web_url(),
        api_key=_api_key(note, user),
        admin_user=user.username,
        admin_password=password,
        model=model,
    )
    _write_private(note, "".join(f"{name.upper()}={value}\n" for name, value in vars(access).items()))
    return access


def send(access: Access, path: Path) -> str:
    """Upload a file and make a batch of it. Returns the batch's id. Raises DemoError."""
    form = aiohttp.FormData({"purpose": "batch"})
    form.add_field("file", path.read_bytes(), filename=path.name, content_type="application/jsonl")
    return asyncio.run(_send(access, form))


def answers(access: Access, batch: str) -> dict[str, str]:
    """The text that each `custom_id` was answered with. Raises DemoError."""
    return asyncio.run(_answers(access, batch))


def _start_site(log: Path) -> "subprocess.Popen[bytes]":
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "manage.py", "up", "--quiet"],
            cwd=settings.BASE_DIR,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _admin() -> tuple[User, str]:
    password = file_secret(settings.VAR_DIR / "secrets" / "admin")[:PASSWORD_LENGTH]
    user = User.objects.filter(username=ADMIN).first()
    if user is None:
        user = User.objects.create_superuser(ADMIN, password=password)
    return user, password if user.check_password(password) else ""


def _api_key(note: Path, user: User) -> str:
    """The key in the note while it is good, else a new one."""
    lines = note.read_text().splitlines() if note.exists() else []
    for secret in (line.removeprefix("API_KEY=") for line in lines if line.startswith("API_KEY=")):
        if ApiKey.objects.live().filter(digest=ApiKey.digest_of(secret)).exists():
            return secret
    project = Project.objects.filter(name=PROJECT).first() or create_project(name=PROJECT, owner=user)
    return create_api_key(project=project, name="demo", created_by=user)[1]


def _write_private(path: Path, text: str) -> None:
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


async def _send(access: Access, form: aiohttp.FormData) -> str:
    order = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    async with _client(access) as client:
        file = json.loads(await _call(client, "POST", "files", data=form))
        batch = json.loads(await _call(client, "POST", "batches", json={**order, "input_file_id": file["id"]}))
        return str(batch["id"])


async def _answers(access: Access, batch_id: str) -> dict[str, str]:
    async with _client(access) as client:
        batch = json.loads(await _call(client, "GET", f"batches/{batch_id}"))
        output = await _call(client, "GET", f"files/{batch['output_file_id']}/content")
    results = [json.loads(line) for line in output.splitlines()]
    return {result["custom_id"]: _text(result["response"]["body"]) for result in results}


def _text(body: dict[str, Any]) -> str:
    return str(body["choices"][0]["message"]["content"]).strip()


@asynccontextmanager
async def _client(access: Access) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {access.api_key}"}
    async with aiohttp.ClientSession(f"{access.base_url}/", headers=headers) as client:
        yield client


async def _call(client: aiohttp.ClientSession, method: str, path: str, **options: Any) -> bytes:
    try:
        async with client.request(method, path, **options) as response:
            body = await response.read()
    except aiohttp.ClientError as error:
        raise DemoError(f"The API does not answer ({error}): see var/log/web.log.") from error
    if not response.ok:
        raise DemoError(f"The API refused {method} {path}: {body.decode(errors='replace')}")
    return body
