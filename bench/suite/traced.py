"""A daemon of which every system call is known. It is traced from its start: its processes let nobody trace
them later."""

import json
import os
import re
import subprocess
import time

from . import peers, processes, workloads

# A line of strace with absolute time.
CALL = re.compile(r"(\d+\.\d+) ((\w+)\(.*)")

# The daemon's name, and those of its processes.
DAEMON = "pestod"


class Pesto(peers.Pesto):
    """A daemon whose every call is in a file."""

    def commands(self):
        for command, options in super().commands():
            yield ["strace", "--follow-forks", "--output-separately", "--absolute-timestamps=format:unix,precision:us",
                   "--quiet=all", "--signal=none", "--output", os.path.join(self.folder, "trace"), *command], options

    def daemon(self):
        """{id: name} of the daemon's processes."""
        return {pid: name for pid in self.processes() if (name := processes.name(pid)).startswith(DAEMON)}

    def calls(self, pid, start, end):
        """A process's calls between two times: of each the time, its name, and all that strace says."""
        with open(os.path.join(self.folder, f"trace.{pid}"), encoding="utf-8", errors="replace") as file:
            for line in file:
                if (call := CALL.match(line)) and start <= float(call[1]) <= end:
                    yield float(call[1]), call[3], call[2]


def calls(load, peer, count, parallel):
    """{process's name: its calls} while so many connections are made."""
    daemon = peer.daemon()
    start = time.time()
    done = subprocess.run([load, "connect", "--to", f"127.0.0.1:{peer.ports[1]}", "--parallel",
                           str(parallel), "--count", str(count)], check=True, stdout=subprocess.PIPE, timeout=300)
    # The last one may not have ended in the daemon yet.
    time.sleep(0.5)
    end = time.time()
    result = json.loads(done.stdout)
    if result["connections"] != count:
        raise workloads.Failed(f"not all were served: {result}")
    return {name: list(peer.calls(pid, start, end)) for pid, name in daemon.items()}
