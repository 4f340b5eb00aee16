"""The child process that talks to the hub and looks at strangers' files: one order on its standard input.

    python -m apps.models.installs.download

It may be killed at any moment, and started again, also while another works on the same commit: what is on disk is not
fetched again. Files gather in `<commit>.incoming`, which becomes `<commit>` when every byte was checked and admitted.
"""

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import msgspec

from apps.models.admission import RepoFile, choose_files
from apps.models.admission.weights import INDEX, is_adapter
from apps.models.installs.checking import NotAdmitted, admit, describe, read_config, verify
from apps.models.installs.errand import TELL_SECONDS, Failed, File, Order, Refused, tell
from apps.models.installs.hub import Away, Hub
from apps.models.installs.sources import INCOMING, lock_file
from apps.models.installs.transfer import TooMuch

AT_ONCE = 4  # files
QUIET_SECONDS = 4.0  # without a byte, after which people are told so
MAX_REFUSALS = 50  # that are told
MAX_REASON = 500  # characters


def resolve(order: Order) -> None:
    """What follows from a look at the list: commit, licence, files (as items), the configuration."""
    if order.folder:
        tell("done", **read_config(Path(order.folder)))
        return
    hub = Hub(order.endpoint, order.token)
    found = hub.look_up(order.repo, order.revision)
    by_path = {file.path: file for file in found.files}
    index = hub.read_index(order.repo, found.commit, by_path[INDEX]) if INDEX in by_path else None
    listing = (RepoFile(file.path, file.bytes) for file in found.files)
    choice = choose_files(listing, max_bytes=order.max_bytes, index=index)
    if choice.refusals:
        raise NotAdmitted(choice.refusals)
    adapter = by_path["adapter_config.json"] if is_adapter(file.path for file in choice.wanted) else None
    config = hub.read_config(order.repo, found.commit, adapter or by_path["config.json"])
    for chosen in choice.wanted:
        tell("item", item=by_path[chosen.path])
    tell(
        "done",
        commit=found.commit,
        license=found.license,
        parameters=found.parameters,
        adapter=adapter is not None,
        config=config,
    )


def fetch(order: Order) -> None:
    """Bring a commit's files to `order.folder`, checked and admitted."""
    folder = Path(order.folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder, order):
        if folder.exists():  # somebody else installed it
            verify(folder, order)
        else:
            incoming = folder.with_name(folder.name + INCOMING)
            _download(incoming, order)
            admit(incoming, order)
            incoming.rename(folder)
        tell("done", **describe(folder, order.base))


def inspect(order: Order) -> None:
    """Look at a folder that is here, and leave its manifest in it."""
    revision = admit(Path(order.folder), order)
    tell("done", revision=revision, **describe(Path(order.folder), order.base))


@contextlib.contextmanager
def _alone(folder: Path, order: Order) -> Iterator[None]:
    """Wait until nobody else fills this folder, and show meanwhile how far they are."""
    lock = os.open(lock_file(folder), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        while not _locked(lock):
            tell("progress", waits=True, bytes=_on_disk(folder.with_name(folder.name + INCOMING), order.files))
            time.sleep(TELL_SECONDS)
        yield
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _download(incoming: Path, order: Order) -> None:
    """Every file, several at once. After an error the others go on until the process ends, which is soon."""
    hub, told, came = Hub(order.endpoint, order.token), -1, time.monotonic()
    pool = ThreadPoolExecutor(AT_ONCE)
    waiting = {pool.submit(_bring, hub, order, file, incoming / file.path) for file in order.files}
    while waiting:
        ended, waiting = wait(waiting, TELL_SECONDS, FIRST_COMPLETED)
        for future in ended:
            future.result()
        if (there := _on_disk(incoming, order.files)) != told:
            came = time.monotonic()
            tell("progress", bytes=(told := there), note="")
        elif (silent := time.monotonic() - came) > QUIET_SECONDS:
            tell("progress", bytes=told, note=f"The hub has sent nothing for {silent:.0f} s.")


def _bring(hub: Hub, order: Order, file: File, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if _length(path) > file.bytes:
        path.unlink()
    try:
        hub.download(order.repo, order.revision, file, path)
    except TooMuch as error:
        path.unlink()
        raise Failed(
            f"The hub sent more of {file.path} than the {file.bytes:,} bytes that it announced: try again."
        ) from error


def _on_disk(folder: Path, files: tuple[File, ...]) -> int:
    return sum(_length(folder / file.path) for file in files)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        {"resolve": resolve, "fetch": fetch, "inspect": inspect}[order.verb](order)
    except NotAdmitted as error:
        for refusal in error.found[:MAX_REFUSALS]:
            tell("item", item={"file": refusal.file[:MAX_REASON], "reason": refusal.reason[:MAX_REASON]})
        tell("refused", message=str(error))
    except Refused as error:
        tell("refused", message=str(error))
    except Away as error:
        tell("interrupted", message=str(error), wait=error.wait)
    except Failed as error:
        tell("failed", message=str(error))
    except OSError as error:
        tell("failed", message=f"{error.strerror or error}: {Path(error.filename or order.folder).name}.")


if __name__ == "__main__":
    main()
    os._exit(0)  # what still comes in other threads is not waited for
