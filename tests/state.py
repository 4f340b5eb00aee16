"""The test process's own state folder. Loaded by `-p`, so that it is named before pytest-django reads the settings."""

import os
import shutil
import tempfile
from pathlib import Path

VAR_DIR = Path(tempfile.mkdtemp(prefix="batchserver-test-"))
VAR_DIR.chmod(0o711)  # as root, PostgreSQL runs as somebody else
os.environ["VAR_DIR"] = str(VAR_DIR)
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # where nobody listens: no test asks the real hub


def pytest_unconfigure() -> None:
    shutil.rmtree(VAR_DIR, ignore_errors=True)
