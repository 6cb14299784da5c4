//! The lab: one client, two nodes, two servers, two networks, and a wire between the nodes.
//!
//! ```text
//!             br-c 192.0.2.0/24, 2001:db8:1::/64            br-s 198.51.100.0/24, 2001:db8:2::/64
//!  client eth0 ───┬─────────── eth-c  lb-a  eth-s ──────────────┬─── eth0 srv1
//!                 │                   eth-p                     │
//!                 │                     │ 203.0.113.0/24        │
//!                 │                   eth-p                     │
//!                 └─────────── eth-c  lb-b  eth-s ──────────────┴─── eth0 srv2
//! ```
//! Both bridges live in a namespace of their own. The client knows only its own subnet, the servers' only way out is the
//! floating SNIP: nothing reaches a server but through a virtual server.

use crate::ns::{self, Namespace};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Last parts of the namespace names.
pub const PARTS: [&str; 9] = ["cl", "c2", "a", "b", "s1", "s2", "sw", "ka", "kb"];
const DIRECTORY_PREFIX: &str = "holdfast-testbed-";
const MARKER: &str = ".made-by-holdfast-testbed";

/// How many addresses the client has in each family: 192.0.2.10 and up.
pub const CLIENT_ADDRESSES: u8 = 8;
/// The address of a second client, if a story has one.
pub const SECOND_CLIENT: u8 = 30;
/// Offsets of a server's addresses: 198.51.100.2x serves the load-balanced ports, .3x the stateless virtual server,
/// .4x FTP. A service is one address, type and port, so virtual servers with port `*` need addresses of their own.
pub const SERVER_ROWS: [u8; 3] = [20, 30, 40];

/// Protocol family of a test.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// A host of the client network.
    pub fn client_net(self, host: u8) -> String {
        match self {
            Family::V4 => format!("192.0.2.{host}"),
            Family::V6 => format!("2001:db8:1::{host}"),
        }
    }

    /// A host of the server network.
    pub fn server_net(self, host: u8) -> String {
        match self {
            Family::V4 => format!("198.51.100.{host}"),
            Family::V6 => format!("2001:db8:2::{host}"),
        }
    }

    /// `address:port` as programs write it.
    pub fn endpoint(self, address: &str, port: u16) -> String {
        match self {
            Family::V4 => format!("{address}:{port}"),
            Family::V6 => format!("[{address}]:{port}"),
        }
    }

    /// The client's addresses.
    pub fn client_addresses(self) -> Vec<String> {
        (0..CLIENT_ADDRESSES).map(|n| self.client_net(10 + n)).collect()
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Family::V4 => "v4",
            Family::V6 => "v6",
        })
    }
}

/// All namespaces and one scratch directory; dropping it removes everything.
pub struct Lab {
    /// Where clients run.
    pub client: Namespace,
    /// The two nodes' hosts.
    pub nodes: [Namespace; 2],
    /// The two servers' hosts.
    pub servers: [Namespace; 2],
    /// Holds both bridges; every frame of a node can be watched here.
    pub switch: Namespace,
    directory: PathBuf,
}

impl Lab {
    /// Builds the lab. Needs root; says so if it is missing.
    pub fn build() -> Result<Lab> {
        anyhow::ensure!(
            crate::sys::is_root(),
            "the lab needs root (network namespaces, packet sockets): run it with sudo"
        );
        ns::remove_leftovers(&PARTS, DIRECTORY_PREFIX, MARKER);
        let directory = std::env::temp_dir().join(format!("{DIRECTORY_PREFIX}{}", std::process::id()));
        std::fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        std::fs::write(directory.join(MARKER), "")?;
        let lab = Lab {
            client: Namespace::create("cl")?,
            nodes: [Namespace::create("a")?, Namespace::create("b")?],
            servers: [Namespace::create("s1")?, Namespace::create("s2")?],
            switch: Namespace::create("sw")?,
            directory,
        };
        lab.lay_cables()?;
        lab.set_up_client()?;
        lab.set_up_node(0)?;
        lab.set_up_node(1)?;
        lab.set_up_server(0)?;
        lab.set_up_server(1)?;
        Ok(lab)
    }

    /// Scratch files of this lab.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What XDP at the nodes needs: hosts that finish their checksums, since the program cannot see that one is partial, and
    /// switch ports that take what a driver's program sends.
    pub fn suit_xdp(&self) -> Result<()> {
        for host in self.servers.iter().chain([&self.client]) {
            host.run("ethtool", &["-K", "eth0", "tx", "off"], "")?;
        }
        for port in ["a-c", "a-s", "b-c", "b-s"] {
            self.switch.run("ethtool", &["-K", port, "gro", "on"], "")?;
        }
        Ok(())
    }

    fn lay_cables(&self) -> Result<()> {
        self.switch.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
        let mut lines = String::new();
        for bridge in ["br-c", "br-s"] {
            lines += &format!("link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n");
            lines += &format!("link set {bridge} up\n");
        }
        let cables = [
            ("cl", "br-c", &self.client, "eth0"),
            ("a-c", "br-c", &self.nodes[0], "eth-c"),
            ("b-c", "br-c", &self.nodes[1], "eth-c"),
            ("a-s", "br-s", &self.nodes[0], "eth-s"),
            ("b-s", "br-s", &self.nodes[1], "eth-s"),
            ("s1", "br-s", &self.servers[0], "eth0"),
            ("s2", "br-s", &self.servers[1], "eth0"),
        ];
        for (port, bridge, host, device) in cables {
            lines += &format!("link add {port} type veth peer name {device} netns {}\n", host.name());
            lines += &format!("link set {port} master {bridge} up\n");
        }
        self.switch.ip_batch(&lines)?;
        self.nodes[0].ip_batch(&format!("link add eth-p type veth peer name eth-p netns {}\n", self.nodes[1].name()))
    }

    /// Lays the wire between the nodes anew, through the switch's namespace, where its ends are called `a-p` and `b-p`.
    /// Nothing joins them there.
    pub fn lead_peer_link_through_switch(&self) -> Result<()> {
        self.nodes[0].ip_batch("link del eth-p\n")?;
        for (index, (node, port)) in self.nodes.iter().zip(["a-p", "b-p"]).enumerate() {
            let host = node.name();
            self.switch
                .ip_batch(&format!("link add {port} type veth peer name eth-p netns {host}\nlink set {port} up\n"))?;
            node.ip_batch(&format!("addr add {}/24 dev eth-p\nlink set eth-p up\n", peer_address(index as u8)))?;
        }
        Ok(())
    }

    /// A second client, on a cable of its own; the switch calls its port `c2`.
    pub fn add_client(&self) -> Result<Namespace> {
        let client = Namespace::create("c2")?;
        let (host, mut lines) = (client.name(), String::new());
        self.switch
            .ip_batch(&format!("link add c2 type veth peer name eth0 netns {host}\nlink set c2 master br-c up\n"))?;
        for family in Family::ALL {
            let (address, bits) = (family.client_net(SECOND_CLIENT), prefix(family));
            lines += &format!("addr add {address}/{bits} dev eth0{}\n", nodad(family));
        }
        client.ip_batch(&(lines + "link set eth0 up\n"))?;
        Ok(client)
    }

    fn set_up_client(&self) -> Result<()> {
        // Hundreds of new connections a second leave many ports in TIME_WAIT: allow all ports, and their re-use.
        self.client.sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        self.client.sysctl("net/ipv4/tcp_tw_reuse", "1")?;
        let mut lines = String::new();
        for family in Family::ALL {
            let bits = prefix(family);
            for address in family.client_addresses() {
                lines += &format!("addr add {address}/{bits} dev eth0{}\n", nodad(family));
            }
        }
        self.client.ip_batch(&(lines + "link set eth0 up\n"))
    }

    fn set_up_node(&self, index: u8) -> Result<()> {
        let node = &self.nodes[usize::from(index)];
        // A power cut takes the links down; without this the kernel would forget their IPv6 addresses.
        node.sysctl("net/ipv6/conf/all/keep_addr_on_down", "1")?;
        let mut lines = format!("addr add {}/24 dev eth-p\n", peer_address(index));
        for family in Family::ALL {
            let address = family.server_net(11 + index);
            lines += &format!("addr add {address}/{} dev eth-s{}\n", prefix(family), nodad(family));
        }
        for device in NODE_DEVICES {
            lines += &format!("link set {device} up\n");
        }
        node.ip_batch(&lines)
    }

    fn set_up_server(&self, index: u8) -> Result<()> {
        let server = &self.servers[usize::from(index)];
        let mut lines = String::new();
        for family in Family::ALL {
            for row in SERVER_ROWS {
                let address = family.server_net(row + 1 + index);
                lines += &format!("addr add {address}/{} dev eth0{}\n", prefix(family), nodad(family));
            }
        }
        lines += "link set eth0 up\n";
        for family in Family::ALL {
            lines += &format!("route add default via {}\n", family.server_net(crate::config::SNIP_HOST));
        }
        server.ip_batch(&lines)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A node's interfaces: client side, server side, peer link.
pub const NODE_DEVICES: [&str; 3] = ["eth-c", "eth-s", "eth-p"];

/// The switch's ends of a node's data cables, as a set of nftables.
pub fn switch_ports(node: usize) -> &'static str {
    [r#"{ "a-c", "a-s" }"#, r#"{ "b-c", "b-s" }"#][node]
}

/// The NSIP of a node, on the peer link.
pub fn peer_address(node: u8) -> String {
    format!("203.0.113.{}", node + 1)
}

fn prefix(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

fn nodad(family: Family) -> &'static str {
    match family {
        Family::V4 => "",
        Family::V6 => " nodad",
    }
}
