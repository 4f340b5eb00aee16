"""What has to hold before a byte is fetched: room on the disk, and a base for an adapter."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Q

from apps.models.installs.errand import File, Refused
from apps.models.installs.sources import INCOMING
from apps.models.models import Install, Model


def check_disk(folder: Path, files: Sequence[File]) -> None:
    """Raises Refused, with the numbers, when what is not here yet leaves less than the reserve free."""
    if folder.exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    incoming = folder.with_name(folder.name + INCOMING)
    here = sum(path.stat().st_size for file in files if (path := incoming / file.path).exists())
    needed = sum(file.bytes for file in files) - here
    free, reserve = shutil.disk_usage(folder.parent).free, settings.MODEL_DISK_RESERVE_BYTES
    if needed > free - reserve:
        raise Refused(
            f"{_gb(needed)} would be fetched, and the disk of models has {_gb(free)} free, of which {_gb(reserve)} "
            "stay free (MODEL_DISK_RESERVE_BYTES): delete models, or make room there."
        )


def find_base(install: Install, config: dict[str, Any]) -> Model:
    """The model that an adapter rides on: the one that was given, else the one that it names. Raises Refused."""
    if install.base:
        return install.base
    named = str(config.get("base_model_name_or_path") or "")[:500]
    usable = Model.objects.filter(Q(project=None) | Q(project=install.project), base=None, ready=True)
    base = usable.filter(Q(source__iexact=named) | Q(path=named) | Q(name=named)).first() if named else None
    if base is None:
        cure = f"install {named} first, or say which model is its base" if named else "say which model is its base"
        raise Refused(f"It is a LoRA adapter, and its base model is not here: {cure} (base).")
    return base


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
