"""The duty that takes away what has had its time: expired files, and what a killed finalizing left behind."""

import logging
import time
from pathlib import Path

from django.conf import settings
from django.db.models.functions import Now

from apps.batches.models import File, UploadPart
from apps.batches.services import delete_file
from apps.batches.uploads import expire_uploads
from apps.core import leases

AT_ONCE = 100
PAUSE = 600.0  # seconds between two looks for orphans
ORPHAN_AGE = 24 * 3600  # seconds: whoever was writing it is long gone

log = logging.getLogger(__name__)
_last_look = 0.0


def purge_expired_files(_keeper: leases.Keeper) -> bool:
    """Delete files whose time is over, a bounded number at once."""
    expired = File.objects.filter(expires_at__lte=Now()).order_by("expires_at")[:AT_ONCE]
    for file in expired:
        delete_file(file=file)
    return len(expired) == AT_ONCE


def purge_uploads(_keeper: leases.Keeper) -> bool:
    """Delete the parts of uploads that were not completed in time, a bounded number at once."""
    return expire_uploads(AT_ONCE) == AT_ONCE


def purge_orphans(_keeper: leases.Keeper) -> bool:
    """Delete old contents that no row names. Every few minutes is enough."""
    global _last_look  # noqa: PLW0603 - a pace, not a state: any worker may look at any time
    if time.monotonic() - _last_look < PAUSE:
        return False
    _last_look = time.monotonic()
    for path in _old_contents(settings.FILES_DIR):
        try:
            _remove_orphan(path)
        except (OSError, UnicodeError) as error:  # it keeps no other from going
            log.warning("%r stays, though no row names it: %s", path, error)
    return False


def _remove_orphan(path: Path) -> None:
    content = str(path.relative_to(settings.FILES_DIR))
    if not any(rows.filter(content=content).exists() for rows in (File.objects, UploadPart.objects)):
        path.unlink(missing_ok=True)
        log.info("Removed %s, which no row names", path)


def _old_contents(folder: Path) -> list[Path]:
    limit = time.time() - ORPHAN_AGE
    return [path for path in folder.rglob("*") if path.is_file() and _changed_at(path) < limit]


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # somebody else removed it
        return time.time()
