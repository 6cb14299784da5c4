//! A story about monitors of every type, against real servers: vsftpd, dnsmasq and OpenSSL; a web server and an echo of a few
//! lines each beside them, since the web server of Python is not in its smallest package.

use crate::lab::Family;
use crate::node::{Failure, Node};
use crate::program_stories::{Program, command, run};
use crate::stories::Stage;
use crate::sys;
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::time::Duration;

/// A story.
type Story = fn(&mut Stage<'_>) -> Result<()>;

/// Name and story of each.
pub const STORIES: &[(&str, Story)] = &[("monitors_of_every_type_tell_good_servers_from_bad_ones", monitors)];

/// A verdict must be there within this time.
const LIMIT: Duration = Duration::from_secs(60);
/// Ports of services that nobody uses: a service is one address, type and port.
const FIRST_PORT: u16 = 20_000;
/// Ports of the servers.
const HTTP: &str = "8000";
const TLS: &str = "4433";
const ECHO: &str = "9000";
const NOBODY: &str = "9001";
/// A name that the servers' DNS knows, and where it points.
const NAME: [&str; 3] = ["holdfast.test", "192.0.2.77", "2001:db8::77"];
/// A page of the web server, and what it says while all is well.
const PAGE: [&str; 2] = ["page.html", "It works"];

/// A monitor: its words, its port, and what it says last.
type Case = (&'static [&'static str], &'static str, &'static str);

const FOUND: &str = "Success - Pattern found in response.";
const LACKING: &str = "Failure - Pattern not found in response.";

/// Each type at a good server, and at one that answers something else or not at all.
const CASES: &[Case] = &[
    (&["TCP"], HTTP, "Success - TCP syn+ack received."),
    (&["TCP"], NOBODY, "Failure - TCP connection refused"),
    (&["TCP", "-reverse", "YES"], NOBODY, "Success - TCP connection refused"),
    (&["TCP", "-secure", "YES"], TLS, "Success - SSL handshake completed."),
    (&["TCP-ECV", "-send", r"GET /page.html HTTP/1.0\r\n\r\n", "-recv", "200 OK"], HTTP, FOUND),
    (&["TCP-ECV", "-send", r"GET /page.html HTTP/1.0\r\n\r\n", "-recv", "teapot"], HTTP, LACKING),
    (&["TCP-ECV", "-recv", "220 "], "21", FOUND),
    (&["TCP-ECV", "-recv", "SSH-2.0"], HTTP, "Failure - TCP connection successful, but application timed out"),
    (&["UDP-ECV", "-send", r"pi\x6eg", "-recv", "pong"], ECHO, FOUND),
    (&["UDP-ECV", "-send", "ping", "-recv", "other"], ECHO, LACKING),
    (&["UDP-ECV", "-send", "silence"], ECHO, "Success - No ICMP port unreachable received."),
    (&["UDP-ECV", "-send", "silence", "-recv", "pong"], ECHO, "Failure - Probe timed out."),
    (&["UDP-ECV", "-send", "ping"], NOBODY, "Failure - ICMP port unreachable received."),
    (&["HTTP"], HTTP, "Success - HTTP response code 200 received."),
    (&["HTTP", "-httpRequest", "GET /nothing"], HTTP, "Failure - HTTP response code 404 received."),
    (
        &["HTTP", "-httpRequest", "GET /nothing", "-respCode", "400-404"],
        HTTP,
        "Success - HTTP response code 404 received.",
    ),
    (&["HTTP", "-httpRequest", "GET /nothing", "-reverse", "YES"], HTTP, "Success - HTTP response code 404 received."),
    (&["HTTP"], "21", "Failure - The response is not HTTP"),
    (&["HTTP", "-httpRequest", "GET /", "-secure", "YES"], TLS, "Success - HTTP response code 200 received."),
    (&["HTTP-ECV", "-send", "GET /page.html", "-recv", "works"], HTTP, FOUND),
    (&["HTTP-ECV", "-send", "GET /page.html", "-recv", "fails"], HTTP, LACKING),
    (&["HTTP-ECV", "-send", "GET /", "-recv", "s_server", "-secure", "YES"], TLS, FOUND),
    (&["FTP"], "21", "Success - FTP response code 220 received."),
    (&["FTP"], HTTP, "Failure - TCP connection successful, but application timed out"),
    (&["FTP", "-userName", "anonymous", "-password", "s3 \"cret"], "21", "Success - FTP response code 230 received."),
    (&["FTP", "-userName", "stranger", "-password", "s3cret"], "21", "Failure - FTP response code 530 received."),
    (&["DNS", "-query", NAME[0], "-IPAddress", "192.0.2.1", NAME[1]], "53", "Success - DNS response received."),
    (
        &["DNS", "-query", NAME[0], "-queryType", "AAAA", "-IPAddress", NAME[2]],
        "53",
        "Success - DNS response received.",
    ),
    (
        &["DNS", "-query", NAME[0], "-IPAddress", "192.0.2.1"],
        "53",
        "Failure - None of the expected addresses is in the DNS response",
    ),
    (&["DNS", "-query", "nobody.invalid"], "53", "Failure - DNS response code 5 (REFUSED) received."),
    (&["DNS", "-query", NAME[0]], NOBODY, "Failure - ICMP port unreachable received."),
    (&["DNS-TCP", "-query", NAME[0], "-IPAddress", NAME[1]], "53", "Success - DNS response received."),
    (&["DNS-TCP", "-query", NAME[0]], NOBODY, "Failure - TCP connection refused"),
];

/// Serves the files of a folder, in chunks of three bytes, to everybody at once.
const WEB_SERVER: &str = r"
import os, socket, sys, threading
def serve(stream):
    with stream:
        request = stream.recv(4096).split()
        if len(request) < 2:
            return
        path = os.path.join(sys.argv[2], os.path.basename(request[1].decode()))
        found = request[1] == b'/' or os.path.isfile(path)
        stream.sendall(b'HTTP/1.1 200 OK\r\n' if found else b'HTTP/1.1 404 Not Found\r\n')
        stream.sendall(b'Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n')
        page = open(path, 'rb').read() if os.path.isfile(path) else b''
        for part in [page[at:at + 3] for at in range(0, len(page), 3)] + [b'']:
            stream.sendall(b'%x\r\n%s\r\n' % (len(part), part))
server = socket.create_server(('::', int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
";

/// Says `pong` to whoever says `ping`, from the address that was asked.
const ECHO_SERVER: &str = "
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
server = socket.socket(family, socket.SOCK_DGRAM)
server.bind((sys.argv[1], int(sys.argv[2])))
while True:
    said, who = server.recvfrom(2048)
    if said == b'ping':
        server.sendto(b'pong', who)
";

/// Every server program, on the first server.
fn servers(stage: &Stage<'_>, folder: &Path) -> Result<Vec<Program>> {
    let host = &stage.lab.servers[0];
    let path = |name: &str| folder.join(name).display().to_string();
    let (certificate, key, site) = (path("tls.pem"), path("tls.key"), path("site"));
    let subject = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=holdfast.test"];
    run("openssl", &[&["req"], &subject[..], &["-keyout", &key, "-out", &certificate]].concat())?;
    std::fs::create_dir_all(&site)?;
    std::fs::write(Path::new(&site).join(PAGE[0]), PAGE[1])?;
    std::fs::create_dir_all("/run/vsftpd/empty").context("vsftpd's empty folder")?;
    let conf = format!(
        "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\nanon_root={site}\n\
         secure_chroot_dir=/run/vsftpd/empty\nseccomp_sandbox=NO\nxferlog_enable=NO\n"
    );
    std::fs::write(path("vsftpd.conf"), conf)?;
    let addresses = [NAME[1], NAME[2]].map(|addr| format!("--address=/{}/{addr}", NAME[0]));
    let dns = ["--no-daemon", "--port=53", "--no-resolv", "--no-hosts", "--user=root", "--conf-file=/dev/null"];
    let start = |name: &str, program: &str, arguments: &[&str]| {
        Program::start(folder, name, command(host, program, arguments)?)
    };
    let mut servers = vec![
        start("vsftpd", "vsftpd", &[&path("vsftpd.conf")])?,
        start("dnsmasq", "dnsmasq", &[&dns[..], &[&addresses[0], &addresses[1]]].concat())?,
        start("tls-server", "openssl", &["s_server", "-accept", TLS, "-cert", &certificate, "-key", &key, "-www"])?,
        start("web-server", "python3", &["-c", WEB_SERVER, HTTP, &site])?,
    ];
    for family in Family::ALL {
        let address = family.server_net(21);
        servers.push(start(&format!("echo-{family}"), "python3", &["-c", ECHO_SERVER, &address, ECHO])?);
    }
    Ok(servers)
}

fn service(number: usize, family: Family) -> String {
    format!("m{number}_{family}")
}

fn add_services(node: &Node) -> Result<()> {
    for (number, (words, port, _)) in CASES.iter().enumerate() {
        let name = format!("mon{number}");
        let times = ["-interval", "3", "-resptimeout", "2", "-retries", "1", "-downTime", "3", "-destPort", port];
        node.cli(&[&["add", "lb", "monitor", &name], *words, &times[..]].concat())?;
        for family in Family::ALL {
            let (service, host) = (service(number, family), format!("srv21_{family}"));
            let port = (FIRST_PORT + number as u16).to_string();
            node.cli(&["add", "service", &service, &host, "TCP", &port])?;
            node.cli(&["bind", "service", &service, "-monitorName", &name])?;
        }
    }
    Ok(())
}

/// State of a service, and what its monitor says.
fn told(node: &Node, service: &str) -> Result<(String, String)> {
    let text = node.cli(&["show", "service", service])?;
    let behind = |title: &str| {
        let found = text.lines().find_map(|line| line.trim().strip_prefix(title));
        found.map(str::to_owned).with_context(|| format!("no {title:?} in {text}"))
    };
    Ok((behind("State: ")?, behind("Last response: ").unwrap_or_default()))
}

fn state_of(text: &str) -> &'static str {
    if text.starts_with("Success") { "UP" } else { "DOWN" }
}

fn wait_told(node: &Node, service: &str, expected: &str) -> Result<()> {
    let mut seen = (String::new(), String::new());
    let outcome = sys::wait_until(&format!("{service}: {expected}"), LIMIT, || {
        seen = told(node, service)?;
        Ok((seen.0 == state_of(expected) && seen.1 == expected).then_some(()))
    });
    outcome.with_context(|| format!("{service} says {seen:?}"))
}

fn wait_all(node: &Node) -> Result<()> {
    for (number, (_, _, expected)) in CASES.iter().enumerate() {
        for family in Family::ALL {
            wait_told(node, &service(number, family), expected)?;
        }
    }
    Ok(())
}

/// The secondary has no probes of its own, and knows all the same.
fn ensure_mirrored(node: &Node) -> Result<()> {
    for (number, (words, _, expected)) in CASES.iter().enumerate() {
        for family in Family::ALL {
            let (state, _) = told(node, &service(number, family))?;
            ensure!(state == state_of(expected), "{words:?} {family} is {state} at the other node");
        }
    }
    Ok(())
}

fn monitors(stage: &mut Stage<'_>) -> Result<()> {
    let folder = stage.lab.directory().join("monitors");
    std::fs::create_dir_all(&folder)?;
    run("chmod", &["755", &stage.lab.directory().display().to_string(), &folder.display().to_string()])?;
    stage.lab.servers[0].ip(&["link", "set", "lo", "up"])?;
    let _servers = servers(stage, &folder)?;
    let primary = stage.pair.wait_whole()?;
    add_services(&stage.pair.nodes[primary])?;
    wait_all(&stage.pair.nodes[primary])?;
    ensure_mirrored(&stage.pair.nodes[1 - primary])?;
    println!("    {} monitors say what they should, in both families", CASES.len());

    let page = folder.join("site").join(PAGE[0]);
    let by_content = CASES.iter().position(|(words, _, _)| words.contains(&"works")).context("the page's monitor")?;
    std::fs::write(&page, "closed today")?;
    for family in Family::ALL {
        wait_told(&stage.pair.nodes[primary], &service(by_content, family), LACKING)?;
    }
    std::fs::write(&page, PAGE[1])?;
    wait_all(&stage.pair.nodes[primary])?;

    let shown = stage.pair.nodes[1 - primary].cli(&["show", "ns", "runningConfig"])?;
    ensure!(!shown.contains("s3cret") && !shown.contains("s3 "), "a password is shown: {shown}");
    let outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    stage.pair.wait_primary(1 - primary)?;
    ensure_mirrored(&stage.pair.nodes[1 - primary])?;
    wait_all(&stage.pair.nodes[1 - primary])?;
    stage.pair.heal(&stage.lab, outage)
}
