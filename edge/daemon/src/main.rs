//! `holdfastd`: the node's process. One data thread owns the node, one thread
//! watches interfaces, and the main thread does what may take its time.

mod args;
mod check;
mod clock;
mod control;
mod crash;
mod data;
mod dataplane;
mod heap;
mod holdings;
mod hooks;
mod key;
mod links;
mod log;
mod manage;
mod notify;
mod offloading;
mod peer;
mod poller;
mod precedence;
mod probe;
mod queue;
mod role_hooks;
mod store;
#[cfg(test)]
mod tests;
mod witness;

use anyhow::{Context, Result, bail};
use args::Args;
use clap::Parser;
use clock::Clock;
use data::{Driver, Pulse, Way};
use dataplane::{DataPlane, Plane};
use holdfast_engine::Limits;
use holdfast_fastpath::FlowMaps;
use holdfast_node::{Node, NodeOptions, Onlooker, StartError};
use links::{LinkJob, Links, SharedAddresses};
use log::Log;
use manage::Manager;
use notify::ServiceManager;
use queue::{Inbox, JOB_LIMIT, JobSender};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;
use store::Store;

#[global_allocator]
static HEAP: heap::HugePageHeap = heap::HugePageHeap;

/// Jobs that may wait for the interface watcher.
const LINK_JOB_LIMIT: usize = 256;

/// Packets of a flow before the fast path gets copies of it. A connection that is opened, asked and closed has some five
/// once it is established; with copies it cost a fifth more.
const OFFLOAD_AFTER: u8 = 8;

/// Time for taking the guard away at the end.
const GUARD_LIMIT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = Args::parse();
    match start(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("holdfastd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> Result<ExitCode> {
    let bytes = std::fs::read(&args.config)
        .with_context(|| format!("cannot read the configuration {}", args.config.display()))?;
    let (config, findings) = check::check(&bytes);
    for finding in &findings {
        eprintln!("{}:{finding}", args.config.display());
    }
    if !findings.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    if args.check {
        println!("{}: the configuration is valid", args.config.display());
        return Ok(ExitCode::SUCCESS);
    }
    end_process_on_panic();
    holdings::make_room_for_descriptors().context("cannot make room for descriptors")?;
    serve(args, config)?;
    Ok(ExitCode::SUCCESS)
}

/// A node without its data thread must not look alive. (Release builds abort anyway.)
fn end_process_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        crash::signals::note_panic(info);
        report(info);
        std::process::abort();
    }));
}

fn serve(args: &Args, config: String) -> Result<()> {
    let log = Arc::new(Log::new(args.log_format));
    if let Err(error) = holdings::keep_memory() {
        log.warn(&format!("the kernel may take memory away that is needed in time: {error:#}"));
    }
    let store = Store::open(&args.state, &args.config)?;
    let clock = Clock::start();
    let options = node_options(args, config, &store, clock)?;
    let secret = options.seed.rotate_left(17);
    let listener = control::bind(&args.socket)?;
    // Only after the socket: it is what tells that no other process lives on these files.
    let started = clock.unix_nanos_at_origin();
    let crash::Beginning { mut lives, quarantine, report } = crash::begin(&args.state, started / 1_000_000, &log);
    crash::signals::install(report, started).context("cannot catch deadly signals")?;
    let hooks = args.debug_hooks.as_deref().map(hooks::bind).transpose()?;
    let harm = Harm { quarantine, onlooker: if hooks.is_some() { &hooks::Victim } else { &crash::Recorder } };
    let (inbox_sender, inbox) = queue::inbox().context("cannot make the queue to the data thread")?;
    let (job_sender, jobs) = tokio::sync::mpsc::channel(JOB_LIMIT);
    let pulse = Arc::new(Pulse::default());
    let (plane, maps) = Plane::start(args.dataplane, options.limits.max_flows)?;
    let told = format!("data plane: {} ({})", plane.name(), plane.why());
    let fell_back = args.dataplane == DataPlane::Auto && maps.is_none();
    if fell_back {
        log.warn(&told)
    } else {
        log.info(&told)
    }
    let way = (plane.name(), plane.why().to_owned());
    let beginning = Beginning { options, harm, fast: (way, maps) };
    start_data_thread(clock, beginning, inbox, JobSender::new(job_sender), Arc::clone(&pulse), &args.config)?;

    let addresses = SharedAddresses::default();
    let (links, link_jobs) = sync_channel(LINK_JOB_LIMIT);
    let watcher = Links::new(inbox_sender.clone(), Arc::clone(&log), Arc::clone(&addresses), plane);
    links::watch_events(links.clone(), &log)?;
    let watcher = thread::Builder::new().name("links".to_owned()).spawn(move || watcher.run(&link_jobs))?;

    let manager = Manager {
        inbox: inbox_sender.clone(),
        links: links.clone(),
        addresses,
        store,
        log: Arc::clone(&log),
        pulse,
        manager: ServiceManager::from_environment(),
        secret,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, async {
        if let Some(socket) = hooks {
            log.warn("UNSAFE: --debug-hooks is on; this node does harm when it is asked to");
            tokio::task::spawn_local(hooks::serve(socket, inbox_sender, Arc::clone(&log)));
        }
        manager.run(jobs, listener).await
    });
    // What still runs in the background (a probe, a save) need not end first.
    runtime.shutdown_background();
    let _ = std::fs::remove_file(&args.socket);
    let _ = links.try_send(LinkJob::Stop);
    wait_for(&watcher, GUARD_LIMIT);
    if outcome.is_ok()
        && let Err(error) = lives.end()
    {
        log.warn(&format!("{error:#}"));
    }
    outcome
}

/// What the data thread is told of crashes: those before, and who writes down what precedes the next one.
struct Harm {
    quarantine: Option<Duration>,
    onlooker: &'static dyn Onlooker,
}

fn node_options(args: &Args, config: String, store: &Store, clock: Clock) -> Result<NodeOptions> {
    let mut limits = Limits { offload_after: OFFLOAD_AFTER, ..Limits::default() };
    if let Some(max_flows) = args.max_flows {
        limits.max_flows = max_flows;
    }
    Ok(NodeOptions {
        boot: u64::from_ne_bytes(random()?),
        seed: u64::from_ne_bytes(random()?),
        secret: random()?,
        password_key: store.load_password_key(random()?)?,
        stored_term: store.load_term()?,
        config,
        limits,
        unix_nanos_at_origin: clock.unix_nanos_at_origin(),
        host_name: host_name(),
    })
}

/// What the data thread begins with.
struct Beginning {
    options: NodeOptions,
    harm: Harm,
    fast: (Way, Option<FlowMaps>),
}

/// Starts the data thread and waits until the node is born, or is not.
fn start_data_thread(
    clock: Clock,
    Beginning { options, harm, fast }: Beginning,
    inbox: Inbox,
    jobs: JobSender,
    pulse: Arc<Pulse>,
    config: &Path,
) -> Result<()> {
    let (born, birth) = sync_channel::<Result<(), String>>(1);
    let place = config.display().to_string();
    let body = move || {
        crash::signals::prepare_this_thread();
        let driver = match new_node(clock, options, &harm) {
            Ok(node) => Driver::new(clock, node, fast, inbox, jobs, pulse).map_err(|error| error.to_string()),
            Err(error) => Err(format!("{place}:{}: {}", error.line, error.error)),
        };
        match driver {
            Ok(driver) => {
                let _ = born.send(Ok(()));
                driver.run();
            }
            Err(error) => drop(born.send(Err(error))),
        }
    };
    thread::Builder::new().name("data".to_owned()).spawn(body)?;
    match birth.recv() {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => bail!("{error}"),
        Err(_) => bail!("the data thread ended at its start"),
    }
}

fn new_node(clock: Clock, options: NodeOptions, harm: &Harm) -> Result<Node, StartError> {
    let mut node = Node::new(clock.now(), options)?;
    node.set_onlooker(harm.onlooker);
    if let Some(length) = harm.quarantine {
        node.quarantine_intake(clock.now(), length);
    }
    Ok(node)
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: `bytes` is `N` writable bytes. So few come all at once, or not at all.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(count) != Ok(N) {
        bail!("cannot get random numbers: {}", std::io::Error::last_os_error());
    }
    Ok(bytes)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn wait_for(thread: &thread::JoinHandle<()>, limit: Duration) {
    let started = std::time::Instant::now();
    while !thread.is_finished() && started.elapsed() < limit {
        thread::sleep(Duration::from_millis(5));
    }
}
