//! Probes over real sockets of this host.

use super::*;
use holdfast_node::{Expectation, Login, Question, Records, Script};
use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A server of these tests answers in less, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// For probes that are to find nobody.
const IMPATIENCE: Duration = Duration::from_millis(300);

/// Of a server that nobody believes: made for these tests, with a key that everybody knows.
const CERTIFICATE: &[u8] = include_bytes!("test-certificate.der");
const KEY: &[u8] = include_bytes!("test-key.der");

fn request(carrier: Carrier, script: Script, port: u16, timeout: Duration) -> ProbeRequest {
    let kind = ProbeKind::Ask(Inquiry { carrier, script });
    ProbeRequest { id: 7, kind, reverse: false, addr: LOCAL, port, timeout }
}

fn told_of(request: &ProbeRequest) -> String {
    let host = [HostAddress { device: "lo".to_owned(), addr: LOCAL, prefix: 8 }];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(probe(request, &host, 99));
    assert_eq!(outcome.ok, outcome.text.starts_with("Success - "), "{}", outcome.text);
    outcome.text
}

/// What a probe finds at a server that reads `wanted` and then says `answer`, and then ends the connection, or stays.
fn against(script: Script, wanted: &'static str, answer: &'static [u8], stays: bool) -> String {
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = vec![0; wanted.len()];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(String::from_utf8(heard).unwrap(), wanted);
        stream.write_all(answer).unwrap();
        if stays {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let limit = if stays { IMPATIENCE } else { PATIENCE };
    let text = told_of(&request(Carrier::Tcp, script, port, limit));
    server.join().unwrap();
    text
}

fn pattern(send: &str, receive: &str) -> Script {
    Script::Pattern { send: send.into(), receive: receive.into() }
}

#[test]
fn a_pattern_over_tcp() {
    let script = || pattern("PING\r\n", "PONG");
    assert_eq!(against(script(), "PING\r\n", b"+PONG\r\n", false), "Success - Pattern found in response.");
    assert_eq!(against(script(), "PING\r\n", b"-ERR\r\n", false), "Failure - Pattern not found in response.");
    assert_eq!(against(script(), "PING\r\n", b"-ERR\r\n", true), "Failure - Pattern not found in response.");
    let late = "Failure - TCP connection successful, but application timed out";
    assert_eq!(against(script(), "PING\r\n", b"", true), late);
}

#[test]
fn a_request_over_http() {
    let expect = |expect| Script::Http { request: b"GET /".to_vec(), headers: b"Host: a".to_vec(), expect };
    let sent = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nIt works";
    let code = |codes| against(expect(Expectation::Codes(codes)), sent, answer, false);
    assert_eq!(code(vec![200..=200]), "Success - HTTP response code 200 received.");
    assert_eq!(code(vec![404..=404]), "Failure - HTTP response code 200 received.");
    let body = |text: &str| against(expect(Expectation::Body(text.into())), sent, answer, false);
    assert_eq!(body("works"), "Success - Pattern found in response.");
    assert_eq!(body("fails"), "Failure - Pattern not found in response.");
}

#[test]
fn a_login_over_ftp_says_good_bye() {
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for (answer, heard) in
            [("220 hello\r\n", "USER a\r\n"), ("331 who\r\n", "PASS b\r\n"), ("230 in\r\n", "QUIT\r\n")]
        {
            stream.write_all(answer.as_bytes()).unwrap();
            let mut line = vec![0; heard.len()];
            stream.read_exact(&mut line).unwrap();
            assert_eq!(String::from_utf8(line).unwrap(), heard);
        }
    });
    let script = Script::Ftp(Some(Login { user: "a".into(), password: Some("b".into()) }));
    let text = told_of(&request(Carrier::Tcp, script, port, PATIENCE));
    assert_eq!(text, "Success - FTP response code 230 received.");
    server.join().unwrap();
}

#[test]
fn a_datagram_and_its_answer_and_a_port_without_a_server() {
    let server = std::net::UdpSocket::bind((LOCAL, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        for _ in 0..2 {
            let mut buffer = [0; 64];
            let (len, from) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"hello");
            server.send_to(b"hello yourself", from).unwrap();
        }
        server
    });
    let ask = |receive: &str, port, limit| told_of(&request(Carrier::Udp, pattern("hello", receive), port, limit));
    assert_eq!(ask("self", port, PATIENCE), "Success - Pattern found in response.");
    assert_eq!(ask("other", port, PATIENCE), "Failure - Pattern not found in response.");
    let server = answering.join().unwrap();
    assert_eq!(ask("", port, IMPATIENCE), "Success - No ICMP port unreachable received.");
    assert_eq!(ask("x", port, IMPATIENCE), "Failure - Probe timed out.");
    drop(server);
    assert_eq!(ask("", port, PATIENCE), "Failure - ICMP port unreachable received.");
}

#[test]
fn a_question_to_a_dns_server() {
    let server = std::net::UdpSocket::bind((LOCAL, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        let mut message = vec![0; 512];
        let (len, from) = server.recv_from(&mut message).unwrap();
        message.truncate(len);
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        message[7] = 1;
        message.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x4d");
        server.send_to(&message, from).unwrap();
    });
    let addresses = vec!["192.0.2.77".parse().unwrap()];
    let question = Question { name: "a.test".into(), records: Records::A, addresses };
    let text = told_of(&request(Carrier::Udp, Script::Dns(question), port, PATIENCE));
    assert_eq!(text, "Success - DNS response received.");
    answering.join().unwrap();
}

/// What a probe finds at a server that speaks TLS with a certificate of its own, and says `answer`.
fn over_tls(script: Script, answer: &'static [u8]) -> String {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(KEY).into();
    let config = builder.with_no_client_auth().with_single_cert(vec![CERTIFICATE.into()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            let mut stream = acceptor.accept(TcpStream::from_std(stream).unwrap()).await.unwrap();
            stream.write_all(answer).await.unwrap();
            let _ = stream.shutdown().await;
        });
    });
    let text = told_of(&request(Carrier::Tls, script, port, PATIENCE));
    server.join().unwrap();
    text
}

#[test]
fn a_handshake_of_tls_whatever_the_certificate() {
    assert_eq!(over_tls(Script::Handshake, b""), "Success - SSL handshake completed.");
    assert_eq!(over_tls(pattern("", "hello"), b"hello"), "Success - Pattern found in response.");
    assert_eq!(over_tls(pattern("", "hello"), b"other"), "Failure - Pattern not found in response.");
}

#[test]
fn a_server_that_does_not_speak_tls_is_told_from_one_that_is_silent() {
    let tls = |answer: &'static [u8], limit| {
        let listener = TcpListener::bind((LOCAL, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(answer);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let text = told_of(&request(Carrier::Tls, Script::Handshake, port, limit));
        server.join().unwrap();
        text
    };
    let plain = tls(b"SSH-2.0-OpenSSH_9.2\r\n", PATIENCE);
    assert!(plain.starts_with("Failure - SSL handshake failed: "), "{plain}");
    assert_eq!(tls(b"", IMPATIENCE), "Failure - Time out during SSL handshake stage");
}

#[test]
fn a_reversed_monitor_is_content_with_a_refusal_but_not_with_trouble_of_this_host() {
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind((LOCAL, 0).into()).unwrap();
    let port = silent.local_addr().unwrap().port();
    let reversed =
        |port, addr| ProbeRequest { reverse: true, addr, ..request(Carrier::Tcp, Script::Handshake, port, PATIENCE) };
    assert_eq!(told_of(&reversed(port, LOCAL)), "Success - TCP connection refused");
    let far = told_of(&reversed(port, "192.0.2.9".parse().unwrap()));
    assert_eq!(far, "Failure - No kernel address in the subnet of 192.0.2.9 to send the monitor probe from.");
    assert_eq!(told_of(&reversed(0, LOCAL)), "Failure - The service has no port to probe; use -destPort");
}
