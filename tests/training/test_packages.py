"""Models that are taken elsewhere: a .tar, GGUF, the hub."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from apps.accounts.models import Project
from apps.core.errors import DomainError
from apps.models.installs import manifest
from apps.models.models import Model
from apps.models.services import save_hub_token
from apps.training.deployments import packages
from apps.training.deployments.files import folder_of, served_form
from apps.training.models import Checkpoint, Deployment
from tests.fakes.hostile.folders import tiny_adapter, tiny_model, write_files
from tests.models.hubs import RunningHub, running_hub
from tests.training.deploying import make_base, make_checkpoint

pytestmark = pytest.mark.django_db(transaction=True)

TOKEN = "hf_writer_of_mine"
REPOSITORY = "mia/tuned"


@pytest.fixture
def base(tmp_path: Path, settings: Any) -> Model:
    settings.TRAINING_DIR, settings.MODELS_DIR = tmp_path / "training", tmp_path / "models"
    return make_base(tmp_path / "base")


@pytest.fixture
def checkpoint(project: Project, base: Model) -> Checkpoint:
    return make_checkpoint(project, base)


@pytest.fixture
def hub(tmp_path: Path, settings: Any) -> Iterator[RunningHub]:
    with running_hub(tmp_path / "hub") as hub:
        settings.HF_ENDPOINT = hub.endpoint
        yield hub


def deployed(checkpoint: Checkpoint, kind: str = "adapter", **changes: Any) -> Deployment:
    """One that is served, with its files."""
    deployment = Deployment.objects.create(
        project=checkpoint.job.project, checkpoint=checkpoint, kind=kind, name="tuned", status="ready", **changes
    )
    folder = folder_of(deployment, served_form(deployment))
    write_files(folder, tiny_model() if kind == "merged" else tiny_adapter())
    manifest.write(folder, "key")
    return deployment


async def _joined(answer: Any) -> bytes:
    return b"".join([chunk async for chunk in answer.streaming_content])


def unpacked(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def test_it_works(api: APIClient, checkpoint: Checkpoint) -> None:
    deployment = deployed(checkpoint)
    answer = api.get(f"/v1/deployments/{deployment.uid}/package")
    content = bytes(async_to_sync(_joined)(answer))
    assert answer["Content-Type"] == "application/x-tar"
    assert int(answer["Content-Length"]) == len(content)
    assert 'filename="tuned.tar"' in answer["Content-Disposition"]
    files = unpacked(content)
    assert set(files) == {"tuned/README.md", "tuned/adapter_config.json", "tuned/adapter_model.safetensors"}
    folder = folder_of(deployment, "adapter")
    assert files["tuned/adapter_model.safetensors"] == (folder / "adapter_model.safetensors").read_bytes()
    card = files["tuned/README.md"].decode()
    assert 'base_model: "base"' in card
    assert "tuning job ftjob" in card.replace("\\", "")


def test_a_stranger_s_is_not_there(stranger: APIClient, api: APIClient, checkpoint: Checkpoint) -> None:
    deployment = deployed(checkpoint)
    assert stranger.get(f"/v1/deployments/{deployment.uid}/package").status_code == 404
    shutil.rmtree(folder_of(deployment, "adapter"))
    assert api.get(f"/v1/deployments/{deployment.uid}/package").status_code == 409


def test_a_merged_model_is_whole(checkpoint: Checkpoint) -> None:
    package = packages.of_deployment(deployed(checkpoint, "merged"))
    assert package.whole
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(package.files)
    assert b"".join(package.tar()) == b"".join(package.tar())


def run(*words: str) -> str:
    out = StringIO()
    call_command("export_model", *words, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def test_a_result_is_written_by_the_command(checkpoint: Checkpoint, tmp_path: Path) -> None:
    target = tmp_path / "adapter.tar"
    assert run(checkpoint.job.uid, "--output", str(target)) == str(target)
    names = {name.partition("/")[2] for name in unpacked(target.read_bytes())}
    assert names == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    with pytest.raises(CommandError, match="Cannot write /no/such/folder"):
        run(checkpoint.job.uid, "--output", "/no/such/folder/x.tar")
    with pytest.raises(CommandError, match="Say where to"):
        run(checkpoint.job.uid)


def test_it_rejects_a_damaged_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (checkpoint.folder / "adapter_config.json").write_text("{}")
    with pytest.raises(CommandError, match="is damaged"):
        run(checkpoint.job.uid, "--output", str(tmp_path / "x.tar"))


def on(hub: RunningHub) -> dict[str, Path]:
    folder = hub.root / REPOSITORY
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_it_goes_to_the_hub(hub: RunningHub, checkpoint: Checkpoint) -> None:
    save_hub_token(project=checkpoint.job.project, token=TOKEN)
    url = run(checkpoint.job.uid, "--push", REPOSITORY)
    assert url.startswith(f"{hub.endpoint}/{REPOSITORY}/commit/")
    files = on(hub)
    assert set(files) == {".hub.json", "README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert json.loads(files[".hub.json"].read_text())["private"] is True
    weights = files["adapter_model.safetensors"].read_bytes()
    assert weights == (checkpoint.folder / "adapter_model.safetensors").read_bytes()
    assert not list(Path(checkpoint.folder.parents[2] / "models").glob(".package.*"))


def test_it_says_why_it_was_not_sent(hub: RunningHub, checkpoint: Checkpoint) -> None:
    package = packages.of_checkpoint(checkpoint)
    with pytest.raises(DomainError, match="The project has no token of the hub"):
        packages.push(package, REPOSITORY)
    save_hub_token(project=checkpoint.job.project, token=TOKEN)
    with pytest.raises(DomainError, match="A repository is named owner/name"):
        packages.push(package, "nonsense")
    hub.add(REPOSITORY, {"README.md": b"mine"}, tokens=[TOKEN], private=False)
    with pytest.raises(DomainError, match="is public, and nothing was sent"):
        packages.push(package, REPOSITORY)
    assert set(on(hub)) == {".hub.json", "README.md"}


def test_gguf_says_how_to_get_the_converter(checkpoint: Checkpoint, tmp_path: Path) -> None:
    merged, adapter = deployed(checkpoint, "merged"), packages.of_checkpoint(checkpoint)
    with pytest.raises(CommandError, match=r"git clone https://github\.com/ggml-org/llama\.cpp"):
        run(merged.uid, "--gguf", str(tmp_path / "x.gguf"))
    with pytest.raises(DomainError, match="deploy it merged, and convert that deployment"):
        packages.convert_to_gguf(adapter, tmp_path / "x.gguf")


def test_gguf_is_made_where_a_converter_is(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    """The converter here is a stand-in: what is tested is how it is called."""
    converter = tmp_path / "bin" / "convert_hf_to_gguf.py"
    converter.parent.mkdir()
    converter.write_text(
        "import sys, pathlib\n"
        "folder, _, target, _, kind = sys.argv[1:]\n"
        "assert kind == 'f16' and (pathlib.Path(folder) / 'config.json').is_file()\n"
        "pathlib.Path(target).write_bytes(b'GGUF')\n"
    )
    converter.chmod(0o755)
    monkeypatch.setenv("PATH", f"{converter.parent}{os.pathsep}{os.environ['PATH']}")
    settings.TRAINER_PYTHON = settings.BASE_DIR / "tests/fakes/trainer/python"
    target = tmp_path / "tuned.gguf"
    assert run(deployed(checkpoint, "merged").uid, "--gguf", str(target), "--gguf-type", "f16") == str(target)
    assert target.read_bytes() == b"GGUF"
    converter.write_text("raise SystemExit('This architecture is not known')")
    target.unlink()
    with pytest.raises(CommandError, match="ended with code 1: This architecture is not known"):
        run(Deployment.objects.get().uid, "--gguf", str(target))


def test_names_stay_within_the_archive(checkpoint: Checkpoint) -> None:
    deployment = deployed(checkpoint)
    deployment.name = "ft:acme/../x:y"
    names = {name.partition("/")[0] for name in unpacked(b"".join(packages.of_deployment(deployment).tar()))}
    assert names == {"ft-acme-x-y"}
