//! Peers who do not know that anything changes.

use crate::support::random::Random;
use crate::world::reach;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that goes on until it is told to stop, and counts what it does.
#[derive(Debug)]
pub struct Loop {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Loop {
    fn start(mut turn: impl FnMut() + Send + 'static) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, done) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                turn();
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, count, thread: Some(thread) }
    }

    /// Connects to a port, exchanges some bytes and ends in good order, again and again.
    pub fn connections(port: u16, server: u16, mut random: Random) -> Self {
        Self::start(move || {
            let mut stream = reach(port, server);
            for _ in 0..random.below(4) {
                exchange(&mut stream, &mut random);
            }
            stream.shutdown(Shutdown::Write).expect("it is open");
            let end = stream.read(&mut [0]).expect("an end in good order");
            assert_eq!(end, 0, "a byte too many");
        })
    }

    /// Sends bytes over one connection and has them back, again and again.
    pub fn round_trips(port: u16, server: u16) -> Self {
        let mut stream = reach(port, server);
        let mut number = 0_u64;
        Self::start(move || {
            number += 1;
            stream.write_all(&number.to_le_bytes()).expect("it is open");
            let mut back = [0; 8];
            stream.read_exact(&mut back).expect("it is open");
            assert_eq!(u64::from_le_bytes(back), number);
        })
    }

    /// How often it has done what it does.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until it has done so once more, from start to end.
    pub fn goes_on(&self) {
        // What is under way now may have begun before.
        let before = self.count();
        crate::support::until("another turn", || {
            assert!(!self.has_failed(), "a loop has ended");
            (self.count() > before + 1).then_some(())
        });
    }

    pub fn has_failed(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Ends it: how often it was done. Whatever went wrong is told here.
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
        self.count()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Bytes there and back.
pub fn exchange(stream: &mut TcpStream, random: &mut Random) {
    let bytes: Vec<u8> = (0..random.size(10)).map(|_| random.next().to_le_bytes()[0]).collect();
    stream.write_all(&bytes).expect("it is open");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("it is open");
    assert_eq!(back, bytes);
}

/// Bytes that go slowly, all the while, over one connection; what was sent and what came back are
/// each hashed as they pass.
#[derive(Debug)]
pub struct Transfer {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<(u64, [u8; 32])>,
    reader: JoinHandle<(u64, [u8; 32])>,
}

impl Transfer {
    pub fn start(port: u16, server: u16, mut random: Random) -> Self {
        let mut out = reach(port, server);
        let mut back = out.try_clone().expect("a descriptor");
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let sender = std::thread::spawn(move || {
            let (mut hash, mut count) = (Sha256::new(), 0);
            while !told.load(Ordering::Relaxed) {
                let block: Vec<u8> = (0..512).flat_map(|_| random.next().to_le_bytes()).collect();
                out.write_all(&block).expect("it is open");
                hash.update(&block);
                count += block.len() as u64;
                std::thread::sleep(Duration::from_millis(1));
            }
            out.shutdown(Shutdown::Write).expect("it is open");
            (count, hash.finalize().into())
        });
        let reader = std::thread::spawn(move || {
            let (mut hash, mut count) = (Sha256::new(), 0);
            let mut block = [0; 4096];
            loop {
                match back.read(&mut block).expect("it is open") {
                    0 => return (count, hash.finalize().into()),
                    len => {
                        hash.update(&block[..len]);
                        count += len as u64;
                    }
                }
            }
        });
        Self { stop, sender, reader }
    }

    /// Ends it: how many bytes went there and back. All of them must have, in their order.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let [sent, back] = [self.sender, self.reader].map(|thread| thread.join().expect("it ran"));
        assert_eq!(sent, back);
        sent.0
    }
}

/// Connections that are open, and silent.
pub fn idle(port: u16, server: u16, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| reach(port, server)).collect()
}
