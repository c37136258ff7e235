//! Many datagrams with one call (recvmmsg(2), sendmmsg(2)), runs of them joined (UDP_GRO) and cut
//! (UDP_SEGMENT): so that what is measured is the forwarder, and not its load.

#![expect(unsafe_code, reason = "std has one datagram a call, and no joined ones")]

use std::io::{Error, Result};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

/// Datagrams, or runs of them, at a time.
pub const MESSAGES: usize = 32;

/// Whatever a datagram can be.
const ROOM: usize = 64 * 1024;

/// Room for one control message, a size of segments.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 32]);

/// Buffers, each with the address that it came from and goes back to.
pub struct Batch {
    buffers: Vec<Vec<u8>>,
    names: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Batch {
    pub fn new() -> Self {
        // SAFETY: all zero is a valid value of each of these.
        let (name, header) = unsafe { std::mem::zeroed() };
        let part = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            buffers: vec![vec![0; ROOM]; MESSAGES],
            names: vec![name; MESSAGES],
            controls: vec![Control([0; _]); MESSAGES],
            parts: vec![part; MESSAGES],
            headers: vec![header; MESSAGES],
        }
    }

    pub fn buffer(&mut self, index: usize) -> &mut [u8] {
        &mut self.buffers[index]
    }

    /// Of the last receive.
    pub fn len(&self, index: usize) -> usize {
        self.headers[index].msg_len as usize
    }

    /// Waits for at least one message: how many came.
    pub fn receive(&mut self, socket: &UdpSocket) -> Result<usize> {
        for index in 0..MESSAGES {
            self.point(index, ROOM);
            let header = &mut self.headers[index].msg_hdr;
            header.msg_name = (&raw mut self.names[index]).cast();
            header.msg_namelen = size_of_as_u32::<libc::sockaddr_storage>();
            header.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        let (fd, headers) = (socket.as_raw_fd(), self.headers.as_mut_ptr());
        let (flags, no_time) = (libc::MSG_WAITFORONE, ptr::null_mut());
        // SAFETY: the headers' pointers are those of buffers that live as long and are as long as they say.
        count(unsafe { libc::recvmmsg(fd, headers, count_of(MESSAGES), flags, no_time) })
    }

    /// Sends back the first so many messages that came, each to its sender, cut as it came.
    pub fn send_back(&mut self, socket: &UdpSocket, messages: usize) -> Result<()> {
        for index in 0..messages {
            let (len, segment) = (self.len(index), self.segment(index));
            self.parts[index].iov_len = len;
            let header = &mut self.headers[index].msg_hdr;
            header.msg_controllen = 0;
            if let Some(size) = segment {
                // SAFETY: arithmetic.
                header.msg_controllen = unsafe { libc::CMSG_SPACE(2) } as _;
                // SAFETY: arithmetic.
                let cmsg_len = unsafe { libc::CMSG_LEN(2) } as _;
                let (cmsg_level, cmsg_type) = (libc::SOL_UDP, libc::UDP_SEGMENT);
                let head = libc::cmsghdr { cmsg_len, cmsg_level, cmsg_type };
                let control: *mut Control = header.msg_control.cast();
                // SAFETY: the room is longer than a head and aligned for one.
                unsafe { control.cast::<libc::cmsghdr>().write(head) };
                // SAFETY: of a whole control message, in the room.
                let data = unsafe { libc::CMSG_DATA(control.cast()) };
                // SAFETY: two bytes, which `cmsg_len` counts.
                unsafe { data.cast::<[u8; 2]>().write(size.to_ne_bytes()) };
            }
        }
        self.send_headers(socket, messages)
    }

    /// Sends the first `len` bytes of the first so many buffers to whom the socket is connected to.
    pub fn send(&mut self, socket: &UdpSocket, messages: usize, len: usize) -> Result<()> {
        for index in 0..messages {
            self.point(index, len);
            let header = &mut self.headers[index].msg_hdr;
            (header.msg_name, header.msg_namelen) = (ptr::null_mut(), 0);
            (header.msg_control, header.msg_controllen) = (ptr::null_mut(), 0);
        }
        self.send_headers(socket, messages)
    }

    fn send_headers(&mut self, socket: &UdpSocket, messages: usize) -> Result<()> {
        let mut rest = &mut self.headers[..messages];
        while !rest.is_empty() {
            let (fd, first) = (socket.as_raw_fd(), rest.as_mut_ptr());
            // SAFETY: as for the receive.
            let sent = count(unsafe { libc::sendmmsg(fd, first, count_of(rest.len()), 0) })?;
            rest = &mut rest[sent..];
        }
        Ok(())
    }

    fn point(&mut self, index: usize, len: usize) {
        let iov_base = self.buffers[index].as_mut_ptr().cast();
        self.parts[index] = libc::iovec { iov_base, iov_len: len };
        self.headers[index].msg_hdr.msg_iov = &raw mut self.parts[index];
        self.headers[index].msg_hdr.msg_iovlen = 1;
    }

    /// How long the datagrams are that a message was joined of.
    fn segment(&self, index: usize) -> Option<u16> {
        // SAFETY: the kernel has filled the header, and its pointers are valid.
        let control = unsafe { libc::CMSG_FIRSTHDR(&raw const self.headers[index].msg_hdr) };
        // SAFETY: null, or a whole head in the room.
        let head = unsafe { control.as_ref() }?;
        if (head.cmsg_level, head.cmsg_type) != (libc::SOL_UDP, libc::UDP_GRO) {
            return None;
        }
        // SAFETY: of a whole control message.
        let data = unsafe { libc::CMSG_DATA(control) };
        // SAFETY: the kernel writes an integer with this type.
        let size = unsafe { data.cast::<libc::c_int>().read_unaligned() };
        u16::try_from(size).ok()
    }
}

/// Sets an option of UDP's or of sockets' that is a number.
pub fn set_option(socket: &UdpSocket, level: i32, name: i32, value: libc::c_int) -> Result<()> {
    let (fd, len) = (socket.as_raw_fd(), size_of_as_u32::<libc::c_int>());
    // SAFETY: pointer and length are those of one integer, which lives longer than the call.
    count(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) }).map(drop)
}

fn count(result: libc::c_int) -> Result<usize> {
    usize::try_from(result).map_err(|_| Error::last_os_error())
}

fn count_of(messages: usize) -> libc::c_uint {
    libc::c_uint::try_from(messages).expect("some dozens")
}

fn size_of_as_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("short")
}
