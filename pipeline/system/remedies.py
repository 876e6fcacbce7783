"""What to do about an error of the operating system: a full disk has another remedy than a missing permission."""

from __future__ import annotations

import errno

# What to do about the errors of the operating system that have a remedy of their own.
REMEDIES = {
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some of your disk quota",
    errno.EACCES: "fix the permissions",
    errno.EPERM: "fix the permissions",
    errno.EROFS: "the disk is mounted read-only: mount it for writing, or use a folder on another one",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
    errno.ENFILE: "end other programs, which have too many files open",
    errno.ENAMETOOLONG: "use a shorter name or path",
    errno.EEXIST: "use another place: a file or folder of this name is in the way",
    errno.ENOTDIR: "use another place: a file is in the way of a folder",
    errno.EISDIR: "use another place: a folder is in the way of a file",
    errno.ENOTEMPTY: "use another place: a folder with files is in the way",
    errno.EIO: "check the disk, which reports a hardware error",
    errno.ENOENT: "restore the folder, which something has deleted",
    errno.ENOMEM: "end other programs, which use all memory",
    errno.EFBIG: "raise the limit of the size of a file: ulimit -f unlimited",
    errno.ESTALE: "reconnect the network drive",
    errno.ETIMEDOUT: "reconnect the network drive",
    errno.EHOSTDOWN: "reconnect the network drive",
    errno.ECONNREFUSED: "start the server, or correct its address",
}
UNKNOWN = "fix the error above"


def remedy(error: BaseException) -> str:
    """Return what to do about an error of the operating system, by its number."""
    if isinstance(error, MemoryError):
        return REMEDIES[errno.ENOMEM]
    number = getattr(error, "errno", None)
    if number is None:
        return UNKNOWN
    return REMEDIES.get(number, UNKNOWN)
