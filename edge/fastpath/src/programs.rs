//! The other half: loading, attaching, running a program on a frame of one's own.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::links::LinkOrder;
use aya::programs::tc::{self, NlOptions, SchedClassifierLinkId, TcAttachOptions, TcError};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, TestRun, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use holdfast_fastpath_layout::{COUNTS, FLOATING, FLOWS, HOST, NODE, TAPS};

use crate::error::FastPathError;
use crate::maps::FlowMaps;

/// The program, as built by `cargo xtask ebpf`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!("../fastpath.o");

/// Name of the tc program. A filter of this name on a clsact qdisc is ours.
const TC: &str = "holdfast_tc";
/// Name of the XDP program.
const XDP: &str = "holdfast_xdp";

/// Size of `struct __sk_buff`, and where `gso_size` stands in it.
const SK_BUFF_LEN: usize = 192;
const GSO_SIZE: usize = 176;

/// How much the maps may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries: two for each flow. Memory is taken as they come, but for 16
    /// bytes each at once.
    pub entries: u32,
}

/// One of the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// tc.
    Tc,
    /// XDP.
    Xdp,
}

/// How a program hangs on an interface, for `show` output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A tcx link (Linux 6.6): gone with the process.
    Tcx,
    /// A filter of a clsact qdisc: it outlives a process that is killed, fenced by
    /// the lease, until the next one takes it away.
    Clsact,
    /// An XDP link in the driver: gone with the process.
    Xdp,
}

impl fmt::Display for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Attachment::Tcx => "tcx",
            Attachment::Clsact => "clsact",
            Attachment::Xdp => "XDP",
        })
    }
}

/// A frame for a test run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial<'a> {
    /// From the Ethernet header on.
    pub frame: &'a [u8],
    /// The payload of each segment of a super-packet, for tc; 0 for one packet.
    pub segment: u16,
    /// How often it is run.
    pub repeat: u32,
}

/// What became of a frame in a test run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What the program answered.
    pub answer: u32,
    /// Length of the frame afterwards.
    pub len: usize,
    /// Time per run, as the kernel measured it.
    pub time: Duration,
}

/// A link that was made, and how to take it back.
enum Link {
    Tc(SchedClassifierLinkId),
    Xdp(XdpLinkId),
}

/// The loaded programs and where they hang.
pub struct Programs {
    ebpf: Ebpf,
    links: BTreeMap<String, Vec<Link>>,
}

/// Loads both programs, attached to nothing. Their gate is closed: until
/// [`FlowMaps::set_lease`] nothing of the node's is forwarded.
pub fn load(limits: &Limits) -> Result<(Programs, FlowMaps), FastPathError> {
    // SAFETY: object and layout are built from the same sources; tidy compares their digest.
    unsafe { load_object(OBJECT, limits) }
}

/// [`load`] with an object that was built a moment ago.
///
/// # Safety
///
/// It was built with the layout that this crate was built with: the kernel copies
/// keys and entries of the sizes that the object names.
pub unsafe fn load_object(object: &[u8], limits: &Limits) -> Result<(Programs, FlowMaps), FastPathError> {
    let refused = |what| move |source: ProgramError| FastPathError::Load { what, source: Box::new(source) };
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(FLOWS, limits.entries.max(1));
    let mut ebpf =
        loader.load(object).map_err(|source| FastPathError::Load { what: "maps", source: Box::new(source) })?;
    classifier(&mut ebpf)?.load().map_err(refused("tc program"))?;
    xdp(&mut ebpf)?.load().map_err(refused("XDP program"))?;
    let [flows, floating, host, taps] = [FLOWS, FLOATING, HOST, TAPS].map(|name| hash(&ebpf, name));
    let all = [flows?, floating?, host?, taps?, array(&ebpf, NODE)?];
    // SAFETY: the caller's promise.
    let maps = unsafe { FlowMaps::new(all, counters(&mut ebpf)?) }?;
    Ok((Programs { ebpf, links: BTreeMap::new() }, maps))
}

impl Programs {
    /// Attaches the tc program at the ingress of `device`, in front of other
    /// programs: by tcx, or before Linux 6.6 by clsact, from which filters of an
    /// earlier process of ours are removed first.
    pub fn attach_tc(&mut self, device: &str) -> Result<Attachment, FastPathError> {
        let how = |how| {
            move |source: ProgramError| FastPathError::Attach { device: device.into(), how, source: Box::new(source) }
        };
        let program = classifier(&mut self.ebpf)?;
        let tcx = TcAttachOptions::TcxOrder(LinkOrder::first());
        match program.attach_with_options(device, TcAttachType::Ingress, tcx) {
            Ok(link) => {
                self.keep(device, Link::Tc(link));
                return Ok(Attachment::Tcx);
            }
            Err(error) if lacks_tcx(&error) => {}
            Err(error) => return Err(how("tcx")(error)),
        }
        self.attach_clsact(device)?;
        Ok(Attachment::Clsact)
    }

    /// [`Programs::attach_tc`] as on a kernel without tcx.
    pub fn attach_clsact(&mut self, device: &str) -> Result<(), FastPathError> {
        let how = |source: ProgramError| FastPathError::Attach {
            device: device.into(),
            how: "clsact",
            source: Box::new(source),
        };
        match tc::qdisc_add_clsact(device) {
            Ok(()) => {}
            // It may be somebody else's; what matters is that it is there.
            Err(error) if is_there_already(&error) => {}
            Err(error) => return Err(how(error.into())),
        }
        remove_stale(device)?;
        let first = TcAttachOptions::Netlink(NlOptions { priority: 1, ..NlOptions::default() });
        let link =
            classifier(&mut self.ebpf)?.attach_with_options(device, TcAttachType::Ingress, first).map_err(how)?;
        self.keep(device, Link::Tc(link));
        Ok(())
    }

    /// Attaches the XDP program to `device`, in its driver and nowhere else: the
    /// generic form is slower than tc. Not where frames may come with a partial
    /// checksum (veth whose other end has `tx on`, virtio with `guest_csum`).
    pub fn attach_xdp(&mut self, device: &str) -> Result<Attachment, FastPathError> {
        let link = xdp(&mut self.ebpf)?.attach(device, XdpMode::Driver).map_err(|source| FastPathError::Attach {
            device: device.into(),
            how: "XDP",
            source: Box::new(source),
        })?;
        self.keep(device, Link::Xdp(link));
        Ok(Attachment::Xdp)
    }

    fn keep(&mut self, device: &str, link: Link) {
        self.links.entry(device.to_owned()).or_default().push(link);
    }

    /// Takes whatever hangs on `device` away. An interface that is gone has
    /// nothing any more: that is no error.
    pub fn detach(&mut self, device: &str) -> Result<(), FastPathError> {
        for link in self.links.remove(device).unwrap_or_default() {
            let detached = match link {
                Link::Tc(link) => classifier(&mut self.ebpf)?.detach(link),
                Link::Xdp(link) => xdp(&mut self.ebpf)?.detach(link),
            };
            if let Err(error) = detached
                && !is_gone(&error)
            {
                let source = Box::new(error);
                return Err(FastPathError::Attach { device: device.into(), how: "detaching", source });
            }
        }
        Ok(())
    }

    /// How many instructions the verifier walked; `None` before Linux 5.16.
    pub fn verified(&mut self, which: Which) -> Result<Option<u32>, FastPathError> {
        let info = match which {
            Which::Tc => classifier(&mut self.ebpf)?.info(),
            Which::Xdp => xdp(&mut self.ebpf)?.info(),
        };
        let info = info.map_err(|source| FastPathError::Load { what: "information", source: Box::new(source) })?;
        Ok(info.verified_instruction_count())
    }

    /// Runs a program on a frame of its own, `repeat` times in a row on the same
    /// copy, and writes what it left into `out` (`BPF_PROG_TEST_RUN`). Nothing
    /// leaves the machine.
    pub fn run(&mut self, which: Which, trial: Trial<'_>, out: &mut [u8]) -> Result<Ran, FastPathError> {
        let context = context_of(trial.segment);
        let options = TestRunOptions {
            data_in: Some(trial.frame),
            data_out: Some(out),
            repeat: trial.repeat,
            ctx_in: (trial.segment != 0 && which == Which::Tc).then_some(&context[..]),
            ..TestRunOptions::default()
        };
        let result = match which {
            Which::Tc => classifier(&mut self.ebpf)?.test_run(options),
            Which::Xdp => xdp(&mut self.ebpf)?.test_run(options),
        };
        let result = result.map_err(|source| FastPathError::Load { what: "test run", source: Box::new(source) })?;
        Ok(Ran { answer: result.return_value, len: result.data_size_out as usize, time: result.duration })
    }
}

/// A `struct __sk_buff` that says nothing but the payload of each segment.
fn context_of(segment: u16) -> [u8; SK_BUFF_LEN] {
    let mut context = [0; SK_BUFF_LEN];
    context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&u32::from(segment).to_ne_bytes());
    context
}

/// Removes filters that a killed process of ours left on the clsact qdisc of `device`.
pub fn remove_stale(device: &str) -> Result<(), FastPathError> {
    match tc::qdisc_detach_program(device, TcAttachType::Ingress, TC) {
        Ok(()) => Ok(()),
        Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(FastPathError::Attach { device: device.into(), how: "removing stale filters", source: Box::new(error) })
        }
    }
}

fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, FastPathError> {
    let program = ebpf.program_mut(TC).ok_or(FastPathError::Missing(TC))?;
    program.try_into().map_err(|_| FastPathError::Missing(TC))
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, FastPathError> {
    let program = ebpf.program_mut(XDP).ok_or(FastPathError::Missing(XDP))?;
    program.try_into().map_err(|_| FastPathError::Missing(XDP))
}

fn hash(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, FastPathError> {
    match ebpf.map(name) {
        Some(Map::HashMap(data)) => copy_fd(name, data),
        Some(_) | None => Err(FastPathError::Missing(name)),
    }
}

fn array(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, FastPathError> {
    match ebpf.map(name) {
        Some(Map::Array(data)) => copy_fd(name, data),
        Some(_) | None => Err(FastPathError::Missing(name)),
    }
}

fn counters(ebpf: &mut Ebpf) -> Result<PerCpuArray<MapData, u64>, FastPathError> {
    let map = ebpf.take_map(COUNTS).ok_or(FastPathError::Missing(COUNTS))?;
    PerCpuArray::try_from(map).map_err(|_| FastPathError::Missing(COUNTS))
}

/// A descriptor of our own; it closes on exec, as the loader's does.
fn copy_fd(map: &'static str, data: &MapData) -> Result<OwnedFd, FastPathError> {
    let copied = data.fd().as_fd().try_clone_to_owned();
    copied.map_err(|source| FastPathError::Map { map, attempt: "copy its descriptor", source })
}

/// Before Linux 6.6 the kernel knows no such kind of link.
fn lacks_tcx(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::EINVAL))
}

fn is_there_already(error: &TcError) -> bool {
    matches!(error, TcError::AlreadyAttached) || os_error(error) == Some(libc::EEXIST)
}

fn is_gone(error: &ProgramError) -> bool {
    matches!(os_error(error), Some(libc::ENODEV | libc::ENXIO | libc::ENOENT | libc::ENOLINK))
}

/// The number of the system's error that caused `error`.
fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(next) = cause {
        if let Some(number) = next.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return Some(number);
        }
        cause = next.source();
    }
    None
}
