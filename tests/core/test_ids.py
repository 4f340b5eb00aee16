import os
import re
from concurrent.futures import ThreadPoolExecutor

from apps.core.ids import AT_ONCE, new_id


def test_it_works() -> None:
    assert re.fullmatch(r"batch_[0-9a-f]{32}", new_id("batch_"))


def test_no_two_threads_get_the_same() -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: new_id("req_"), range(20 * AT_ONCE)))
    assert len(set(ids)) == len(ids)


def test_no_two_processes_get_the_same() -> None:
    new_id("req_")
    theirs, ours = os.pipe()
    child = os.fork()
    if not child:
        os.write(ours, new_id("req_").encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(theirs, 100).decode() != new_id("req_")
