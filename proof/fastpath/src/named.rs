//! Cases with a name: each reason to go up, the lease, and what a copy remembers.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use holdfast_engine::{Gate, PortId};
use holdfast_fastpath::Which;
use holdfast_fastpath::layout::{Reason, Seen};
use holdfast_wire::{Endpoint, MacAddr, TcpFlags, set_macs};

use crate::frames::{self, ETHERNET, Tcp, with, with_header_checksum, with_ttl};
use crate::lab::{CLIENTS, Fate, Flow, Kind, Lab, MTU, SERVERS, host, link};

const V4: Kind = Kind { v6: false, udp: false, usip: false };
const V6: Kind = Kind { v6: true, udp: false, usip: false };
/// What no frame can be made to cause: the kernel refuses to edit only for want of memory.
const UNREACHED: [Reason; 1] = [Reason::Failed];

/// Runs every named case.
pub fn run(lab: &mut Lab) -> Result<()> {
    type Case = fn(&mut Lab) -> Result<()>;
    let cases: &[(&str, Case)] = &[
        ("plain packets of established flows do not go up", plain_packets_are_forwarded),
        ("each unusual frame goes up for its reason", unusual_frames_go_up),
        ("segments that begin or end something go up", special_segments_go_up),
        ("what does not fit goes up", too_big_goes_up),
        ("a stale copy forwards nothing", stale_copies_forward_nothing),
        ("a copy made anew goes on where the former one was", renewed_copies_go_on),
        ("without a lease nothing of the node's passes", the_lease_fences),
        ("a copy remembers what passed", a_copy_remembers),
        ("what is not forwarded is the engine's, the host's, or both's", what_goes_up_is_sorted),
    ];
    for (name, case) in cases {
        lab.clear()?;
        case(lab).with_context(|| format!("case `{name}`"))?;
    }
    let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !lab.seen.contains(reason)).collect();
    ensure!(missing.iter().all(|reason| UNREACHED.contains(reason)), "no frame has caused {missing:?}");
    println!("fast path: {} named cases, every reason but {:?} seen", cases.len(), UNREACHED);
    Ok(())
}

fn data(payload: &[u8]) -> Tcp<'_> {
    Tcp { flags: TcpFlags::ACK.with(TcpFlags::PSH), numbers: (1001, 5001), payload }
}

fn from_server(payload: &[u8]) -> Tcp<'_> {
    Tcp { numbers: (5001, 1001), ..data(payload) }
}

fn plain_packets_are_forwarded(lab: &mut Lab) -> Result<()> {
    for kind in Kind::all() {
        let flow = lab.open(kind)?;
        for payload in [&b""[..], b"x", b"an odd number of bytes.", &[0xa5; 1400]] {
            let question = lab.compare(CLIENTS, &flow.frame(CLIENTS, &data(payload)))?;
            ensure!(matches!(question, Fate::Forward(_)), "{kind:?}: the client's packet: {question:?}");
            let answer = lab.compare(SERVERS, &flow.frame(SERVERS, &from_server(payload)))?;
            ensure!(matches!(answer, Fate::Forward(_)), "{kind:?}: the server's packet: {answer:?}");
        }
    }
    Ok(())
}

#[track_caller]
fn goes_up(lab: &mut Lab, frame: &[u8], wanted: Reason) -> Result<()> {
    let fate = lab.compare(CLIENTS, frame)?;
    ensure!(fate == Fate::Up(wanted), "{wanted:?} was expected, and not {fate:?}");
    Ok(())
}

fn unusual_frames_go_up(lab: &mut Lab) -> Result<()> {
    let flow = lab.open(V4)?;
    let plain = flow.frame(CLIENTS, &data(b"data"));
    let (client, vip) = flow.ends[0];
    let stranger = Endpoint { port: 9, ..client };
    let unknown = frames::tcp(link(CLIENTS), (stranger, vip), &data(b"data"));
    goes_up(lab, &unknown, Reason::Unknown)?;
    goes_up(lab, &with(with(plain.clone(), 12, 8), 13, 6), Reason::NotIp)?;
    goes_up(lab, &frames::inserted(&plain, 12, &[0x81, 0, 0, 7]), Reason::Tagged)?;
    goes_up(lab, &plain[..plain.len() - 1], Reason::Malformed)?;
    goes_up(lab, &with(plain.clone(), ETHERNET + 46 - 14, 0x40), Reason::Malformed)?;
    goes_up(lab, &with(plain.clone(), ETHERNET + 10, 0x11), Reason::BadChecksum)?;
    let mut options = frames::inserted(&plain, ETHERNET + 20, &[1, 1, 1, 0]);
    options[ETHERNET] = 0x46;
    options[ETHERNET + 3] += 4;
    goes_up(lab, &options, Reason::Options)?;
    goes_up(lab, &with_header_checksum(with(plain.clone(), ETHERNET + 6, 0x20)), Reason::Fragment)?;
    goes_up(lab, &with_header_checksum(with(plain.clone(), ETHERNET + 7, 1)), Reason::Fragment)?;
    goes_up(lab, &frames::echo(link(CLIENTS), (client, vip)), Reason::Protocol)?;
    let endless = with_header_checksum(with(with(plain.clone(), ETHERNET + 2, 0), ETHERNET + 3, 0));
    goes_up(lab, &endless, Reason::Jumbo)?;
    for ttl in [0, 1] {
        goes_up(lab, &with_ttl(plain.clone(), ttl), Reason::Ttl)?;
    }
    let mut elsewhere = plain;
    set_macs(&mut elsewhere, MacAddr([2, 9, 9, 9, 9, 9]), MacAddr([2, 0, 0, 0, 0, 1]));
    goes_up(lab, &elsewhere, Reason::NotForUs)?;
    unusual_ipv6_goes_up(lab)
}

fn unusual_ipv6_goes_up(lab: &mut Lab) -> Result<()> {
    let flow = lab.open(Kind { udp: true, ..V6 })?;
    let plain = flow.frame(CLIENTS, &data(b"data"));
    let l4 = ETHERNET + 40;
    goes_up(lab, &with(with(plain.clone(), l4 + 6, 0), l4 + 7, 0), Reason::NoChecksum)?;
    for (next, reason) in [(0, Reason::Options), (60, Reason::Options), (44, Reason::Fragment), (58, Reason::Protocol)]
    {
        goes_up(lab, &with(plain.clone(), ETHERNET + 6, next), reason)?;
    }
    goes_up(lab, &with(with(plain.clone(), ETHERNET + 4, 0), ETHERNET + 5, 0), Reason::Jumbo)?;
    goes_up(lab, &with(plain.clone(), ETHERNET, 0x40), Reason::Malformed)?;
    goes_up(lab, &with_ttl(plain, 1), Reason::Ttl)
}

fn special_segments_go_up(lab: &mut Lab) -> Result<()> {
    for kind in [V4, V6] {
        for (flags, reason, seen) in [
            (TcpFlags::SYN, Reason::Syn, Seen::SYN),
            (TcpFlags::SYN.with(TcpFlags::ACK), Reason::Syn, Seen::SYN),
            (TcpFlags::FIN.with(TcpFlags::ACK), Reason::Fin, Seen::FIN),
            (TcpFlags::RST, Reason::Rst, Seen::RST),
            (TcpFlags::RST.with(TcpFlags::ACK), Reason::Rst, Seen::RST),
            (TcpFlags(0), Reason::OddFlags, Seen(0)),
            (TcpFlags::SYN.with(TcpFlags::FIN), Reason::OddFlags, Seen(0)),
        ] {
            let flow = lab.open(kind)?;
            let frame = flow.frame(CLIENTS, &Tcp { flags, ..data(b"") });
            lab.run(holdfast_fastpath::Which::Tc, &frame, 0)?;
            let entry = lab.entry(&flow, CLIENTS)?.context("its copy")?;
            ensure!(entry.seen() == seen, "{flags:?} leaves {:?}", entry.seen());
            goes_up(lab, &frame, reason)?;
        }
        closing_takes_copies_out(lab, kind)?;
    }
    Ok(())
}

/// A FIN goes up, the engine believes it, and both copies are gone.
fn closing_takes_copies_out(lab: &mut Lab, kind: Kind) -> Result<()> {
    let flow = lab.open(kind)?;
    goes_up(lab, &flow.frame(CLIENTS, &Tcp { flags: TcpFlags::FIN.with(TcpFlags::ACK), ..data(b"") }), Reason::Fin)?;
    for side in [CLIENTS, SERVERS] {
        ensure!(lab.entry(&flow, side)?.is_none(), "a copy outlives the FIN");
    }
    goes_up(lab, &flow.frame(CLIENTS, &data(b"")), Reason::Unknown)
}

fn too_big_goes_up(lab: &mut Lab) -> Result<()> {
    for kind in [V4, V6] {
        let flow = lab.open(kind)?;
        let headers = if kind.v6 { 60 } else { 40 };
        let fits = usize::from(MTU) - headers;
        let full = vec![7; fits];
        ensure!(matches!(lab.compare(CLIENTS, &flow.frame(CLIENTS, &data(&full)))?, Fate::Forward(_)), "it fits");
        let more = vec![7; fits + 1];
        goes_up(lab, &flow.frame(CLIENTS, &data(&more)), Reason::TooBig)?;
        let long = flow.frame(CLIENTS, &data(&vec![7; 2 * fits]));
        let segments = |lab: &mut Lab, of: usize| lab.compare_segments(CLIENTS, &long, of as u16);
        ensure!(matches!(segments(lab, fits)?, Fate::Forward(_)), "a super-packet whose segments fit");
        ensure!(segments(lab, fits + 1)? == Fate::Up(Reason::TooBig), "a super-packet whose segments do not fit");
    }
    Ok(())
}

/// Far more passes than the engine takes for a leap, then copies are made anew before it has heard of that, then the end comes.
fn renewed_copies_go_on(lab: &mut Lab) -> Result<()> {
    const STEP: u32 = 15 << 20;
    for kind in [V4, V6] {
        let flow = lab.open(kind)?;
        let at = |step: u32| Tcp { numbers: (1001 + step * STEP, 5001), ..data(b"x") };
        let answer = |step: u32| Tcp { numbers: (5001, 1001 + step * STEP + 1), ..data(b"") };
        for step in 1..=4 {
            for (side, segment) in [(CLIENTS, at(step)), (SERVERS, answer(step))] {
                let fate = lab.run(Which::Tc, &flow.frame(side, &segment), 0)?;
                ensure!(matches!(fate, Fate::Forward(_)), "step {step}: {fate:?}");
            }
        }
        let former = lab.entry(&flow, CLIENTS)?.context("a copy")?;
        lab.engine.set_gate(lab.now, Gate::Open);
        lab.settle()?;
        lab.pass(CLIENTS, flow.frame(CLIENTS, &at(4)))?.context("the engine forwards it")?;
        let renewed = lab.entry(&flow, CLIENTS)?.context("a copy made anew")?;
        ensure!(renewed.epoch != former.epoch && renewed.end == former.end, "{former:?} and then {renewed:?}");
        let fate = lab.run(Which::Tc, &flow.frame(CLIENTS, &at(5)), 0)?;
        ensure!(matches!(fate, Fate::Forward(_)), "behind it: {fate:?}");
        // The driver asks both copies before it hands a FIN in; here the answer's is asked with one more of them.
        lab.compare(SERVERS, &flow.frame(SERVERS, &answer(5)))?;
        let fin = Tcp { flags: TcpFlags::FIN.with(TcpFlags::ACK), numbers: (1001 + 5 * STEP + 1, 5001), payload: b"" };
        goes_up(lab, &flow.frame(CLIENTS, &fin), Reason::Fin)?;
        ensure!(lab.entry(&flow, CLIENTS)?.is_none(), "the engine has not believed the FIN");
    }
    Ok(())
}

fn stale_copies_forward_nothing(lab: &mut Lab) -> Result<()> {
    let flow = lab.open(V4)?;
    let frame = flow.frame(CLIENTS, &data(b"data"));
    lab.engine.set_gate(lab.now, Gate::Open);
    lab.settle()?;
    goes_up(lab, &frame, Reason::Stale)?;
    // The engine has renewed the copy with that packet.
    ensure!(matches!(lab.compare(CLIENTS, &frame)?, Fate::Forward(_)), "the copy is valid again");
    Ok(())
}

fn the_lease_fences(lab: &mut Lab) -> Result<()> {
    let flows = [lab.open(V4)?, lab.open(V6)?, lab.open(Kind { usip: true, ..V4 })?];
    let side_frame = |flow: &Flow, side| match side {
        CLIENTS => flow.frame(CLIENTS, &data(b"data")),
        _ => flow.frame(side, &from_server(b"data")),
    };
    lab.feed.maps().set_lease(0);
    lab.engine.set_gate(lab.now, Gate::Closed);
    for flow in &flows {
        for side in [CLIENTS, SERVERS] {
            let fate = lab.compare(side, &side_frame(flow, side))?;
            ensure!(fate == Fate::Drop(Reason::Fenced), "{:?} from port {}: {fate:?}", flow.kind, side.0);
        }
    }
    let (client, vip) = flows[0].ends[0];
    let (other, stranger) = (Endpoint { addr: host(false, 1, 77), port: 1 }, Endpoint { port: 9, ..client });
    let fenced = [
        frames::tcp(link(CLIENTS), (stranger, vip), &data(b"")),
        frames::echo(link(CLIENTS), (client, vip)),
        frames::udp(link(CLIENTS), (Endpoint { port: 53, ..vip }, other), b"from a floating address"),
        with_header_checksum(with(frames::udp(link(CLIENTS), (stranger, vip), &[0; 64]), ETHERNET + 6, 0x20)),
    ];
    for frame in &fenced {
        let fate = lab.compare(CLIENTS, frame)?;
        ensure!(fate == Fate::Drop(Reason::Fenced), "it concerns a floating address: {fate:?}");
    }
    let free = [frames::tcp(link(CLIENTS), (client, other), &data(b"")), frames::echo(link(CLIENTS), (client, other))];
    for frame in &free {
        let fate = lab.compare(CLIENTS, frame)?;
        ensure!(matches!(fate, Fate::Up(_)), "it is none of the node's: {fate:?}");
    }
    lab.engine.set_gate(lab.now, Gate::Open);
    lab.feed.set_lease(None);
    lab.settle().map(drop)
}

fn a_copy_remembers(lab: &mut Lab) -> Result<()> {
    let flow = lab.open(V4)?;
    let send = |lab: &mut Lab, seq: u32, ack: u32, payload: &[u8]| {
        lab.compare(CLIENTS, &flow.frame(CLIENTS, &Tcp { numbers: (seq, ack), ..data(payload) }))
    };
    send(lab, 1001, 5001, &[1; 100])?;
    send(lab, 1101, 5500, &[1; 100])?;
    // What is sent again moves nothing back.
    send(lab, 1001, 5001, &[1; 100])?;
    let entry = lab.entry(&flow, CLIENTS)?.context("its copy")?;
    ensure!((entry.end, entry.ack) == (1201, 5500), "numbers: {} and {}", entry.end, entry.ack);
    // Each frame has passed through both programs.
    ensure!((entry.packets, entry.bytes) == (6, 6 * 140), "counted: {} and {}", entry.packets, entry.bytes);
    ensure!(entry.used > 0, "never used");
    for far in [1201u32.wrapping_sub(64 << 20), 1201 + (64 << 20)] {
        send(lab, far, far, &[])?;
        let entry = lab.entry(&flow, CLIENTS)?.context("its copy")?;
        ensure!((entry.end, entry.ack) == (1201, 5500), "numbers that are no end's: {} and {}", entry.end, entry.ack);
    }
    let unused: PortId = SERVERS;
    ensure!(lab.entry(&flow, unused)?.is_some_and(|entry| entry.used == 0 && entry.packets == 0), "the other copy");
    Ok(())
}

/// Test runs come in at the loopback interface, whose number is 1 in every namespace.
const LOOPBACK: u32 = 1;

fn what_goes_up_is_sorted(lab: &mut Lab) -> Result<()> {
    let flow = lab.open(V4)?;
    let (client, vip) = flow.ends[0];
    let at = |last| Endpoint { addr: host(false, 1, last), port: 7 };
    let (here, elsewhere, stranger) = (at(1), at(77), Endpoint { port: 9, ..client });
    lab.feed.maps().set_tap(LOOPBACK, Some(4713))?;
    lab.feed.maps().set_host(&[here.addr].into())?;
    let to = |end| frames::tcp(link(CLIENTS), (stranger, end), &data(b"data"));
    let expect = |lab: &mut Lab, frame: &[u8], wanted: Fate, what: &str| {
        let fate = lab.run(holdfast_fastpath::Which::Tc, frame, 0)?;
        ensure!(fate == wanted, "{what}: {fate:?}");
        Ok(())
    };
    expect(lab, &to(vip), Fate::Taken(Reason::Unknown), "a new flow's packet")?;
    let echo = frames::echo(link(CLIENTS), (client, vip));
    expect(lab, &echo, Fate::Taken(Reason::Protocol), "an echo request to a floating address")?;
    let fin = flow.frame(CLIENTS, &Tcp { flags: TcpFlags::FIN.with(TcpFlags::ACK), ..data(b"") });
    expect(lab, &fin, Fate::Taken(Reason::Fin), "a FIN of a known flow")?;
    expect(lab, &to(here), Fate::Up(Reason::Unknown), "a packet to the host")?;
    expect(lab, &to(elsewhere), Fate::Up(Reason::Unknown), "a packet to nobody here, and a copy of it")?;
    lab.feed.maps().set_routes(true);
    expect(lab, &to(elsewhere), Fate::Taken(Reason::Unknown), "a packet to nobody here, of a node that routes")?;
    expect(lab, &to(here), Fate::Up(Reason::Unknown), "a packet to the host, of a node that routes")?;
    let mut others = to(elsewhere);
    set_macs(&mut others, MacAddr([2, 9, 9, 9, 9, 9]), MacAddr([2, 0, 0, 0, 0, 1]));
    expect(lab, &others, Fate::Up(Reason::Unknown), "a packet to another machine")?;
    let mut all = to(elsewhere);
    set_macs(&mut all, MacAddr::BROADCAST, MacAddr([2, 0, 0, 0, 0, 1]));
    expect(lab, &all, Fate::Up(Reason::Unknown), "a packet to all, and a copy of it")?;
    lab.feed.maps().set_lease(0);
    expect(lab, &to(vip), Fate::Drop(Reason::Fenced), "a new flow's packet without a lease")?;
    lab.feed.set_lease(None);
    lab.feed.maps().set_routes(false);
    lab.feed.maps().set_tap(LOOPBACK, None)?;
    lab.feed.maps().set_host(&BTreeSet::new())?;
    expect(lab, &to(vip), Fate::Up(Reason::Unknown), "nothing is sorted any more")
}
