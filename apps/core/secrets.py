"""Secrets of other services, encrypted at rest: what is stolen with the database alone cannot be read."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.db import models

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


class Unreadable(Exception):
    """None of ENCRYPTION_KEYS opens this secret: enter it anew, or put the old key behind the new one."""


@cache
def _fernet() -> MultiFernet:
    """The first of the keys encrypts; all of them decrypt."""
    digests = [hashlib.sha256(key.encode()).digest() for key in settings.ENCRYPTION_KEYS]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])


class EncryptedTextField(models.TextField[str, str]):
    """Text that only this server can read. It cannot be searched for."""

    def get_prep_value(self, value: str | None) -> Any:
        return None if value is None else _fernet().encrypt(value.encode()).decode()

    def from_db_value(self, value: str | None, _expression: object, _connection: BaseDatabaseWrapper) -> str | None:
        if value is None:
            return None
        try:
            return _fernet().decrypt(value.encode()).decode()
        except InvalidToken as error:
            raise Unreadable(str(Unreadable.__doc__)) from error
