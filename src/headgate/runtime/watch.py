"""Has a file changed? Asked once a second, which works on every file system; `--watch` reloads when it has."""

from __future__ import annotations

import os

Signature = tuple[int, int, int, int]


class FileWatch:
    """Call `changed` now and then: true once for each change, when the file has come to rest.

    A file that is being written is not read half: only what was the same at two looks counts. Editors and Kubernetes
    replace the file (another inode, or another target of a symbolic link); the name is what is followed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._known = self._seen = self._look()

    def changed(self) -> bool:
        """Is it another one than at the last change, and the same as at the last look?"""
        before, self._seen = self._seen, self._look()
        if self._seen is None or self._seen != before or self._seen == self._known:
            return False
        self._known = self._seen
        return True

    def _look(self) -> Signature | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None  # between the removal and the new one
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
