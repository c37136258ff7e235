"""A TCP server for the tests, to be run inside the container: peer.py ROLE PORT [HOST]...

It prints "ready" once it listens at PORT of every HOST (127.0.0.1 without any), then one line for
each thing that happens. Each connection is served by a thread of its own.
"""
import contextlib
import hashlib
import os
import signal
import socket
import struct
import sys
import threading

BLOCK = 64 * 1024


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def read_all(connection):
    """Reads to the end: (how it ended, bytes, their SHA-256)."""
    digest, count = hashlib.sha256(), 0
    while True:
        try:
            data = connection.recv(BLOCK)
        except OSError as error:
            return type(error).__name__, count, digest.hexdigest()
        if not data:
            return "end", count, digest.hexdigest()
        digest.update(data)
        count += len(data)


def send_random(connection, count):
    """Sends so many bytes that nobody can guess: their SHA-256."""
    digest, block = hashlib.sha256(), bytearray(os.urandom(BLOCK))
    sent = 0
    while sent < count:
        struct.pack_into("<Q", block, 0, sent)
        part = bytes(block[: min(BLOCK, count - sent)])
        connection.sendall(part)
        digest.update(part)
        sent += len(part)
    return digest.hexdigest()


def echo(connection):
    while data := connection.recv(BLOCK):
        connection.sendall(data)


def both_ways(connection):
    """Sends as many bytes as the first line says while it reads to the end."""
    count = int(connection.makefile("rb", buffering=0).readline())
    hashes = {}
    reader = threading.Thread(target=lambda: hashes.update(read=read_all(connection)))
    reader.start()
    hashes["sent"] = send_random(connection, count)
    connection.shutdown(socket.SHUT_WR)
    reader.join()
    say("sent", hashes["sent"], "read", *hashes["read"])


def answer_after_end(connection):
    """Reads to the end, then answers with 1 MB."""
    say("read", *read_all(connection))
    say("sent", send_random(connection, 1_000_000))


def end_then_read(connection):
    """Ends its own sending first, then reads to the end."""
    connection.sendall(b"over")
    connection.shutdown(socket.SHUT_WR)
    say("read", *read_all(connection))


def speak_first(connection):
    connection.sendall(b"220 ready when you are\r\n")
    echo(connection)


def read(connection):
    say("read", *read_all(connection))


def reset_after(connection):
    """Sends 100,000 bytes, and resets the connection when the client has said a word."""
    send_random(connection, 100_000)
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def address(connection):
    """Says at which address it was reached."""
    connection.sendall(connection.getsockname()[0].encode())


def client(connection):
    """Says which address the connection comes from."""
    connection.sendall(connection.getpeername()[0].encode())


ROLES = [address, client, echo, both_ways, answer_after_end, end_then_read, speak_first, read, reset_after]


def serve(listener, role):
    def one(connection):
        # Whether a reset matters is for the role to say.
        with connection, contextlib.suppress(ConnectionError):
            role(connection)

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=one, args=(connection,), daemon=True).start()


def main(name, port, *hosts):
    # An interrupt ends it like any other signal, whatever its threads do.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    role = next(role for role in ROLES if role.__name__ == name)
    threads = []
    for host in hosts or ["127.0.0.1"]:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, int(port)))
        listener.listen(1024)
        threads.append(threading.Thread(target=serve, args=(listener, role)))
    for thread in threads:
        thread.start()
    say("ready")
    for thread in threads:
        thread.join()


main(*sys.argv[1:])
