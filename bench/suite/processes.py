"""Processes: how they are started, found, measured, and ended.

Whatever this program starts is a descendant of its: it is their subreaper, so one whose parent ends
comes to it. They are ended by id, and one whose id was given to another process is left alone, since
that has another start time.
"""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

ENDING = (signal.SIGTERM, signal.SIGINT)

libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans():
    """Makes this process the parent of descendants whose own parent ends."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent():
    """For what runs between fork and exec: the process does not outlive this one."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def end_in_order():
    """From now on SIGTERM and SIGINT end this process as an exception does, once: what cleans up then is
    not interrupted by another one."""

    def interrupt(number, _frame):
        for each in ENDING:
            signal.signal(each, lambda *_: None)
        sys.exit(128 + number)

    for each in ENDING:
        signal.signal(each, interrupt)


def start(command, errors, **options):
    """Starts a command with a session of its own, so that no terminal's signal gets there; its
    standard error goes to the file `errors`."""
    with open(errors, "wb") as file:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file,
                                start_new_session=True, preexec_fn=end_with_parent, **options)


def stat(pid):
    """(parent, start time, state, processor ticks) of a process, or None (proc(5), /proc/pid/stat)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[1]), int(fields[19]), fields[0], int(fields[11]) + int(fields[12])


def name(pid):
    """What a process is called, or an empty string once it has ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descendants(root, without=()):
    """The ids of a process's descendants, without those of the given names and what descends from them."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (found := stat(entry)):
            children.setdefault(found[0], []).append(int(entry))
    result, left = [], [root]
    while left:
        for child in children.get(left.pop(), []):
            if name(child) not in without:
                result.append(child)
                left.append(child)
    return result


def processor_time(pids):
    """The seconds of processor that these processes have had, of all their threads that live: to the
    nanosecond where the kernel has it (/proc/pid/task/tid/schedstat), else of the process in ticks."""
    if not os.path.exists("/proc/self/schedstat"):
        return sum(found[3] for found in map(stat, pids) if found) / os.sysconf("SC_CLK_TCK")
    total = 0
    for thread in threads(pids):
        # Every thread has a folder of its own there, though only processes are listed.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{thread}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
    return total / 1e9


def threads(pids):
    for pid in pids:
        try:
            yield from map(int, os.listdir(f"/proc/{pid}/task"))
        except (FileNotFoundError, ProcessLookupError):
            pass


@contextlib.contextmanager
def on_one_processor():
    """Keeps this process and all its descendants on one processor."""
    all_of_them = os.sched_getaffinity(0)

    def keep(processors):
        for thread in threads([os.getpid(), *descendants(os.getpid())]):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(thread, processors)

    keep({max(all_of_them)})
    try:
        yield
    finally:
        keep(all_of_them)


class Others:
    """What everything else on the machine takes, from now on: that is what disturbs a measurement."""

    def __init__(self):
        self.start = self.now()

    @staticmethod
    def now():
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        with open("/proc/stat", encoding="ascii") as file:
            # user nice system idle iowait irq softirq steal (proc(5))
            ticks = [int(word) for word in file.readline().split()[1:9]]
        busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        ours = own.ru_utime + own.ru_stime + processor_time([os.getpid(), *descendants(os.getpid())])
        return time.monotonic(), busy - ours

    def processors(self):
        """How many processors' worth that was."""
        (start, before), (end, after) = self.start, self.now()
        return max(0.0, (after - before) / (end - start))


def end(roots, patience=3.0):
    """Ends processes that were started here, and all that descends from them: asks, then kills."""
    known = {}
    for root in roots:
        for pid in [root.pid, *descendants(root.pid)]:
            if found := stat(pid):
                known[pid] = found[1]
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        for pid in living(known):
            send(pid, signal_number)
        deadline = time.monotonic() + patience
        while living(known) and time.monotonic() < deadline:
            time.sleep(0.01)
    for root in roots:
        root.wait(timeout=patience)
    for pid in known:
        take_leave(pid)


def end_rest():
    """Kills whatever descends from this process. To be called last."""
    for pid in descendants(os.getpid()):
        send(pid, signal.SIGKILL)
        take_leave(pid)


def living(known):
    """Those of some processes, given with their start times, that still run."""
    states = {pid: stat(pid) for pid in known}
    return [pid for pid, found in states.items() if found and found[1] == known[pid] and found[2] != "Z"]


def send(pid, signal_number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def take_leave(pid):
    """Reaps an orphan that has come to this process."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
