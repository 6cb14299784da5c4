//! FTP: what is said of data connections, where they go, and what a successor knows of it.

use super::*;
use crate::{FlowRecord, Half};

/// What the client, and the server, says first.
const CLIENT_ISN: u32 = 100;
const SERVER_ISN: u32 = 500;

fn ftp_net(net: Net) -> Net {
    let port = |end: Endpoint| Endpoint { port: 21, ..end };
    Net { vip: port(net.vip), servers: net.servers.map(port), ..net }
}

fn ftp_plan(net: &Net, usip: bool) -> Plan {
    let mut plan = if usip { usip_plan(net) } else { plan(net) };
    (plan.vservers[0].ftp, plan.vservers[0].kind) = (true, VserverKind::Tcp);
    plan.services.iter_mut().for_each(|service| service.kind = VserverKind::Tcp);
    plan
}

/// A control connection, and how far each end has come, as it counts itself.
struct Dialogue {
    lab: Lab,
    server: Endpoint,
    source: Endpoint,
    /// What the client has sent, and has heard of the server; and the other way round.
    client: (u32, u32),
    host: (u32, u32),
}

impl Dialogue {
    fn new(net: Net, usip: bool) -> Dialogue {
        let net = ftp_net(net);
        Dialogue::with(Lab::new(net, ftp_plan(&net, usip)))
    }

    fn with(mut lab: Lab) -> Dialogue {
        let (server, source) = lab.establish();
        let (client, host) = ((CLIENT_ISN + 1, SERVER_ISN + 1), (SERVER_ISN + 1, CLIENT_ISN + 1));
        Dialogue { lab, server, source, client, host }
    }

    /// The server says this; answers what the client hears, if anything, and acknowledges it.
    fn server_says(&mut self, text: &str) -> Option<String> {
        let (seq, ack) = self.host;
        self.lab.server(self.server, self.source, (ACK, seq, ack), text.as_bytes());
        self.host.0 += text.len() as u32;
        self.client_hears()
    }

    fn client_hears(&mut self) -> Option<String> {
        let heard = self.lab.sent.pop_front()?;
        let (tcp, text) = (heard.tcp(), text_of(&heard));
        assert_eq!((tcp.seq, tcp.ack), (self.client.1, self.client.0), "the client's own numbers");
        self.client.1 += text.len() as u32;
        self.lab.client(ACK, self.client.0, self.client.1, b"");
        let ack = self.lab.next().tcp();
        assert_eq!((ack.seq, ack.ack), (self.host.1, self.host.0), "the server's own numbers");
        Some(text)
    }

    /// The client says this; answers what the server hears, if anything, and acknowledges it.
    fn client_says(&mut self, text: &str) -> Option<String> {
        let (seq, ack) = self.client;
        self.lab.client(ACK, seq, ack, text.as_bytes());
        self.client.0 += text.len() as u32;
        self.server_hears()
    }

    fn server_hears(&mut self) -> Option<String> {
        let heard = self.lab.sent.pop_front()?;
        let (tcp, text) = (heard.tcp(), text_of(&heard));
        assert_eq!((tcp.seq, tcp.ack), (self.host.1, self.host.0), "the server's own numbers");
        self.host.1 += text.len() as u32;
        self.lab.server(self.server, self.source, (ACK, self.host.0, self.host.1), b"");
        let ack = self.lab.next().tcp();
        assert_eq!((ack.seq, ack.ack), (self.client.1, self.client.0), "the client's own numbers");
        Some(text)
    }

    /// The server repeats what it has said last, by `text`; answers what the client hears.
    fn server_repeats(&mut self, text: &str) -> Option<String> {
        self.host.0 -= text.len() as u32;
        self.server_says(text)
    }

    /// A segment from one end to another; answers the packet that leaves.
    fn syn(&mut self, port: PortId, src: Endpoint, dst: Endpoint) -> Option<IpPacket> {
        let mac = if port == CLIENT_PORT { CLIENT_MAC } else { SERVER_MACS[0] };
        self.lab.segment(port, mac, src, dst, (SYN, 9, 0), b"");
        self.lab.sent.pop_front().map(|sent| sent.packet())
    }

    /// The other node, with all that was told to it, as primary.
    fn successor(mut self) -> Dialogue {
        let mut heir = self.lab.standby(self.lab.plan());
        heir.engine.set_half(Half::Upper);
        for (record, tail) in told(&mut self.lab) {
            heir.engine.apply_record(heir.now, &record, 1);
            heir.engine.set_tail(&record.client_key(), &tail);
        }
        heir.engine.set_gate(heir.now, Gate::Open);
        heir.engine.promote(heir.now);
        heir.settle();
        heir.sent.clear();
        Dialogue { lab: heir, ..self }
    }
}

fn text_of(sent: &Sent) -> String {
    let packet = sent.packet();
    let start = usize::from(packet.l4) + usize::from(sent.tcp().header_len);
    String::from_utf8(sent.bytes[start..packet.end()].to_vec()).expect("text")
}

/// Every record with its tail, acknowledged.
fn told(lab: &mut Lab) -> Vec<(FlowRecord, Vec<u8>)> {
    let mut told = Vec::new();
    for mark in std::mem::take(&mut lab.marks) {
        if let Mark::Flow(flow) = mark
            && let Some(record) = lab.engine.record(flow)
        {
            told.push((record, lab.engine.tail(flow).to_vec()));
            lab.engine.handle_ack(lab.now, flow, record.stamp);
        }
    }
    lab.settle();
    told
}

fn at(addr: Addr, port: u16) -> Endpoint {
    Endpoint { addr, port }
}

/// `a,b,c,d,high,low`.
fn numbers(end: Endpoint) -> String {
    let [a, b, c, d] = end.addr.v4_bytes();
    format!("{a},{b},{c},{d},{},{}", end.port >> 8, end.port & 0xff)
}

#[test]
fn a_passive_data_connection_goes_to_the_server_that_announced_it() {
    for usip in [false, true] {
        let mut talk = Dialogue::new(v4(), usip);
        let net = talk.lab.net;
        assert_eq!(talk.client_says("PASV\r\n").as_deref(), Some("PASV\r\n"));
        let own = at(talk.server.addr, 5001);
        let heard = talk.server_says(&format!("227 Entering Passive Mode ({}).\r\n", numbers(own)));
        let vip = at(net.vip.addr, 5001);
        assert_eq!(heard, Some(format!("227 Entering Passive Mode ({}).\r\n", numbers(vip))));
        // Both ends go on in their own numbers.
        assert_eq!(talk.client_says("RETR file\r\n").as_deref(), Some("RETR file\r\n"));
        assert_eq!(talk.server_says("150 Here it comes\r\n").as_deref(), Some("150 Here it comes\r\n"));
        let syn = talk.syn(CLIENT_PORT, at(net.client.addr, 40_001), vip).expect("it passes");
        assert_eq!(syn.destination(), own);
        assert_eq!(syn.src, if usip { net.client.addr } else { net.snip });
        let (host, source) = (syn.destination(), syn.source());
        talk.lab.server(host, source, (SYN_ACK, 7, 10), b"");
        assert_eq!(talk.lab.next().packet().source(), vip);
        assert_eq!(talk.lab.engine.vserver_counters(VSERVER).flows, 2);
        assert_eq!(talk.lab.engine.counters().ftp_unannounced, 0);
    }
}

#[test]
fn an_extended_passive_data_connection_keeps_its_number_or_gets_another() {
    for net in [v4(), v6()] {
        let mut talk = Dialogue::new(net, false);
        let vip = talk.lab.net.vip.addr;
        assert_eq!(talk.server_says("229 Go on (|||6446|)\r\n").as_deref(), Some("229 Go on (|||6446|)\r\n"));
        assert_eq!(
            talk.syn(CLIENT_PORT, at(net.client.addr, 1), at(vip, 6446)).expect("it passes").destination().port,
            6446
        );
        // The control connection's own port is a vserver's.
        let heard = talk.server_says("229 Go on (|||21|)\r\n").expect("it passes");
        let port: u16 = heard.split('|').nth(3).expect("a port").parse().expect("a number");
        assert_ne!(port, 21);
        let syn = talk.syn(CLIENT_PORT, at(net.client.addr, 2), at(vip, port)).expect("it passes");
        assert_eq!(syn.destination(), at(talk.server.addr, 21));
    }
}

#[test]
fn nobody_else_gets_to_an_announced_port() {
    let mut talk = Dialogue::new(v4(), false);
    let vip = talk.lab.net.vip.addr;
    let own = at(talk.server.addr, 5001);
    talk.server_says(&format!("227 ({})\r\n", numbers(own)));
    talk.lab.add_host(addr("192.0.2.66"), CLIENT_PORT, CLIENT_MAC);
    assert_eq!(talk.syn(CLIENT_PORT, end("192.0.2.66", 1024), at(vip, 5001)), None);
    assert_eq!(talk.syn(CLIENT_PORT, at(talk.lab.net.client.addr, 1024), at(vip, 5002)), None);
    assert_eq!(talk.lab.drops(Drop::NoVserver), 2);
}

#[test]
fn an_active_data_connection_comes_from_the_virtual_server() {
    for (net, usip, extended) in
        [(v4(), false, false), (v4(), true, false), (v4(), false, true), (v6(), false, true), (v6(), true, true)]
    {
        let mut talk = Dialogue::new(net, usip);
        let listens = at(net.client.addr, 3000);
        let word = |end: Endpoint| match extended {
            true => format!("EPRT |{}|{}|{}|\r\n", if end.addr.is_v4() { 1 } else { 2 }, end.addr, end.port),
            false => format!("PORT {}\r\n", numbers(end)),
        };
        let heard = talk.client_says(&word(listens)).expect("it passes");
        let announced = if usip { listens } else { announced_in(&heard) };
        assert_eq!(announced.addr, if usip { net.client.addr } else { net.snip });
        assert_eq!(heard, word(announced));
        assert_eq!(talk.server_says("200 PORT\r\n").as_deref(), Some("200 PORT\r\n"));
        // Whatever port of its own the server takes.
        let syn = talk.syn(SERVER_PORT, at(talk.server.addr, 20), announced).expect("it passes");
        assert_eq!((syn.source(), syn.destination()), (at(net.vip.addr, 20), listens));
        talk.lab.segment(CLIENT_PORT, CLIENT_MAC, listens, at(net.vip.addr, 20), (SYN_ACK, 4, 10), b"");
        let answer = talk.lab.next().packet();
        assert_eq!((answer.source(), answer.destination()), (announced, at(talk.server.addr, 20)));
        let before = talk.lab.engine.vserver_counters(VSERVER).traffic.server_bytes;
        talk.lab.server(at(talk.server.addr, 20), announced, (ACK, 10, 5), b"a file");
        assert!(talk.lab.engine.vserver_counters(VSERVER).traffic.server_bytes > before, "the server has sent it");
    }
}

fn announced_in(line: &str) -> Endpoint {
    use crate::alg::ftp::{Found, read};
    use crate::flow::Side;
    match read(Side::Client, line.as_bytes()) {
        Found::Whole(mention) => mention.listens,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn nobody_is_sent_to_a_third_host() {
    let mut talk = Dialogue::new(v4(), false);
    for line in ["PORT 203,0,113,9,4,1\r\n", "PORT 192,0,2,10,0,25\r\n"] {
        assert_eq!(talk.client_says(line).as_deref(), Some(line));
    }
    assert_eq!(talk.lab.engine.counters().ftp_unannounced, 2);
    assert_eq!(talk.lab.engine.counts().leases, 1, "that of the control connection");
}

#[test]
fn what_is_sent_again_says_the_same_at_the_same_numbers() {
    let mut talk = Dialogue::new(v4(), false);
    let line = format!("227 Entering Passive Mode ({}).\r\n", numbers(at(talk.server.addr, 5001)));
    let (seq, ack) = talk.host;
    let mut once = Vec::new();
    for _ in 0..2 {
        talk.lab.server(talk.server, talk.source, (ACK, seq, ack), line.as_bytes());
        once.push(talk.lab.next());
    }
    assert_eq!(once[0].bytes, once[1].bytes);
    // In pieces, wherever they are cut: together they are the same text.
    let whole = text_of(&once[0]);
    for cut in 1..line.len() {
        let mut text = vec![b'?'; whole.len()];
        for (from, to) in [(0, cut), (cut, line.len())] {
            let piece = (ACK, seq + from as u32, ack);
            talk.lab.server(talk.server, talk.source, piece, &line.as_bytes()[from..to]);
            let sent = talk.lab.next();
            let place = (sent.tcp().seq - talk.client.1) as usize;
            let said = text_of(&sent);
            text[place..place + said.len()].copy_from_slice(said.as_bytes());
        }
        assert_eq!(String::from_utf8(text).expect("text"), whole, "cut at {cut}");
    }
}

#[test]
fn a_line_in_pieces_waits_for_the_end_of_its_address() {
    let mut talk = Dialogue::new(v4(), false);
    let line = format!("227 Entering Passive Mode ({}).\r\n", numbers(at(talk.server.addr, 5001)));
    let at_number = line.find("198").expect("the address");
    let (seq, ack) = talk.host;
    talk.lab.server(talk.server, talk.source, (ACK, seq, ack), &line.as_bytes()[..at_number + 6]);
    let first = talk.lab.next();
    assert_eq!(text_of(&first), line[..at_number], "the address stays back");
    // Its sender has heard of no more, and sends the rest again.
    let rest = (ACK, seq + at_number as u32, ack);
    talk.lab.server(talk.server, talk.source, rest, &line.as_bytes()[at_number..]);
    let second = text_of(&talk.lab.next());
    assert_eq!(second, format!("{}).\r\n", numbers(at(talk.lab.net.vip.addr, 5001))));
}

#[test]
fn a_beginning_that_never_ends_passes_after_a_while() {
    let mut talk = Dialogue::new(v4(), false);
    let (seq, ack) = talk.host;
    let mut heard = Vec::new();
    for _ in 0..4 {
        talk.lab.server(talk.server, talk.source, (ACK, seq, ack), b"227 1,2");
        heard.push(text_of(&talk.lab.next()));
    }
    assert_eq!(heard, ["227 ", "227 ", "227 ", "227 1,2"]);
}

#[test]
fn what_comes_before_its_turn_is_sent_again() {
    let mut talk = Dialogue::new(v4(), false);
    talk.server_says("220 Hello\r\n");
    let (seq, ack) = talk.host;
    let line = format!("227 ({})\r\n", numbers(at(talk.server.addr, 5001)));
    let later = (ACK, seq + line.len() as u32, ack);
    assert_eq!(talk.lab.server(talk.server, talk.source, later, b"150 x\r\n"), Verdict::Drop(Drop::OutOfTurn));
    assert!(talk.server_says(&line).is_some());
    assert_eq!(talk.server_says("150 x\r\n").as_deref(), Some("150 x\r\n"));
}

#[test]
fn selective_acknowledgements_name_the_senders_own_bytes() {
    let mut talk = Dialogue::new(v4(), false);
    let line = format!("227 ({})\r\n", numbers(at(talk.server.addr, 5001)));
    let heard = talk.server_says(&line).expect("it passes");
    let shrunk = (line.len() - heard.len()) as u32;
    assert!(shrunk > 0, "the lab's VIP is shorter than its servers");
    let (seq, ack) = talk.client;
    let link = Link::new(OWN_MACS[0], CLIENT_MAC);
    // Twelve bytes of options: two of nothing, a block.
    let mut bytes = tcp_bytes(link, talk.lab.net.client, talk.lab.net.vip, (ACK, seq, ack), &[0; 12]);
    bytes[14 + 20 + 12] = 8 << 4;
    let options = 14 + 20 + 20;
    bytes[options..options + 4].copy_from_slice(&[1, 1, 5, 10]);
    bytes[options + 4..options + 8].copy_from_slice(&(ack + 10).to_be_bytes());
    bytes[options + 8..options + 12].copy_from_slice(&(ack + 20).to_be_bytes());
    talk.lab.give(CLIENT_PORT, bytes);
    let sent = talk.lab.next();
    let edge =
        |at: usize| u32::from_be_bytes(sent.bytes[options + at..options + at + 4].try_into().expect("four bytes"));
    assert_eq!(sent.tcp().ack, talk.host.0);
    assert_eq!((edge(4), edge(8)), (talk.host.0 + 10, talk.host.0 + 20));
}

#[test]
fn an_announcement_waits_for_the_peer_and_the_successor_knows_it() {
    for usip in [false, true] {
        let net = ftp_net(v4());
        let mut lab = Lab::new(net, ftp_plan(&net, usip));
        lab.mirror(1, true);
        lab.client(SYN, CLIENT_ISN, 0, b"");
        let syn = lab.next().packet();
        let (server, source) = (syn.destination(), syn.source());
        lab.server(server, source, (SYN_ACK, SERVER_ISN, CLIENT_ISN + 1), b"");
        lab.nothing();
        let mut before = told(&mut lab);
        assert_eq!(lab.next().tcp().flags, SYN_ACK);
        lab.client(ACK, CLIENT_ISN + 1, SERVER_ISN + 1, b"");
        lab.sent.clear();
        let (client, host) = ((CLIENT_ISN + 1, SERVER_ISN + 1), (SERVER_ISN + 1, CLIENT_ISN + 1));
        let mut talk = Dialogue { lab, server, source, client, host };

        let own = at(server.addr, 5001);
        let line = format!("227 ({})\r\n", numbers(own));
        assert_eq!(talk.server_says(&line), None, "it waits for the peer");
        // Its sender repeats it: that waits, too.
        assert_eq!(talk.server_repeats(&line), None);
        let tails = told(&mut talk.lab);
        assert!(tails.iter().any(|(_, tail)| !tail.is_empty()), "{tails:?}");
        let vip = at(net.vip.addr, 5001);
        let said = format!("227 ({})\r\n", numbers(vip));
        let first = talk.lab.next();
        assert_eq!(text_of(&first), said);
        talk.lab.sent.clear();

        // The primary dies; the answer was lost on its way, or was not.
        before.extend(tails);
        let mut heir = talk.lab.standby(talk.lab.plan());
        heir.engine.set_half(Half::Upper);
        for (record, tail) in before {
            heir.engine.apply_record(heir.now, &record, 1);
            heir.engine.set_tail(&record.client_key(), &tail);
        }
        heir.engine.set_gate(heir.now, Gate::Open);
        heir.engine.promote(heir.now);
        heir.settle();
        heir.sent.clear();
        let mut talk = Dialogue { lab: heir, ..talk };
        assert_eq!(talk.server_repeats(&line), Some(said), "again, the same at the same numbers");
        let syn = talk.syn(CLIENT_PORT, at(net.client.addr, 40_001), vip).expect("it passes");
        assert_eq!(syn.destination(), own);
        assert_eq!(talk.lab.engine.vserver_counters(VSERVER).flows, 2);
        // And back in their own numbers.
        assert_eq!(talk.client_says("NOOP\r\n").as_deref(), Some("NOOP\r\n"));
        assert_eq!(talk.server_says("200 ok\r\n").as_deref(), Some("200 ok\r\n"));
    }
}

#[test]
fn data_connections_live_on_under_the_successor_and_count_with_their_vserver() {
    for active in [false, true] {
        let net = ftp_net(v4());
        let mut lab = Lab::new(net, ftp_plan(&net, false));
        lab.mirror(1, false);
        let mut talk = Dialogue::with(lab);
        let (opener, port, src, dst) = if active {
            let heard =
                talk.client_says(&format!("PORT {}\r\n", numbers(at(net.client.addr, 3000)))).expect("it passes");
            (SERVER_PORT, SERVER_MACS[0], at(talk.server.addr, 20), announced_in(&heard))
        } else {
            talk.server_says(&format!("227 ({})\r\n", numbers(at(talk.server.addr, 5001))));
            (CLIENT_PORT, CLIENT_MAC, at(net.client.addr, 40_001), at(net.vip.addr, 5001))
        };
        let syn = talk.syn(opener, src, dst).expect("it passes");
        let answers = if active { (CLIENT_PORT, CLIENT_MAC) } else { (SERVER_PORT, SERVER_MACS[0]) };
        talk.lab.segment(answers.0, answers.1, syn.destination(), syn.source(), (SYN_ACK, 4, 10), b"");
        talk.lab.segment(opener, port, src, dst, (ACK, 10, 5), b"");
        talk.lab.sent.clear();
        let mut talk = talk.successor();
        assert_eq!(talk.lab.engine.vserver_counters(VSERVER).flows, 2, "active {active}");
        talk.lab.segment(opener, port, src, dst, (ACK, 10, 5), b"data");
        let sent = talk.lab.next().packet();
        assert_eq!((sent.source(), sent.destination()), (syn.source(), syn.destination()));
    }
}

#[test]
fn everything_goes_with_its_control_connection() {
    let mut talk = Dialogue::new(v4(), false);
    for port in 0..8 {
        talk.client_says(&format!("PORT {}\r\n", numbers(at(talk.lab.net.client.addr, 3000 + port))));
        talk.server_says(&format!("227 ({})\r\n", numbers(at(talk.server.addr, 5000 + port))));
    }
    assert!(talk.lab.engine.counts().leases <= 1 + 4, "the oldest have given way");
    assert_eq!(talk.lab.engine.expectations.len(), 4);
    let (seq, ack) = talk.client;
    talk.lab.client(RST, seq, ack, b"");
    talk.lab.pass(Duration::from_secs(600));
    assert_eq!(talk.lab.engine.counts().flows, 0);
    assert_eq!((talk.lab.engine.counts().leases, talk.lab.engine.expectations.len()), (0, 0));
    assert!(talk.lab.engine.controls.is_empty() && talk.lab.engine.tails.is_empty());
}

#[test]
fn strays_of_data_connections_are_reset_where_nothing_survives() {
    let net = ftp_net(v4());
    let plan = with_failover(ftp_plan(&net, false), ConnFailover::Disabled);
    let mut lab = Lab::new(net, plan);
    lab.segment(CLIENT_PORT, CLIENT_MAC, at(net.client.addr, 40_001), at(net.vip.addr, 5001), (ACK, 10, 5), b"x");
    assert!(lab.next().tcp().flags.rst());
    lab.server(at(net.servers[0].addr, 5001), at(net.snip, 2000), (ACK, 10, 5), b"x");
    assert!(lab.next().tcp().flags.rst());
}

#[test]
fn data_connections_of_the_loser_of_a_split_are_adopted_with_their_control_connection() {
    let net = ftp_net(v4());
    let mut lab = Lab::new(net, ftp_plan(&net, false));
    lab.mirror(1, false);
    let mut talk = Dialogue::with(lab);
    talk.server_says(&format!("227 ({})\r\n", numbers(at(talk.server.addr, 5001))));
    let syn = talk.syn(CLIENT_PORT, at(net.client.addr, 40_001), at(net.vip.addr, 5001)).expect("it passes");
    talk.lab.server(syn.destination(), syn.source(), (SYN_ACK, 4, 10), b"");
    let records = told(&mut talk.lab);
    let mut winner = Lab::new(net, ftp_plan(&net, false));
    let (data, tail) = records.iter().find(|(record, _)| record.vip.port == 5001).expect("a data connection");
    assert_eq!(
        winner.engine.adopt_offered(winner.now, data, &[]),
        crate::Offered::Unserved,
        "nobody knows whose it is"
    );
    assert_eq!(winner.engine.adopt_offered(winner.now, data, tail), crate::Offered::Adopted);
    assert_eq!(winner.engine.vserver_counters(VSERVER).flows, 1);
    let (control, tail) = records.iter().rev().find(|(record, _)| record.vip == net.vip).expect("a control connection");
    assert_eq!(winner.engine.adopt_offered(winner.now, control, tail), crate::Offered::Adopted);
    let mut talk = Dialogue { lab: winner, ..talk };
    assert_eq!(talk.client_says("NOOP\r\n").as_deref(), Some("NOOP\r\n"), "in their own numbers");
}

#[test]
fn an_announcement_that_the_old_primary_never_read_is_read_by_its_successor() {
    let net = ftp_net(v4());
    let mut lab = Lab::new(net, ftp_plan(&net, false));
    lab.mirror(1, false);
    let mut talk = Dialogue::with(lab);
    assert!(talk.client_says("PASV\r\n").is_some());
    let mut talk = talk.successor();
    // The server has answered, to a node that is dead; the client asks again, and is told that this is known.
    let line = format!("227 ({})\r\n", numbers(at(talk.server.addr, 5001)));
    let (seq, ack) = talk.client;
    talk.lab.client(ACK, seq - 6, ack, b"PASV\r\n");
    talk.lab.sent.clear();
    let behind = talk.host.0 + line.len() as u32;
    talk.lab.server(talk.server, talk.source, (ACK, behind, talk.host.1), b"");
    talk.lab.sent.clear();
    let heard = talk.server_says(&line);
    assert_eq!(heard, Some(format!("227 ({})\r\n", numbers(at(net.vip.addr, 5001)))));
}

#[test]
fn nobody_announces_before_the_connection_is_made() {
    let net = ftp_net(v4());
    let mut lab = Lab::new(net, ftp_plan(&net, false));
    lab.client(SYN, CLIENT_ISN, 0, b"");
    lab.sent.clear();
    lab.client(ACK, CLIENT_ISN + 1, 77, format!("PORT {}\r\n", numbers(at(net.client.addr, 3000))).as_bytes());
    assert_eq!((lab.engine.counts().leases, lab.engine.expectations.len()), (1, 0), "the connection's own port");
    assert!(lab.engine.tails.is_empty());
}

#[test]
fn forged_segments_do_not_blind_the_node() {
    let mut talk = Dialogue::new(v4(), false);
    let (client, vip) = (talk.lab.net.client, talk.lab.net.vip);
    for number in [0x4000_0000, 0xc000_0000, 7] {
        talk.lab.segment(CLIENT_PORT, CLIENT_MAC, client, vip, (ACK, number, number), b"");
        talk.lab.segment(CLIENT_PORT, CLIENT_MAC, client, vip, (SYN, number, 0), b"");
    }
    talk.lab.sent.clear();
    let line = format!("227 ({})\r\n", numbers(at(talk.server.addr, 5001)));
    talk.lab.server(talk.server, talk.source, (ACK, talk.host.0, talk.host.1), line.as_bytes());
    assert_eq!(text_of(&talk.lab.next()), format!("227 ({})\r\n", numbers(at(vip.addr, 5001))));
}

#[test]
fn a_segment_whose_predecessors_passed_elsewhere_is_not_refused_for_ever() {
    let mut talk = Dialogue::new(v4(), false);
    talk.server_says("220 Hello\r\n");
    let later = (ACK, talk.host.0 + 50, talk.host.1);
    for _ in 0..3 {
        assert_eq!(talk.lab.server(talk.server, talk.source, later, b"150 x\r\n"), Verdict::Drop(Drop::OutOfTurn));
    }
    assert!(matches!(talk.lab.server(talk.server, talk.source, later, b"150 x\r\n"), Verdict::Forward(_)));
}

#[test]
fn a_connection_is_known_for_control_without_its_virtual_server() {
    let net = ftp_net(v4());
    let mut lab = Lab::new(net, ftp_plan(&net, false));
    lab.mirror(1, false);
    let mut talk = Dialogue::with(lab);
    talk.server_says(&format!("227 ({})\r\n", numbers(at(talk.server.addr, 5001))));
    let mut bare = talk.lab.plan();
    bare.vservers.clear();
    talk.lab.set_plan(bare);
    let mut talk = talk.successor();
    assert_eq!(talk.client_says("NOOP\r\n").as_deref(), Some("NOOP\r\n"), "in their own numbers");
    assert_eq!(talk.server_says("200 ok\r\n").as_deref(), Some("200 ok\r\n"));
}

#[test]
fn a_client_may_listen_at_the_same_port_for_one_file_after_the_other() {
    let mut talk = Dialogue::new(v4(), false);
    let (net, host) = (talk.lab.net, at(talk.server.addr, 20));
    let listens = at(net.client.addr, 5000);
    for _ in 0..2 {
        let announced = announced_in(&talk.client_says(&format!("PORT {}\r\n", numbers(listens))).expect("it passes"));
        let syn = talk.syn(SERVER_PORT, host, announced).expect("it passes");
        assert_eq!((syn.source(), syn.destination()), (at(net.vip.addr, 20), listens));
        let back = |talk: &mut Dialogue, numbers| {
            talk.lab.segment(CLIENT_PORT, CLIENT_MAC, listens, at(net.vip.addr, 20), numbers, b"")
        };
        back(&mut talk, (SYN_ACK, 4, 10));
        talk.lab.server(host, announced, (FIN_ACK, 10, 5), b"");
        back(&mut talk, (FIN_ACK, 5, 11));
        talk.lab.server(host, announced, (ACK, 11, 6), b"");
        talk.lab.sent.clear();
    }
}

#[test]
fn one_more_announcement_than_has_room_is_read_when_there_is_room() {
    let mut talk = Dialogue::new(v4(), false);
    let line = |port| format!("227 ({})\r\n", numbers(at(addr("198.51.100.11"), port)));
    let all: Vec<String> = (5001..=5005).map(line).collect();
    let (seq, ack) = talk.host;
    let mut at_seq = seq;
    for text in &all[..4] {
        talk.lab.server(talk.server, talk.source, (ACK, at_seq, ack), text.as_bytes());
        at_seq += text.len() as u32;
    }
    talk.lab.sent.clear();
    talk.lab.server(talk.server, talk.source, (ACK, at_seq, ack), all[4].as_bytes());
    assert_eq!(text_of(&talk.lab.next()), "", "the whole line stays back");
    assert_eq!(talk.lab.engine.expectations.len(), 4, "and the others are expected still");
    // The client has the first four: its own numbers are smaller.
    let said: u32 = (5001..=5004).map(|port| numbers(at(talk.lab.net.vip.addr, port)).len() as u32 + 8).sum();
    talk.lab.client(ACK, talk.client.0, talk.client.1 + said, b"");
    talk.lab.sent.clear();
    talk.lab.server(talk.server, talk.source, (ACK, at_seq, ack), all[4].as_bytes());
    assert_eq!(text_of(&talk.lab.next()), format!("227 ({})\r\n", numbers(at(talk.lab.net.vip.addr, 5005))));
}

#[test]
fn after_a_split_a_connection_goes_on_where_more_of_its_text_was_replaced() {
    let net = ftp_net(v4());
    let mut lab = Lab::new(net, ftp_plan(&net, false));
    lab.mirror(1, false);
    let mut talk = Dialogue::with(lab);
    let mut winner = Lab::new(net, ftp_plan(&net, false));
    for (record, tail) in told(&mut talk.lab) {
        assert_eq!(winner.engine.adopt_offered(winner.now, &record, &tail), crate::Offered::Adopted);
    }
    talk.server_says(&format!("227 ({})\r\n", numbers(at(talk.server.addr, 5001))));
    let (record, tail) = told(&mut talk.lab).pop().expect("told again");
    assert_eq!(winner.engine.adopt_offered(winner.now, &record, &tail), crate::Offered::Known);
    let mut talk = Dialogue { lab: winner, ..talk };
    assert_eq!(talk.client_says("NOOP\r\n").as_deref(), Some("NOOP\r\n"), "in their own numbers");
}
