"""Every model folder of the corpus, as admission sees it: from a folder of the machine, and through the hub's list."""

from pathlib import Path

import pytest

from apps.models.admission import RepoFile, choose_files, inspect_folder
from apps.models.admission.folder import read_index
from apps.models.admission.refusal import Refused
from apps.models.installs import manifest
from apps.models.installs.checking import describe
from apps.models.models import Model
from tests.fakes.hostile.folders import write_files
from tests.models.strangers.folders import ModelFolder, model_folders

FOLDERS = model_folders()
GIGABYTE = 10**9


def named(folder: ModelFolder) -> str:
    return folder.name


def test_it_works() -> None:
    assert len(FOLDERS) >= 25
    assert len({folder.name for folder in FOLDERS}) == len(FOLDERS)
    assert 3 <= sum(folder.boots for folder in FOLDERS) <= 12
    assert not any(folder.boots and folder.refused for folder in FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS, ids=named)
def test_a_folder_is_admitted_or_the_file_is_named(tmp_path: Path, folder: ModelFolder) -> None:
    write_files(tmp_path, folder.files)
    refusals = inspect_folder(tmp_path)
    if not folder.refused:
        assert refusals == []
        assert_served(tmp_path, folder)
        return
    told = [refusal for refusal in refusals if refusal.file == folder.refused]
    assert told, refusals
    assert any(folder.reason in refusal.reason for refusal in told), told


@pytest.mark.parametrize("folder", FOLDERS, ids=named)
def test_a_repository_is_fetched_without_what_no_engine_reads(tmp_path: Path, folder: ModelFolder) -> None:
    """What is left after the choice is admitted where the corpus says that it is served."""
    write_files(tmp_path, folder.files)
    paths = [path for path in tmp_path.rglob("*") if path.is_file()]
    listing = [RepoFile(path.relative_to(tmp_path).as_posix(), path.stat().st_size) for path in paths]
    try:
        choice = choose_files(listing, max_bytes=GIGABYTE, index=read_index(tmp_path))
    except Refused:
        pytest.fail("its index is no index")
    for file in choice.ignored:
        (tmp_path / file.path).unlink()
    refusals = [*choice.refusals] or inspect_folder(tmp_path)
    if folder.refused and folder.on_hub == "same":
        assert refusals
        return
    assert refusals == []
    assert_served(tmp_path, folder)


def assert_served(path: Path, folder: ModelFolder) -> None:
    """What the model's row is made from is what the corpus says."""
    manifest.write(path, "key")
    found = describe(path)
    if folder.loads:
        assert found["weights"] == folder.loads
    model = Model(name=folder.name, findings=found["findings"])
    told = " ".join(model.notes)
    assert folder.notes in told
    assert bool(told) == bool(folder.notes), told
    assert ("/v1/chat/completions" in model.endpoints) == folder.chats
