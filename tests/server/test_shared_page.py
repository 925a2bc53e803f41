"""One page for all who come while it is made."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from flowlens import exposition
from flowlens.server import shared_page


class Slow:
    """A render that waits until it may go on."""

    def __init__(self, error: Exception | None = None) -> None:
        self.release = threading.Event()
        self.renders = 0
        self.error = error

    def __call__(self) -> Iterator[bytes]:
        self.renders += 1
        assert self.release.wait(10)
        if self.error:
            raise self.error
        yield f"x {self.renders}\n".encode()


def gather(page: shared_page.SharedPage, slow: Slow, readers: int) -> list[object]:
    """What so many readers get that all came before the page was done."""
    results: list[object] = []

    def read() -> None:
        try:
            results.append(page.get())
        except shared_page.RenderFailed as error:
            results.append(str(error))

    threads = [threading.Thread(target=read) for _ in range(readers)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while page.readers < readers:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    slow.release.set()
    for thread in threads:
        thread.join(10)
    return results


def test_readers_that_come_together_get_the_same_page() -> None:
    slow = Slow()
    results = gather(shared_page.SharedPage(slow), slow, 5)
    assert slow.renders == 1
    assert len(results) == 5
    assert len({id(result) for result in results}) == 1


def test_a_reader_that_comes_later_gets_a_new_page() -> None:
    slow = Slow()
    slow.release.set()
    page = shared_page.SharedPage(slow)
    assert [b"".join(page.get().text()) for _ in range(2)] == [b"x 1\n", b"x 2\n"]


def test_all_hear_of_an_error_and_the_next_page_is_made() -> None:
    slow = Slow(OSError("map is gone"))
    page = shared_page.SharedPage(slow)
    assert gather(page, slow, 3) == ["map is gone"] * 3
    slow.error = None
    assert isinstance(page.get(), exposition.Page)


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_page, "PATIENCE_SECONDS", 0.05)
    slow = Slow()
    page = shared_page.SharedPage(slow)
    maker = threading.Thread(target=page.get)
    maker.start()
    deadline = time.monotonic() + 10
    while not slow.renders:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    with pytest.raises(shared_page.RenderFailed, match="not made within"):
        page.get()
    slow.release.set()
    maker.join(10)
