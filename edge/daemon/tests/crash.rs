//! How the daemon dies by itself, what it leaves behind, and what its next lives make of it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use notify::{Notify, PATIENCE};

mod notify;

const CONF: &str = "set ns config -IPAddress 192.0.2.10 -netmask 255.255.255.0\n\
    add ns ip 198.51.100.9 255.255.255.0 -type SNIP\nset ns rpcNode 192.0.2.10 -password s3cret\n";

/// A node's files, and its lives one after the other.
struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Host {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ns.conf"), CONF).unwrap();
        Host { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfastd"));
        command.arg("--config").arg(self.path("ns.conf"));
        command.arg("--state").arg(self.path("state")).arg("--socket").arg(self.path("hf.sock"));
        command.args(["--max-flows", "1024"]);
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        command.env("NOTIFY_SOCKET", self.path("notify")).stderr(log);
        command
    }

    /// A life that has begun well.
    fn start(&self, mut command: Command) -> Child {
        let notify = Notify::bind(&self.path("notify"));
        let child = command.spawn().unwrap();
        let word = notify.word().unwrap_or_else(|error| panic!("not ready: {error}\n{}", self.log()));
        assert!(word.starts_with("READY=1"), "{word}");
        child
    }

    /// A life that a signal ends.
    fn live_until(&self, signal: i32) {
        let child = self.start(self.command());
        // SAFETY: our own child, not yet waited for.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        let status = wait_for_end(child);
        if signal == libc::SIGTERM {
            assert!(status.success(), "{status}");
        } else {
            assert_eq!(status.signal(), Some(signal), "{status}");
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn wait_for_log(&self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert!(started.elapsed() < PATIENCE, "no {text:?} in\n{}", self.log());
            std::thread::yield_now();
        }
    }

    /// The reports that are kept, oldest first.
    fn reports(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path("state").join("crashes")) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
        paths.sort();
        paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    }
}

fn wait_for_end(mut child: Child) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("the daemon does not end");
        }
        std::thread::yield_now();
    }
}

/// Lets every write beyond this many bytes of a file fail, as on a full disk.
fn with_full_disk(command: &mut Command) {
    let limit = || {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both calls are allowed between fork and exec.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &none);
        }
        Ok(())
    };
    // SAFETY: the closure calls nothing that is not allowed there.
    unsafe { command.pre_exec(limit) };
}

#[test]
fn each_deadly_signal_leaves_a_report_and_ends_the_process_as_ever() {
    let host = Host::new();
    for (index, signal) in
        [libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE].into_iter().enumerate()
    {
        host.live_until(signal);
        host.live_until(libc::SIGTERM);
        let reports = host.reports();
        assert_eq!(reports.len(), index + 1, "{}", host.log());
        assert!(reports.iter().any(|report| report.contains(&format!("cause: signal {signal} ("))), "{reports:?}");
        for report in reports {
            assert!(report.contains(&format!("sent by process {}", std::process::id())), "{report}");
            assert!(report.ends_with("End of the report\n"), "{report}");
            assert!(!report.contains("s3cret"), "{report}");
        }
    }
    assert_eq!(
        host.log().matches("WARN the last life of this node ended by a crash; what preceded it is in").count(),
        5
    );
}

#[test]
fn a_kill_is_told_and_is_no_crash() {
    let host = Host::new();
    for _ in 0..4 {
        host.live_until(libc::SIGKILL);
    }
    let log = host.log();
    assert_eq!(log.matches("INFO the last life of this node ended without a word").count(), 3, "{log}");
    assert!(host.reports().is_empty() && !log.contains("quarantine"), "{log}");
}

#[test]
fn the_third_restart_within_a_minute_is_quarantined_and_an_orderly_stop_forgets() {
    let host = Host::new();
    for life in 0..3 {
        host.live_until(libc::SIGABRT);
        assert!(!host.log().contains("quarantine"), "life {life}:\n{}", host.log());
    }
    let told = "WARN quarantine: this node crashed again and again; it takes no mirror records for 60 s";
    host.live_until(libc::SIGTERM);
    host.wait_for_log(told);
    host.live_until(libc::SIGTERM);
    assert_eq!(host.log().matches(told).count(), 1, "{}", host.log());
}

#[test]
fn a_panic_tells_where_it_was_and_hooks_are_there_only_when_asked_for() {
    let host = Host::new();
    let mut command = host.command();
    command.arg("--debug-hooks").arg(host.path("hooks"));
    let child = host.start(command);
    host.wait_for_log("WARN UNSAFE: --debug-hooks is on");
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"nonsense", host.path("hooks")).unwrap();
    sender.send_to(b"lose", host.path("hooks")).unwrap();
    host.wait_for_log("debug hook: there is no such flow");
    sender.send_to(b"abort\n", host.path("hooks")).unwrap();
    assert_eq!(wait_for_end(child).signal(), Some(libc::SIGABRT));
    fs::remove_file(host.path("hooks")).unwrap();
    host.live_until(libc::SIGTERM);
    let reports = host.reports();
    assert_eq!(reports.len(), 1, "{}", host.log());
    let report = &reports[0];
    assert!(report.contains("panic: thread \"data\": panicked at") && report.contains("debug hook: abort"), "{report}");
    assert!(report.contains("the data thread was taking inputs of other threads"), "{report}");
    assert!(!report.contains("sent by process"), "{report}");
    assert!(!Path::new(&host.path("hooks")).exists(), "no hooks without the option");
}

#[test]
fn a_full_disk_costs_the_memory_of_crashes_and_nothing_else() {
    let host = Host::new();
    host.live_until(libc::SIGTERM);
    let mut command = host.command();
    with_full_disk(&mut command);
    // The log is a file as well: it goes where there is room.
    command.stderr(std::process::Stdio::piped());
    let mut child = host.start(command);
    // SAFETY: our own child, not yet waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut told).unwrap();
    assert!(wait_for_end(child).success(), "{told}");
    assert!(told.contains("WARN cannot write") && told.contains("crashes from here on may be forgotten"), "{told}");
}

#[test]
fn a_damaged_memory_is_told_and_begun_anew() {
    let host = Host::new();
    host.live_until(libc::SIGTERM);
    fs::write(host.path("state").join("lives"), b"\xff\x00garbage").unwrap();
    host.live_until(libc::SIGTERM);
    host.wait_for_log("lives cannot be read: earlier crashes are forgotten");
    host.live_until(libc::SIGTERM);
    assert_eq!(host.log().matches("cannot be read").count(), 1, "{}", host.log());
}
