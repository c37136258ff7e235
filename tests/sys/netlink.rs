//! Sockets to the kernel's network configuration: what is told, when, and by whom.

use crate::alone::{alone, output, wait_for};
use pesto::sys::{Errno, Result, fs, netlink, unix};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Command;

const AGAIN: Result<usize> = Err(Errno(libc::EAGAIN));

/// In a network of its own, whose loopback is up.
const NETWORK: &str =
    "exec unshare -rn sh -c 'ip link set lo up && exec \"$0\" \"$@\"' \"$0\" \"$@\"";

fn addresses() -> u32 {
    (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR).cast_unsigned()
}

fn run(words: &[&str]) -> bool {
    let done = output(Command::new(words[0]).args(&words[1..]));
    println!("{done:?}");
    done.status.success()
}

fn receive(socket: BorrowedFd<'_>) -> Result<usize> {
    unix::receive(socket, &mut [0; 4096])
}

/// A new IPv6 address is told of a little later: a work queue of the kernel's settles it first.
#[test]
fn change_of_an_address_is_told_before_the_call_that_made_it_returns() {
    let name = "netlink::change_of_an_address_is_told_before_the_call_that_made_it_returns";
    alone(name, NETWORK, || {
        let news = netlink::route(addresses()).expect("a socket");
        assert_eq!(receive(news.as_fd()), AGAIN);
        for words in ["add 10.0.0.1/32", "del 10.0.0.1/32", "add fd00::1/128", "del fd00::1/128"] {
            let (what, address) = words.split_once(' ').expect("two");
            assert!(run(&["ip", "addr", what, address, "dev", "lo"]));
            if words == "add fd00::1/128" {
                wait_for(news.as_fd(), libc::POLLIN);
            }
            assert!(receive(news.as_fd()).is_ok_and(|len| len > 16), "{words}: nothing is told");
            while receive(news.as_fd()).is_ok() {}
        }
    });
}

#[test]
fn more_than_a_socket_can_hold_is_enobufs_once_and_no_end() {
    let name = "netlink::more_than_a_socket_can_hold_is_enobufs_once_and_no_end";
    alone(name, NETWORK, || {
        let news = netlink::route(addresses()).expect("a socket");
        let changes = "for i in $(seq 4000); do echo addr add 10.0.0.1/32 dev lo; \
                       echo addr del 10.0.0.1/32 dev lo; done | ip -batch -";
        assert!(run(&["sh", "-c", changes]));
        let mut lost = 0;
        loop {
            match receive(news.as_fd()) {
                Ok(_) => {}
                Err(Errno(libc::ENOBUFS)) => lost += 1,
                other => break assert_eq!(other, AGAIN),
            }
        }
        assert_eq!(lost, 1);
        assert!(run(&["ip", "addr", "add", "10.0.0.2/32", "dev", "lo"]));
        assert!(receive(news.as_fd()).is_ok());
    });
}

/// A socket's number among the netlink sockets, which others can send to (/proc/net/netlink).
fn number(socket: BorrowedFd<'_>) -> String {
    let inode = fs::facts(socket).expect("its facts").id.inode.to_string();
    let table = std::fs::read_to_string("/proc/self/net/netlink").expect("a table");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.into_iter().find(|row| row.last() == Some(&inode.as_str()));
    row.expect("its row")[2].to_owned()
}

#[test]
fn only_the_kernel_can_send_to_a_socket_without_groups() {
    let name = "netlink::only_the_kernel_can_send_to_a_socket_without_groups";
    alone(name, NETWORK, || {
        let (news, questions) =
            (netlink::route(addresses()).expect("one"), netlink::route(0).expect("another"));
        // As root of the network, who may send to everybody.
        let send = "import socket, sys; s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, int(sys.argv[2])); \
                    s.sendto(bytes(20), (int(sys.argv[1]), 0))";
        assert!(run(&["python3", "-c", send, &number(news.as_fd()), "0"]));
        assert_eq!(receive(news.as_fd()), Ok(20));
        let listening = netlink::sock_diag().expect("a socket");
        for (socket, protocol) in [(&questions, "0"), (&listening, "4")] {
            assert!(!run(&["python3", "-c", send, &number(socket.as_fd()), protocol]));
            assert_eq!(receive(socket.as_fd()), AGAIN);
        }
    });
}
