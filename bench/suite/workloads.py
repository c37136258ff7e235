"""What is measured: each function measures one forwarder once, and says what a second of it brought and
what that cost the forwarder in processor time."""

import json
import socket
import subprocess
import time
from collections import namedtuple

from . import processes

TCP, UDP = "TCP", "UDP"

# Of the datagrams, no more may be lost for a rate to count; with fewer messages under way until it is so.
LOSS = 0.001

# What a measurement may take beyond its own seconds before it is given up.
GRACE = 15


class Failed(Exception):
    """A measurement that did not come to its end, with the reason."""


def streams(parallel):
    """Gbit/s over so many TCP connections at once, and processor seconds per GB (10^9 bytes)."""

    def measure(peer, seconds, load):
        command = ["iperf3", "--client", "127.0.0.1", "--port", str(peer.ports[0]), "--json",
                   "--time", str(max(1, round(seconds))), "--parallel", str(parallel)]
        result, processor = measured(peer, command, seconds)
        if "error" in result:
            raise Failed(result["error"])
        received = result["end"]["sum_received"]
        if not received["bytes"]:
            raise Failed("not one byte arrived")
        return {"rate": received["bits_per_second"] / 1e9, "cost": processor / received["bytes"] * 1e9}

    return measure


def connections(parallel):
    """Short connections a second, so many at a time, and processor milliseconds for each."""

    def measure(peer, seconds, load):
        command = [load, "connect", "--to", f"127.0.0.1:{peer.ports[1]}", "--parallel", str(parallel),
                   "--seconds", str(seconds)]
        result, processor = measured(peer, command, seconds)
        if not result["connections"]:
            raise Failed(f"every connection failed: {result['reasons']}")
        return {"rate": result["per_second"], "cost": processor / result["connections"] * 1e3,
                "failures": result["failures"], "reasons": result["reasons"],
                "p50": result["p50"], "p99": result["p99"]}

    return measure


def pingpong(peer, seconds, load):
    """64 bytes there and back a second, how long that takes in microseconds, and processor microseconds
    for each."""
    command = [load, "pingpong", "--to", f"127.0.0.1:{peer.ports[1]}", "--seconds", str(seconds)]
    result, processor = measured(peer, command, seconds)
    return {"rate": result["per_second"], "cost": processor / result["trips"] * 1e6,
            "p50": result["p50"], "p99": result["p99"]}


def datagrams(size, segments=1, windows=(64, 16, 4, 1)):
    """Datagrams there and back a second, sent in messages of so many, and processor microseconds for each way
    of each: with the most messages under way at which next to none is lost."""

    def measure(peer, seconds, load):
        lost = None
        for window in windows:
            command = [load, "datagrams", "--to", f"127.0.0.1:{peer.ports[1]}", "--size", str(size),
                       "--segments", str(segments), "--parallel", str(window), "--seconds", str(seconds)]
            result, processor = measured(peer, command, seconds)
            lost = result["lost"] / result["sent"]
            if lost <= LOSS:
                ways = 2 * result["sent"] - result["lost"]
                return {"rate": result["per_second"], "cost": processor / ways * 1e6, "window": window,
                        "failures": result["lost"]}
        raise Failed(f"{lost:.1%} lost with {windows[-1]} messages under way")

    return measure


def pinned(measure):
    """The same on one processor: what a wake-up costs that finds another processor asleep, which is most
    of a round trip on a machine with nothing else to do, is left out, and chance with it."""

    def measure_pinned(peer, seconds, load):
        with processes.on_one_processor():
            return measure(peer, seconds, load)

    return measure_pinned


# A title, what its rate and its cost are counted in, and the function.
Workload = namedtuple("Workload", "title unit cost_unit measure protocol", defaults=[TCP])

WORKLOADS = {
    "stream-1": Workload("One TCP stream", "Gbit/s", "CPU s per GB", streams(1)),
    "stream-8": Workload("Eight TCP streams", "Gbit/s", "CPU s per GB", streams(8)),
    "connect-1": Workload("Short connections, 1 at a time", "per second", "CPU ms each", connections(1)),
    "connect-1-pinned": Workload("Short connections, 1 at a time, all on one processor", "per second",
                                 "CPU ms each", pinned(connections(1))),
    "connect-32": Workload("Short connections, 32 at a time", "per second", "CPU ms each", connections(32)),
    "connect-256": Workload("Short connections, 256 at a time", "per second", "CPU ms each", connections(256)),
    "pingpong": Workload("64 bytes there and back on one connection", "per second", "CPU µs each", pingpong),
    "pingpong-pinned": Workload("64 bytes there and back on one connection, all on one processor", "per second",
                                "CPU µs each", pinned(pingpong)),
    "udp-64": Workload("Datagrams of 64 bytes, there and back", "per second", "CPU µs each way", datagrams(64), UDP),
    "udp-64-pinned": Workload("Datagrams of 64 bytes, there and back, all on one processor", "per second",
                              "CPU µs each way", pinned(datagrams(64)), UDP),
    "udp-1400": Workload("Datagrams of 1,400 bytes, there and back", "per second", "CPU µs each way",
                         datagrams(1400), UDP),
    "udp-1400-joined": Workload("Datagrams of 1,400 bytes, there and back, 32 sent at once (UDP_SEGMENT)",
                                "per second", "CPU µs each way", datagrams(1400, 32, (3, 2, 1)), UDP),
    "udp-pingpong": Workload("One datagram of 64 bytes at a time, there and back", "per second", "CPU µs each way",
                             datagrams(64, windows=(1,)), UDP),
}


def measured(peer, command, seconds):
    """Runs a load: its JSON, and the processor time that the forwarder had meanwhile."""
    before = {pid: processes.processor_time([pid]) for pid in peer.processes()}
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=seconds + GRACE, check=False, preexec_fn=processes.end_with_parent)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end after {seconds + GRACE:.0f} seconds") from None
    # Some have a process for each flow: it is there still.
    processor = sum(processes.processor_time([pid]) - before.get(pid, 0) for pid in peer.processes())
    if not peer.is_alive():
        raise Failed(peer.last_words())
    try:
        return json.loads(done.stdout), processor
    except ValueError:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise Failed(words[-1] if words else f"exit status {done.returncode}") from None


def reaches_echo(peer):
    """Whether a message comes back."""
    try:
        with socket.create_connection(("127.0.0.1", peer.ports[1]), timeout=2) as connection:
            connection.sendall(b"x")
            return connection.recv(1) == b"x"
    except OSError:
        return False


def reaches_datagram_echo(peer):
    """Whether a datagram comes back."""
    try:
        with socket.socket(type=socket.SOCK_DGRAM) as asking:
            asking.settimeout(0.5)
            asking.connect(("127.0.0.1", peer.ports[1]))
            asking.send(b"x")
            return asking.recv(2) == b"x"
    except OSError:
        return False


def reaches_stream(peer):
    """Whether iperf3 answers."""
    command = ["iperf3", "--client", "127.0.0.1", "--port", str(peer.ports[0]), "--bytes", "64K"]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=5, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


REACHED = {TCP: (reaches_echo, reaches_stream), UDP: (reaches_datagram_echo,)}


def retry(attempt, while_it, patience=10.0):
    """Tries until it works, or the condition holds no more, or the time is over."""
    deadline = time.monotonic() + patience
    while while_it() and time.monotonic() < deadline:
        if attempt():
            return True
        time.sleep(0.05)
    return False
