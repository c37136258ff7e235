"""Runs a command on a terminal of its own: terminal.py COLUMNS ROWS COMMAND...

What the command writes to the terminal goes to standard output; what comes from standard input is
typed. Ends with the command's status, 128+N if signal N ended it.
"""
import contextlib
import fcntl
import os
import pty
import struct
import sys
import termios
import threading

columns, rows = int(sys.argv[1]), int(sys.argv[2])
pid, terminal = pty.fork()
if pid == 0:
    size = struct.pack("HHHH", rows, columns, 0, 0)
    fcntl.ioctl(0, termios.TIOCSWINSZ, size)
    os.execvp(sys.argv[3], sys.argv[3:])


def type_input():
    while typed := os.read(0, 1024):
        os.write(terminal, typed)


def copy():
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 65536):
            os.write(1, data)


threading.Thread(target=type_input, daemon=True).start()
# Reading fails (EIO) when the command has closed its end, and may do so ahead of its last words.
copy()
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
copy()
os._exit(status if status >= 0 else 128 - status)
