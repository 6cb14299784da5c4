//! Answers to monitors: the first byte chooses a conversation, the rest is what its server says.

use core::net::{IpAddr, Ipv4Addr};
use holdfast_node::{Carrier, Conversation, Event, Expectation, Inquiry, Login, MAX_HEARD, Question, Records, Script};

use crate::Input;

/// What a question's number is drawn from, so that seeds can answer it.
const SEED: u64 = 0x1234;
/// An answer to the question for `a`.
const DNS_ANSWER: &[u8] =
    b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x01a\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\xc0\0\x02\x4d";

fn inquiries() -> Vec<Inquiry> {
    let http = |expect| Script::Http { request: b"GET /".to_vec(), headers: Vec::new(), expect };
    let login = Login { user: "a".into(), password: Some("b".into()) };
    let question =
        Question { name: "a".into(), records: Records::A, addresses: vec![Ipv4Addr::new(192, 0, 2, 77).into()] };
    let pattern = Script::Pattern { send: b"a".to_vec(), receive: b"abab".to_vec() };
    [
        (Carrier::Tcp, pattern.clone()),
        (Carrier::Udp, pattern),
        (Carrier::Tcp, http(Expectation::Codes(vec![200..=200]))),
        (Carrier::Tcp, http(Expectation::Body(b"abab".to_vec()))),
        (Carrier::Tls, Script::Ftp(Some(login))),
        (Carrier::Udp, Script::Dns(question.clone())),
        (Carrier::Tcp, Script::Dns(question)),
    ]
    .map(|(carrier, script)| Inquiry { carrier, script })
    .to_vec()
}

/// Holds a conversation, in one piece and in small ones: over a connection both find the same.
pub fn probe_answer(data: &[u8]) {
    found(data);
}

/// What the conversation in one piece comes to.
pub(crate) fn found(data: &[u8]) -> String {
    let mut input = Input(data);
    let inquiries = inquiries();
    let inquiry = &inquiries[usize::from(input.u8()) % inquiries.len()];
    let size = usize::from(input.u8()).max(1);
    let (whole, pieces) = (hold(inquiry, input.0, usize::MAX), hold(inquiry, input.0, size));
    assert!(whole == pieces || inquiry.carrier == Carrier::Udp, "{whole} / {pieces}");
    whole
}

fn hold(inquiry: &Inquiry, bytes: &[u8], size: usize) -> String {
    let place = (IpAddr::V4(Ipv4Addr::LOCALHOST), 80);
    let mut talk = Conversation::new(inquiry, false, place, SEED);
    talk.handle(Event::Connected);
    talk.handle(Event::Secured);
    for piece in bytes.chunks(size) {
        talk.handle(Event::Bytes(piece));
        while let Some(sent) = talk.poll_send() {
            assert!(sent.len() <= MAX_HEARD, "no answer makes us say much");
        }
    }
    talk.handle(Event::TimedOut);
    let verdict = talk.verdict().expect("time is up");
    assert_eq!(verdict.ok, verdict.text.starts_with("Success - "));
    verdict.text.clone()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let framed = [&(DNS_ANSWER.len() as u16).to_be_bytes(), DNS_ANSWER].concat();
    let answers: [&[u8]; 7] = [
        b"ababab",
        b"xabab",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\naba\r\n1;x\r\nb\r\n0\r\n\r\n",
        b"220-a\r\n220 b\r\n331 c\r\n230 d\r\n",
        DNS_ANSWER,
        &framed,
    ];
    (0u8..).zip(answers).map(|(kind, answer)| [&[kind, 3], answer].concat()).collect()
}
