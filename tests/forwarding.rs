//! Bytes through the whole daemon, as peers see them.

mod support;

use sha2::{Digest, Sha256};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::Barrier;
use support::{Folder, Run, connect, curl, output, stdout, until};

/// As `sha256sum` prints it.
fn hex(digest: Sha256) -> String {
    format!("{:x}", digest.finalize())
}

/// Reads to the end: how many bytes, their hash, and how it ended.
fn read_all(mut stream: &TcpStream) -> (u64, String, Option<ErrorKind>) {
    let (mut digest, mut count, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (count, hex(digest), None),
            Ok(len) => {
                digest.update(&buffer[..len]);
                count += len as u64;
            }
            Err(error) => return (count, hex(digest), Some(error.kind())),
        }
    }
}

/// Sends so many bytes, no two blocks alike: their hash.
fn send(mut stream: &TcpStream, count: u64) -> String {
    let (mut digest, mut sent) = (Sha256::new(), 0_u64);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while sent < count {
        let mut block = vec![0; 1 << 16];
        for word in block.as_chunks_mut::<8>().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.to_le_bytes();
        }
        let len = usize::try_from((count - sent).min(1 << 16)).expect("short");
        stream.write_all(&block[..len]).expect("it goes on");
        digest.update(&block[..len]);
        sent += len as u64;
    }
    hex(digest)
}

#[test]
fn server_of_either_family_answers_curl_of_localhost() {
    for host in ["0.0.0.0", "127.0.0.1", "::", "::1"] {
        let words = ["python3", "-u", "-m", "http.server", "8000", "--bind", host];
        let run = Run::command(&["8000"], &words);
        assert!(run.stdout.next().starts_with("Serving HTTP"));
        for name in ["localhost", "127.0.0.1", "[::1]"] {
            let body = curl(&format!("http://{name}:{}/", run.port()));
            assert!(body.contains("Directory listing"), "{host}, {name}: {body}");
        }
    }
}

#[test]
fn nginx_serves_a_large_file_unchanged() {
    let folder = support::Folder::new();
    let content: Vec<u8> =
        (0..5_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(folder.join("file"), &content).expect("a file");
    let root = folder.path().display();
    let config = format!(
        "user root; daemon off; error_log stderr; pid {root}/pid; events {{}} http {{ \
         access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p; \
         fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; \
         server {{ listen 8000; root {root}; }} }}"
    );
    std::fs::write(folder.join("conf"), config).expect("a file");
    let conf = folder.join("conf").display().to_string();
    let run = Run::command(&["127.0.0.1::8000"], &["nginx", "-c", &conf]);
    let url = format!("http://127.0.0.1:{}/file", run.port());
    let body = until("nginx", || {
        let got = output(Command::new("curl").args(["-sS", "--fail", &url]));
        got.status.success().then_some(got.stdout)
    });
    assert!(body == content, "{} bytes came", body.len());
}

#[test]
fn iperf3_measures_both_directions_at_once() {
    let run = Run::command(&["127.0.0.1::5201"], &["iperf3", "-s", "-1", "--forceflush"]);
    while !run.stdout.next().contains("listening") {}
    let port = run.port().to_string();
    let words = ["-c", "127.0.0.1", "-p", &port, "--bidir", "-P", "4", "-n", "64M", "--json"];
    let report = stdout(Command::new("iperf3").args(words));
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    for sum in ["sum_sent", "sum_received", "sum_sent_bidir_reverse", "sum_received_bidir_reverse"]
    {
        let bytes = report["end"][sum]["bytes"].as_u64().unwrap_or(0);
        assert!(bytes > 1_000_000, "{sum}: {bytes}");
    }
}

#[test]
fn a_quarter_gigabyte_each_way_at_once_arrives_unchanged() {
    const COUNT: u64 = 256 << 20;
    let run = Run::one_peer("both_ways");
    let stream = run.connect();
    (&stream).write_all(format!("{COUNT}\n").as_bytes()).expect("it listens");
    let ((count, received, end), sent) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_all(&stream));
        let sent = send(&stream, COUNT);
        stream.shutdown(Shutdown::Write).expect("it is open");
        (reader.join().expect("read"), sent)
    });
    assert_eq!((count, end), (COUNT, None));
    assert_eq!(run.stdout.next(), format!("sent {received} read end {COUNT} {sent}"));
}

#[test]
fn slow_reader_gets_every_byte() {
    const COUNT: u64 = 8 << 20;
    let run = Run::one_peer("both_ways");
    let mut stream = run.connect();
    stream.write_all(format!("{COUNT}\n").as_bytes()).expect("it listens");
    // Small sips while the sender fills every buffer on the way, then the rest.
    let mut digest = Sha256::new();
    let mut sip = [0; 61];
    for _ in 0..20_000 {
        stream.read_exact(&mut sip).expect("more");
        digest.update(sip);
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end");
    digest.update(&rest);
    assert_eq!(20_000 * 61 + rest.len() as u64, COUNT);
    stream.shutdown(Shutdown::Write).expect("it is open");
    let said = run.stdout.next();
    assert!(said.starts_with(&format!("sent {} read end 0 ", hex(digest))), "{said}");
}

#[test]
fn answer_arrives_after_the_client_has_ended_its_sending() {
    let run = Run::one_peer("answer_after_end");
    let stream = run.connect();
    let sent = send(&stream, 300_000);
    stream.shutdown(Shutdown::Write).expect("it is open");
    let (count, received, end) = read_all(&stream);
    assert_eq!((count, end), (1_000_000, None));
    assert_eq!(run.stdout.next(), format!("read end 300000 {sent}"));
    assert_eq!(run.stdout.next(), format!("sent {received}"));
}

#[test]
fn client_sends_on_after_the_server_has_ended_its_sending() {
    let run = Run::one_peer("end_then_read");
    let stream = run.connect();
    let (count, _, end) = read_all(&stream);
    assert_eq!((count, end), (4, None));
    let sent = send(&stream, 1_000_000);
    drop(stream);
    assert_eq!(run.stdout.next(), format!("read end 1000000 {sent}"));
}

#[test]
fn half_close_before_a_byte_was_sent_is_passed_on() {
    let run = Run::one_peer("answer_after_end");
    let stream = run.connect();
    stream.shutdown(Shutdown::Write).expect("it is open");
    let (count, _, end) = read_all(&stream);
    assert_eq!((count, end), (1_000_000, None));
    assert!(run.stdout.next().starts_with("read end 0 "));
}

#[test]
fn reset_by_the_server_is_a_reset_at_the_client() {
    let run = Run::one_peer("reset_after");
    let mut stream = run.connect();
    stream.read_exact(&mut vec![0; 50_000]).expect("half of it");
    stream.write_all(b"x").expect("it listens");
    let (_, _, end) = read_all(&stream);
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
    let counters = run.json(&["list"]);
    assert_eq!(counters["forwards"][0]["reset_by_target"], 1);
}

#[test]
fn reset_by_the_client_is_a_reset_at_the_server() {
    let run = Run::one_peer("read");
    let mut stream = run.connect();
    stream.write_all(&vec![7; 50_000]).expect("it listens");
    // Only a flow that is open can pass a reset on: the bytes have arrived when they are counted.
    until("the bytes", || {
        (run.json(&["list"])["forwards"][0]["bytes_to_target"] == 50_000).then_some(())
    });
    pesto::sys::socket::reset_on_close(std::os::fd::AsFd::as_fd(&stream)).expect("an option");
    drop(stream);
    assert!(run.stdout.next().starts_with("read ConnectionResetError 50000 "));
    let counters = run.json(&["list"]);
    assert_eq!(counters["forwards"][0]["reset_by_client"], 1);
}

#[test]
fn client_of_a_closed_target_sees_a_reset_and_never_an_end() {
    let run = Run::peer(&["127.0.0.1::9"], "echo", &[]);
    for _ in 0..20 {
        let mut stream = run.connect();
        let first = stream.read(&mut [0; 1]);
        assert_eq!(first.expect_err("no end").kind(), ErrorKind::ConnectionReset);
    }
    let counters = run.json(&["list"]);
    assert_eq!(counters["forwards"][0]["refused_by_target"], 20);
    assert_eq!(counters["forwards"][0]["connections"], 0);
}

#[test]
fn server_that_speaks_first_is_heard_first() {
    let run = Run::one_peer("speak_first");
    let mut stream = run.connect();
    let mut greeting = [0; 24];
    stream.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, b"220 ready when you are\r\n");
    stream.write_all(b"EHLO").expect("it listens");
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).expect("an echo");
    assert_eq!(&echo, b"EHLO");
}

#[test]
fn two_hundred_connections_at_once_are_all_served() {
    const COUNT: usize = 200;
    let run = Run::one_peer("echo");
    let (port, all_open) = (run.port(), Barrier::new(COUNT));
    std::thread::scope(|scope| {
        for number in 0..COUNT {
            let all_open = &all_open;
            scope.spawn(move || {
                let mut stream = connect(port);
                let sent: Vec<u8> = (0..=250).cycle().skip(number).take(20_000).collect();
                stream.write_all(&sent[..1000]).expect("it listens");
                let mut echo = vec![0; sent.len()];
                stream.read_exact(&mut echo[..1000]).expect("an echo");
                // Each has had an answer before any goes on.
                all_open.wait();
                stream.write_all(&sent[1000..]).expect("it listens");
                stream.shutdown(Shutdown::Write).expect("it is open");
                stream.read_exact(&mut echo[1000..]).expect("an echo");
                assert!(echo == sent);
                assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
            });
        }
    });
    let counters = run.json(&["list"]);
    assert_eq!(counters["forwards"][0]["accepted"], COUNT);
    assert_eq!(counters["forwards"][0]["connected"], COUNT);
}

#[test]
fn target_port_where_nobody_listens_is_never_connected_to_itself() {
    // The container's connections have four ports to choose from, the target's among them.
    let script = "echo 40000 40003 >/proc/sys/net/ipv4/ip_local_port_range && mkfifo $0 && \
                  echo up && read line <$0; exec python3 -u -m http.server --bind 127.0.0.1 40000";
    let folder = Folder::new();
    let go = folder.join("go");
    let words = ["sh", "-c", script, go.to_str().expect("UTF-8")];
    let run = Run::command(&["127.0.0.1::40000"], &words);
    assert_eq!(run.stdout.next(), "up");
    for _ in 0..200 {
        let stream = run.connect();
        let end = (&stream).read(&mut [0; 16]).expect_err("no end, no echo, but a reset");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }
    // Nothing holds the port in there.
    std::fs::write(go, "go\n").expect("it waits");
    assert!(run.stdout.next().starts_with("Serving"));
}

#[test]
fn peers_that_vanish_are_noticed_on_both_sides() {
    let run = Run::one_peer("echo");
    let _stream = support::ends::flow(&run);
    let timers = |wrapper: &[&str], filter: &str| {
        let mut ss = Command::new(wrapper[0]);
        ss.args(&wrapper[1..]).args(["-Htno", "state", "established", filter]);
        let said = support::stdout(&mut ss);
        said.lines().filter(|line| line.contains("timer:(keepalive,")).count()
    };
    assert_eq!(timers(&["ss"], &format!("( sport = :{} )", run.port())), 1);
    let inside = run.command_pid().to_string();
    let nsenter =
        ["nsenter", "--target", &inside, "--user", "--preserve-credentials", "--net", "ss"];
    assert_eq!(timers(&nsenter, "( dport = :8000 )"), 1);
}
