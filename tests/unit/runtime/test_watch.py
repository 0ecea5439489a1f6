"""A file that changes is seen once, and not while it is being written."""

from __future__ import annotations

import os
from pathlib import Path

from headgate.runtime.watch import FileWatch


def test_a_change_is_seen_once_it_rests(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("a")
    watch = FileWatch(path)
    assert not watch.changed()
    path.write_text("ab")
    assert not watch.changed()
    path.write_text("abc")
    assert not watch.changed(), "still being written"
    assert watch.changed()
    assert not watch.changed()


def test_a_replaced_file_and_one_that_is_away(tmp_path: Path) -> None:
    path, other = tmp_path / "f", tmp_path / "g"
    path.write_text("a")
    watch = FileWatch(path)
    path.unlink()
    assert not watch.changed()
    assert not watch.changed()
    other.write_text("b")
    os.replace(other, path)
    assert not watch.changed()
    assert watch.changed()


def test_links_that_are_turned(tmp_path: Path) -> None:
    """What Kubernetes does with a ConfigMap."""
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    link = tmp_path / "data"
    link.symlink_to("a")
    watch = FileWatch(link / "f")
    new = tmp_path / "new"
    new.symlink_to("b")
    os.replace(new, link)
    assert not watch.changed()
    assert watch.changed()
