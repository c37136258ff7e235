//! Attacks from the core, which reads what strangers send.

use crate::attack::prove;
use crate::network::CONTROL;
use crate::puppet::{MARK, Puppet, Stop, container};
use crate::victims::Victims;
use crate::{files, kernel, network, processes};
use pesto::sandbox::seccomp::Policy;
use pesto::sys::Errno;
use pesto::sys::message::{self, Descriptors};
use pesto::sys::unix::{self, Blocking};
use std::os::fd::AsFd;

#[test]
fn core_reaches_no_file_whichever_of_its_layers_is_left() {
    prove(Policy::Core, &[files::FROM_THE_CORE]);
}

#[test]
fn core_reaches_no_network_whichever_of_its_layers_is_left() {
    prove(Policy::Core, &[network::FROM_THE_CORE]);
}

#[test]
fn core_reaches_no_process_whichever_of_its_layers_is_left() {
    prove(Policy::Core, &[processes::FROM_THE_CORE]);
}

#[test]
fn core_gets_neither_memory_nor_privileges_nor_more_of_the_kernel() {
    prove(Policy::Core, &[kernel::FROM_THE_CORE]);
}

/// recvmsg(2) is for the factories' channels, and by recvmmsg(2), which the filter lets pass on others, the
/// kernel passes none.
#[test]
fn core_gets_no_descriptor_from_a_client() {
    let container = container();
    for call in [libc::SYS_recvmsg, libc::SYS_recvmmsg] {
        let core = Puppet::new(&container, Policy::Core, &[], &[]);
        let client = core.client();
        let mut passed = Descriptors::new();
        passed.push(client.try_clone().expect("a descriptor")).expect("room");
        let sent = message::send(client.as_fd(), b"x", &mut passed);
        // Before Linux 6.16 it could not be told to refuse them.
        let knows = unix::refuse_descriptors(unix::socket(Blocking::No).expect("one").as_fd());
        match knows {
            Ok(()) => assert_eq!(sent, Err(Errno(libc::EPERM))),
            Err(errno) => assert_eq!((errno, sent.is_ok()), (Errno(libc::ENOPROTOOPT), true)),
        }
        let connection = core.call(libc::SYS_accept4, &[CONTROL, 0, 0, 0x80800]).expect("a client");
        let room = core.put(&[0; 32]);
        let part = core.put_words(&[core.put(&[0]), 1]);
        // As many as the filter wants there to be, of which the first one is used.
        let header = core.put_words(&[0, 0, part, 1, room, 32, 0, 0]);
        core.put(&[0; 31 * 64]);
        if call == libc::SYS_recvmsg {
            let flags = (libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC) as u64;
            let killed = core.call(call, &[connection, header, flags]);
            assert_eq!(killed, Err(Stop::Killed(libc::SIGSYS)));
        } else if knows.is_ok() {
            let words = [connection, header, 32, libc::MSG_DONTWAIT as u64];
            assert_eq!(core.call(call, &words), Err(Stop::Refused(Errno(libc::EAGAIN))));
        }
    }
}

/// The only one that its filter knows.
const BACKLOG: u64 = libc::c_int::MAX as u64;

/// What no layer stops, because the core needs the call, is of no use on these descriptors.
#[test]
fn calls_that_the_filter_lets_pass_reach_nothing() {
    let (container, mut victims) = (container(), Victims::new());
    let core = Puppet::new(&container, Policy::Core, &[], &[]);
    let [accepted, target] = core.flow_sockets();
    let refused = |errno| Err(Stop::Refused(Errno(errno)));
    let nothing = core.put(&[0; 16]);
    // What is connected neither listens nor accepts, whichever way it has been shut.
    for socket in [accepted, target] {
        assert_eq!(core.call(libc::SYS_listen, &[socket, BACKLOG]), refused(libc::EINVAL));
        let accept = [socket, 0, 0, 0x80800];
        assert_eq!(core.call(libc::SYS_accept4, &accept), refused(libc::EINVAL));
        assert_eq!(core.call(libc::SYS_shutdown, &[socket, libc::SHUT_WR as u64]), Ok(0));
        assert_eq!(core.call(libc::SYS_listen, &[socket, BACKLOG]), refused(libc::EINVAL));
    }
    // A peer is nobody: no process, and neither user nor group.
    let len = core.put(&12_u32.to_ne_bytes());
    let words = [accepted, libc::SOL_SOCKET as u64, libc::SO_PEERCRED as u64, nothing, len];
    assert_eq!(core.call(libc::SYS_getsockopt, &words), Ok(0));
    let nobody = [[0; 4], [u8::MAX; 4], [u8::MAX; 4]].concat();
    assert_eq!(core.look::<12>(nothing), *nobody);
    // And it is still itself.
    let peek = (libc::MSG_PEEK | libc::MSG_DONTWAIT) as u64;
    assert_eq!(core.call(libc::SYS_recvfrom, &[accepted, nothing, 1, peek]), Ok(1));
    assert_eq!(core.look(nothing), [MARK]);
    assert!(!core.has_ended());
    victims.are_well("calls that pass");
}
