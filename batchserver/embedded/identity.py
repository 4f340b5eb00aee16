"""Whom a program runs as that refuses to be root."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Us (the default), another account, or us under another number in a user namespace (`prefix`)."""

    user: int | None = None
    group: int | None = None
    prefix: tuple[str, ...] = ()

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a short command as this identity; its exit status and output are the caller's to judge."""
        return subprocess.run(
            [*self.prefix, *command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=self.user,
            group=self.group,
            extra_groups=None if self.user is None else [],
        )

    def can(self, *command: str) -> bool:
        return self.run(*command).returncode == 0

    def own(self, folder: Path) -> None:
        """As root, give `folder` and all in it to this identity; others already own what they made."""
        user = 0 if self.user is None else self.user
        if os.getuid() != 0 or folder.stat().st_uid == user:
            return
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, user, self.group or 0, follow_symlinks=False)


def other_than_root(program: Path, folder: Path) -> Identity | None:
    """An identity that reaches `program` and its data in `folder`; None where there is none."""
    if os.getuid() != 0:
        return Identity()
    for account in filter(None, map(_account, ("postgres", "nobody"))):
        identity = Identity(user=account.pw_uid, group=account.pw_gid)
        if identity.can("test", "-x", str(program), "-a", "-x", str(folder)):
            return identity
    namespace = Identity(prefix=("unshare", "--user", "--map-user=1000", "--map-group=1000"))
    return namespace if namespace.can("true") else None


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None
