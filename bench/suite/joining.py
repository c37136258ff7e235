"""Forwarders that have no namespace of their own: they get listening sockets of the host's, and run in
the network namespace of the servers."""

import os
import socket
import time

from . import processes, workloads
from .peers import ECHO_PORT, SERVERS, STREAM_PORT, CannotRun, Peer

# More than any workload has at a time.
CONNECTIONS = 4096


class Joining(Peer):
    """What those have in common: the namespace comes first, then the forwarder."""

    def commands(self):
        yield ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh",
               *self.servers()], {}
        inside = self.roots[0]
        while processes.name(inside.pid) != SERVERS:
            if inside.poll() is not None:
                raise CannotRun(self.last_words())
            time.sleep(0.01)
        enter = ["nsenter", "--target", str(inside.pid), "--user", "--net", "--preserve-credentials", "--"]
        yield from self.joining(enter)

    def joining(self, enter):
        """The commands that start it; `enter` is what goes before one that runs in the namespace."""
        raise NotImplementedError

    def with_listeners(self, command, environment):
        """Starts a command with the two listeners. `command` and `environment` make a list and a
        dictionary of their numbers."""
        listeners = [listener(port) for port in self.ports]
        numbers = [each.fileno() for each in listeners]
        try:
            yield command(numbers), {"pass_fds": numbers, "env": {**os.environ, **environment(numbers)}}
        finally:
            for each in listeners:
                each.close()

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


def listener(port):
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen(CONNECTIONS)
    return made


class SocketProxyd(Joining):
    """One process a port, which systemd-socket-activate starts at the first connection, as systemd does;
    and as there SIGPIPE stays ignored, of which it would die (IgnoreSIGPIPE=, systemd.exec(5))."""

    program = "/usr/lib/systemd/systemd-socket-proxyd"
    package = "systemd"

    def joining(self, enter):
        for port, inside in zip(self.ports, (STREAM_PORT, ECHO_PORT)):
            yield ["systemd-socket-activate", "--listen", f"127.0.0.1:{port}", *enter, self.program,
                   f"--connections-max={CONNECTIONS}", f"127.0.0.1:{inside}"], {"restore_signals": False}


HAPROXY = """
global
  maxconn {connections}
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen stream
  bind fd@{stream}
  server inside 127.0.0.1:{stream_port}
listen echo
  bind fd@{echo}
  server inside 127.0.0.1:{echo_port}
"""


class HAProxy(Joining):
    program = "haproxy"
    package = "haproxy"

    def joining(self, enter):
        def command(numbers):
            text = HAPROXY.format(connections=CONNECTIONS, stream=numbers[0], echo=numbers[1],
                                  stream_port=STREAM_PORT, echo_port=ECHO_PORT)
            return [*enter, self.program, "-db", "-f", self.write("haproxy.cfg", text)]

        yield from self.with_listeners(command, lambda numbers: {})


NGINX = """
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
worker_processes auto;
pid {folder}/pid;
error_log stderr;
events {{ worker_connections {connections}; }}
stream {{
  server {{ listen 127.0.0.1:{stream}; proxy_pass 127.0.0.1:{stream_port}; }}
  server {{ listen 127.0.0.1:{echo}; proxy_pass 127.0.0.1:{echo_port}; }}
}}
"""


class Nginx(Joining):
    """It takes listeners over that an older nginx would have left it, by the variable NGINX."""

    program = "nginx"
    package = "nginx"

    def joining(self, enter):
        stream, echo = self.ports
        text = NGINX.format(folder=self.folder, connections=CONNECTIONS, stream=stream, echo=echo,
                            stream_port=STREAM_PORT, echo_port=ECHO_PORT)
        command = [*enter, self.program, "-e", "stderr", "-c", self.write("nginx.conf", text), "-g", "daemon off;"]
        yield from self.with_listeners(
            lambda numbers: command, lambda numbers: {"NGINX": "".join(f"{number};" for number in numbers)})


class Socat(Joining):
    """Two of them, joined by a socket that keeps datagrams apart; each forks for a new peer."""

    program = "socat"
    package = "socat"
    protocols = (workloads.UDP,)

    def joining(self, enter):
        _, echo = self.ports
        # Peers that have gone leave processes behind without it.
        limits = ["-T", "20", "-b", "65536"]
        path = os.path.join(self.folder, "joint")
        yield [*enter, self.program, *limits, f"UNIX-LISTEN:{path},type=5,fork,unlink-early",
               f"UDP:127.0.0.1:{ECHO_PORT}"], {}
        yield [self.program, *limits, f"UDP-LISTEN:{echo},bind=127.0.0.1,fork,reuseaddr",
               f"UNIX-CONNECT:{path},type=5,retry=100,interval=0.1"], {}


KINDS = {"socket-proxyd": SocketProxyd, "haproxy": HAProxy, "nginx": Nginx, "socat": Socat}
