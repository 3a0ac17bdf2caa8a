"""The store's system calls, in one place, so that tests can record them and make each of them fail.

Everything here blocks; it is called from the commit thread, a worker thread, or while the store opens.
"""

import errno
import fcntl
import os
from pathlib import Path

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class Disk:
    """Plain files. Every method raises `OSError`; no method hides one or retries."""

    def make_directory(self, path: Path) -> None:
        path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)

    def lock(self, path: Path) -> int:
        """Take an exclusive lock on `path` for as long as the returned descriptor is open.

        Raises `BlockingIOError` when another process holds it.
        """
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd

    def create(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes, fewer only at the end of the file."""
        parts = []
        while size and (part := os.pread(fd, size, offset)):
            parts.append(part)
            size -= len(part)
            offset += len(part)
        return b"".join(parts)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """All of `data`; not durable before a `sync`."""
        self._write(fd, data, offset, 0)

    def write_durably(self, fd: int, data: bytes, offset: int) -> None:
        """All of `data`, on disk when it returns.

        One system call writes and syncs, since between two of them the thread would have to wait for the
        interpreter's lock.
        """
        self._write(fd, data, offset, os.RWF_DSYNC)

    def _write(self, fd: int, data: bytes, offset: int, flags: int) -> None:
        rest = memoryview(data)
        while rest:
            written = self.write_some(fd, rest, offset, flags)
            if not written:
                raise OSError(errno.EIO, "a write made no progress")
            rest = rest[written:]
            offset += written

    def write_some(self, fd: int, data: memoryview, offset: int, flags: int) -> int:
        """As much of `data` as the kernel takes at once."""
        return os.pwritev(fd, [data], offset, flags)

    def sync(self, fd: int) -> None:
        os.fdatasync(fd)

    def allocate(self, fd: int, offset: int, size: int) -> None:
        """Reserve blocks that read as zeros and make the new length durable."""
        os.posix_fallocate(fd, offset, size)
        os.fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)
        os.fsync(fd)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        """Give the file a second name."""
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def names(self, directory: Path) -> list[str]:
        return sorted(os.listdir(directory))

    def sync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
