//! The echo server.
//!
//! Edge-triggered: a connection is read until it has no more. What it does not take back at once
//! is kept, and nothing is read from it until that has gone.

use crate::sockets;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Result, Write};
use std::net::SocketAddr;

const LISTENER: Token = Token(usize::MAX - 1);

struct Connection {
    stream: TcpStream,
    /// Read, and not yet sent back.
    kept: Vec<u8>,
}

impl Connection {
    /// Sends back what came: true once it has ended, whichever way.
    fn proceed(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            while !self.kept.is_empty() {
                match self.stream.write(&self.kept) {
                    Ok(sent) => drop(self.kept.drain(..sent)),
                    Err(error) => return error.kind() != ErrorKind::WouldBlock,
                }
            }
            match self.stream.read(buffer) {
                Ok(0) => return true,
                Ok(received) => match self.stream.write(&buffer[..received]) {
                    Ok(sent) => self.kept.extend_from_slice(&buffer[sent..received]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.kept.extend_from_slice(&buffer[..received]);
                    }
                    Err(_) => return true,
                },
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }
}

/// Connections by place; places are used again.
#[derive(Default)]
struct Connections {
    places: Vec<Option<Connection>>,
    free: Vec<usize>,
}

impl Connections {
    fn accept_all(&mut self, listener: &TcpListener, poll: &Poll) -> Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let place = self.free.pop().unwrap_or_else(|| {
                self.places.push(None);
                self.places.len() - 1
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(place), interest)?;
            self.places[place] = Some(Connection { stream, kept: Vec::new() });
        }
    }

    fn proceed(&mut self, place: usize, buffer: &mut [u8]) {
        if let Some(connection) = &mut self.places[place]
            && connection.proceed(buffer)
        {
            self.places[place] = None;
            self.free.push(place);
        }
    }
}

/// Serves until a signal ends it.
pub fn run(address: SocketAddr) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = sockets::listen(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("{{\"listening\": \"{}\"}}", listener.local_addr()?);
    let mut connections = Connections::default();
    let mut buffer = vec![0; 64 * 1024];
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            match event.token() {
                LISTENER => connections.accept_all(&listener, &poll)?,
                Token(place) => connections.proceed(place, &mut buffer),
            }
        }
    }
}
