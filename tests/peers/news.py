"""Tells every NETLINK_ROUTE socket of this network a lie, as its root may: news.py ADDRESS

That the loopback has got ADDRESS (rtnetlink(7), RTM_NEWADDR): a thousand times to whoever hears of
changes, and once to each socket by its number. Prints how many of those heard it, and how many
take nothing from us.
"""
import socket
import struct
import sys

RTMGRP_IPV4_IFADDR, RTM_NEWADDR, IFA_F_PERMANENT = 0x10, 20, 0x80
IFA_ADDRESS, IFA_LOCAL, LOOPBACK = 1, 2, 1

packed = socket.inet_aton(sys.argv[1])
attributes = b"".join(struct.pack("HH", 8, kind) + packed for kind in (IFA_ADDRESS, IFA_LOCAL))
body = struct.pack("BBBBi", socket.AF_INET, 32, IFA_F_PERMANENT, 0, LOOPBACK) + attributes
# Without NLM_F_REQUEST the kernel itself passes over it.
lie = struct.pack("IHHII", 16 + len(body), RTM_NEWADDR, 0, 0, 0) + body

liar = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
liar.bind((0, 0))
for _ in range(1000):
    liar.sendto(lie, (0, RTMGRP_IPV4_IFADDR))
heard = refused = 0
with open("/proc/self/net/netlink") as table:
    rows = [line.split() for line in table][1:]
numbers = {int(row[2]) for row in rows if int(row[1]) == socket.NETLINK_ROUTE}
for number in numbers - {0, liar.getsockname()[0]}:
    try:
        liar.sendto(lie, (number, 0))
        heard += 1
    except ConnectionRefusedError:
        refused += 1
print(f"{heard} heard, {refused} refused")
