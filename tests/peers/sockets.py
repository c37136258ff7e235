"""Makes sockets inside the container for a test outside: sockets.py PATH

Connects to PATH. Each line that comes from there is carried out and answered with one byte, and the
sockets that were made (unix(7), SCM_RIGHTS); none of them stays open here.

listen ADDRESS PORT     a listening socket
datagrams ADDRESS PORT  a UDP socket
connect ADDRESS PORT    a connection; none if it is refused
full ADDRESS PORT       the same with room for one connection in its backlog, and the connection that
                        takes it: no other gets an answer
run WORD...             a program, to its end
"""
import socket
import subprocess
import sys


def listen(address, backlog):
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(backlog)
    return listener


def main(path):
    outside = socket.socket(socket.AF_UNIX)
    outside.connect(path)
    for line in outside.makefile():
        name, *words = line.split()
        made = []
        if name == "run":
            subprocess.run(words, check=True)
        elif name == "datagrams":
            family = socket.AF_INET6 if ":" in words[0] else socket.AF_INET
            made = [socket.socket(family, socket.SOCK_DGRAM)]
            made[0].bind((words[0], int(words[1])))
        elif name == "connect":
            try:
                made = [socket.create_connection((words[0], int(words[1])))]
            except ConnectionRefusedError:
                pass
        else:
            address = (words[0], int(words[1]))
            made = [listen(address, 1024 if name == "listen" else 0)]
            if name == "full":
                made.append(socket.create_connection(address))
        socket.send_fds(outside, [b"."], [one.fileno() for one in made])
        for one in made:
            one.close()


main(*sys.argv[1:])
