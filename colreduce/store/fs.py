"""The one place where the bytes of an index are written, moved or removed.

Everything that changes a disk goes through the functions here, so that three things hold for all
of it: a file is written once and never again, every operation is counted, and a test can stop or
fail the program at any one of them. A test over the source tree keeps it so. The catalogue is the
one exception: SQLite writes its own file, and that file can always be made again.

Two environment variables, read once, serve the crash tests:

``CR_CRASH_AT=k``          the process kills itself (SIGKILL) right after operation k
``CR_FAIL_AT=k:ENOSPC``    operation k fails with that error; ``k+:ENOSPC`` fails k and all later
                           ones that need room; ``SHORT`` makes a write take half of its bytes
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import mmap
import os
import signal
import stat
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

BUFFER = 1 << 20  # bytes gathered before they are handed to the disk
_NEEDS_ROOM = frozenset({"create", "write", "fsync", "fsync_dir", "link", "mkdir", "rename"})


class FsyncFailed(OSError):
    """The disk did not confirm what was written; what it holds now is not known."""


@dataclass
class Seam:
    """Counts the operations, and stops or fails the chosen one."""

    count: int = 0
    crash_at: int = 0
    fail_at: int = 0
    fail_with: str = ""
    fail_on: bool = False  # every operation from fail_at on, as a disk that stays full
    trace: list[tuple[Any, ...]] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, *, crash_at: str = "", fail_at: str = "") -> None:
        """Set what the two environment variables say; empty strings disarm it."""
        place, _, name = fail_at.partition(":")
        self.count = 0
        self.crash_at = int(crash_at or 0)
        self.fail_at, self.fail_on = int(place.rstrip("+") or 0), place.endswith("+")
        self.fail_with = name

    def begin(self, kind: str) -> tuple[int, bool]:
        """Count one operation; return its number and whether a write is to be cut short."""
        with self.lock:
            self.count += 1
            number = self.count
        hit = number == self.fail_at or (
            self.fail_on and number > self.fail_at > 0 and kind in _NEEDS_ROOM
        )
        if hit and self.fail_with == "SHORT":
            return number, kind == "write"
        if hit:
            code = getattr(errno, self.fail_with)
            raise OSError(code, f"{os.strerror(code)} (asked for by CR_FAIL_AT)", kind)
        return number, False

    def end(self, number: int, *event: Any) -> None:
        """Record the operation that was done, and die if this is the one."""
        if self.trace is not None:
            self.trace.append(event)
        if number == self.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)


SEAM = Seam()
SEAM.arm(crash_at=os.environ.get("CR_CRASH_AT", ""), fail_at=os.environ.get("CR_FAIL_AT", ""))


@contextmanager
def recording() -> Iterator[list[tuple[Any, ...]]]:
    """Yield a list that receives every operation with its bytes, for the power-loss simulator."""
    trace: list[tuple[Any, ...]] = []
    SEAM.trace = trace
    try:
        yield trace
    finally:
        SEAM.trace = None


@contextmanager
def _operation(kind: str, *what: Any) -> Iterator[bool]:
    number, short = SEAM.begin(kind)
    yield short
    SEAM.end(number, kind, *what)


@dataclass(frozen=True, slots=True)
class Seal:
    """What a finished file must hold: its length and the sha256 of its bytes."""

    bytes: int
    sha256: str


class _Raw(io.RawIOBase):
    """The unbuffered end of a new file; hashes what the disk took."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.hash = hashlib.sha256()
        self.size = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with _operation("create", str(path)):
            self.fd = os.open(path, flags, 0o444)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self.fd < 0:  # given up: nothing more reaches the disk
            return len(data)
        view = memoryview(data).cast("B")
        number, short = SEAM.begin("write")
        done = os.write(self.fd, view[: max(1, len(view) // 2)] if short else view)
        self.hash.update(view[:done])
        self.size += done
        recorded = bytes(view[:done]) if SEAM.trace is not None else b""
        SEAM.end(number, "write", str(self.path), recorded)
        return done

    def give_up(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Sink:
    """A new file that is written from front to end, hashed on the way, and forced to the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = _Raw(path)
        self.stream = io.BufferedWriter(self._raw, BUFFER)

    def write(self, data: Any) -> None:
        """Add bytes, or anything that is a buffer of bytes."""
        self.stream.write(data)

    def finish(self) -> Seal:
        """Force the bytes to the disk, close the file and say what it holds."""
        self.stream.flush()
        fsync(self._raw.fd, self.path)
        seal = Seal(self._raw.size, self._raw.hash.hexdigest())
        self.abandon()
        return seal

    def abandon(self) -> None:
        """Close the file without a promise about what it holds."""
        self._raw.give_up()
        self.stream.close()


def write_once(path: Path, data: bytes) -> Seal:
    """Write a new file and force it to the disk. A file that exists is never touched."""
    sink = Sink(path)
    try:
        sink.write(data)
        return sink.finish()
    except BaseException:
        sink.abandon()
        raise


def fsync(fd: int, path: Path) -> None:
    """Force a file's bytes to the disk."""
    try:
        with _operation("fsync", str(path)):
            if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: a plain fsync stops at the drive's cache
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            else:
                os.fsync(fd)
    except OSError as problem:
        raise FsyncFailed(problem.errno, f"fsync failed: {problem.strerror}", str(path)) from None


def fsync_dir(path: Path) -> None:
    """Force a folder's list of names to the disk."""
    try:
        with _operation("fsync_dir", str(path)):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    except OSError as problem:
        raise FsyncFailed(problem.errno, f"fsync failed: {problem.strerror}", str(path)) from None


def rename(source: Path, target: Path) -> None:
    """Move a file or folder to another name in one step."""
    with _operation("rename", str(source), str(target)):
        os.rename(source, target)


def link_excl(source: Path, target: Path) -> None:
    """Give a file a second name; FileExistsError if that name is taken."""
    with _operation("link", str(source), str(target)):
        os.link(source, target, follow_symlinks=False)


def unlink(path: Path) -> None:
    """Remove a name; it need not exist."""
    with _operation("unlink", str(path)), suppress(FileNotFoundError):
        os.unlink(path)


def mkdir(path: Path) -> None:
    """Make one folder."""
    with _operation("mkdir", str(path)):
        os.mkdir(path)


def rmdir(path: Path) -> None:
    """Remove one empty folder; it need not exist."""
    with _operation("rmdir", str(path)), suppress(FileNotFoundError):
        os.rmdir(path)


def rmtree(path: Path) -> None:
    """Remove a folder and all it holds, one counted operation per name; links are not followed."""
    for entry in list_entries(path):
        if entry.is_dir(follow_symlinks=False):
            rmtree(Path(entry.path))
        else:
            unlink(Path(entry.path))
    rmdir(path)


def reserve(path: Path, size: int) -> None:
    """Make a file that holds nothing but room, to be given back when the disk is full."""
    with _operation("create", str(path)):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, size)
            else:
                os.write(fd, bytes(size))
        except OSError:
            os.unlink(path)
            raise
        finally:
            os.close(fd)


def free_bytes(path: Path) -> int:
    """Return the room that is left on the disk that holds a path."""
    numbers = os.statvfs(path)
    return numbers.f_bavail * numbers.f_frsize


def list_entries(path: Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds, by name; nothing if there is no such folder."""
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def list_names(path: Path) -> list[str]:
    """Return the names of what a folder holds, in no order; nothing if there is no such folder."""
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def open_read(path: Path) -> int:
    """Open a regular file for reading; a link or anything else in its place is refused."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, "not a regular file", str(path))
    return fd


def is_shortage(problem: OSError) -> bool:
    """Say whether this process lacks the means or the right to read, so the file may be sound."""
    return problem.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM}


def read(path: Path, limit: int) -> bytes:
    """Return a file's bytes, at most ``limit`` of them and one more to show that there are."""
    with open(open_read(path), "rb") as stream:
        return stream.read(limit + 1)


def digest(fd: int) -> str:
    """Return the sha256 of all bytes of an open file, from its start."""
    with open(fd, "rb", closefd=False) as stream:
        stream.seek(0)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def map_bytes(fd: int, size: int) -> mmap.mmap:
    """Map an open file into memory for reading."""
    return mmap.mmap(fd, size, access=mmap.ACCESS_READ)


def let_go(mapped: mmap.mmap) -> None:
    """Let the memory that a mapped file takes be used for something else; it stays readable."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def lock_holder(path: Path) -> str | None:
    """Return the process number of the writer that holds a lock; None when nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(fd, 32).decode("ascii", "replace").strip() or "?"
    finally:
        os.close(fd)
    return None


class WriterLock:
    """The lock that the one writer of an index holds for as long as it lives."""

    _held: ClassVar[weakref.WeakSet[WriterLock]] = weakref.WeakSet()

    def __init__(self, path: Path) -> None:
        """Take the lock, or raise BlockingIOError with the holder's process number."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip()
            self.release()
            raise BlockingIOError(errno.EAGAIN, holder, str(path)) from None
        with suppress(OSError):  # the number is a courtesy; a full disk must not stop an open
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, str(os.getpid()).encode(), 0)
        self._held.add(self)

    def release(self) -> None:
        """Give the lock back; closing the file is what releases it."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @classmethod
    def forget_after_fork(cls) -> None:
        """A forked child must not keep its parent's lock alive."""
        for lock in list(cls._held):
            lock.release()


os.register_at_fork(after_in_child=WriterLock.forget_after_fork)
