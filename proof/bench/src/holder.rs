//! `holdfast-bench dnat tc|xdp <device> <device>`: forwards by the minimal DNAT program while the standard input lasts.
//!
//! Each line is a crowd of flows, one for each port of a range, in both directions:
//!
//! ```text
//! <client> <first port> <last port> <vip:port> <source> <server:port> <way to the server> <way to the client>
//! ```
//! where a way is `device,next hop's address,own address`. After the line `end` it says `ready`.

use std::io::BufRead as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode};

use crate::fastpath::OBJECT;

/// As they stand in the frame: both addresses, and both ports.
type Ends = [u32; 3];

/// Serves until the standard input ends.
pub fn run(arguments: &[String]) -> Result<()> {
    let [way, devices @ ..] = arguments else { bail!("usage: holdfast-bench dnat tc|xdp <device> <device>") };
    let mut ebpf = Ebpf::load(OBJECT).context("the minimal program needs root")?;
    match way.as_str() {
        "tc" => {
            let program: &mut SchedClassifier =
                ebpf.program_mut("dnat_tc").context("no program dnat_tc")?.try_into()?;
            program.load()?;
            for device in devices {
                program.attach(device, TcAttachType::Ingress)?;
            }
        }
        "xdp" => {
            let program: &mut Xdp = ebpf.program_mut("dnat_xdp").context("no program dnat_xdp")?.try_into()?;
            program.load()?;
            for device in devices {
                program.attach(device, XdpMode::Driver)?;
            }
        }
        other => bail!("{other} is no way: tc or xdp"),
    }
    let map = ebpf.map_mut("TARGETS").context("no map TARGETS")?;
    let mut targets: HashMap<_, Ends, [u32; 7]> = HashMap::try_from(map)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line == "end" {
            println!("ready");
            continue;
        }
        Crowd::read(&line).with_context(|| format!("the line `{line}`"))?.put_in(&mut targets)?;
    }
    Ok(())
}

/// How packets leave.
struct Way {
    interface: u32,
    macs: [u32; 3],
}

impl Way {
    fn read(text: &str) -> Result<Way> {
        let parts: Vec<&str> = text.split(',').collect();
        let [device, to, from] = parts[..] else { bail!("a way is device,address,address") };
        let name = std::ffi::CString::new(device)?;
        // SAFETY: a string that ends with zero.
        let interface = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if interface == 0 {
            bail!("no interface {device}");
        }
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (mac(to)?, mac(from)?);
        Ok(Way { interface, macs: [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_ne_bytes) })
    }
}

/// `02:00:00:00:00:01`
fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text.split(':').map(|part| u8::from_str_radix(part, 16)).collect::<Result<_, _>>()?;
    <[u8; 6]>::try_from(bytes).map_err(|_| anyhow::anyhow!("{text} is no Ethernet address"))
}

/// The flows of a line.
struct Crowd {
    client: Ipv4Addr,
    ports: std::ops::RangeInclusive<u16>,
    vip: SocketAddrV4,
    source: Ipv4Addr,
    server: SocketAddrV4,
    ways: [Way; 2],
}

impl Crowd {
    fn read(line: &str) -> Result<Crowd> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [client, first, last, vip, source, server, there, back] = words[..] else { bail!("eight words") };
        Ok(Crowd {
            client: client.parse()?,
            ports: first.parse()?..=last.parse()?,
            vip: vip.parse()?,
            source: source.parse()?,
            server: server.parse()?,
            ways: [Way::read(there)?, Way::read(back)?],
        })
    }

    fn put_in(&self, targets: &mut HashMap<&mut MapData, Ends, [u32; 7]>) -> Result<()> {
        for port in self.ports.clone() {
            let (client, source) = (SocketAddrV4::new(self.client, port), SocketAddrV4::new(self.source, port));
            let pairs = [((client, self.vip), (source, self.server)), ((self.server, source), (self.vip, client))];
            for ((from, to), way) in pairs.into_iter().zip(&self.ways) {
                let [a, b, c] = ends(to);
                let [d, e, f] = way.macs;
                targets.insert(ends(from), [a, b, c, way.interface, d, e, f], 0)?;
            }
        }
        Ok(())
    }
}

fn ends((src, dst): (SocketAddrV4, SocketAddrV4)) -> Ends {
    let ([a, b], [c, d]) = (src.port().to_be_bytes(), dst.port().to_be_bytes());
    [src.ip().octets(), dst.ip().octets(), [a, b, c, d]].map(u32::from_ne_bytes)
}
