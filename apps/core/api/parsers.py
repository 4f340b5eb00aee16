"""Parsers that a client cannot break: JSON is UTF-8 and of bounded depth, a cut upload is an error."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http.multipartparser import MultiPartParser as DjangoMultiPartParser
from django.http.multipartparser import MultiPartParserError
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser, DataAndFiles

from apps.core.api.errors import ApiError
from apps.core.text import is_storable

UNSTORABLE = re.compile(rb"\\u(0000|[dD][89a-fA-F])")  # what a JSON body may spell so; pairs of surrogates are sound
MAX_NAME = 255  # characters
UNNAMED = "upload"  # what OpenAI's SDK calls bytes without a name


class JSONParser(BaseParser):
    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        raw = stream.read()
        try:
            parsed = json.loads(raw.decode(), parse_constant=_refuse_constant)
            if UNSTORABLE.search(raw):
                _check_storable(parsed)
        except RecursionError as error:
            raise ParseError("The JSON is nested too deeply.") from error
        except ValueError as error:
            raise ParseError(f"We could not parse the JSON body of your request: {error}") from error
        return parsed


def _check_storable(parsed: Any) -> None:
    """PostgreSQL stores neither: refused before any view has to think of it."""
    for path in _unstorable(parsed, ()):
        param = ".".join(path) or None
        message = "Strings must not hold NUL characters (\\u0000) or lone surrogates (\\ud800 to \\udfff)."
        raise ApiError(400, f"Invalid value for '{param}': {message}" if param else message, "invalid_value", param)


def _unstorable(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Where such strings are; a key by the path of its object."""
    if isinstance(value, str) and not is_storable(value):
        yield path
    elif isinstance(value, list):
        for each in value:
            yield from _unstorable(each, path)
    elif isinstance(value, dict):
        for key, each in value.items():
            if not is_storable(key):
                yield path
            else:
                yield from _unstorable(each, (*path, key))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON.")


def sha256_of(upload: Any) -> str:
    """Of a `django.core.files.File`, in hex; most uploads had it taken on their way."""
    known: str | None = getattr(upload, "sha256", None)
    if known is not None:
        return known
    digest = hashlib.sha256()
    for chunk in upload.chunks():
        digest.update(chunk)
    return digest.hexdigest()


class HashingUploadHandler(TemporaryFileUploadHandler):
    """Spools a file to disk and takes its SHA-256 on the way: `upload.sha256`, in hex."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        settings.FILE_UPLOAD_TEMP_DIR.mkdir(parents=True, exist_ok=True)
        super().new_file(*args, **kwargs)
        self._digest = hashlib.sha256()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        self._digest.update(raw_data)
        return super().receive_data_chunk(raw_data, start)

    def file_complete(self, file_size: int) -> UploadedFile[Any] | None:
        upload = super().file_complete(file_size)
        if upload is not None:
            upload.sha256 = self._digest.hexdigest()  # type: ignore[attr-defined]
        return upload

    def upload_interrupted(self) -> None:
        super().upload_interrupted()
        raise MultiPartParserError("the upload ended before its closing boundary. Nothing was kept, send it again.")


def plain_name(name: str) -> str:
    """What may be kept of a name that a client gives a file: no folders, nothing that cannot be printed."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(filter(str.isprintable, last))[:MAX_NAME]
    return UNNAMED if printable in ("", ".", "..") else printable


class _FormParser(DjangoMultiPartParser):
    def sanitize_file_name(self, file_name: str) -> str:
        """Django drops a file whose name is none ("..", "/"), and the request would seem to have no file."""
        plain = super().sanitize_file_name(file_name.replace("%22", '"'))  # so browsers and SDKs send a quote
        return plain or UNNAMED


class FormParser(BaseParser):
    """A multipart form with files, whatever they are called."""

    media_type = "multipart/form-data"

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> "DataAndFiles[Any, Any]":
        request = (parser_context or {})["request"]
        meta = {**request.META, "CONTENT_TYPE": media_type}
        encoding = request.encoding or settings.DEFAULT_CHARSET
        try:
            data, files = _FormParser(meta, stream, request.upload_handlers, encoding).parse()
        except MultiPartParserError as error:
            raise ParseError(f"Multipart form parse error - {error}") from error
        return DataAndFiles(data, files)
