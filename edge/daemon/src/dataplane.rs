//! Which way packets go: through the fast path's program in the kernel, or through the engine alone.

use clap::ValueEnum;
use holdfast_fastpath::{FastPathError, FlowMaps, Limits, Programs, load, remove_stale};
use holdfast_netio::{OpenError, PortSockets, Tap};

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DataPlane {
    /// tc where the kernel takes it, else user.
    Auto,
    /// Established flows are forwarded by a program at the tc hook of each data interface.
    Tc,
    /// The same in the interfaces' drivers, with tc behind it; not where frames come with partial checksums (veth without
    /// `tx off` at its other end).
    Xdp,
    /// Every packet passes through the engine.
    User,
}

/// The programs, and where they hang.
pub struct Plane {
    programs: Option<Programs>,
    xdp: bool,
    /// Why it is what it is.
    why: String,
}

impl Plane {
    /// Loads the programs if they are wanted; attached to nothing.
    pub fn start(wanted: DataPlane, max_flows: u32) -> Result<(Plane, Option<FlowMaps>), FastPathError> {
        let user = |why: String| (Plane { programs: None, xdp: false, why }, None);
        if wanted == DataPlane::User {
            return Ok(user("asked for".into()));
        }
        if let Some(why) = Tap::missing() {
            // Without one the program would have nobody to hand packets to.
            return match wanted {
                DataPlane::Auto => Ok(user(why)),
                _ => Err(FastPathError::Host(why)),
            };
        }
        match load(&Limits { entries: max_flows.saturating_mul(2) }) {
            Ok((programs, maps)) => {
                let why = if wanted == DataPlane::Auto { "the kernel takes the program" } else { "asked for" };
                let xdp = wanted == DataPlane::Xdp;
                Ok((Plane { programs: Some(programs), xdp, why: why.into() }, Some(maps)))
            }
            Err(error) if wanted == DataPlane::Auto => Ok(user(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// In a word.
    pub fn name(&self) -> &'static str {
        match (&self.programs, self.xdp) {
            (None, _) => "user",
            (Some(_), false) => "tc",
            (Some(_), true) => "xdp",
        }
    }

    /// Why it is this one.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Opens an interface. Where the program cannot be attached the engine sees every packet of this interface.
    /// Answers how it is watched, too.
    pub fn open(&mut self, device: &str, index: u32) -> Result<(PortSockets, String), OpenError> {
        // Whatever the way is now: before Linux 6.6 an earlier process, killed, has left a filter, which drops what is no longer ours.
        if let Err(error) = remove_stale(device) {
            return Ok((PortSockets::open(device, index)?, format!("packet socket ({error})")));
        }
        let Some(programs) = &mut self.programs else {
            return Ok((PortSockets::open(device, index)?, "packet socket".into()));
        };
        // Those of a device that was replaced are gone with it.
        let _ = programs.detach(device);
        let sockets = PortSockets::open_behind_tap(device, index);
        let watched = sockets.map_err(|error| error.to_string()).and_then(|sockets| {
            let how = attach(programs, device, self.xdp).map_err(|error| error.to_string())?;
            Ok((sockets, how))
        });
        watched.or_else(|why| {
            let _ = programs.detach(device);
            Ok((PortSockets::open(device, index)?, format!("packet socket ({why})")))
        })
    }

    /// Takes the programs off an interface; one that is gone has none.
    pub fn close(&mut self, device: &str) -> Result<(), FastPathError> {
        self.programs.as_mut().map_or(Ok(()), |programs| programs.detach(device))
    }
}

fn attach(programs: &mut Programs, device: &str, xdp: bool) -> Result<String, FastPathError> {
    let below = programs.attach_tc(device)?;
    if !xdp {
        return Ok(below.to_string());
    }
    let above = programs.attach_xdp(device)?;
    Ok(format!("{above} and {below}"))
}
