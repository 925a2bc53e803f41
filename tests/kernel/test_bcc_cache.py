"""Cached bytecode is believed only when nobody else could have written it and not one byte has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flowlens.kernel.bcc import cache

KEY, CONTENT = "typed-0123abcd", b"instructions" * 1000
NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def entry(folder: Path) -> Path:
    """The file of an entry that was just written."""
    cache.Cache(folder).write(KEY, CONTENT)
    (path,) = folder.iterdir()
    return path


def test_what_was_written_is_read_again(folder: Path) -> None:
    cache.Cache(folder).write(KEY, CONTENT)
    assert cache.Cache(folder).read(KEY) == CONTENT


def test_folder_and_entry_are_closed_to_others_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        cache.Cache(folder).write(KEY, CONTENT)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o600]


def test_nothing_but_the_entry_is_left_in_the_folder(folder: Path) -> None:
    for content in (b"first", b"second"):
        cache.Cache(folder).write(KEY, content)
    assert len(list(folder.iterdir())) == 1


def test_another_key_has_no_entry_and_that_is_no_warning(
    entry: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert cache.Cache(entry.parent).read("typed-ffff") is None
    assert not caplog.records


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _one_bit_changed(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-500] ^= 1
    path.write_bytes(raw)


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _of_another_owner(path: Path) -> None:
    os.chown(path, NOBODY, -1)


def _writable_by_the_group(path: Path) -> None:
    path.chmod(0o620)


def _a_link_to_a_good_one(path: Path) -> None:
    target = path.parent.parent / "elsewhere"
    path.rename(target)
    path.symlink_to(target)


def _with_a_second_name(path: Path) -> None:
    os.link(path, path.parent.parent / "second-name")


def _a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _in_a_folder_of_another_owner(path: Path) -> None:
    os.chown(path.parent, NOBODY, -1)


def _in_a_folder_that_others_may_enter(path: Path) -> None:
    path.parent.chmod(0o755)


@pytest.mark.parametrize(
    "harm",
    [
        _cut_short,
        _emptied,
        _one_bit_changed,
        _longer,
        _of_another_owner,
        _writable_by_the_group,
        _a_link_to_a_good_one,
        _with_a_second_name,
        _a_pipe,
        _in_a_folder_of_another_owner,
        _in_a_folder_that_others_may_enter,
    ],
)
def test_an_entry_is_refused_with_a_warning_when_it_is(
    harm: Callable[[Path], None], entry: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harm(entry)
    assert cache.Cache(entry.parent).read(KEY) is None
    assert "refused" in caplog.text


def test_an_entry_copied_to_another_key_is_refused(entry: Path) -> None:
    other = "raw-4567"
    copy = entry.with_name(entry.name.replace(KEY, other))
    copy.write_bytes(entry.read_bytes())
    copy.chmod(0o600)
    assert cache.Cache(entry.parent).read(other) is None


@pytest.mark.parametrize(
    "harm", [_one_bit_changed, _of_another_owner, _a_link_to_a_good_one, _with_a_second_name]
)
def test_a_refused_entry_is_replaced_by_the_next_write(harm: Callable[[Path], None], entry: Path) -> None:
    harm(entry)
    cache.Cache(entry.parent).write(KEY, b"made anew")
    assert cache.Cache(entry.parent).read(KEY) == b"made anew"


def test_nothing_is_written_into_a_folder_that_others_may_enter(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir(mode=0o755)
    cache.Cache(folder).write(KEY, CONTENT)
    assert not list(folder.iterdir())
    assert "not cached" in caplog.text


def test_a_cache_that_cannot_be_made_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    unusable = cache.Cache(tmp_path / "file" / "cache")
    unusable.write(KEY, CONTENT)
    assert unusable.read(KEY) is None
    assert "not cached" in caplog.text


def test_entries_of_former_kernels_are_removed_oldest_first(folder: Path) -> None:
    store = cache.Cache(folder)
    for number in range(cache.KEPT_ENTRIES + 3):
        store.write(f"typed-{number:04}", CONTENT)
        (path,) = folder.glob(f"*{number:04}*")
        os.utime(path, (number, number))
    store.write("typed-last", CONTENT)
    assert len(list(folder.iterdir())) == cache.KEPT_ENTRIES
    assert store.read("typed-last") == CONTENT
    assert store.read("typed-0000") is None
