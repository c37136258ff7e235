"""Tries what tells of a process or takes it over: look.py PID...

Prints a line for each process: its id, and what has succeeded (proc(5), ptrace(2), pidfd_getfd(2),
process_vm_readv(2)).
"""
import contextlib
import ctypes
import errno
import os
import sys

PTRACE_SEIZE, PTRACE_DETACH, PIDFD_GETFD = 0x4206, 17, 438
libc = ctypes.CDLL(None, use_errno=True)


def done(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def read(pid):
    """One byte of its memory. Where that is, is not known to whoever may not look: at 1 is none."""
    vector = (ctypes.c_size_t * 2)(1, 1)
    if libc.process_vm_readv(pid, vector, 1, vector, 1, 0) < 0 and ctypes.get_errno() != errno.EFAULT:
        done(-1)


def seize(pid):
    done(libc.ptrace(PTRACE_SEIZE, pid, None, None))
    libc.ptrace(PTRACE_DETACH, pid, None, None)


WAYS = {
    "network": lambda pid: os.readlink(f"/proc/{pid}/ns/net"),
    "root": lambda pid: os.listdir(f"/proc/{pid}/root"),
    "memory": lambda pid: open(f"/proc/{pid}/mem", "rb").close(),
    "file": lambda pid: os.readlink(f"/proc/{pid}/fd/0"),
    "descriptor": lambda pid: done(libc.syscall(PIDFD_GETFD, os.pidfd_open(pid), 0, 0)),
    "bytes": read,
    "environment": lambda pid: open(f"/proc/{pid}/environ", "rb").close(),
    "trace": seize,
}
for pid in map(int, sys.argv[1:]):
    succeeded = []
    for name, way in WAYS.items():
        with contextlib.suppress(PermissionError):
            way(pid)
            succeeded.append(name)
    print(pid, *succeeded)
