//! Words for the service manager (sd_notify(3)): one datagram each.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if there is one.
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl ServiceManager {
    /// Finds it through `NOTIFY_SOCKET`: a path, or `@` and an abstract name.
    pub fn from_environment() -> ServiceManager {
        let open = || {
            let name = std::env::var("NOTIFY_SOCKET").ok()?;
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name).ok()?,
                None => SocketAddr::from_pathname(&name).ok()?,
            };
            Some((UnixDatagram::unbound().ok()?, address))
        };
        ServiceManager { socket: open() }
    }

    /// How often the manager wants to hear `WATCHDOG=1`, if at all.
    pub fn watchdog_interval() -> Option<Duration> {
        let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
        Some(Duration::from_micros(micros)).filter(|interval| !interval.is_zero())
    }

    /// The daemon serves.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The daemon is on its way out.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.say(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// The data thread turns.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, text: &str) {
        if let Some((socket, address)) = &self.socket {
            // A manager that does not listen is not our problem.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}
