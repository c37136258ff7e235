"""The forwarders: how each is started, so that two ports of the host's loopback lead to two servers in
an unprivileged network namespace. Nothing else is set than what is needed for that."""

import os
import shutil
import subprocess

from . import processes, workloads

# Inside. Each namespace is its own, so these can be the same in all.
STREAM_PORT = 5201
ECHO_PORT = 7000

# What a tap device is made with.
TAP = "/dev/net/tun"

# The name that the servers' shell has, so that they are not taken for a part of the forwarder.
SERVERS = "servers"

SCRIPT = """
printf servers >/proc/self/comm
iperf3 --server --bind 127.0.0.1 --port "$2" >/dev/null 2>&1 &
"$1" serve --listen "127.0.0.1:$3" >/dev/null &
"$1" echo --listen "127.0.0.1:$3" >/dev/null &
wait
"""


class CannotRun(Exception):
    """A forwarder is not here, or does not work here, with the reason."""


class Peer:
    """One forwarder, or another build of one."""

    # The program, and the Debian package that has it.
    program = ""
    package = ""
    # A device that its user must be able to open.
    device = None
    # What it forwards.
    protocols = (workloads.TCP,)

    def __init__(self, name, program, load, folder, protocols=(workloads.TCP,)):
        self.name = name
        # Of these, those that are measured.
        self.protocols = [each for each in self.protocols if each in protocols]
        self.load = load
        self.folder = os.path.join(folder, name)
        os.makedirs(self.folder, exist_ok=True)
        self.program = program or self.program
        self.ports = None
        self.roots = []

    # What kinds of peers say.

    def commands(self):
        """The commands to start, one after the other, and what Popen is told for each."""
        raise NotImplementedError

    def version(self):
        """What it calls itself, in a few words."""
        return packaged(self.package)

    # The same for all.

    def servers(self, stream=STREAM_PORT, echo=ECHO_PORT):
        """The command of the two servers."""
        return ["sh", "-c", SCRIPT, "sh", self.load, str(stream), str(echo)]

    def start(self, ports):
        """Starts it on two free ports, and returns once both lead to their server."""
        self.program = shutil.which(self.program) or ""
        if not self.program:
            raise CannotRun("not installed")
        if self.device and not os.access(self.device, os.R_OK | os.W_OK):
            raise CannotRun(f"{self.device} cannot be opened")
        self.ports = ports
        try:
            for number, (command, options) in enumerate(self.commands()):
                self.roots.append(processes.start(command, self.errors(number), cwd="/", **options))
            self.wait_until_it_works()
        except BaseException:
            self.stop()
            raise

    def wait_until_it_works(self):
        """Nothing is measured before both ports lead somewhere, or after 10 seconds without."""
        for reached in (each for protocol in self.protocols for each in workloads.REACHED[protocol]):
            if not workloads.retry(lambda: reached(self), self.is_alive):
                raise CannotRun(self.last_words())

    def is_alive(self):
        return bool(self.roots) and all(root.poll() is None for root in self.roots)

    def stop(self):
        roots, self.roots = self.roots, []
        processes.end(roots)

    def errors(self, number):
        return os.path.join(self.folder, f"errors-{number}")

    def last_words(self):
        """How one of its processes ended, and the last line that any printed: most often the reason."""
        ends = [f"it ended, status {root.poll()}" for root in self.roots if root.poll() is not None]
        for number in reversed(range(len(self.roots))):
            with open(self.errors(number), encoding="utf-8", errors="replace") as file:
                if lines := [line.strip() for line in file if line.strip()]:
                    return ": ".join([*ends[:1], lines[-1]])
        return ends[0] if ends else "no connection led anywhere"

    def processes(self):
        """The ids of the forwarder's processes, without the servers."""
        roots = [root.pid for root in self.roots if processes.name(root.pid) != SERVERS]
        return roots + [pid for root in roots for pid in processes.descendants(root, {SERVERS})]


class Direct(Peer):
    """No forwarder: the servers listen on the host's loopback."""

    program = "sh"
    protocols = (workloads.TCP, workloads.UDP)

    def commands(self):
        yield self.servers(*self.ports), {}

    def version(self):
        return ""

    def processes(self):
        return []


class Pesto(Peer):
    program = "pesto"
    protocols = (workloads.TCP, workloads.UDP)

    def commands(self):
        stream, echo = self.ports
        udp = ["-p", f"127.0.0.1:{echo}:{ECHO_PORT}/udp"] if workloads.UDP in self.protocols else []
        yield [self.program, "run", "--control", self.socket(), "-p", f"127.0.0.1:{stream}:{STREAM_PORT}",
               "-p", f"127.0.0.1:{echo}:{ECHO_PORT}", *udp, "--", *self.servers()], {}

    def socket(self):
        folder = os.path.join(self.folder, "control")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return os.path.join(folder, "socket")

    def version(self):
        return first_line([self.program, "--version"]).removeprefix("pesto ")


class Pasta(Peer):
    """With the same port outside and inside: the version of Debian 12 loses answers from another one."""

    program = "pasta"
    package = "passt"
    device = TAP
    protocols = (workloads.TCP, workloads.UDP)

    def commands(self):
        stream, echo = self.ports
        udp = f"127.0.0.1/{echo}" if workloads.UDP in self.protocols else "none"
        yield [self.program, "--quiet", "--config-net", "-t", f"127.0.0.1/{stream}:{STREAM_PORT}",
               "-t", f"127.0.0.1/{echo}", "-u", udp, "-T", "none", "-U", "none",
               "--", *self.servers(echo=echo)], {}


class RootlessKit(Peer):
    program = "rootlesskit"
    package = "rootlesskit"
    device = TAP

    def commands(self):
        stream, echo = self.ports
        yield [self.program, "--state-dir", os.path.join(self.folder, "state"), "--net=slirp4netns",
               "--disable-host-loopback", "--port-driver=builtin",
               "-p", f"127.0.0.1:{stream}:{STREAM_PORT}/tcp", "-p", f"127.0.0.1:{echo}:{ECHO_PORT}/tcp",
               "--", *self.servers()], {}


def packaged(package):
    """The version of a Debian package, if it is one's."""
    return first_line(["dpkg-query", "--show", "--showformat", "${Version}", package])


def first_line(command):
    try:
        output = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return output.decode(errors="replace").partition("\n")[0].strip()


KINDS = {
    "direct": Direct,
    "pesto": Pesto,
    "pasta": Pasta,
    "rootlesskit": RootlessKit,
}
