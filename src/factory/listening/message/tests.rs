use super::*;
use crate::factory::netlink::NLM_F_REQUEST;
use proptest::prelude::*;

const SEQUENCE: u32 = 7;

/// A message as the kernel lays it out.
fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(HEAD + body.len()).expect("short");
    let mut bytes = head(len, kind, 0, sequence).to_vec();
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A socket; `v6only` is told of those of IPv6.
fn open(state: u8, address: &str, interface: u32, v6only: Option<bool>) -> Vec<u8> {
    let address: SocketAddr = address.parse().expect("an address");
    let mut body = vec![0; SOCKET];
    body[1] = state;
    body[TOLD..TOLD + 2].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(v4) => {
            body[0] = 2;
            body[TOLD + 4..TOLD + 8].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            body[0] = 10;
            body[TOLD + 4..TOLD + 20].copy_from_slice(&v6.octets());
        }
    }
    body[TOLD + 36..TOLD + 40].copy_from_slice(&interface.to_ne_bytes());
    // INET_DIAG_SHUTDOWN comes first.
    body.extend([[5, 0, 8, 0], [0; 4]].concat());
    if let Some(v6only) = v6only {
        body.extend([[5, 0, 11, 0], [u8::from(v6only), 0, 0, 0]].concat());
    }
    message(SOCK_DIAG_BY_FAMILY, SEQUENCE, &body)
}

fn messages(packet: &[u8]) -> Vec<Message> {
    Messages::new(packet, SEQUENCE).collect()
}

fn told(packet: &[u8]) -> Open {
    match messages(packet)[..] {
        [Message::Open(open)] => open,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn listener_takes_what_asks_for_its_address_or_any() {
    for (address, interface, v6only, taken, not_taken) in [
        ("127.0.0.1:80", 0, None, &["127.0.0.1:80"][..], &["127.0.0.2:80", "127.0.0.1:81"][..]),
        ("0.0.0.0:80", 0, None, &["10.1.2.3:80"], &["[::1]:80", "10.1.2.3:81"]),
        ("[::]:80", 0, Some(false), &["10.1.2.3:80", "[fd00::1]:80"], &["[::1]:81"]),
        ("[::]:80", 0, Some(true), &["[::1]:80"], &["127.0.0.1:80"]),
        // A kernel that does not say so is not believed to.
        ("[::]:80", 0, None, &["[::1]:80"], &["127.0.0.1:80"]),
        ("[::1]:80", 0, Some(false), &["[::1]:80"], &["[::2]:80", "127.0.0.1:80"]),
        ("[::ffff:127.0.0.1]:80", 0, Some(false), &["127.0.0.1:80"], &["127.0.0.2:80", "[::1]:80"]),
        ("0.0.0.0:80", LOOPBACK, None, &["127.0.0.1:80"], &[]),
        ("0.0.0.0:80", 2, None, &[], &["127.0.0.1:80"]),
        ("[::]:80", 2, Some(true), &["[fe80::1%2]:80"], &["[fe80::1%3]:80", "[::1]:80"]),
    ] {
        let open = told(&open(TCP_LISTEN, address, interface, v6only));
        for (asked, is_taken) in taken
            .iter()
            .map(|asked| (asked, true))
            .chain(not_taken.iter().map(|asked| (asked, false)))
        {
            let asked: SocketAddr = asked.parse().expect("an address");
            assert_eq!(open.takes(Protocol::Tcp, &asked), is_taken, "{address}: {asked}");
            assert!(!open.takes(Protocol::Udp, &asked), "it listens, for TCP");
        }
    }
    let udp = told(&open(TCP_CLOSE, "0.0.0.0:53", 0, None));
    let asked = "127.0.0.1:53".parse().expect("an address");
    assert!(udp.takes(Protocol::Udp, &asked) && !udp.takes(Protocol::Tcp, &asked));
    // Connected.
    let udp = told(&open(1, "0.0.0.0:53", 0, None));
    assert!(!udp.takes(Protocol::Udp, &asked));
}

#[test]
fn packet_is_read_up_to_what_does_not_fit() {
    let one = open(TCP_LISTEN, "[::1]:80", 0, Some(true));
    let done = message(NLMSG_DONE, SEQUENCE, &[0; 4]);
    let refused = message(NLMSG_ERROR, SEQUENCE, &(-libc::ENOENT).to_ne_bytes());
    let other = message(SOCK_DIAG_BY_FAMILY, SEQUENCE + 1, &[1, 2]);
    let all = [&one[..], &other, &done, &refused].concat();
    let open = Message::Open(told(&one));
    let failed = Message::Failed(Errno(libc::ENOENT));
    assert_eq!(messages(&all), [open, Message::Other, Message::Done, failed]);
    for cut in 1..one.len() {
        assert_eq!(messages(&one[..cut]), [Message::Garbled], "{cut}");
    }
    let mut short = one.clone();
    short[0] -= 20;
    assert_eq!(messages(&[&short[..], &done].concat())[0], Message::Garbled);
}

#[test]
fn requests_are_as_the_kernel_lays_them_out() {
    let address = "[fe80::1%3]:443".parse().expect("an address");
    let bytes = exact(&address, 9);
    assert_eq!(bytes[..HEAD], head(72, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 9));
    assert_eq!(bytes[HEAD..HEAD + 8], [10, 6, 0, 0, 0, 4, 0, 0]);
    let body = &bytes[REQUESTED..];
    assert_eq!((&body[..4], &body[36..40]), (&[1, 187, 0, 0][..], &[3, 0, 0, 0][..]));
    assert_eq!((&body[4..6], &body[40..]), (&[0xfe, 0x80][..], &[0xff; 8][..]));
    let bytes = all(libc::AF_INET, Protocol::Udp, 9);
    assert_eq!(bytes[HEAD..HEAD + 8], [2, 17, 0, 0, 128, 0, 0, 0]);
    assert_eq!(bytes[6..8], [1, 3]);
}

proptest! {
    #[test]
    fn whatever_a_packet_holds_it_ends(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(messages(&bytes).len() <= bytes.len().div_ceil(HEAD));
    }

    #[test]
    fn changed_packet_is_read_to_its_end(
        at in 0_usize..100, value: u8, cut in 0_usize..200,
    ) {
        let one = open(TCP_LISTEN, "[::1]:80", 0, Some(true));
        let mut all = [&one[..], &message(NLMSG_DONE, SEQUENCE, &[0; 4])].concat();
        let at = at % all.len();
        all[at] = value;
        let cut = cut.min(all.len());
        prop_assert!(messages(&all[..cut]).len() <= cut.div_ceil(HEAD));
    }
}
