//! What `--help` says beside the options.

pub(super) const EXAMPLES: &str = "\
Examples, the first in a terminal of its own, where it stays; then one after the other:
  pesto run -p 8080:8000 -- python3 -m http.server 8000
  pesto add --label web -p 127.0.0.1:8443:443 -p 9000-9009:9000-9009
  pesto list
  pesto port 443
  pesto rm -p 9003:9003
  pesto save >ports.toml
  pesto rm --label web
  pesto diff -f ports.toml
  pesto apply -f ports.toml
  pesto stop

The command line of passt's pesto is understood as well: pesto --add -t 8080:80 PATH. Without --add
or --delete its specs are the whole table, as there: what else was forwarded is removed.

Exit status: 0 done, or nothing to do; 1 wrong command line, no such port (port), or differences
(diff); 2 cannot be; 3 a port could not be bound; 4 somebody else is changing the table, or has
changed it; 5 no daemon. After 1 to 5 nothing was changed. 6: it was done in part, because some
ports could not be bound (--allow-failed, now or earlier); or it was done, but could not be printed.
With --json an error is a document, too: {\"error\": {\"kind\", \"exit_status\", \"message\",
\"failed\"}}.";

pub(super) const NEW_NAME: &str =
    "What the new daemon is called; without it as the command, container, process or file";

pub(super) const RUN_HELP: &str = "\
SPEC is [[ADDRESS:][HOSTPORT[-END]]:[TARGET:]]PORT[-END][/PROTOCOL][,if-listening][,dev=IFACE], as
with podman and docker, but for the commas; more of it in `pesto add --help`:
  8080:80                  port 8080 of every address, IPv4 and IPv6, to the command's port 80
  127.0.0.1:8080:80        of this address only; IPv6 in brackets: [::1]:8080:80
  127.0.0.1::80            a free port, which is printed
  8000-8009:9000-9009      ten ports, each to its own
  8080:127.0.0.2:80        to this address in there, and to no other
  53:53/udp                the protocol: tcp (the default), udp, or both: /tcp,udp
  8080:80/tcp6             IPv6 only, as [::]:8080:80; tcp4, udp4 and udp6 likewise
  8080:80,if-listening     only while the command listens on port 80
  443:443/udp,dev=eth0     only for what comes in by that interface of the host

With -r it is the other way round: the command reaches a port of the host. SPEC is
[[ADDRESS:]PORT[-END]:[TARGET:]]HOSTPORT[-END][/PROTOCOL][,if-listening][,dev=IFACE]:
  5432:5432                127.0.0.1:5432 in there leads to 127.0.0.1:5432 of the host
  [::1]:5432:5432          the same for ::1; *:5432:5432 listens on every address in there
  5432:192.0.2.7:5432      to another host
  5432:auto:5432           to 127.0.0.1 or ::1 of the host, whichever answers
  5432:5432,dev=eth0       every address, for what comes in by that interface of the container
  53:53/udp                the protocol, as with -p
What -r asks for is all that the daemon may ever reach on the host's side, but for what
--allow-reverse adds.

The command starts when every port listens. It has a loopback interface and nothing else: no
outbound network and no DNS; it is reached only through the forwarded ports. It runs as root of a
user namespace that holds nothing but you: other users' files belong to nobody there. A server that
changes its user (nginx, sshd) needs --map-auto, and files that those users may use.

It should stay in the foreground: forwarding ends when it does. Signals that are sent to pesto are
passed on to it. Only SIGKILL cannot be: command and daemon go on then, until `pesto stop` or the
command's end.

Exit status: the command's own; 128+N if signal N ended it; 125 if pesto failed; 126 if the command
could not be executed; 127 if it was not found.

Examples:
  pesto run -p 8080:8000 -- python3 -m http.server 8000
  pesto run -r 5432:5432 -- psql -h 127.0.0.1
  pesto run -n cache -p 127.0.0.1::6379 -- redis-server --save ''
  pesto run --keep-id -p 5432:5432 -- postgres -D data";

pub(super) const ATTACH_HELP: &str = "\
SPEC is [[ADDRESS:][HOSTPORT[-END]]:[TARGET:]]PORT[-END][/PROTOCOL][,if-listening][,dev=IFACE], as
with podman and docker, but for the commas; see `pesto add --help`. With -r the container reaches a
port of the host, as with pesto run; what -r and --allow-reverse name now is all that it may ever
reach.

It returns when every port listens. The daemon goes on until the process or container ends that was
named, or until `pesto stop`; with --netns until then alone. If anything fails nothing is left
behind. Any namespace that you own will do, and for root any at all: what podman, docker, unshare or
`ip netns add` made.

With --follow a second process stays. When the container ends it keeps the table, as it is then, and
gives it to a new daemon once a container of that name runs again. It ends with `pesto stop`, and
when there is no such container any more.

Examples:
  pesto attach --container web -p 8080:80
  pesto list -n web
  pesto stop -n web
  pesto attach --container web -p 8080:80 --follow
  pesto attach --container web -p 53:53/tcp,udp -r 5432:5432
  pesto attach --pid 4711 -p 127.0.0.1::80
  pesto attach --netns /run/netns/blue -n blue -p 8081:80 --foreground";

pub(super) const ADD_HELP: &str = "\
SPEC is [[ADDRESS:][HOSTPORT[-END]]:[TARGET:]]PORT[-END][/PROTOCOL][,if-listening][,dev=IFACE], as
with podman and docker, but for the commas:
  8080:80                  port 8080 of every address, IPv4 and IPv6, to the container's port 80
  127.0.0.1:8080:80        of this address only; IPv6 in brackets: [::1]:8080:80
  0.0.0.0:8080:80          of every IPv4 address; [::] is every IPv6 address
  8000-8009:9000-9009      ten ports, each to its own
  127.0.0.1::80            a free port, which is printed; 80 alone: a free one on every address
  8080:10.0.2.100:80       to this address of the container's network; IPv6: 8080:[fd00::2]:80
  8080:80/udp              the protocol: tcp (the default), udp, and of one family tcp4, tcp6,
                           udp4, udp6; several with commas: 53:53/tcp,udp
  8080:80,if-listening     only while somebody listens on the container's port: else peers are
                           refused, peers of UDP hear nothing, and the port stays ours
  8080:80/udp,dev=eth0     only for what comes in by that interface

With -r a port of the container leads to one of the host, or of another one that the host reaches:
[[ADDRESS:]PORT[-END]:[TARGET:]]HOSTPORT[-END][/PROTOCOL][,if-listening][,dev=IFACE]. Without
ADDRESS it listens on 127.0.0.1 in the container (with /tcp6 or /udp6 on ::1; * is every address,
and so it is with dev=IFACE, unless that is lo), without TARGET it leads to 127.0.0.1 of the host (auto: there or to ::1, whichever answers). It must
have been allowed when the daemon was started: see --allow-reverse of pesto run and pesto attach.

A label is for you: the daemon only keeps it. `pesto list` shows it, and `pesto list` and `pesto rm`
choose by it. What is forwarded already stays as it is: with the same label, or without --label,
there is nothing to do; with another one it is an error, since that forward may be somebody else's.
What is there in part is completed.

Examples:
  pesto add --dry-run -p 8081:80           tells what would be, or would fail
  pesto add -p 8081:80
  pesto add --label web -p 8444:444 -p 127.0.0.1::80
  pesto add --label web -p 127.0.0.1:20000-20099:20000-20099
  pesto add --label web -r 5432:5432 -r 6379:192.0.2.7:6379
  pesto add --allow-failed -p 9100-9199:9100-9199";

pub(super) const RM_HELP: &str = "\
SPEC is what `pesto add` was given, what `pesto list` shows, or a part of it: ports in the middle
of a range, or one family (0.0.0.0 or [::]) of every address. Ports that stay are not touched, and
keep their label. if-listening may be left out. One without a host port (80) names the only forward
to that container port. If any of what is named is not there, or not with that label, it is an error
and nothing is removed, unless --ignore-missing is given. --kill and --drain end the connections of
a whole forward: not of a part.

-r removes what -r adds, by the same words.

Examples, after those of `pesto add --help`:
  pesto rm --dry-run -p 8081:80               tells what would be removed
  pesto rm -p 8081:80
  pesto rm -p 9110-9119:9110-9119             the rest of 9100-9199 stays
  pesto rm --label web --drain 30             all that has the label; its connections may go on
                                              for 30 seconds";

pub(super) const LIST_HELP: &str = "\
A forward of the other direction says `container` before where it listens, and `host` before where
it leads; `if listening` stands behind where one leads that listens only while its target does.
OPEN is connections now, TOTAL since the forward was added; of UDP each peer is one, until it is
forgotten for its silence. IN is bytes from clients, OUT bytes to them. STATE is listening, failed
or partly failed (which ports, and why, is below it), paused (if listening: nobody does, and peers
are refused), not listening (the host has not that family), or inactive (switched off).
A terminal that is too narrow gets more lines.

In JSON host_port is always the first port on the host and container_port that in the container: of
an inbound forward host_port listens, of a reverse one container_port. address is where it listens,
target_address where it leads; null is every address there, and here whichever answers.

--watch ends with status 5 when the daemon does, and with 0 when Ctrl-C ends it on a terminal, or
when nobody reads what it prints.

Examples:
  pesto list
  pesto list --watch                       every second, on a screen of its own
  pesto list --label web --json
  pesto list --watch 60 --json             a document a line, every minute";

pub(super) const PORT_HELP: &str = "\
Prints a line for each port; ranges are printed port by port. With a container port, only what
leads there, and exit status 1 when nothing does. UDP is asked for with /udp. Behind a % is the only
interface that a port listens on. `pesto list` shows ranges, state and counters.

Examples:
  pesto port               80/tcp -> 0.0.0.0:8080
                           80/tcp -> [::]:8080
  pesto port 80            0.0.0.0:8080
                           [::]:8080
  pesto port 80/tcp";

pub(super) const SWITCH_HELP: &str = "\
SPEC is what `pesto list` shows, or a part of it, as for `pesto rm`. What is switched off keeps its
place, its counters and its open connections, and listens no longer; others can have its port then,
that of UDP once its peers are forgotten.
A part of a range becomes a forward of its own.

Examples, after those of `pesto add --help`:
  pesto disable -p 8081:80
  pesto enable -p 8081:80
  pesto disable --label web
  pesto enable -p 8444:444";

pub(super) const APPLY_HELP: &str = "\
The table becomes exactly what the file says: what is not in it is removed, and open connections of
that go on. What listens as before keeps its id, its counters and its connections, wherever it leads
now; it keeps its label too where the file names none. Nothing is changed if anything fails.

Files are TOML, the JSON of `pesto list --json`, or compose files, of which the ports of one service
are read. A file that says nothing of forwards is an error: an empty table is `forward = []`.

  [[forward]]
  spec = \"127.0.0.1:8080:80\"   # as behind -p; /udp, and if-listening and dev=, as there
  side = \"inbound\"             # may be left out; \"reverse\": the spec is as behind -r
  label = \"web\"                # may be left out; \"\" is none
  active = false               # switched off; may be left out
  interface = \"eth0\"           # as dev= in the spec, and instead of it
  if_listening = true          # as if-listening in the spec, and instead of it

Examples:
  pesto save >ports.toml
  pesto apply -f ports.toml
  pesto list --json | pesto apply -f -
  pesto apply -f compose.yaml --service web --dry-run";

pub(super) const SAVE_HELP: &str = "\
Examples:
  pesto save >ports.toml
  pesto save -n old >old.toml
  pesto stop -n old && pesto apply -n new -f old.toml";

pub(super) const DIFF_HELP: &str = "\
Nothing is changed and no port is tried: `pesto apply --dry-run` does that. How ports are cut into
ranges is no difference: what counts is where each port leads, its label, and whether it is on.

What is there, and could not be bound, is told on standard error: nothing makes it listen but the
daemon, which tries again.

Exit status: 0 no difference; 1 differences; 2 and more: trouble; with ports that do not listen, as
of `apply`: 3 no difference, 6 differences.

Examples:
  pesto diff -f ports.toml
  pesto diff -f compose.yaml --service web --json";

pub(super) const DOCTOR_HELP: &str = "\
Each line is ok, missing (something goes without it, and the next line says what does not) or BAD.

Exit status: 0 nothing is BAD; 2 nothing goes before what is BAD is mended.";

pub(super) const STATUS_HELP: &str = "\
in is bytes from clients, out bytes to them; not copied is how much of both went from one socket to
the other without passing through the daemon's memory. A peer of UDP is a connection here. A turn
is what the daemon does between two looks at all that is ready: while the longest one lasted,
everybody else waited. Descriptors are the core's open files: each listening socket is one, each
connection two.

Examples:
  pesto status
  pesto status --json";

pub(super) const BATCH_HELP: &str = "\
Each line is an add, rm, enable or disable with the options that say what and how, in words as a
shell takes them (quotes too). Empty lines and what follows a # are left out. A line sees what those
before it did. All of it is one change: if any line fails, it is named and nothing is changed.

  add --label web -p 8080:80     # a comment
  rm --ignore-missing -p 9000:9000
  add -r 5432:5432

Examples, after those of `pesto add --help`:
  pesto batch --dry-run -f changes
  printf 'rm -p 8081:80\\nadd -p 8081:8000\\n' | pesto batch -f -";
