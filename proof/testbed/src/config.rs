//! What the two nodes are told: the virtual servers of the lab as an `ns.conf`.

use crate::lab::{Family, peer_address};
use std::fmt::Write as _;

/// Host part of the floating SNIPs in both subnets.
pub const SNIP_HOST: u8 = 5;
/// Port of the echo virtual servers.
pub const ECHO_PORT: u16 = 7;
/// Port of the program that says which server answers; reached through the stateless virtual server.
pub const WHO_PORT: u16 = 17;

/// One echo virtual server per behaviour under test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vip {
    /// STATEFUL, SNIP.
    Nat,
    /// STATEFUL, USIP.
    Usip,
    /// ANY with port `*` and SOURCEIP persistence, STATEFUL: FTP runs through it.
    Ftp,
    /// DISABLED, SNIP.
    DisabledNat,
    /// DISABLED, USIP.
    DisabledUsip,
    /// STATELESS: ANY, port `*`, USIP.
    Stateless,
}

impl Vip {
    /// All of them.
    pub const ALL: [Vip; 6] = [Vip::Nat, Vip::Usip, Vip::Ftp, Vip::DisabledNat, Vip::DisabledUsip, Vip::Stateless];

    /// Last part of the virtual server's address.
    pub fn host(self) -> u8 {
        match self {
            Vip::Nat => 100,
            Vip::Usip => 101,
            Vip::Ftp => 102,
            Vip::DisabledNat => 103,
            Vip::DisabledUsip => 104,
            Vip::Stateless => 105,
        }
    }

    /// The virtual server's address.
    pub fn address(self, family: Family) -> String {
        family.client_net(self.host())
    }

    /// Name of its objects.
    pub fn name(self, family: Family) -> String {
        let name = match self {
            Vip::Nat => "nat",
            Vip::Usip => "usip",
            Vip::Ftp => "ftp",
            Vip::DisabledNat => "disabled",
            Vip::DisabledUsip => "disabled_usip",
            Vip::Stateless => "stateless",
        };
        format!("{name}_{family}")
    }

    /// The servers' port; each virtual server has its own, since a service is one address, type and port.
    pub fn server_port(self) -> Option<u16> {
        match self {
            Vip::Nat => Some(7001),
            Vip::Usip => Some(7002),
            Vip::DisabledNat => Some(7003),
            Vip::DisabledUsip => Some(7004),
            Vip::Ftp | Vip::Stateless => None,
        }
    }

    fn server_row(self) -> u8 {
        match self {
            Vip::Nat | Vip::Usip | Vip::DisabledNat | Vip::DisabledUsip => 20,
            Vip::Stateless => 30,
            Vip::Ftp => 40,
        }
    }

    fn usip(self) -> &'static str {
        match self {
            Vip::Usip | Vip::DisabledUsip | Vip::Stateless => "YES",
            Vip::Nat | Vip::Ftp | Vip::DisabledNat => "NO",
        }
    }

    fn failover(self) -> &'static str {
        match self {
            Vip::Nat | Vip::Usip | Vip::Ftp => "STATEFUL",
            Vip::DisabledNat | Vip::DisabledUsip => "DISABLED",
            Vip::Stateless => "STATELESS",
        }
    }
}

/// What differs from the plain configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The password that this node uses for the pair.
    pub password: String,
    /// Services and virtual servers, as lines; those of [`Vip`] if there are none.
    pub virtual_servers: Option<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { password: "s3cret".into(), virtual_servers: None }
    }
}

/// The `ns.conf` of node 0 or 1.
pub fn ns_conf(node: u8, settings: &Settings) -> String {
    let (own, peer) = (peer_address(node), peer_address(1 - node));
    let password = &settings.password;
    let mut conf = format!(
        "set ns config -IPAddress {own} -netmask 255.255.255.0\n\
         add interface 1/1 -device eth-c\n\
         add interface 1/2 -device eth-s\n\
         add HA node 1 {peer}\n\
         set ns rpcNode {own} -password {password}\n\
         set ns rpcNode {peer} -password {password}\n"
    );
    for host in [Family::V4.server_net(SNIP_HOST), Family::V4.client_net(SNIP_HOST)] {
        let _ = writeln!(conf, "add ns ip {host} 255.255.255.0 -type SNIP");
    }
    for host in [Family::V6.server_net(SNIP_HOST), Family::V6.client_net(SNIP_HOST)] {
        let _ = writeln!(conf, "add ns ip6 {host}/64 -type SNIP");
    }
    conf += "add lb monitor echo_ping PING\n";
    for family in Family::ALL {
        for row in crate::lab::SERVER_ROWS {
            for server in 1..=2 {
                let address = family.server_net(row + server);
                let _ = writeln!(conf, "add server srv{}_{family} {address}", row + server);
            }
        }
    }
    conf += &settings.virtual_servers.clone().unwrap_or_else(|| {
        let pairs = Family::ALL.iter().flat_map(|family| Vip::ALL.map(|vip| (vip, *family)));
        pairs.map(|(vip, family)| virtual_server(vip, family)).collect()
    });
    conf
}

fn virtual_server(vip: Vip, family: Family) -> String {
    let (name, address) = (vip.name(family), vip.address(family));
    let (usip, failover) = (vip.usip(), vip.failover());
    let kinds: &[&str] = if vip.server_port().is_some() { &["TCP", "UDP"] } else { &["ANY"] };
    let mut text = String::new();
    for kind in kinds {
        let lower = kind.to_lowercase();
        let (front, back) = match vip.server_port() {
            Some(port) => (ECHO_PORT.to_string(), port.to_string()),
            None => ("*".into(), "*".into()),
        };
        let persistence = if *kind == "ANY" { " -persistenceType SOURCEIP" } else { "" };
        let _ = writeln!(
            text,
            "add lb vserver {name}_{lower} {kind} {address} {front}{persistence} -connFailover {failover}"
        );
        for server in 1..=2 {
            let service = format!("{name}_{lower}_{server}");
            let host = format!("srv{}_{family}", vip.server_row() + server);
            let _ = writeln!(text, "add service {service} {host} {kind} {back} -usip {usip}");
            if *kind == "UDP" {
                let _ = writeln!(text, "bind service {service} -monitorName echo_ping");
            }
            let _ = writeln!(text, "bind lb vserver {name}_{lower} {service}");
        }
    }
    text
}
