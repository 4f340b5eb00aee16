"""The child process that puts a folder on the hub: one order on its standard input.

    python -m apps.datasets.exports.push

It may be killed at any moment and started again: a file that the hub has is not sent again, and a folder that is there
already makes no new commit.
"""

import sys
from typing import Any, Literal

import httpx2
import msgspec
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """It comes on standard input, since a token must be seen by nobody else."""

    endpoint: str
    token: str
    repository: str
    folder: str
    message: str
    """Of the commit."""
    kind: Literal["dataset", "model"] = "dataset"
    replaced: tuple[str, ...] = ("data/*.parquet",)
    """Patterns of files that go if the folder does not have them: what was pushed earlier had more."""


class Refused(Exception):
    """The message says why, and what to do."""


def push(order: Order) -> str:
    """The commit's URL. Raises `Refused`, and what huggingface_hub raises."""
    api = HfApi(endpoint=order.endpoint, token=order.token)
    api.create_repo(order.repository, repo_type=order.kind, private=True, exist_ok=True)
    if not api.repo_info(order.repository, repo_type=order.kind).private:
        raise Refused(
            f"{order.repository} is public, and nothing was sent. Make it private on the hub, or choose another name."
        )
    commit = api.upload_folder(
        repo_id=order.repository,
        repo_type=order.kind,
        folder_path=order.folder,
        commit_message=order.message,
        delete_patterns=list(order.replaced),
    )
    return str(commit.commit_url)


def explained(order: Order, error: Exception) -> str:
    """The library's error as a sentence with the cure."""
    if not isinstance(error, HfHubHTTPError):
        return f"{order.endpoint} cannot be reached: {str(error) or type(error).__name__}. Try again later."
    status = error.response.status_code
    if status == 401:
        return "The hub does not accept the project's token: save a new one that may write."
    if status in (403, 404):
        return f"The project's token may not write to {order.repository}: save one that may, or choose another name."
    said = (error.server_message or "").strip().partition("\n")[0][:300]
    return f"{order.endpoint} answers with status {status} for {order.repository}. {said}".strip()


def tell(**values: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(values) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        tell(event="done", url=push(order))
    except Refused as error:
        tell(event="failed", message=str(error))
    except (HfHubHTTPError, httpx2.TransportError) as error:
        tell(event="failed", message=explained(order, error))
    except ValueError as error:  # what the library does not like, a name for instance
        tell(event="failed", message=str(error).strip().partition("\n")[0])


if __name__ == "__main__":
    main()
