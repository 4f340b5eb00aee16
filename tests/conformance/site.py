"""The live site as the conformance tests use it: stock clients whose every answer is checked, files, batches, SQL."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import psycopg
from openai.types import Batch, FileObject

from batchserver import embedded
from tests.conformance.lines import URLS, Content, jsonl, parsed
from tests.conformance.shapes import check_answer
from tests.stack.live import LiveStack

ENDED = ("completed", "failed", "expired", "cancelled")
Belongings = tuple[int, int, int, set[str]]
PATIENCE = 60.0  # seconds until a status that should come must have come


class Site:
    """A running stack and the keys of its cast, by role: see `cast`."""

    def __init__(self, stack: LiveStack, keys: dict[str, str]) -> None:
        self.stack, self.keys = stack, keys
        self.url = stack.base_url
        self.files = Path(stack.var) / "files"
        self._database = psycopg.connect(embedded.database_url(stack.var), autocommit=True)
        self._clients: dict[str, openai.OpenAI] = {}
        self._https: dict[str, httpx2.Client] = {}

    def close(self) -> None:
        self._database.close()
        for client in self._clients.values():
            client.close()
        for http in self._https.values():
            http.close()

    def client(self, role: str = "owner") -> openai.OpenAI:
        """A stock client. Whatever it is answered in JSON is checked against the SDK's types."""
        if role not in self._clients:
            http = openai.DefaultHttpxClient(event_hooks={"response": [_check]})
            key = self.keys.get(role, role)
            self._clients[role] = openai.OpenAI(base_url=self.url, api_key=key, http_client=http, max_retries=0)
        return self._clients[role]

    def async_client(self) -> openai.AsyncOpenAI:
        http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [_acheck]})
        return openai.AsyncOpenAI(base_url=self.url, api_key=self.keys["owner"], http_client=http, max_retries=0)

    def http(self, role: str = "owner") -> httpx2.Client:
        """A plain client, for what the stock one does not do; its answers are checked as well."""
        if role not in self._https:
            headers = {"Authorization": f"Bearer {self.keys.get(role, role)}"} if role else {}
            self._https[role] = httpx2.Client(
                base_url=self.url, headers=headers, timeout=60, event_hooks={"response": [_check]}
            )
        return self._https[role]

    def upload(self, content: Content, role: str = "owner") -> FileObject:
        return self.client(role).files.create(file=("input.jsonl", jsonl(content)), purpose="batch")

    def start(self, content: Content, endpoint: str = "/v1/chat/completions", role: str = "owner") -> Batch:
        file = self.upload(content, role)
        return self.client(role).batches.create(
            input_file_id=file.id,
            endpoint=endpoint,  # type: ignore[arg-type]
            completion_window="24h",
        )

    def run(self, content: Content, endpoint: str = "/v1/chat/completions", role: str = "owner") -> Batch:
        """A batch that has ended."""
        return self.wait(self.start(content, endpoint, role).id, role=role)

    def wait(self, batch_id: str, statuses: Sequence[str] = ENDED, *, done: int = 0, role: str = "owner") -> Batch:
        """The batch, once it has one of the statuses and `done` lines."""
        deadline = time.monotonic() + PATIENCE
        while True:
            batch = self.client(role).batches.retrieve(batch_id)
            counts = batch.request_counts
            if batch.status in statuses and counts and counts.completed + counts.failed >= done:
                return batch
            assert batch.status not in ENDED, batch
            assert time.monotonic() < deadline, batch
            time.sleep(0.05)

    def wait_until_idle(self) -> None:
        """Until every batch has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.sql("SELECT 1 FROM batches_batch WHERE status <> ALL(%s) LIMIT 1", list(ENDED)):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        """What an output file or an error file holds."""
        assert file_id is not None
        return parsed(self.client().files.content(file_id).read())

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement on the site's database."""
        cursor = self._database.execute(statement, values)
        return cursor.fetchall() if cursor.description else []

    @contextmanager
    def work_held_up(self) -> Iterator[None]:
        """No worker takes a batch or a shard meanwhile: nobody can have a lease."""
        with self._database.transaction():
            self.sql("LOCK TABLE core_lease IN ACCESS EXCLUSIVE MODE")
            yield

    def expire(self, batch_id: str) -> None:
        """Let the batch's window be over."""
        self.sql("UPDATE batches_batch SET expires_at = now() WHERE uid = %s", batch_id)
        self.sql("NOTIFY bell_control")

    def belongings(self) -> Belongings:
        """Rows of files, batches and requests, and the stored files: what a refused request must not change."""
        ((files, batches, requests),) = self.sql(
            "SELECT (SELECT count(*) FROM batches_file), (SELECT count(*) FROM batches_batch),"
            " (SELECT count(*) FROM batches_request)"
        )
        return files, batches, requests, {str(path) for path in self.files.rglob("*") if path.is_file()}

    def has_only(self, belongings: Belongings) -> bool:
        """Whether nothing was added or lost; a spooled upload may go a moment after its answer."""
        deadline = time.monotonic() + 10
        while self.belongings() != belongings and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.belongings() == belongings


def _is_ours(response: httpx2.Response) -> bool:
    """Whether it is JSON, and not an engine's own words."""
    assert response.headers["x-request-id"]
    engines = response.status_code == 200 and response.url.path in URLS
    return response.headers.get("content-type") == "application/json" and not engines


def _check(response: httpx2.Response) -> None:
    if _is_ours(response):
        response.read()
        check_answer(response.status_code, response.json())


async def _acheck(response: httpx2.Response) -> None:
    if _is_ours(response):
        await response.aread()
        check_answer(response.status_code, response.json())
