"""Ports to listen on."""

import random
import socket


def free_ports(count):
    """Ports of the loopback that nobody has, and that no connection gets by itself."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first = int(file.read().split()[0])
    found = []
    while len(found) < count:
        port = random.randrange(10000, max(first, 20000))
        with socket.socket() as attempt, socket.socket(type=socket.SOCK_DGRAM) as other:
            try:
                attempt.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port))
                found.append(port)
            except OSError:
                continue
    return found
