import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.models.models import Install
from apps.models.services import register_model

NAME = "smollm2-135m-instruct"


@pytest.fixture
def models_dir(tmp_path: Path, settings: Any) -> Path:
    settings.MODELS_DIR = tmp_path / "models"
    return tmp_path / "models"


def install() -> str:
    output = StringIO()
    call_command("install_demo_model", stdout=output)
    return output.getvalue()


@pytest.mark.engine
def test_it_works_after_a_killed_start_and_beside_another(db: None, models_dir: Path, settings: Any) -> None:
    folder = models_dir / NAME
    half = models_dir / f".{NAME}.incoming"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_text("half")
    command = [settings.ENGINE_PYTHON, "-m", "apps.models.installs.demo_model", folder]
    with subprocess.Popen(command, cwd=settings.BASE_DIR) as other:
        assert "Converting" in install()
    assert other.returncode == 0
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["dtype"]) == (["LlamaForCausalLM"], "bfloat16")
    assert (folder / "model.safetensors").stat().st_size > 250_000_000
    assert "<|im_start|>" in (folder / "chat_template.jinja").read_text()
    assert not half.exists()
    installed = Install.objects.get()
    assert (installed.name, installed.source, installed.project) == (NAME, str(folder), None)


def test_it_is_quick_and_changes_nothing_the_second_time(db: None, models_dir: Path, settings: Any) -> None:
    settings.ENGINE_PYTHON = Path("/no/such/python")  # which it does not need
    folder = models_dir / NAME
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert install() == install()
    assert Install.objects.count() == 1
    Install.objects.all().delete()
    register_model(name=NAME, path=folder)
    assert "is ready in" in install()
    assert not Install.objects.exists()


def test_it_rejects_an_interpreter_that_is_not_there(db: None, models_dir: Path, settings: Any) -> None:
    settings.ENGINE_PYTHON = Path("/no/such/python")
    with pytest.raises(CommandError, match="run `make setup`, or set ENGINE_PYTHON"):
        install()
    assert not Install.objects.exists()


def test_it_rejects_an_interpreter_without_the_libraries(db: None, models_dir: Path, settings: Any) -> None:
    settings.ENGINE_PYTHON = Path(sys.executable)
    with pytest.raises(CommandError, match="says above is why"):
        install()
    assert not models_dir.exists()
