//! Attacks from the core, which reads what strangers send.

use crate::attack::prove;
use crate::puppet::{MARK, Puppet, Stop, container};
use crate::victims::Victims;
use crate::{files, kernel, network, processes};
use pesto::sandbox::seccomp::Policy;
use pesto::sys::Errno;

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

/// What no layer stops, because the core needs the call, is of no use on these descriptors.
#[test]
fn calls_that_the_filter_lets_pass_reach_nothing() {
    let (container, mut victims) = (container(), Victims::new());
    let core = Puppet::new(&container, Policy::Core, &[], &[]);
    let [accepted, target] = core.flow_sockets();
    let refused = |errno| Err(Stop::Refused(Errno(errno)));
    let (nothing, null) = (core.put(&[0; 16]), 0);
    // What is connected neither listens nor accepts, whichever way it has been shut.
    for socket in [accepted, target] {
        assert_eq!(core.call(libc::SYS_listen, &[socket, 1]), refused(libc::EINVAL));
        let accept = [socket, 0, 0, 0x80800];
        assert_eq!(core.call(libc::SYS_accept4, &accept), refused(libc::EINVAL));
        assert_eq!(core.call(libc::SYS_shutdown, &[socket, libc::SHUT_WR as u64]), Ok(0));
        assert_eq!(core.call(libc::SYS_listen, &[socket, 1]), refused(libc::EINVAL));
    }
    // Its standard input and output have nothing, and are no way out.
    let is_pipe = |fd: &u64| core.call(libc::SYS_fcntl, &[*fd, 1031, 4096]).is_ok();
    let pipe = (7..200).filter(is_pipe).nth(1).expect("the second end of the first one");
    for sink in [pipe, accepted] {
        let splice = [null, 0, sink, 0, 16, 3];
        assert_eq!(core.call(libc::SYS_splice, &splice), refused(libc::EINVAL));
    }
    let read = [null, nothing, 16, libc::MSG_DONTWAIT as u64];
    assert_eq!(core.call(libc::SYS_recvfrom, &read), refused(libc::ENOTSOCK));
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
