"""The site that the peers use: the demo model, which answers texts and, under another name, embeds them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.stack.live import REPOSITORY, LiveStack

CHAT_MODEL = "smollm2-135m-instruct"
EMBEDDING_MODEL = "smollm2-135m-embedding"
WEIGHTS = REPOSITORY / "var/models/smollm2-135m-instruct"
FAKE_ENGINE = REPOSITORY / "tests/fakes/engine/python"
CAST = """
import json
from pathlib import Path
from django.conf import settings
from apps.accounts.services import create_api_key, create_project
from apps.models.services import register_model
chat = register_model(name={chat!r}, path=Path({path!r}))
chat.engine_settings = {{"tool_call_parser": "hermes", "tool_strict_level": "parameter"}}
chat.save(update_fields=["engine_settings"])
register_model(name={embedding!r}, path=Path({path!r}), runner="pooling")
key = create_api_key(project=create_project(name="Peers"), name="peers")[1]
print(json.dumps({{"key": key, "run_dir": str(settings.RUN_DIR)}}))
"""


@dataclass(frozen=True)
class PeerSite:
    url: str
    """With `/v1`."""
    key: str
    """An API key with every scope."""
    run_dir: str
    """Where the sockets of its engines are."""


@contextmanager
def open_site(var: Path, *, engine: Literal["real", "fake"]) -> Iterator[PeerSite]:
    """Runs the whole site until the block ends."""
    settings = {"GPU_SLOTS": "cpu", "TRAINING_MIN_EXAMPLES": "1"}
    if engine == "fake":
        settings["ENGINE_PYTHON"] = str(FAKE_ENGINE)
    with LiveStack(var, env=settings) as stack:
        code = CAST.format(chat=CHAT_MODEL, embedding=EMBEDDING_MODEL, path=str(WEIGHTS))
        made = stack.manage("shell", "-v", "0", "-c", code)
        if made.returncode:
            raise RuntimeError(made.stderr)
        yield PeerSite(url=stack.base_url, **json.loads(made.stdout))
