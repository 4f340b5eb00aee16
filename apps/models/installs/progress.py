"""What can be seen of an install while it goes on."""

from typing import Any

from django.contrib.auth.models import User

from apps.accounts.models import Project
from apps.core.waiting import with_reason
from apps.events.progress import Snapshot
from apps.models.models import Install

TOPIC = "install"


class InstallTopic:
    """The progress topic of installs, by their public id; see `apps.events.progress.Topic`."""

    def authorize(self, who: User | Project, uid: str) -> bool:
        installs = Install.objects.of(who) if isinstance(who, Project) else Install.objects.visible_to(who)
        return installs.filter(uid=uid).exists()

    def snapshot(self, uid: str) -> Snapshot | None:
        install = Install.objects.select_related("model").filter(uid=uid).first()
        return None if install is None else current(install)


def current(install: Install) -> Snapshot:
    return with_reason(snapshot_of(install), f"install:{install.pk}", f"boot:{install.pk}")


def snapshot_of(install: Any) -> Snapshot:
    """For lists: without why it waits.

    Bytes are those of the step: fetched, or looked at. `total` and `completed` are them again, for `Rates`."""
    ended = install.status in Install.ENDED
    return {
        "id": install.uid,
        "object": "model.install.progress",
        "status": install.status,
        "status_label": install.get_status_display(),
        "final": ended,
        "name": install.name,
        "message": install.message,
        "refusals": install.refusals,
        "fit": install.fit,
        "bytes_done": install.bytes_done,
        "bytes_total": install.bytes_total,
        "total": install.bytes_total,
        "completed": install.bytes_done,
        "failed": 0,
        "output_tokens": 0,
        "paused": False,
        "created_at": int(install.created_at.timestamp()),
        "in_progress_at": None,
        "ended_at": int(install.ended_at.timestamp()) if install.ended_at else None,
    }
