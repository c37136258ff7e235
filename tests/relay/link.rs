//! What the two processes of a test tell each other past the daemon: lines over a Unix socket, each
//! a note for whoever waits for it.

use crate::support::PATIENCE;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One end.
#[derive(Debug)]
pub struct Link {
    out: Mutex<UnixStream>,
    board: Mutex<Board>,
    news: Condvar,
}

/// Notes that have come and were not taken: of several of one kind and number, the last.
#[derive(Debug, Default)]
struct Board {
    notes: HashMap<(String, u64), String>,
    closed: bool,
}

impl Link {
    pub fn over(stream: UnixStream) -> Arc<Self> {
        let lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        let link = Self { out: Mutex::new(stream), board: Mutex::default(), news: Condvar::new() };
        let link = Arc::new(link);
        let ear = Arc::clone(&link);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut words = line.splitn(3, ' ');
                let kind = words.next().expect("a kind").to_owned();
                let id = words.next().and_then(|id| id.parse().ok()).expect("a number");
                let value = words.next().unwrap_or_default().to_owned();
                ear.board().notes.insert((kind, id), value);
                ear.news.notify_all();
            }
            ear.board().closed = true;
            ear.news.notify_all();
        });
        link
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the other process. One that has ended is told nothing.
    pub fn tell(&self, kind: &str, id: u64, value: &str) {
        let line = format!("{kind} {id} {value}\n");
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = out.write_all(line.as_bytes());
    }

    /// Waits for a note, and takes it.
    pub fn take(&self, kind: &str, id: u64) -> String {
        let key = (kind.to_owned(), id);
        self.wait(kind, id, |board| board.notes.remove(&key))
    }

    /// Waits until the sender of a stream can send no more: for want of room, or because it has
    /// sent everything.
    pub fn stalled(&self, id: u64) {
        let [now, for_ever] = ["stalled", "sent"].map(|kind| (kind.to_owned(), id));
        // What it told before is no news.
        self.board().notes.remove(&now);
        self.wait("stalled", id, |board| {
            let found = board.notes.contains_key(&now) || board.notes.contains_key(&for_ever);
            found.then_some(())
        });
    }

    fn wait<T>(&self, kind: &str, id: u64, mut look: impl FnMut(&mut Board) -> Option<T>) -> T {
        let mut found = None;
        let waiting = |board: &mut Board| {
            found = look(board);
            found.is_none() && !board.closed
        };
        let (board, _) = self
            .news
            .wait_timeout_while(self.board(), PATIENCE, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        let why = if board.closed { "the other process has ended" } else { "it never came" };
        drop(board);
        found.unwrap_or_else(|| panic!("{kind} {id}: {why}"))
    }

    /// Waits for the end of the other process.
    pub fn closed(&self) {
        let closed = self.news.wait_while(self.board(), |board| !board.closed);
        drop(closed);
    }
}
