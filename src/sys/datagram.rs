//! Datagrams (udp(7)): many received with one call, sent with one; never an address on the way out.
//!
//! With UDP_GRO the kernel joins datagrams of one sender and one size, the last of which may be
//! shorter, and tells the size; with UDP_SEGMENT it cuts what is sent the same way. So a run of them goes
//! through one receive and one send.

use super::socket::{from_raw, open, set_flag, set_option};
use super::{Result, check, check_len, socklen};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::ptr::{self, NonNull};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The most parts of one send: as many as the kernel segments there are in one (UDP_MAX_SEGMENTS is
/// 64 before Linux 6.9).
pub const MAX_PARTS: usize = 64;

/// A UDP socket of the address's family; v6 sockets never take v4 traffic. It tells what it drops
/// (`SO_RXQ_OVFL`), see [`Message::lost`].
///
/// # Errors
/// EAFNOSUPPORT on a host without the family; EMFILE, ENFILE, ENOBUFS, ENOMEM.
pub fn udp(address: &SocketAddr) -> Result<OwnedFd> {
    let socket = open(address, libc::SOCK_DGRAM, libc::IPPROTO_UDP)?;
    set_flag(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, true)?;
    Ok(socket)
}

/// `SO_REUSEPORT`: left on, another process of the same user can take what is sent to the port.
pub fn set_reuse_port(socket: BorrowedFd<'_>, on: bool) -> Result<()> {
    set_flag(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, on)
}

/// Each datagram tells the address that it was sent to (`IP_PKTINFO`, `IPV6_RECVPKTINFO`).
pub fn set_packet_info(socket: BorrowedFd<'_>, v6: bool) -> Result<()> {
    if v6 {
        set_flag(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, true)
    } else {
        set_flag(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, true)
    }
}

/// `UDP_GRO`: runs of datagrams may come joined (Linux ≥ 5.0).
pub fn set_receive_offload(socket: BorrowedFd<'_>) -> Result<()> {
    set_flag(socket, libc::SOL_UDP, libc::UDP_GRO, true)
}

/// `UDP_SEGMENT`: what is sent is cut into datagrams of so many bytes; 0: is one (Linux ≥ 4.18).
pub fn set_segment(socket: BorrowedFd<'_>, bytes: u16) -> Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, &libc::c_int::from(bytes))
}

/// Nothing that arrives from now on is received, until [`drop_none`] (`SO_ATTACH_FILTER`).
pub fn drop_all(socket: BorrowedFd<'_>) -> Result<()> {
    set_filter(socket, &mut [filter::give(0)])
}

/// Nothing is received from anybody but this peer. A connect alone does not see to that: the kernel may have
/// chosen the socket for a datagram before it was connected, and put that into it afterwards.
pub fn hear_only(socket: BorrowedFd<'_>, peer: &SocketAddr) -> Result<()> {
    use filter::{NETWORK, give, is_not, load, load_short};
    // Each condition skips those that follow it, and the "all" at the end.
    let program: &mut [libc::sock_filter] = match peer {
        SocketAddr::V4(v4) => &mut [
            load_short(0),
            is_not(v4.port().into(), 3),
            load(NETWORK + 12),
            is_not(v4.ip().to_bits(), 1),
            give(u32::MAX),
            give(0),
        ],
        SocketAddr::V6(v6) => {
            let bits = v6.ip().to_bits();
            #[expect(clippy::cast_possible_truncation, reason = "the lowest word is meant")]
            let [a, b, c, d] = [96, 64, 32, 0].map(|shift| (bits >> shift) as u32);
            // The scope is left to connect: what the host sends to itself comes by the loopback, whatever the scope.
            &mut [
                load_short(0),
                is_not(v6.port().into(), 9),
                load(NETWORK + 8),
                is_not(a, 7),
                load(NETWORK + 12),
                is_not(b, 5),
                load(NETWORK + 16),
                is_not(c, 3),
                load(NETWORK + 20),
                is_not(d, 1),
                give(u32::MAX),
                give(0),
            ]
        }
    };
    set_filter(socket, program)
}

fn set_filter(socket: BorrowedFd<'_>, program: &mut [libc::sock_filter]) -> Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "some instructions")]
    let len = program.len() as u16;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Instructions of classic BPF, over a packet from its UDP header on.
#[expect(clippy::cast_possible_truncation, reason = "all codes are below 256")]
#[expect(clippy::cast_sign_loss, reason = "the kernel reads offsets as signed again")]
mod filter {
    use libc::sock_filter;

    /// Where the IP header begins (`SKF_NET_OFF`).
    pub(super) const NETWORK: u32 = -0x10_0000_i32 as u32;

    const fn instruction(code: u32, jump_else: u8, value: u32) -> sock_filter {
        sock_filter { code: code as u16, jt: 0, jf: jump_else, k: value }
    }

    /// A word at an offset.
    pub(super) const fn load(offset: u32) -> sock_filter {
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, offset)
    }

    /// A half-word at an offset.
    pub(super) const fn load_short(offset: u32) -> sock_filter {
        instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, offset)
    }

    /// Skips so many instructions if what was loaded is anything else.
    pub(super) const fn is_not(value: u32, skip: u8) -> sock_filter {
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, skip, value)
    }

    /// The end: keeps so many bytes.
    pub(super) const fn give(bytes: u32) -> sock_filter {
        instruction(libc::BPF_RET | libc::BPF_K, 0, bytes)
    }
}

/// Takes that filter away. What came before stays lost.
///
/// # Errors
/// ENOENT: there is none.
pub fn drop_none(socket: BorrowedFd<'_>) -> Result<()> {
    set_flag(socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, false)
}

/// Sends one datagram to whom the socket is connected to, or as many as [`set_segment`] makes of it.
///
/// # Errors
/// EAGAIN: no room. ECONNREFUSED and others of an earlier datagram; this one is not sent then. EMSGSIZE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    super::socket::send(socket, bytes)
}

/// The same of parts that go out as if they were one: writev(2), which can name no address, unlike
/// sendmsg(2). The socket must not block. An empty datagram takes a [`send`]: a writev(2) of nothing
/// sends nothing.
///
/// # Panics
/// With more than [`MAX_PARTS`].
pub fn send_parts(socket: BorrowedFd<'_>, parts: &[&[u8]]) -> Result<usize> {
    let mut vector = [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; MAX_PARTS];
    let vector = &mut vector[..parts.len()];
    for (entry, part) in vector.iter_mut().zip(parts) {
        *entry = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "at most 64")]
    let count = vector.len() as libc::c_int;
    // SAFETY: every entry is valid for reads of its length; the kernel only reads.
    check_len(unsafe { libc::writev(socket.as_raw_fd(), vector.as_ptr(), count) })
}

/// What came with [`Batch::receive`]: one datagram, or several of one sender.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// One after the other, if they are several.
    pub bytes: &'a [u8],
    /// If several: the length of each but the last, which may be shorter. 0: it is one.
    pub segment: u16,
    /// It was longer than the batch has room for; its end is lost.
    pub truncated: bool,
    /// Who sent it, if names were asked for.
    pub peer: Option<SocketAddr>,
    /// The own address that it was sent to ([`set_packet_info`]): of v4 broadcasts and multicasts the one
    /// to answer from, of v6 multicasts the group.
    pub local: Option<IpAddr>,
    /// The interface that it came in by; 0 where `local` is `None`. The scope of a link-local address.
    pub interface: u32,
    /// How many the socket had dropped by then, in all, modulo 2^32: for want of room in its buffer, by its filter, for
    /// a wrong checksum. What came joined is one.
    pub lost: u32,
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, segment, truncated, peer, local, interface, lost } = self;
        let cut = if *truncated { ", cut" } else { "" };
        write!(out, "{} bytes of {peer:?} to {local:?}%{interface}", bytes.len())?;
        write!(out, ", by {segment}{cut}, behind {lost} that are lost")
    }
}

/// Room for the control messages of one datagram, aligned as the kernel wants it: an `in6_pktinfo`, the size
/// of segments and the count of what is lost, each behind a head of 16 bytes.
#[repr(C, align(8))]
struct ControlRoom([u8; 88]);

/// Where the kernel writes one message.
struct Place {
    part: libc::iovec,
    name: libc::sockaddr_storage,
    control: ControlRoom,
}

/// Room for many datagrams, allocated at once and never given back: there is one for the life of a
/// process. What is received stays until the next receive.
pub struct Batch {
    /// As many as there are headers.
    places: NonNull<Place>,
    /// They point into the places, and those to the bytes.
    headers: Box<[libc::mmsghdr]>,
    received: usize,
}

impl Batch {
    /// Room for so many messages of so many bytes; its pages are taken as they are used.
    #[must_use]
    pub fn new(messages: usize, size: usize) -> Self {
        let buffers = Box::leak(vec![0_u8; messages * size].into_boxed_slice());
        let empty = |buffer: &mut [u8]| {
            let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            // SAFETY: every bit pattern is a sockaddr_storage.
            let name = unsafe { core::mem::zeroed() };
            Place { part, name, control: ControlRoom([0; _]) }
        };
        let places: Box<[Place]> = buffers.chunks_exact_mut(size).map(empty).collect();
        // SAFETY: all zero (null pointers, zero lengths) is a valid, empty mmsghdr.
        let empty = || unsafe { core::mem::zeroed() };
        let headers = core::iter::repeat_with(empty).take(messages).collect();
        Self { places: NonNull::from(Box::leak(places)).cast(), headers, received: 0 }
    }

    /// For how many messages there is room.
    pub const fn capacity(&self) -> usize {
        self.headers.len()
    }

    fn place(&self, index: usize) -> *mut Place {
        assert!(index < self.headers.len(), "a batch has no place {index}");
        // SAFETY: there are as many places as headers.
        unsafe { self.places.as_ptr().add(index) }
    }

    /// Receives what there is, as far as there is room; with senders and control messages for a listener,
    /// with the size of segments alone for a connected socket. Returns how many.
    ///
    /// # Errors
    /// EAGAIN: nothing is there. ECONNREFUSED and others of what was sent before.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, with_names: bool) -> Result<usize> {
        self.received = 0;
        for index in 0..self.headers.len() {
            let place = self.place(index);
            // SAFETY: inside the place.
            let part = unsafe { &raw mut (*place).part };
            // SAFETY: as above.
            let name = unsafe { &raw mut (*place).name };
            // SAFETY: as above.
            let control = unsafe { &raw mut (*place).control };
            let header = &mut self.headers[index].msg_hdr;
            header.msg_iov = part;
            header.msg_iovlen = 1;
            header.msg_name = if with_names { name.cast() } else { ptr::null_mut() };
            header.msg_namelen = if with_names { socklen::<libc::sockaddr_storage>() } else { 0 };
            header.msg_control = control.cast();
            header.msg_controllen = size_of::<ControlRoom>() as _;
        }
        #[expect(clippy::cast_possible_truncation, reason = "some dozens")]
        let count = self.headers.len() as libc::c_uint;
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT);
        // SAFETY: every pointer in the headers is valid for writes of its length; there is no time.
        let received = check(unsafe {
            libc::recvmmsg(socket.as_raw_fd(), headers, count, flags, ptr::null_mut())
        })?;
        self.received = received.unsigned_abs() as usize;
        Ok(self.received)
    }

    /// One of those that were received last.
    ///
    /// # Panics
    /// When there were not so many.
    #[must_use]
    pub fn message(&self, index: usize) -> Message<'_> {
        let mmsghdr = &self.headers[..self.received][index];
        let (header, len) = (&mmsghdr.msg_hdr, mmsghdr.msg_len as usize);
        // SAFETY: one iovec, see `receive`; nobody writes it after `new`.
        let part = unsafe { header.msg_iov.read() };
        // SAFETY: the kernel has filled `len` bytes of the buffer, and writes again only in `receive`.
        let bytes = unsafe { core::slice::from_raw_parts(part.iov_base.cast::<u8>(), len) };
        let truncated = header.msg_flags & libc::MSG_TRUNC != 0;
        let (peer, local) = (None, None);
        let mut message =
            Message { bytes, segment: 0, truncated, peer, local, interface: 0, lost: 0 };
        if header.msg_namelen > 0 {
            // SAFETY: of a sockaddr_storage, which was zeroed and then written by the kernel alone.
            let name = unsafe { &*header.msg_name.cast::<libc::sockaddr_storage>() };
            message.peer = from_raw(name).ok();
        }
        // SAFETY: the kernel has filled the header; its pointers are still valid.
        let mut control = unsafe { libc::CMSG_FIRSTHDR(header) };
        while !control.is_null() {
            // SAFETY: not null, so a whole control message.
            unsafe { message.note(control) };
            // SAFETY: the header and the control message are valid.
            control = unsafe { libc::CMSG_NXTHDR(header, control) };
        }
        message
    }
}

impl Message<'_> {
    /// Takes over what a control message says.
    ///
    /// # Safety
    /// `control` points to a whole one, of the kernel's.
    unsafe fn note(&mut self, control: *const libc::cmsghdr) {
        // SAFETY: a whole head, by the caller.
        let head = unsafe { control.read() };
        // SAFETY: arithmetic on a pointer to a whole control message.
        let data = unsafe { libc::CMSG_DATA(control) };
        match (head.cmsg_level, head.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: the kernel writes this structure with this type.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                let octets = info.ipi_spec_dst.s_addr.to_ne_bytes();
                self.local = Some(IpAddr::V4(Ipv4Addr::from(octets)));
                self.interface = info.ipi_ifindex.unsigned_abs();
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: as above.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                self.local = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)));
                self.interface = info.ipi6_ifindex;
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                // SAFETY: as above.
                let size = unsafe { data.cast::<libc::c_int>().read_unaligned() };
                self.segment = u16::try_from(size).unwrap_or(0);
            }
            // There is none as long as nothing is lost.
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                // SAFETY: as above.
                self.lost = unsafe { data.cast::<u32>().read_unaligned() };
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} datagrams of at most {}", self.received, self.headers.len())
    }
}
