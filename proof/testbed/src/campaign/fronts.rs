//! The campaign's virtual servers: both modes, several methods, persistence, and servers that are mute at times.

use crate::lab::{Family, SERVER_ROWS};
use std::fmt::Write as _;

/// Clients' port of all of them; with type ANY the servers' port, too. The lab's own echo servers have another one.
const PORT: u16 = 9;

/// How a server treats handshakes on a virtual server's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mute {
    /// As every server does.
    Never,
    /// At times it does not see a SYN.
    Syn,
    /// At times it does not see what follows its SYN-ACK.
    Ack,
}

/// One virtual server in one IP version.
#[derive(Clone, Copy, Debug)]
pub struct Front {
    /// Name of its objects.
    pub name: &'static str,
    kind: &'static str,
    host: u8,
    row: u8,
    /// The servers' port; virtual servers of type ANY have every port.
    port: Option<u16>,
    usip: &'static str,
    options: &'static str,
    /// Must a client always come to the same server?
    pub sticky: bool,
    /// What its servers do.
    pub mute: Mute,
    /// Does it carry the campaign's TCP?
    pub tcp: bool,
    /// Does it carry the campaign's UDP?
    pub udp: bool,
}

const PLAIN: Front = Front {
    name: "",
    kind: "TCP",
    host: 0,
    row: SERVER_ROWS[0],
    port: None,
    usip: "NO",
    options: "",
    sticky: false,
    mute: Mute::Never,
    tcp: true,
    udp: false,
};
const DATAGRAMS: Front = Front { kind: "UDP", tcp: false, udp: true, ..PLAIN };
const WILDCARD: Front = Front { kind: "ANY", udp: true, sticky: true, ..PLAIN };

/// All of them.
pub const FRONTS: [Front; 10] = [
    Front {
        name: "snat",
        host: 110,
        port: Some(7101),
        options: "-lbMethod LEASTCONNECTION -connFailover STATEFUL",
        ..PLAIN
    },
    Front {
        name: "usip",
        host: 111,
        port: Some(7102),
        usip: "YES",
        options: "-lbMethod ROUNDROBIN -connFailover STATEFUL",
        ..PLAIN
    },
    Front {
        name: "sticky",
        host: 112,
        port: Some(7103),
        options: "-lbMethod ROUNDROBIN -persistenceType SOURCEIP -connFailover STATEFUL",
        sticky: true,
        ..PLAIN
    },
    Front {
        name: "hash",
        host: 113,
        port: Some(7104),
        usip: "YES",
        options: "-lbMethod SOURCEIPHASH -connFailover STATEFUL",
        sticky: true,
        ..PLAIN
    },
    Front {
        name: "any",
        host: 114,
        row: SERVER_ROWS[2],
        options: "-lbMethod ROUNDROBIN -persistenceType SOURCEIP -connFailover STATEFUL",
        ..WILDCARD
    },
    Front {
        name: "stateless",
        host: 115,
        row: SERVER_ROWS[1],
        usip: "YES",
        options: "-lbMethod SRCIPSRCPORTHASH -connFailover STATELESS",
        sticky: false,
        ..WILDCARD
    },
    Front {
        name: "mute_syn",
        host: 116,
        port: Some(7106),
        options: "-connFailover STATEFUL",
        mute: Mute::Syn,
        ..PLAIN
    },
    Front {
        name: "mute_ack",
        host: 117,
        port: Some(7107),
        usip: "YES",
        options: "-connFailover STATEFUL",
        mute: Mute::Ack,
        ..PLAIN
    },
    Front {
        name: "snat_udp",
        host: 110,
        port: Some(7101),
        options: "-lbMethod LEASTCONNECTION -connFailover STATEFUL",
        ..DATAGRAMS
    },
    Front {
        name: "usip_udp",
        host: 111,
        port: Some(7102),
        usip: "YES",
        options: "-lbMethod SRCIPSRCPORTHASH -connFailover STATEFUL",
        ..DATAGRAMS
    },
];

impl Front {
    /// What clients connect to.
    pub fn target(&self, family: Family) -> String {
        family.endpoint(&family.client_net(self.host), PORT)
    }

    /// What server 0 or 1 listens on.
    pub fn listener(&self, family: Family, server: u8) -> String {
        family.endpoint(&family.server_net(self.row + 1 + server), self.port.unwrap_or(PORT))
    }

    fn lines(&self, family: Family) -> String {
        let Front { name, kind, usip, options, .. } = self;
        let address = family.client_net(self.host);
        let front = if self.port.is_some() { PORT.to_string() } else { "*".into() };
        let back = self.port.map_or("*".into(), |port| port.to_string());
        let mut text = format!("add lb vserver {name}_{family} {kind} {address} {front} {options}\n");
        for server in 1..=2 {
            let service = format!("{name}_{family}_{server}");
            let host = format!("srv{}_{family}", self.row + server);
            let _ = writeln!(text, "add service {service} {host} {kind} {back} -usip {usip}");
            // A mute server would fail a monitor that connects, and UDP has no monitor of its own.
            if *kind == "UDP" || self.mute != Mute::Never {
                let _ = writeln!(text, "bind service {service} -monitorName echo_ping");
            }
            let _ = writeln!(text, "bind lb vserver {name}_{family} {service}");
        }
        text
    }
}

/// The configuration of all of them.
pub fn lines() -> String {
    FRONTS.iter().flat_map(|front| Family::ALL.map(|family| front.lines(family))).collect()
}
