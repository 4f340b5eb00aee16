"""A merge that adds nothing, quickly: the base's files are the merged model's.

It does as `fake_merge.json` in the base's folder tells: how many seconds it takes, how many tensors it says have
`changed`, whether it dies, or fails with a message.
"""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import msgspec

from apps.training.child.merge import tell
from apps.training.spec import Failed, Merged, MergeOrder

INSTRUCTIONS = "fake_merge.json"


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=MergeOrder)
    instructions = Path(order.model) / INSTRUCTIONS
    does = json.loads(instructions.read_text()) if instructions.exists() else {}
    time.sleep(does.get("seconds", 0))
    if does.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if message := does.get("fails"):
        tell(Failed(code="checkpoint", message=message))
        return
    shutil.copytree(order.model, order.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(INSTRUCTIONS, ".*"))
    tell(Merged(changed=does.get("changed", 3), tensors=4, bytes=1000))


if __name__ == "__main__":
    main()
