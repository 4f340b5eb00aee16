"""What people paste to say which model they mean, read strictly: an address, `owner/name[@revision]`, or a folder."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
REPO = re.compile(r"[A-Za-z0-9_][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9_][\w.-]{0,99}(/[\w-][\w.-]{0,99}){0,4}", re.ASCII)  # a branch, a tag, or a commit
COMMIT = re.compile(r"[0-9a-f]{40}")
INCOMING = ".incoming"  # behind the name of a folder whose files are not all there, or not checked yet
HOW = "Give the address of a repository, owner/name or owner/name@revision."


class BadSource(ValueError):
    """Nothing that could be installed. The message says what to give instead."""


@dataclass(frozen=True, slots=True)
class Source:
    """Either a repository of the hub, or a folder of this machine."""

    repo: str = ""
    revision: str = "main"
    folder: Path | None = None

    @property
    def suggested_name(self) -> str:
        return self.folder.name if self.folder else self.repo


def parse(text: str, *, endpoint: str) -> Source:
    """`endpoint` is the hub's own address: what is on its host is its repositories too. Raises BadSource."""
    text = text.strip()
    if text.startswith("/"):
        return _folder(text)
    if text.startswith(("./", "../", "~")):
        raise BadSource(f"{text[:200]!r} is part of a folder's path: give the whole of it, beginning with '/'.")
    if "://" in text:
        return _address(text, endpoint)
    if text.partition("/")[0] in HUB_HOSTS:
        return _address(f"https://{text}", endpoint)
    repo, at, revision = text.partition("@")
    if at and not revision:
        raise BadSource(f"There is no revision behind the @. {HOW}")
    return _source(repo, revision)


def files_folder(models_dir: Path, repo: str, commit: str) -> Path:
    """Where the files of a repository's commit live: shared by all who install it."""
    return models_dir / repo.replace("/", "--") / commit


def lock_file(folder: Path) -> Path:
    """Who fills or removes the folder of a commit locks this file beside it."""
    return folder.with_name(f".{folder.name.removesuffix(INCOMING)}.lock")


def _folder(text: str) -> Source:
    folder = Path(text)
    if "\0" in text or ".." in folder.parts:
        raise BadSource("Give the folder's whole path, without '..'.")
    return Source(revision="", folder=folder)


def _address(text: str, endpoint: str) -> Source:
    try:
        url, hub = urlsplit(text), urlsplit(endpoint)
        known = url.netloc in HUB_HOSTS and url.scheme == "https"
    except ValueError as error:
        raise BadSource(f"{text!r} is no address: {error}. {HOW}") from error
    if not known and (url.scheme, url.netloc) != (hub.scheme, hub.netloc):
        raise BadSource(f"Models come from {hub.scheme}://{hub.netloc} (HF_ENDPOINT), not from {text!r}. {HOW}")
    if url.query or url.fragment:
        raise BadSource("Leave out what follows the '?' or '#' of the address.")
    parts = [unquote(part) for part in url.path.strip("/").split("/")]
    match parts:
        case [owner, name]:
            return _source(f"{owner}/{name}", "")
        case ["datasets" | "spaces" as kind, *_]:
            raise BadSource(f"This is the address of something in {kind}/, not of a model. {HOW}")
        case [owner, name, "tree", *revision] if revision:
            return _source(f"{owner}/{name}", "/".join(revision))
    raise BadSource(f"Paste the address of the repository itself, or of its tree: {text!r} is of something else. {HOW}")


def _source(repo: str, revision: str) -> Source:
    """The hub's own rules: no '--' and no '..' in names, so that a folder's name has one meaning."""
    if not REPO.fullmatch(repo) or "--" in repo or ".." in repo or repo.endswith((".git", ".", "-")):
        raise BadSource(f"{repo[:200]!r} is no repository's name. {HOW}")
    if revision and (not REVISION.fullmatch(revision) or ".." in revision):
        raise BadSource(f"{revision[:200]!r} is no revision: give a branch, a tag or a commit.")
    return Source(repo, revision or "main")
