//! Load for forwarders, and the server at their far end. Each command is one thread and prints one
//! line of JSON.

mod batch;
mod connect;
mod datagrams;
mod figures;
mod pingpong;
mod serve;
mod sockets;

use datagrams::Shape;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: load connect --to ADDRESS:PORT [--parallel N] [--seconds S] [--count N]
       load pingpong --to ADDRESS:PORT [--seconds S]
       load serve --listen ADDRESS:PORT
       load datagrams --to ADDRESS:PORT [--size N] [--segments N] [--parallel N] [--seconds S]
       load echo --listen ADDRESS:PORT

connect   connects, sends 64 bytes, reads 64 bytes, closes: N at a time, for S seconds or until
          that many connections were made; prints how many a second, how many failed, and why
pingpong  sends 64 bytes on one connection and waits until they are back, again and again; prints
          how long that takes, in microseconds, and how often a second it happens
serve     sends back what comes, closes at its end; prints a line once it listens
datagrams sends datagrams of so many bytes (64), so many (1) joined to one message for the kernel to cut,
          and N messages ahead of what has come back; prints how many a second came, and how
          many were lost
echo      sends datagrams back; prints a line once it can";

/// What every message is: so short that it fits one packet, so long that it is no single byte.
const MESSAGE: [u8; 64] = [b'x'; 64];

/// How long one exchange may take before it is a failure.
const PATIENCE: Duration = Duration::from_secs(5);

/// The options of all commands.
struct Options {
    address: Option<SocketAddr>,
    parallel: usize,
    seconds: f64,
    count: Option<u64>,
    size: u16,
    segments: u16,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options =
            Self { address: None, parallel: 1, seconds: 2.0, count: None, size: 64, segments: 1 };
        while let Some(option) = words.next() {
            let value = words.next().ok_or_else(|| format!("{option}: a value is missing"))?;
            let wrong = || format!("{option}: {value} cannot be");
            match option.as_str() {
                "--to" | "--listen" => {
                    options.address = Some(value.parse().map_err(|_| wrong())?);
                }
                "--parallel" => {
                    let parallel =
                        value.parse().ok().filter(|parallel| (1..=4096).contains(parallel));
                    options.parallel = parallel.ok_or_else(wrong)?;
                }
                "--seconds" => {
                    let seconds =
                        value.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
                    options.seconds = seconds.ok_or_else(wrong)?;
                }
                "--size" => {
                    let size = value.parse().ok().filter(|size| (1..=65_507).contains(size));
                    options.size = size.ok_or_else(wrong)?;
                }
                "--segments" => {
                    let segments = value.parse().ok().filter(|count| (1..=64).contains(count));
                    options.segments = segments.ok_or_else(wrong)?;
                }
                "--count" => options.count = Some(value.parse().map_err(|_| wrong())?),
                _ => return Err(format!("{option}: no such option")),
            }
        }
        Ok(options)
    }

    fn address(&self) -> Result<SocketAddr, String> {
        self.address.ok_or_else(|| "an address is missing".to_owned())
    }

    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

fn run(command: &str, options: &Options) -> Result<(), String> {
    let address = options.address()?;
    let done = match command {
        "connect" => connect::run(address, options.parallel, options.duration(), options.count),
        "pingpong" => pingpong::run(address, options.duration()),
        "serve" => serve::run(address),
        "datagrams" => {
            let Options { size, segments, parallel: window, .. } = *options;
            datagrams::run(address, &Shape { size, segments, window }, options.duration())
        }
        "echo" => datagrams::echo(address),
        _ => return Err(format!("{command}: no such command")),
    };
    done.map_err(|error| format!("{command} {address}: {error}"))
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(command) = words.next().filter(|word| word != "--help") else {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    };
    match Options::parse(words).and_then(|options| run(&command, &options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn options_are_read() {
        let options =
            parse("--to 127.0.0.1:80 --parallel 32 --seconds 1.5 --count 7").expect("right");
        assert_eq!(options.address(), Ok("127.0.0.1:80".parse().expect("an address")));
        assert_eq!((options.parallel, options.duration().as_millis()), (32, 1500));
        assert_eq!(options.count, Some(7));
    }

    #[test]
    fn options_that_cannot_be_are_named() {
        for line in [
            "--to 80",
            "--parallel 0",
            "--parallel 5000",
            "--seconds 0",
            "--seconds nan",
            "--size 0",
            "--segments 65",
        ] {
            let error = parse(line).err().expect(line);
            assert!(error.starts_with(line.split(' ').next().expect("a word")), "{error}");
        }
        assert!(parse("--to").is_err());
        assert!(parse("--what 1").is_err());
    }
}
