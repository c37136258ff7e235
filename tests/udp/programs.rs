//! Programs that nobody wrote for this: a name server and its client, iperf3, HTTP/3 over QUIC.

use crate::support::network::alone;
use crate::support::{Folder, Run, output, stdout, until};
use sha2::{Digest, Sha256};
use std::fs;
use std::process::Command;

fn run(specs: &[&str], command: &str) -> Run {
    let run = Run::command(specs, &["sh", "-ec", command]);
    println!("{:?}", run.ports);
    run
}

#[test]
fn name_server_answers_dig() {
    // Longer than an Ethernet frame, in strings of at most 255 bytes.
    let long: Vec<String> = (0..14).map(|number| format!("{number:->200}")).collect();
    let records = format!(
        "--address=/host.example/192.0.2.7 --address=/host.example/2001:db8::7 \
         --txt-record=long.example,{} --edns-packet-max=4096",
        long.join(",")
    );
    let words = "--no-daemon --conf-file=/dev/null --no-resolv --no-hosts --pid-file \
                 --user=root --group= --bind-interfaces --listen-address=127.0.0.1,::1 --port=8053";
    let run = run(&[":8053/udp"], &format!("exec dnsmasq {words} {records}"));
    let dig = |server: &str, what: &[&str]| {
        let port = run.port().to_string();
        let at = [server, "-p", &port, "+short", "+tries=1", "+time=1", "+bufsize=4096", "+ignore"];
        let done = output(Command::new("dig").args(at).args(what));
        done.status.success().then(|| String::from_utf8(done.stdout).expect("text"))
    };
    for server in ["@127.0.0.1", "@::1"] {
        let ask = |what: &[&str]| until("an answer", || dig(server, what));
        assert_eq!(ask(&["host.example", "A"]), "192.0.2.7\n");
        assert_eq!(ask(&["host.example", "AAAA"]), "2001:db8::7\n");
        let strings: Vec<_> = long.iter().map(|each| format!("\"{each}\"")).collect();
        assert_eq!(ask(&["long.example", "TXT"]).trim(), strings.join(" "));
    }
}

/// Its control connection is TCP, to the same port.
#[test]
fn iperf3_counts_its_datagrams_both_ways() {
    alone("programs::iperf3_counts_its_datagrams_both_ways", || {
        let run = run(&["127.0.0.1:5201:5201/tcp,udp"], "exec iperf3 --server --bind 127.0.0.1");
        for direction in [&[][..], &["--reverse"]] {
            // It may not listen yet; then it says so in JSON, too.
            let sum = until("a run", || {
                let mut client = Command::new("iperf3");
                client.args(["--client", "127.0.0.1", "--udp", "--bitrate", "20M", "--time", "1"]);
                let done = output(client.args(["--json", "--length", "1400"]).args(direction));
                let result: serde_json::Value = serde_json::from_slice(&done.stdout).ok()?;
                println!("{}", result["error"]);
                Some(result["end"]["sum"].clone()).filter(|sum| sum["packets"].is_u64())
            });
            assert!(sum["packets"].as_u64().expect("a number") > 100, "{sum}");
            // How many get lost the machine decides.
            assert!(sum["lost_percent"].as_f64().expect("a number") < 50.0, "{sum}");
        }
        drop(run);
    });
}

#[test]
fn files_come_whole_over_quic() {
    let folder = Folder::new();
    let path = |name: &str| folder.join(name).display().to_string();
    fs::create_dir(folder.join("files")).expect("a folder");
    fs::create_dir(folder.join("got")).expect("a folder");
    let bytes: Vec<u8> = (0..16_u32 << 20).map(|at| (at ^ (at >> 9)).to_le_bytes()[0]).collect();
    fs::write(folder.join("files/file"), &bytes).expect("a file");
    stdout(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj"])
            .args(["/CN=localhost", "-keyout", &path("key"), "-out", &path("certificate")]),
    );
    let server = format!(
        "exec gtlsserver --quiet --htdocs {} 127.0.0.1 8443 {} {}",
        path("files"),
        path("key"),
        path("certificate")
    );
    let run = run(&["127.0.0.1::8443/udp"], &server);
    let port = run.port().to_string();
    let url = format!("https://localhost:{port}/file");
    let got = folder.join("got/file");
    until("the file", || {
        let mut client = Command::new("gtlsclient");
        client.args(["--quiet", "--exit-on-all-streams-close", "--timeout=5s"]);
        client.args(["--download", &path("got"), "127.0.0.1", &port, &url]);
        let done = output(&mut client);
        let whole = fs::metadata(&got).is_ok_and(|file| file.len() == bytes.len() as u64);
        (done.status.success() && whole).then_some(())
    });
    let got = fs::read(got).expect("a file");
    assert_eq!(Sha256::digest(&got), Sha256::digest(&bytes));
}
