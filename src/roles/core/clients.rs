//! Connections of control clients: frames in, answers out, never waiting for either.

use super::token::Token;
use super::world::{INPUT, World};
use crate::arena::Ref;
use crate::control::{Control, Place, Reply};
use crate::limits::{MAX_CLIENTS, MAX_IN_FLIGHT};
use crate::sys::{Errno, clock, unix};
use crate::table::Table;
use crate::wire::{FRAME_SIZE, Frame};
use std::os::fd::{AsFd, OwnedFd};

/// A client waits for room to be answered.
const OUTPUT: u32 = libc::EPOLLOUT.cast_unsigned();

struct Connection {
    socket: OwnedFd,
    tag: u32,
    /// An answer that its full socket did not take. Nothing more is read of it before that is out.
    unsent: Option<Frame>,
    /// It waits for the answer to a PREPARE.
    waiting: bool,
    /// The events that it is watched for. Its hang-up the kernel reports always.
    watched: u32,
}

impl Connection {
    fn watch(&mut self, place: Place, events: u32, world: &World) {
        if self.watched != events {
            self.watched = events;
            let _ = world.epoll.modify(self.socket.as_fd(), events, token(place, self.tag));
        }
    }
}

fn token(place: Place, tag: u32) -> u64 {
    let index = u32::try_from(place).unwrap_or(u32::MAX);
    Token::Client(Ref { index, tag }).encode()
}

/// All connections, at the places that [`Control`] knows them by.
#[derive(Default)]
pub(super) struct Clients {
    connections: [Option<Connection>; MAX_CLIENTS],
    next_tag: u32,
}

/// What a client asked of the whole daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StopRequest {
    pub(super) drain_ms: u32,
}

impl Clients {
    /// Takes one client that waits at the control socket. Only the daemon's own user may come.
    ///
    /// # Errors
    /// EAGAIN: nobody waits.
    pub(super) fn admit(
        &mut self,
        listener: &OwnedFd,
        user: u32,
        control: &mut Control,
        table: &mut Table<OwnedFd>,
        world: &World,
    ) -> Result<(), Errno> {
        let socket = crate::sys::socket::accept(listener.as_fd())?;
        if !unix::peer(socket.as_fd()).is_ok_and(|peer| peer.uid == user) {
            return Ok(());
        }
        let place = control.admit(clock::now_ms());
        self.next_tag = self.next_tag.wrapping_add(1);
        let tag = self.next_tag;
        if world.epoll.add(socket.as_fd(), INPUT, token(place, tag)).is_err() {
            control.leave(place, table);
            return Ok(());
        }
        self.connections[place] =
            Some(Connection { socket, tag, unsent: None, waiting: false, watched: INPUT });
        Ok(())
    }

    /// An event of a client.
    pub(super) fn event(
        &mut self,
        client: Ref,
        bits: u32,
        control: &mut Control,
        table: &mut Table<OwnedFd>,
        world: &mut World,
    ) -> Option<StopRequest> {
        let place = client.index as usize;
        let connection = self.connections.get_mut(place)?.as_mut()?;
        if connection.tag != client.tag {
            return None;
        }
        if let Some(frame) = connection.unsent.take() {
            self.send(place, &frame, control, table, world);
        }
        for _ in 0..MAX_IN_FLIGHT {
            let connection = self.connections[place].as_ref()?;
            if connection.unsent.is_some() || connection.waiting {
                let gone = bits & libc::EPOLLHUP.cast_unsigned() != 0;
                if gone {
                    self.close(place, control, table);
                }
                return None;
            }
            let mut frame = [0; FRAME_SIZE];
            let len = match unix::receive(connection.socket.as_fd(), &mut frame) {
                Ok(len) => len,
                Err(Errno(libc::EAGAIN | libc::EINTR)) => return None,
                Err(_) => {
                    self.close(place, control, table);
                    return None;
                }
            };
            match control.packet(place, (&frame, len), clock::now_ms(), table, world) {
                Reply::Answer(frame) => self.send(place, &frame, control, table, world),
                Reply::Close(frame) => {
                    self.send(place, &frame, control, table, world);
                    self.close(place, control, table);
                }
                Reply::Later => self.wait(place, world),
                Reply::Stop(frame, drain_ms) => {
                    self.send(place, &frame, control, table, world);
                    return Some(StopRequest { drain_ms });
                }
            }
        }
        None
    }

    /// The answer to a client's PREPARE.
    pub(super) fn answer(
        &mut self,
        (place, frame): (Place, Frame),
        control: &mut Control,
        table: &mut Table<OwnedFd>,
        world: &World,
    ) {
        if let Some(connection) = &mut self.connections[place] {
            connection.waiting = false;
            self.send(place, &frame, control, table, world);
        }
    }

    fn wait(&mut self, place: Place, world: &World) {
        if let Some(connection) = &mut self.connections[place] {
            connection.waiting = true;
            connection.watch(place, 0, world);
        }
    }

    fn send(
        &mut self,
        place: Place,
        frame: &Frame,
        control: &mut Control,
        table: &mut Table<OwnedFd>,
        world: &World,
    ) {
        let Some(connection) = &mut self.connections[place] else { return };
        let events = match unix::send(connection.socket.as_fd(), frame) {
            Ok(_) => INPUT,
            Err(errno) if errno.would_block() => {
                connection.unsent = Some(*frame);
                OUTPUT
            }
            Err(_) => return self.close(place, control, table),
        };
        connection.watch(place, events, world);
    }

    /// Ends a connection. What it had sent and nobody read is taken first, or the kernel would
    /// show the client a reset before the last answer.
    fn close(&mut self, place: Place, control: &mut Control, table: &mut Table<OwnedFd>) {
        if let Some(connection) = self.connections[place].take() {
            let mut frame = [0; FRAME_SIZE];
            for _ in 0..MAX_IN_FLIGHT {
                if !unix::receive(connection.socket.as_fd(), &mut frame).is_ok_and(|len| len > 0) {
                    break;
                }
            }
            control.leave(place, table);
        }
    }
}
