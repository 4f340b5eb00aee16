"""Where a process of the tests keeps its state. Loaded by `-p`, so that it is named before the settings are read.

Tests run in several processes at once. Each has its own VAR_DIR, with its own servers; what is dear to make and the
same for all lies in SHARED.
"""

import os
import shutil
import tempfile
from pathlib import Path


def _make(prefix: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o711)  # as root, PostgreSQL runs as somebody else
    return folder


OWNS_SHARED = "TESTS_SHARED" not in os.environ
if OWNS_SHARED:
    os.environ["TESTS_SHARED"] = str(_make("batchserver-shared-"))  # the other processes inherit it
SHARED = Path(os.environ["TESTS_SHARED"])
VAR_DIR = _make("batchserver-test-")
os.environ["VAR_DIR"] = str(VAR_DIR)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other crawl where others compute
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # where nobody listens: no test asks the real hub


def pytest_unconfigure() -> None:
    shutil.rmtree(VAR_DIR, ignore_errors=True)
    if OWNS_SHARED:
        shutil.rmtree(SHARED, ignore_errors=True)
