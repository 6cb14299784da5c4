//! Every conversation, each way that it can end; in one piece and byte by byte; and with hostile bytes.

use super::*;
use proptest::prelude::*;

const ADDR: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 21));

fn begin(carrier: Carrier, script: Script) -> Conversation {
    Conversation::new(&Inquiry { carrier, script }, false, (ADDR, 80), 0x1234)
}

fn connected(carrier: Carrier, script: Script) -> Conversation {
    let mut talk = begin(carrier, script);
    talk.handle(Event::Connected);
    talk
}

fn sent(talk: &mut Conversation) -> String {
    String::from_utf8(talk.poll_send().unwrap_or_default()).unwrap()
}

fn text(talk: &Conversation) -> &str {
    talk.verdict().map_or("", |verdict| &verdict.text)
}

/// What a conversation comes to with these bytes, in one piece and in all sizes of pieces, and then `last`.
fn after(carrier: Carrier, script: &Script, bytes: &[u8], last: Event<'_>) -> String {
    let mut texts: Vec<String> = Vec::new();
    for size in [usize::MAX, 1, 2, 3, 7] {
        let mut talk = connected(carrier, script.clone());
        for piece in bytes.chunks(size.min(bytes.len().max(1))) {
            talk.handle(Event::Bytes(piece));
        }
        talk.handle(last);
        texts.push(text(&talk).to_owned());
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "pieces make a difference: {texts:?}");
    texts.remove(0)
}

fn pattern(send: &str, receive: &str) -> Script {
    Script::Pattern { send: send.into(), receive: receive.into() }
}

fn codes(codes: &[RangeInclusive<u16>]) -> Script {
    Script::Http { request: b"HEAD /".to_vec(), headers: Vec::new(), expect: Expectation::Codes(codes.to_vec()) }
}

fn body(pattern: &str) -> Script {
    Script::Http { request: b"GET /".to_vec(), headers: Vec::new(), expect: Expectation::Body(pattern.into()) }
}

// The carrier.

#[test]
fn a_handshake_is_enough_or_its_lack_is_told() {
    let end = |event: Event<'_>| {
        let mut talk = begin(Carrier::Tcp, Script::Handshake);
        talk.handle(event);
        text(&talk).to_owned()
    };
    assert_eq!(end(Event::Connected), "Success - TCP syn+ack received.");
    assert_eq!(end(Event::Refused), "Failure - TCP connection refused");
    assert_eq!(end(Event::TimedOut), "Failure - Time out during TCP connection establishment stage");
    assert_eq!(end(Event::Failed("no route")), "Failure - TCP connection could not be made: no route");
}

#[test]
fn a_tls_handshake_comes_behind_that_of_tcp() {
    let end = |event: Event<'_>| {
        let mut talk = connected(Carrier::Tls, Script::Handshake);
        assert_eq!(talk.verdict(), None);
        talk.handle(event);
        text(&talk).to_owned()
    };
    assert_eq!(end(Event::Secured), "Success - SSL handshake completed.");
    assert_eq!(end(Event::TimedOut), "Failure - Time out during SSL handshake stage");
    assert_eq!(end(Event::Failed("alert")), "Failure - SSL handshake failed: alert");
    assert_eq!(end(Event::End), "Failure - SSL handshake failed: closed by the server");
    assert_eq!(end(Event::Bytes(b"x")), "", "nothing counts before it");
    let mut talk = connected(Carrier::Tls, pattern("a", "b"));
    assert_eq!(talk.poll_send(), None, "nothing is sent in clear");
    talk.handle(Event::Secured);
    assert_eq!(sent(&mut talk), "a");
}

#[test]
fn a_reversed_monitor_turns_every_verdict_of_the_server_around() {
    for (event, expected) in [
        (Event::Connected, "Failure - TCP syn+ack received."),
        (Event::Refused, "Success - TCP connection refused"),
        (Event::TimedOut, "Success - Time out during TCP connection establishment stage"),
    ] {
        let inquiry = Inquiry { carrier: Carrier::Tcp, script: Script::Handshake };
        let mut talk = Conversation::new(&inquiry, true, (ADDR, 80), 1);
        talk.handle(event);
        let verdict = talk.verdict().unwrap();
        assert_eq!((verdict.text.as_str(), verdict.ok), (expected, expected.starts_with("Success")));
    }
}

#[test]
fn a_verdict_stands() {
    let mut talk = begin(Carrier::Tcp, Script::Handshake);
    talk.handle(Event::Refused);
    for event in [Event::Connected, Event::Bytes(b"x"), Event::End, Event::TimedOut, Event::Secured] {
        talk.handle(event);
        assert_eq!(text(&talk), "Failure - TCP connection refused");
    }
}

// Patterns.

#[test]
fn a_pattern_is_found_wherever_it_is_cut() {
    let script = pattern("PING\r\n", "+PONG");
    assert_eq!(sent(&mut connected(Carrier::Tcp, script.clone())), "PING\r\n");
    let end = |bytes: &[u8], last| after(Carrier::Tcp, &script, bytes, last);
    assert_eq!(end(b"++P+PO+PONG\r\n", Event::TimedOut), "Success - Pattern found in response.");
    assert_eq!(end(b"-ERR\r\n", Event::TimedOut), "Failure - Pattern not found in response.");
    assert_eq!(end(b"-ERR\r\n", Event::End), "Failure - Pattern not found in response.");
    assert_eq!(end(b"", Event::TimedOut), "Failure - TCP connection successful, but application timed out");
    let closed = "Failure - TCP connection successful, but the server closed it before it answered";
    assert_eq!(end(b"", Event::End), closed);
    let lost = "Failure - TCP connection successful, but it was lost: reset";
    assert_eq!(end(b"", Event::Failed("reset")), lost);
}

#[test]
fn without_a_pattern_any_answer_will_do_and_without_a_text_nothing_is_sent() {
    let script = pattern("", "");
    assert_eq!(connected(Carrier::Tcp, script.clone()).poll_send(), None);
    assert_eq!(after(Carrier::Tcp, &script, b"\0", Event::TimedOut), "Success - Response received.");
    let late = "Failure - TCP connection successful, but application timed out";
    assert_eq!(after(Carrier::Tcp, &script, b"", Event::TimedOut), late);
}

#[test]
fn no_more_than_the_limit_is_looked_at() {
    let mut bytes = vec![b'.'; MAX_HEARD - 3];
    bytes.extend(b"end");
    assert_eq!(after(Carrier::Tcp, &pattern("", "end"), &bytes, Event::End), "Success - Pattern found in response.");
    bytes.insert(0, b'.');
    let mut talk = connected(Carrier::Tcp, pattern("", "end"));
    talk.handle(Event::Bytes(&bytes));
    assert_eq!(text(&talk), "Failure - Pattern not found in response.", "and nobody waits for more");
    assert_eq!(after(Carrier::Tcp, &Script::Ftp(None), &bytes, Event::End), "Failure - The answer is too long");
}

// Datagrams.

#[test]
fn a_datagram_has_the_pattern_or_has_it_not() {
    let end = |receive: &str, event: Event<'_>| {
        let mut talk = connected(Carrier::Udp, pattern("a", receive));
        assert_eq!(sent(&mut talk), "a");
        talk.handle(event);
        text(&talk).to_owned()
    };
    assert_eq!(end("b", Event::Bytes(b"abc")), "Success - Pattern found in response.");
    assert_eq!(end("b", Event::Bytes(b"ac")), "Failure - Pattern not found in response.");
    assert_eq!(end("b", Event::TimedOut), "Failure - Probe timed out.");
    assert_eq!(end("b", Event::Refused), "Failure - ICMP port unreachable received.");
    assert_eq!(end("b", Event::Failed("x")), "Failure - UDP datagram sent, but no response: x");
}

#[test]
fn without_a_pattern_only_an_unreachable_port_fails() {
    let end = |event: Event<'_>| {
        let mut talk = connected(Carrier::Udp, pattern("", ""));
        assert_eq!(talk.poll_send(), Some(Vec::new()), "an empty datagram asks, too");
        talk.handle(event);
        text(&talk).to_owned()
    };
    assert_eq!(end(Event::TimedOut), "Success - No ICMP port unreachable received.");
    assert_eq!(end(Event::Bytes(b"")), "Success - Response received.");
    assert_eq!(end(Event::Bytes(b"x")), "Success - Response received.");
    assert_eq!(end(Event::Refused), "Failure - ICMP port unreachable received.");
}

// HTTP.

#[test]
fn a_request_says_what_the_operator_left_out() {
    let request = |line: &str, headers: &str, addr: &str| {
        let text = http::request(line.as_bytes(), headers.as_bytes(), addr.parse().unwrap(), 8080);
        String::from_utf8(text).unwrap()
    };
    let plain = request("HEAD /", "", "192.0.2.21");
    assert_eq!(plain, "HEAD / HTTP/1.1\r\nHost: 192.0.2.21:8080\r\nConnection: close\r\n\r\n");
    let own = request("GET /x HTTP/1.0", "host: a\r\nX: y", "2001:db8::1");
    assert_eq!(own, "GET /x HTTP/1.0\r\nhost: a\r\nX: y\r\nConnection: close\r\n\r\n");
    let kept = request("GET /", "X: y\r\nConnection: keep-alive\r\n\r\n", "2001:db8::1");
    let expected = "GET / HTTP/1.1\r\nX: y\r\nConnection: keep-alive\r\nHost: [2001:db8::1]:8080\r\n\r\n";
    assert_eq!(kept, expected);
    assert_eq!(request("GET / HTTP/1.0\r\n\r\n", "X: y", "192.0.2.1"), "GET / HTTP/1.0\r\n\r\n", "a whole one");
    assert!(request("", "", "192.0.2.1").starts_with("GET / HTTP/1.1\r\n"));
}

#[test]
fn a_status_code_is_good_or_bad() {
    let script = codes(&[200..=204, 301..=301]);
    let end = |bytes: &[u8], last| after(Carrier::Tcp, &script, bytes, last);
    assert_eq!(end(b"HTTP/1.1 200 OK\r\n", Event::TimedOut), "Success - HTTP response code 200 received.");
    assert_eq!(end(b"HTTP/1.0 301\nLocation: /\n\n", Event::End), "Success - HTTP response code 301 received.");
    assert_eq!(end(b"HTTP/1.1 404 Not Found\r\n\r\n", Event::End), "Failure - HTTP response code 404 received.");
    let nonsense = "Failure - The response is not HTTP";
    for bytes in ["SSH-2.0-x\r\n", "HTTP/1.1\r\n", "HTTP/1.1 20\r\n", "HTTP/1.1 2000 x\r\n", "HTTP/1.1 2x0 x\r\n"] {
        assert_eq!(end(bytes.as_bytes(), Event::End), nonsense, "{bytes}");
    }
    assert_eq!(end(&[b"HTTP/".as_slice(), &[b' '; 2000]].concat(), Event::End), nonsense);
    let late = "Failure - TCP connection successful, but application timed out";
    assert_eq!(end(b"HTTP/1.1 200 OK", Event::TimedOut), late, "the line is not complete");
}

#[test]
fn a_pattern_is_looked_for_in_the_body_only() {
    let script = body("It works");
    let end = |bytes: &str, last| after(Carrier::Tcp, &script, bytes.as_bytes(), last);
    let (found, lacking) = ("Success - Pattern found in response.", "Failure - Pattern not found in response.");
    assert_eq!(end("HTTP/1.1 200 OK\r\nA: b\r\n\r\n<p>It works</p>", Event::TimedOut), found);
    assert_eq!(end("HTTP/1.1 404 No\n\nIt works", Event::TimedOut), found, "whatever the code");
    assert_eq!(end("HTTP/1.1 200 OK\r\nX: It works\r\n\r\nnothing", Event::End), lacking);
    assert_eq!(end("HTTP/1.1 200 OK\r\n\r\n", Event::TimedOut), lacking);
    let late = "Failure - TCP connection successful, but application timed out";
    assert_eq!(end("HTTP/1.1 200 OK\r\nX: It works\r\n", Event::TimedOut), late);
    assert_eq!(end("It works\r\n\r\nIt works", Event::End), "Failure - The response is not HTTP");
    let any = after(Carrier::Tcp, &body(""), b"HTTP/1.1 500 No\r\n", Event::End);
    assert_eq!(any, "Success - HTTP response code 500 received.");
}

#[test]
fn a_pattern_is_found_across_chunks() {
    let script = body("It works");
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\n\r\n";
    let end = |rest: &str| after(Carrier::Tcp, &script, format!("{head}{rest}").as_bytes(), Event::End);
    assert_eq!(end("5;x=9\r\nIt wo\r\n3\r\nrks\r\n0\r\n\r\n"), "Success - Pattern found in response.");
    assert_eq!(end("0A\r\n--It works\r\n"), "Success - Pattern found in response.");
    let lacking = "Failure - Pattern not found in response.";
    assert_eq!(end("2\r\nIt\r\n0\r\n\r\nIt works"), lacking, "behind the last chunk");
    assert_eq!(end("ffffffffffffffffffffffff\r\nIt work"), lacking);
    assert_eq!(end("x\r\nIt works"), lacking, "no size is none");
}

// FTP.

fn login() -> Script {
    Script::Ftp(Some(Login { user: "probe".into(), password: Some("pw".into()) }))
}

#[test]
fn a_greeting_is_enough_without_a_user() {
    let end = |bytes: &str, last| after(Carrier::Tcp, &Script::Ftp(None), bytes.as_bytes(), last);
    assert_eq!(end("220 hello\r\n", Event::TimedOut), "Success - FTP response code 220 received.");
    assert_eq!(
        end("120 wait\r\n220-a\r\n 220 b\r\n220-c\r\n220 d\r\n", Event::End),
        "Success - FTP response code 220 received."
    );
    assert_eq!(end("421 full\r\n", Event::End), "Failure - FTP response code 421 received.");
    assert_eq!(end("HTTP/1.1 400\r\n", Event::End), "Failure - The response is not FTP");
    let late = "Failure - TCP connection successful, but application timed out";
    assert_eq!(end("220-hello\r\n221 other\r\n", Event::TimedOut), late, "several lines without their last");
    let mut talk = connected(Carrier::Tcp, Script::Ftp(None));
    assert_eq!(talk.poll_send(), None, "the server speaks first");
    talk.handle(Event::Bytes(b"220 hello\r\n"));
    assert!(talk.verdict().is_some());
    assert_eq!(sent(&mut talk), "QUIT\r\n");
}

#[test]
fn a_user_logs_in_or_is_refused() {
    let mut talk = connected(Carrier::Tcp, login());
    talk.handle(Event::Bytes(b"220 hello\r\n"));
    assert_eq!(sent(&mut talk), "USER probe\r\n");
    talk.handle(Event::Bytes(b"331 who\r\n"));
    assert_eq!((sent(&mut talk).as_str(), talk.verdict()), ("PASS pw\r\n", None));
    talk.handle(Event::Bytes(b"230 in\r\n"));
    assert_eq!(text(&talk), "Success - FTP response code 230 received.");
    let end = |bytes: &str| after(Carrier::Tcp, &login(), bytes.as_bytes(), Event::End);
    assert_eq!(end("220 a\r\n331 b\r\n530 no\r\n"), "Failure - FTP response code 530 received.");
    assert_eq!(end("220 a\r\n230 no password\r\n"), "Success - FTP response code 230 received.");
    assert_eq!(end("220 a\r\n331 b\r\n202 c\r\n"), "Success - FTP response code 202 received.");
    assert_eq!(end("220 a\r\n332 account\r\n"), "Failure - FTP response code 332 received.");
    assert_eq!(end("500 a\r\n"), "Failure - FTP response code 500 received.");
    let unreadable = Script::Ftp(Some(Login { user: "probe".into(), password: None }));
    let told = "Failure - The password was encrypted on another node; set it again";
    assert_eq!(after(Carrier::Tcp, &unreadable, b"220 a\r\n331 b\r\n", Event::End), told);
}

// DNS.

fn question(name: &str, records: Records, addresses: &[&str]) -> Question {
    let addresses = addresses.iter().map(|addr| addr.parse().unwrap()).collect();
    Question { name: name.into(), records, addresses }
}

/// A response to the query: flags, and records of (type, data).
fn response(query: &[u8], flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = query.to_vec();
    message[2..4].copy_from_slice(&flags.to_be_bytes());
    message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
    for (kind, data) in records {
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(*data);
    }
    message
}

fn asked(question: Question) -> (Conversation, Vec<u8>) {
    let mut talk = connected(Carrier::Udp, Script::Dns(question));
    let query = talk.poll_send().unwrap();
    (talk, query)
}

fn answered(question: Question, flags: u16, records: &[(u16, &[u8])]) -> String {
    let (mut talk, query) = asked(question);
    talk.handle(Event::Bytes(&response(&query, flags, records)));
    text(&talk).to_owned()
}

const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];

#[test]
fn a_query_is_as_the_standard_has_it() {
    let (_, query) = asked(question("www.example.com.", Records::Aaaa, &[]));
    assert_eq!(query, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x1c\0\x01");
    let (_, root) = asked(question(".", Records::Soa, &[]));
    assert_eq!(root[12..], *b"\0\0\x06\0\x01");
    let (_, long) = asked(question(&format!("{}.{}", "a".repeat(300), "b.".repeat(300)), Records::A, &[]));
    assert!(long.len() <= 12 + 255 + 4, "{}", long.len());
}

#[test]
fn an_answer_has_the_record_and_one_of_the_addresses() {
    let a = |addresses: &[&str]| question("a.test", Records::A, addresses);
    let good = "Success - DNS response received.";
    let cname: (u16, &[u8]) = (5, b"\xc0\x0c");
    let host: (u16, &[u8]) = (1, &[192, 0, 2, 77]);
    assert_eq!(answered(a(&[]), 0x8180, &[cname, host]), good);
    assert_eq!(answered(a(&["192.0.2.76", "192.0.2.77"]), 0x8180, &[cname, host]), good);
    let strange = "Failure - None of the expected addresses is in the DNS response";
    assert_eq!(answered(a(&["192.0.2.76"]), 0x8180, &[cname, host]), strange);
    assert_eq!(answered(a(&[]), 0x8180, &[cname]), "Failure - The DNS response has no A record");
    let six = question("a.test", Records::Aaaa, &["2001:db8::77"]);
    assert_eq!(answered(six.clone(), 0x8180, &[(28, &V6)]), good);
    assert_eq!(answered(six, 0x8180, &[host]), "Failure - The DNS response has no AAAA record");
    assert_eq!(answered(question("test", Records::Soa, &[]), 0x8180, &[(6, b"\0\0")]), good);
    assert_eq!(answered(a(&[]), 0x8183, &[]), "Failure - DNS response code 3 (NXDOMAIN) received.");
    assert_eq!(answered(a(&[]), 0x818f, &[]), "Failure - DNS response code 15 received.");
}

#[test]
fn what_is_no_answer_to_this_question_is_waited_past() {
    let (mut talk, query) = asked(question("a.test", Records::A, &[]));
    let good = response(&query, 0x8180, &[(1, &[192, 0, 2, 77])]);
    let mut other_id = good.clone();
    other_id[0] ^= 1;
    let mut other_name = good.clone();
    other_name[13] = b'b';
    for bytes in [&query, &other_id, &other_name, &good[..3].to_vec(), &Vec::new(), &response(&query, 0xa980, &[])] {
        talk.handle(Event::Bytes(bytes));
        assert_eq!(talk.verdict(), None, "{bytes:?}");
    }
    let mut shouted = good.clone();
    shouted[13..14].make_ascii_uppercase();
    talk.handle(Event::Bytes(&shouted));
    assert_eq!(text(&talk), "Success - DNS response received.");
    let (mut talk, _) = asked(question("a.test", Records::A, &[]));
    talk.handle(Event::TimedOut);
    assert_eq!(text(&talk), "Failure - Probe timed out.");
    let (mut talk, query) = asked(question("a.test", Records::A, &[]));
    talk.handle(Event::Bytes(&[&query[..2], &[0x81, 0x81], &[0; 8]].concat()));
    assert_eq!(text(&talk), "Failure - DNS response code 1 (FORMERR) received.", "without the question");
}

#[test]
fn a_response_that_is_cut_or_lies_about_its_length_is_malformed() {
    let (_, query) = asked(question("a.test", Records::A, &["192.0.2.78"]));
    let whole = response(&query, 0x8180, &[(5, b"\xc0\x0c"), (1, &[192, 0, 2, 77])]);
    for length in query.len()..whole.len() {
        let (mut talk, _) = asked(question("a.test", Records::A, &["192.0.2.78"]));
        talk.handle(Event::Bytes(&whole[..length]));
        assert_eq!(text(&talk), "Failure - The DNS response is malformed", "{length}");
    }
}

#[test]
fn over_tcp_a_message_has_its_length_in_front() {
    let script = Script::Dns(question("a.test", Records::A, &["192.0.2.77"]));
    let framed = connected(Carrier::Tcp, script.clone()).poll_send().unwrap();
    let query = &framed[2..];
    assert_eq!(framed[..2], (query.len() as u16).to_be_bytes());
    let message = response(query, 0x8180, &[(1, &[192, 0, 2, 77])]);
    let bytes = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    assert_eq!(after(Carrier::Tcp, &script, &bytes, Event::End), "Success - DNS response received.");
    let late = "Failure - TCP connection successful, but application timed out";
    assert_eq!(after(Carrier::Tcp, &script, &bytes[..bytes.len() - 1], Event::TimedOut), late);
    let malformed = "Failure - The DNS response is malformed";
    assert_eq!(after(Carrier::Tcp, &script, &[0, 2, 1, 2], Event::End), malformed);
    let long = [&[0xff, 0xff], &vec![0; MAX_HEARD][..]].concat();
    let mut talk = connected(Carrier::Tcp, script);
    talk.handle(Event::Bytes(&long));
    assert_eq!(text(&talk), "Failure - The answer is too long");
}

// Hostile bytes.

fn scripts() -> impl Strategy<Value = Script> {
    prop_oneof![
        Just(Script::Handshake),
        ("[ab]{0,3}", "[ab]{0,4}").prop_map(|(send, receive)| pattern(&send, &receive)),
        Just(codes(&[200..=299])),
        "[ab]{0,4}".prop_map(|pattern| body(&pattern)),
        Just(Script::Ftp(None)),
        Just(login()),
        Just(Script::Dns(question("a.test", Records::A, &[]))),
        Just(Script::Dns(question("a.test", Records::Aaaa, &["2001:db8::77"]))),
    ]
}

/// Rubbish, and pieces of what the readers know.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"5\r\n",
        b"220-",
        b"220 x\r\n",
        b"331 x\r\n",
        b"\x12\x34\x81\x80\0\x01\0\x02\0\0\0\0\x01a\x04test\0\0\x01\0\x01",
        b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04",
        b"\0\x20",
    ];
    prop_oneof![
        prop::sample::select(known).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..9000usize).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

fn carriers() -> impl Strategy<Value = Carrier> {
    prop::sample::select(vec![Carrier::Tcp, Carrier::Tls, Carrier::Udp])
}

proptest! {
    #[test]
    fn whatever_a_server_says_there_is_a_verdict(
        carrier in carriers(),
        script in scripts(),
        reverse: bool,
        pieces in prop::collection::vec(piece(), 0..12),
    ) {
        let mut talk = Conversation::new(&Inquiry { carrier, script }, reverse, (ADDR, 80), 0x1234);
        talk.handle(Event::Connected);
        talk.handle(Event::Secured);
        for bytes in &pieces {
            talk.handle(Event::Bytes(bytes));
            prop_assert!(talk.heard <= MAX_HEARD);
            while let Some(out) = talk.poll_send() {
                prop_assert!(out.len() <= MAX_HEARD);
            }
        }
        talk.handle(Event::TimedOut);
        let verdict = talk.verdict().expect("time is up");
        prop_assert_eq!(verdict.ok, verdict.text.starts_with("Success - "));
        prop_assert!(verdict.ok || verdict.text.starts_with("Failure - "));
    }

    #[test]
    fn over_a_connection_the_pieces_make_no_difference(
        script in scripts(),
        pieces in prop::collection::vec(piece(), 0..8),
        size in 1..50usize,
    ) {
        let bytes: Vec<u8> = pieces.concat();
        let end = |size: usize| {
            let mut talk = connected(Carrier::Tcp, script.clone());
            bytes.chunks(size).for_each(|piece| talk.handle(Event::Bytes(piece)));
            talk.handle(Event::End);
            talk.verdict().cloned()
        };
        prop_assert_eq!(end(size), end(usize::MAX));
    }

    #[test]
    fn a_search_finds_what_is_there(pattern in "[ab]{1,5}", text in "[ab]{0,40}", size in 1..6usize) {
        let mut search = Search::new(pattern.clone().into_bytes());
        let found = text.as_bytes().chunks(size).any(|piece| search.push(piece));
        prop_assert_eq!(found, text.contains(&pattern));
    }
}
