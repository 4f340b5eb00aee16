"""The hub, through huggingface_hub: what a repository holds and whether we may have it, and one file's bytes.

Not in charge of: which files are wanted (`admission`), where they go and whether they are right (`download`).
huggingface_hub's own `snapshot_download` begins every file anew after a kill, so files come by `transfer`.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from huggingface_hub import HfApi, ModelInfo, hf_hub_url
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from apps.models.admission.folder import weight_map
from apps.models.admission.refusal import Refused as NotAnIndex
from apps.models.installs.errand import File, Refused
from apps.models.installs.transfer import receive, retry_after

INFO_SECONDS = 20.0
MAX_CONFIG_BYTES = 4 * 1024**2
MAX_INDEX_BYTES = 64 * 1024**2
MAX_VALUE_CHARACTERS = 4_000  # of a key of a configuration; what is longer says nothing about sizes
ASKS_TO_WAIT = (429, 503)  # where Retry-After is obeyed
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)

# An error of the library's, or a status, and what it means; a second sentence is for who gave a token.
SENTENCES: tuple[tuple[type[HfHubHTTPError] | int, str, str], ...] = (
    (
        GatedRepoError,
        "{repo} is gated: accept its licence at {page}, save a token of that account, and try again.",
        "{repo} is gated: the account of the saved token has no access, ask for it at {page}.",
    ),
    (DisabledRepoError, "{repo} was disabled by the hub: choose another model.", ""),
    (RevisionNotFoundError, "{repo} has no revision {revision!r}: give a branch, a tag or a commit of {page}.", ""),
    (RemoteEntryNotFoundError, "A file that {repo} lists is not there: look at {page}.", ""),
    (
        RepositoryNotFoundError,
        "There is no {repo} at {hub}, or it is private: check the name, or save a token that may read it.",
        "There is no {repo} at {hub}, or the account of the saved token may not see it: check the name, or the token.",
    ),
    (
        401,
        "The hub wants a token for {repo}: save one.",
        "The hub does not accept the saved token: save a new one that may read {repo}.",
    ),
    (
        403,
        "The hub wants a token for {repo}: save one.",
        "The saved token may not read {repo}: save one that may.",
    ),
)
OTHERWISE = "{hub} answers with status {status} for {repo}: check the name and HF_ENDPOINT."

ERRNO = re.compile(r"\[Errno -?\d+\] ")


class Away(Exception):
    """The hub cannot be reached, or has no time: later it may."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait
        """Seconds after which it wants to be asked again; None where it does not say."""


@dataclass(frozen=True, slots=True)
class Repository:
    """What the hub says about one commit."""

    commit: str
    license: str
    files: tuple[File, ...]
    parameters: dict[str, int]
    """How many of each type the weights have ("BF16"); empty where the hub does not say."""


class Hub:
    def __init__(self, endpoint: str, token: str) -> None:
        self._endpoint, self._token = endpoint.rstrip("/"), token
        self._api = HfApi(endpoint=self._endpoint, token=token or False)

    def look_up(self, repo: str, revision: str) -> Repository:
        """Raises Refused, Away."""
        with self._explained(repo, revision):
            info = self._api.model_info(repo, revision=revision, files_metadata=True, timeout=INFO_SECONDS)
            if info.gated or info.private:
                self._api.auth_check(repo)
        if not info.sha or info.siblings is None:
            raise Refused(f"{self._endpoint} does not answer as a hub does: check HF_ENDPOINT.")
        return Repository(info.sha, _license(info), tuple(map(_file, info.siblings)), _parameters(info))

    def read_config(self, repo: str, commit: str, file: File) -> dict[str, Any]:
        """A configuration of the repository; see `short_config`. Raises Refused, Away."""
        return short_config(self._read(repo, commit, file, MAX_CONFIG_BYTES))

    def read_index(self, repo: str, commit: str, file: File) -> dict[str, str] | None:
        """Which file holds each tensor; None for what is no index, or too large for one. Raises Refused, Away."""
        try:
            return weight_map(msgspec.json.decode(self._read(repo, commit, file, MAX_INDEX_BYTES)))
        except (msgspec.DecodeError, RecursionError, NotAnIndex):
            return None

    def download(self, repo: str, commit: str, file: File, path: Path) -> None:
        """Add what the file at `path` lacks, from where it ends. Raises Refused, Away, OSError."""
        with self._explained(repo, commit), path.open("r+b" if path.exists() else "wb", buffering=0) as target:
            target.seek(0, io.SEEK_END)
            self._get(repo, commit, file, target)

    def _read(self, repo: str, commit: str, file: File, most: int) -> bytes:
        content = io.BytesIO()
        if file.bytes <= most:
            with self._explained(repo, commit):
                self._get(repo, commit, file, content)
        return content.getvalue()

    def _get(self, repo: str, commit: str, file: File, target: io.RawIOBase | io.BytesIO) -> None:
        headers = {"Accept-Encoding": "identity"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        url = hf_hub_url(repo, file.path, revision=commit, endpoint=self._endpoint)
        receive(url, target, expected=file.bytes, headers=headers)

    @contextmanager
    def _explained(self, repo: str, revision: str) -> Iterator[None]:
        """The library's errors as one sentence each, with the cure."""
        try:
            yield
        except HfHubHTTPError as error:
            raise self._answered(repo, revision, error) from error
        except (httpx2.TransportError, httpx2.TooManyRedirects) as error:
            reason = ERRNO.sub("", str(error)) or type(error).__name__
            raise Away(f"The hub at {self._endpoint} cannot be reached: {reason}.") from error
        except ValueError as error:  # what the library does not like: a name, or a file that is too large for it
            raise Refused(str(error).strip().partition("\n")[0]) from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise Away(str(error).partition("\n")[0]) from error  # it ended too early, or too late

    def _answered(self, repo: str, revision: str, error: HfHubHTTPError) -> Exception:
        status = error.response.status_code
        if status in TRANSIENT:
            wait = retry_after(error.response.headers)
            return Away(f"{self._endpoint} answers with status {status}.", wait if status in ASKS_TO_WAIT else None)
        known = (
            words
            for kind, *words in SENTENCES
            if status == kind or (isinstance(kind, type) and isinstance(error, kind))
        )
        without, with_token = next(known, (OTHERWISE, OTHERWISE))
        page, sentence = f"{self._endpoint}/{repo}", with_token if self._token else without
        return Refused(sentence.format(repo=repo, revision=revision, page=page, hub=self._endpoint, status=status))


def _is(error: HfHubHTTPError, kind: type[HfHubHTTPError] | int) -> bool:
    return error.response.status_code == kind if isinstance(kind, int) else isinstance(error, kind)


def _file(sibling: Any) -> File:
    """`size` is missing where a hub does not know `files_metadata`."""
    sha256 = sibling.lfs.sha256 if sibling.lfs else ""
    return File(sibling.rfilename, int(sibling.size or 0), sha256, "" if sha256 else str(sibling.blob_id or ""))


def _license(info: ModelInfo) -> str:
    card = info.card_data
    named = card and (card.get("license_name") or card.get("license"))
    return str(named[0] if isinstance(named, list) and named else named or "")[:100]


def _parameters(info: ModelInfo) -> dict[str, int]:
    return dict(info.safetensors.parameters) if info.safetensors else {}


def short_config(content: bytes) -> dict[str, Any]:
    """Without what is long in it. Empty for what is no configuration: admission has the words for that."""
    try:
        return _short(msgspec.json.decode(content, type=dict[str, Any]))
    except (msgspec.DecodeError, RecursionError):
        return {}


def _short(config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _short(value) if key == "text_config" and isinstance(value, dict) else value
        for key, value in config.items()
        if key == "text_config" or len(msgspec.json.encode(value)) <= MAX_VALUE_CHARACTERS
    }
