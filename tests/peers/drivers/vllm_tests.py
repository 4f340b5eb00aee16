"""vLLM's own tests of its OpenAI server, from its source release, run against the site in place of a server of theirs.

The release is fetched from PyPI when this runs and unpacked into the working folder. Of each file below, those tests
are run that talk to a server; the server's class is replaced (`vllm_server.py`), and the model's name.
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
from checks import MODEL, tell_check, tell_left_out, tell_version
from vllm.transformers_utils import repo_utils

INDEX = "https://pypi.org/simple/vllm/"
VERSION = "0.33.0"  # the oldest one with tests; the engine may be another
FILES = (
    "chat_completion/test_chat.py",
    "chat_completion/test_chat_completion.py",
    "chat_completion/test_chat_echo.py",
    "chat_completion/test_chat_logit_bias_validation.py",
    "chat_completion/test_logprob_token_ids.py",
    "completion/test_completion.py",
    "completion/test_prompt_validation.py",
    "models/test_models.py",
    "responses/test_simple.py",
    "responses/test_basic.py",
    "responses/test_errors.py",
    "test_chunked_prompt.py",
    "test_return_token_ids.py",
    "test_return_tokens_as_ids.py",
)
CONFTESTS = ("conftest.py", "openai/responses/conftest.py")
MODEL_NAMES = re.compile(
    r'(?<=^MODEL_NAME = )".*"$|"HuggingFaceH4/zephyr-7b-beta"|"openai-community/gpt2"', re.MULTILINE
)
ONE_MODEL = "takes it that the server has one model, which need not be named"
FLAG = "wants a server with a flag that this site does not set"
LARGER = "asserts what the larger model of that test answers"
DOES_NOT_APPLY = {
    "zephyr-lora": "wants an adapter from the hub",
    "test_invocations": "sends no key",
    "::test_chat_logit_bias_valid": "computes with an engine of its own",
    "::test_chat_logit_bias_invalid": "computes with an engine of its own",
    "test_check_models": ONE_MODEL,
    "responses/test_basic.py": ONE_MODEL,
    "test_per_request_metrics": FLAG,
    "test_chat_echo.py::test_prompt_logprobs": FLAG,
    "test_chat_echo.py::test_top_logprobs": FLAG,
    "test_chat_completion_with_tool_use": FLAG,
    "token_ids_completion[True]": FLAG,
    "test_more_than_one_prompt_logprobs_chat": LARGER,
    "test_single_chat_session": LARGER,
    "test_structured_outputs_json_chat": LARGER,
    "test_response_format_json_object": LARGER,
    "test_response_format_json_schema": LARGER,
    "test_complex_message_content": LARGER,
    "test_custom_role": LARGER,
    "test_case0": LARGER,
    "test_completion_streaming[": LARGER,
    "test_parallel_": LARGER,
    "test_chat_return_tokens_as_token_ids_completion[False]": LARGER,
    "test_reasoning_item": LARGER,
    "reasoning_tokens_e2e": LARGER,
    "test_comparison_with_prompt_logprobs_and_logprobs": LARGER,
}


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


def unpack(archive: Path) -> list[str]:
    """Write the chosen tests into the working folder, as the package that they expect; gives their paths."""
    wanted = {
        f"vllm-{VERSION}/tests/entrypoints/{name}" for name in (*CONFTESTS, *(f"openai/{name}" for name in FILES))
    }
    paths = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name in wanted:
                path = Path(*Path(member.name).parts[1:])
                path.parent.mkdir(parents=True, exist_ok=True)
                file = tar.extractfile(member)
                assert file
                path.write_text(MODEL_NAMES.sub(f'"{MODEL}"', file.read().decode()))
                paths.append(str(path))
    for folder in {parent for path in paths for parent in Path(path).parents if parent.name}:
        (folder / "__init__.py").touch()
    Path("pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    Path("tests/utils.py").write_text((Path(__file__).parent / "vllm_server.py").read_text())
    Path(MODEL).symlink_to(os.environ["PEER_MODEL_PATH"])  # where their tokenizer is looked for
    return [path for path in paths if "/test_" in path]


class Hub:
    """The hub, of which nothing is downloaded: adapters that a server of theirs would load are not loaded here."""

    def snapshot_download(self, **_: Any) -> str:
        return "none"


class Plugin:
    """Chooses the tests, and tells how each went."""

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        items[:] = [item for item in items if _is_ours(item)]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: Any) -> Iterator[None]:
        outcome: Any = yield
        report = outcome.get_result()
        if report.when == "call" or report.failed:
            name = report.nodeid.removeprefix("tests/entrypoints/openai/")
            crash = getattr(report.longrepr, "reprcrash", None)
            words = crash.message if crash else str(report.longrepr)[-500:]
            if not report.skipped:
                tell_check(name, None if report.passed else words)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            tell_check(report.nodeid, str(report.longrepr)[-500:])


def _is_ours(item: Any) -> bool:
    """Whether it talks to a server. Those of them that do not apply are told, with the reason."""
    served = {"client", "server", "server_fixture"} & set(item.fixturenames)
    if not served and "RemoteOpenAIServer" not in item.function.__code__.co_names:
        return False
    reason = next((reason for words, reason in DOES_NOT_APPLY.items() if words in item.nodeid), None)
    if reason:
        tell_left_out(reason)
    return reason is None


tell_version(VERSION)
repo_utils.hf_api = Hub
sys.path.insert(0, str(Path.cwd()))
sys.exit(
    pytest.main(
        ["-q", "-p", "no:cacheprovider", "-c", "pytest.ini", "--import-mode=prepend",
         *unpack(source_release(Path(os.environ["PEER_ENVIRONMENT"])))],
        plugins=[Plugin()],
    ) not in {0, 1}
)  # fmt: skip
