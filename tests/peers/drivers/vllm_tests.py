"""vLLM's own tests of its OpenAI server, from its source release, run against the site in place of a server of theirs.

The release is fetched from PyPI when this runs and unpacked into the working folder. Of each file below, those tests
are run that talk to a server; the server's class is replaced (`vllm_server.py`), and the model's name. Many expect
answers, flags or weights that a small model on its engine does not have. What fails is therefore run again against the
engine alone: a test that fails there too, with the same error at the same line, says nothing about the site. Some fail
by chance, since answers are sampled: they are run a few times.
"""

import hashlib
import os
import re
import site
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

site.addsitedir(os.environ["PEER_ENGINE_SITE"])  # the tests import vllm, for its tokenizers and request models

import pytest
import requests
from bare_engine import BareEngine, wake
from checks import EMBEDDING_MODEL, KEY, MODEL, URL, tell_check, tell_left_out, tell_version
from vllm.transformers_utils import repo_utils

INDEX = "https://pypi.org/simple/vllm/"
VERSION = "0.33.0"  # the oldest one with tests; the engine may be another
FOLDER = "tests/entrypoints/"
FILES = (
    "openai/chat_completion/test_chat.py",
    "openai/chat_completion/test_chat_completion.py",
    "openai/chat_completion/test_chat_echo.py",
    "openai/chat_completion/test_chat_logit_bias_validation.py",
    "openai/chat_completion/test_completion_with_function_calling.py",
    "openai/chat_completion/test_logprob_token_ids.py",
    "openai/completion/test_completion.py",
    "openai/completion/test_prompt_validation.py",
    "openai/models/test_models.py",
    "openai/responses/test_simple.py",
    "openai/responses/test_basic.py",
    "openai/responses/test_errors.py",
    "openai/responses/test_function_call.py",
    "openai/responses/test_structured_output.py",
    "openai/test_chunked_prompt.py",
    "openai/test_return_token_ids.py",
    "openai/test_return_tokens_as_ids.py",
)
EMBEDDING_FILES = ("pooling/embed/test_online.py",)
CONFTESTS = ("conftest.py", "openai/responses/conftest.py")
MODEL_NAMES = re.compile(
    r'(?<=^MODEL_NAME = )".*"$|"HuggingFaceH4/zephyr-7b-beta"|"openai-community/gpt2"', re.MULTILINE
)
STUBS = {
    "tests/models/utils.py": "check_embeddings_close = None\n",
    "tests/models/language/pooling/embed_utils.py": "float_embeddings = run_embedding_correctness_test = None\n",
}
"""What modules import of vLLM's other tests, for tests that are not run."""
OWN_ENGINE = "computes with an engine of its own"
OTHER_ROUTE = "asks a route of vLLM's that this API does not have"
DOES_NOT_APPLY = {
    "zephyr-lora": "wants an adapter from the hub",
    "watermarked": "wants a second server",
    "test_invocations": OTHER_ROUTE,
    "embed/test_online.py::test_basic": OTHER_ROUTE,
    "test_pooling_": OTHER_ROUTE,
    "::test_chat_logit_bias_valid": OWN_ENGINE,
    "::test_chat_logit_bias_invalid": OWN_ENGINE,
    "test_check_models": "takes it that the server has one model",
    "test_max_tokens_with_tool_choice_required": "takes it that the server has one model",
}
ROUNDS = 4  # on the engine alone
SAME_ON_THE_ENGINE = "fails on the engine alone in the same way: another model, or a flag"


def source_release(folder: Path) -> Path:
    """The archive, fetched once and compared with the index's digest."""
    target = folder / f"vllm-{VERSION}.tar.gz"
    if not target.exists():
        index = requests.get(INDEX, headers={"Accept": "application/vnd.pypi.simple.v1+json"}, timeout=60).json()
        (file,) = (file for file in index["files"] if file["filename"] == target.name)
        content = requests.get(file["url"], timeout=300).content
        assert hashlib.sha256(content).hexdigest() == file["hashes"]["sha256"]
        target.write_bytes(content)
    return target


def unpack(archive: Path) -> None:
    """Write the chosen tests into the working folder, as the package that they expect."""
    wanted = {f"vllm-{VERSION}/{FOLDER}{name}" for name in (*CONFTESTS, *FILES, *EMBEDDING_FILES)}
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name in wanted:
                file = tar.extractfile(member)
                assert file
                path = Path(*Path(member.name).parts[1:])
                model = EMBEDDING_MODEL if "/pooling/" in member.name else MODEL
                write(path, MODEL_NAMES.sub(f'"{model}"', file.read().decode()))
    for name, text in STUBS.items():
        write(Path(name), text)
    write(Path("tests/utils.py"), (Path(__file__).parent / "vllm_server.py").read_text())
    for folder in [path for path in Path("tests").rglob("*") if path.is_dir()]:
        (folder / "__init__.py").touch()
    Path("tests/__init__.py").touch()
    Path("pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    for name in (MODEL, EMBEDDING_MODEL):
        Path(name).symlink_to(os.environ["PEER_MODEL_PATH"])  # where their tokenizer is looked for


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Hub:
    """The hub, of which nothing is downloaded: adapters that a server of theirs would load are not loaded here."""

    def snapshot_download(self, **_: Any) -> str:
        return "none"


class Plugin:
    """Chooses the tests, and keeps how each went."""

    def __init__(self, chosen: set[str] | None = None) -> None:
        """`chosen`: the only tests to run, by their ids."""
        self.chosen = chosen
        self.passed: list[str] = []
        self.failed: dict[str, tuple[str, tuple[Any, ...]]] = {}
        """Ids, with what was said, and where and by which error it was."""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if self._is_ours(item)]

    def _is_ours(self, item: Any) -> bool:
        return item.nodeid in self.chosen if self.chosen is not None else _applies(item)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Iterator[None]:
        outcome: Any = yield
        report = outcome.get_result()
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            words = crash.message if crash else str(report.longrepr)[-500:]
            lines = [entry.lineno for entry in call.excinfo.traceback if FOLDER in str(entry.path)]
            where = (report.when, call.excinfo.typename, *lines)
            self.failed[item.nodeid] = (words, where)
        elif report.when == "call" and report.passed:
            self.passed.append(item.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.failed[report.nodeid] = (str(report.longrepr)[-500:], ("collect",))


def _applies(item: Any) -> bool:
    """Whether it talks to a server. Those of them that do not apply are told, with the reason."""
    if "hf_model" in item.fixturenames:
        tell_left_out(OWN_ENGINE)
        return False
    served = {"client", "server", "server_fixture", "tool_use_client"} & set(item.fixturenames)
    if not served and "RemoteOpenAIServer" not in item.function.__code__.co_names:
        return False
    reason = next((reason for words, reason in DOES_NOT_APPLY.items() if words in item.nodeid), None)
    if reason:
        tell_left_out(reason)
    return reason is None


def run(files: tuple[str, ...], chosen: set[str] | None = None) -> Plugin:
    plugin = Plugin(chosen)
    options = ["-q", "-p", "no:cacheprovider", "-c", "pytest.ini", "--import-mode=prepend"]
    code = pytest.main([*options, *(FOLDER + name for name in files)], plugins=[plugin])
    assert code in {0, 1, 5}, code  # 5: none was chosen
    return plugin


def fails_alike(files: tuple[str, ...], on_site: Plugin, model: str, *, embeds: bool) -> set[str]:
    """The tests that fail on the engine alone as they do on the site."""
    address = sys.modules["tests.utils"].address  # the stand-in's
    wake(URL, KEY, model, embeds=embeds)
    root, address.root = address.root, BareEngine(model).root
    left = {name: where for name, (_, where) in on_site.failed.items()}
    for _ in range(ROUNDS):
        alone = run(files, set(left)).failed if left else {}
        left = {name: where for name, where in left.items() if name not in alone or alone[name][1] != where}
    address.root = root
    return on_site.failed.keys() - left.keys()


def run_and_compare(files: tuple[str, ...], model: str, *, embeds: bool) -> None:
    on_site = run(files)
    alike = fails_alike(files, on_site, model, embeds=embeds) if on_site.failed else set()
    for name in on_site.passed:
        tell_check(name.removeprefix(FOLDER), None)
    for name, (words, _) in on_site.failed.items():
        if name in alike:
            print(f"on the engine alone too: {name}: {words[:300]}", file=sys.stderr)
            tell_left_out(SAME_ON_THE_ENGINE)
        else:
            tell_check(name.removeprefix(FOLDER), words)


tell_version(VERSION)
repo_utils.hf_api = Hub
sys.path.insert(0, str(Path.cwd()))
unpack(source_release(Path(os.environ["PEER_ENVIRONMENT"])))
run_and_compare(FILES, MODEL, embeds=False)
run_and_compare(EMBEDDING_FILES, EMBEDDING_MODEL, embeds=True)
