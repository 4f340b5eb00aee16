"""`python -m tests.peers [NAME …]`: run the outside clients against a live site, and print what passed.

Exit code 1: less than 95 % of all checks passed, or one failed that is no named exception.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.peers.catalogue import PEERS, Peer
from tests.peers.environment import prepare
from tests.peers.figures import record
from tests.peers.report import Outcome, good_enough, table
from tests.peers.site import CHAT_MODEL, EMBEDDING_MODEL, WEIGHTS, PeerSite, open_site
from tests.stack.live import REPOSITORY

DRIVERS = REPOSITORY / "tests/peers/drivers"
ENVIRONMENTS = REPOSITORY / "var/peers"
PAGE = REPOSITORY / "docs/peers.md"


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    chosen = [peer for peer in PEERS if not options.peer or peer.name in options.peer]
    if options.engine == "fake":
        chosen = [peer for peer in chosen if not peer.real_engine or peer.name in options.peer]
    ready = [(peer, Outcome(peer.name, exceptions=peer.exceptions)) for peer in chosen]
    with TemporaryDirectory(prefix="peers-") as folder, open_site(Path(folder) / "var", engine=options.engine) as site:
        for peer, outcome in ready:
            print(f"— {peer.name} —", flush=True)
            _run(peer, outcome, site, ENVIRONMENTS / "work" / peer.name, update=options.update)
    print("\n" + table(outcome for _, outcome in ready))
    if options.update or options.record:
        record((outcome for _, outcome in ready), PAGE, (peer.name for peer in PEERS))
    return 0 if good_enough(outcome for _, outcome in ready) else 1


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.peers", description=__doc__)
    parser.add_argument("peer", nargs="*", choices=[[], *(peer.name for peer in PEERS)], metavar="NAME")
    parser.add_argument("--engine", choices=("real", "fake"), default="real", help="fake: quick, answers say nothing")
    parser.add_argument("--update", action="store_true", help="install the newest versions again, and --record")
    parser.add_argument("--record", action="store_true", help=f"write the figures into {PAGE.name}")
    options = parser.parse_args(arguments)
    if options.engine == "fake" and (options.update or options.record):
        parser.error("Figures are recorded with the real engine only.")
    return options


def _run(peer: Peer, outcome: Outcome, site: PeerSite, folder: Path, *, update: bool) -> None:
    """Run the peer's driver; what it says goes into the outcome. A driver that ends early is a failure as well."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        command = [*prepare(peer, ENVIRONMENTS, again=update), str(DRIVERS / peer.driver)]
    except RuntimeError as error:
        outcome.failed["install"] = str(error)
        print(error)
        return
    log = folder.parent / f"{peer.name}.log"
    log.unlink(missing_ok=True)
    env = _environment(peer, site, folder)
    with (
        log.open("a", buffering=1) as errors,
        subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True) as driver,
    ):
        assert driver.stdout
        for line in driver.stdout:
            outcome.hear(line)
            errors.write(line)
    print(f"  {len(outcome.passed)} of {outcome.total} checks passed", flush=True)
    if driver.returncode:
        print(log.read_text()[-3000:])
        outcome.failed["driver"] = f"ended with code {driver.returncode}, see {log}"


def _environment(peer: Peer, site: PeerSite, folder: Path) -> dict[str, str]:
    """What drivers read. No setting of this machine's user reaches a client."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "LITELLM_", "OGX_"))}
    return {
        **kept,
        "HOME": str(folder),
        "OPENAI_BASE_URL": site.url,
        "OPENAI_API_KEY": site.key,
        "PEER_MODEL": CHAT_MODEL,
        "PEER_EMBEDDING_MODEL": EMBEDDING_MODEL,
        "PEER_MODEL_PATH": str(WEIGHTS),
        "PEER_ENGINE_SITE": str(next((REPOSITORY / "var/venv/engine").glob("lib/python*/site-packages"))),
        "PEER_RUN_DIR": site.run_dir,
        "PEER_ENVIRONMENT": str(ENVIRONMENTS / peer.name),
        "PEER_NODE_MODULES": str(ENVIRONMENTS / peer.name / "npm/node_modules"),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
