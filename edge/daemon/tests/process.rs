//! The daemon as a process: its command line, its socket, its end.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use notify::{Notify, PATIENCE};

mod notify;

const CONF: &str = "# a node alone, without interfaces\n\nadd ns ip 198.51.100.9 255.255.255.0 -type SNIP\n";

struct Daemon {
    child: Child,
    folder: tempfile::TempDir,
}

fn write_conf(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("ns.conf");
    std::fs::write(&path, text).unwrap();
    path
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfastd"));
    command.arg("--config").arg(folder.join("ns.conf"));
    command.arg("--state").arg(folder.join("state")).arg("--socket").arg(folder.join("hf.sock"));
    command.args(["--max-flows", "1024"]);
    command
}

fn check(text: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    write_conf(folder.path(), text);
    command(folder.path()).arg("--check").output().unwrap()
}

impl Daemon {
    /// Starts one and waits until it says that it is ready.
    fn start() -> Daemon {
        Daemon::start_with(|_| {})
    }

    fn start_with(change: impl FnOnce(&mut Command)) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        write_conf(folder.path(), CONF);
        let notify = Notify::bind(&folder.path().join("notify"));
        let mut command = command(folder.path());
        command.env("NOTIFY_SOCKET", folder.path().join("notify")).stderr(Stdio::null());
        change(&mut command);
        let child = command.spawn().unwrap();
        let daemon = Daemon { child, folder };
        assert_eq!(notify.word().expect("word from the daemon"), "READY=1");
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("hf.sock")
    }

    fn connect(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }

    fn signal(&self, signal: i32) {
        // SAFETY: our own child, not yet waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    fn wait_for_end(&mut self) -> std::process::ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "the daemon does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(client: &mut BufReader<UnixStream>, request: &[u8]) -> serde_json::Value {
    client.get_mut().write_all(request).unwrap();
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

#[test]
fn a_check_tells_every_error_with_its_line() {
    let good = check(CONF);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    assert!(String::from_utf8_lossy(&good.stdout).contains("the configuration is valid"));
    let bad = check("add ns ip 192.0.2.1 255.255.255.0 -type SNIP\n# fine\nadd nonsense\nadd server s1 300.1.1.1\n");
    assert_eq!(bad.status.code(), Some(1));
    let told = String::from_utf8_lossy(&bad.stderr);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines[0].contains("ns.conf:3: ERROR: ") && lines[0].contains("nonsense"), "{told}");
    assert!(lines[1].contains("ns.conf:4: ERROR: ") && lines[1].contains("300.1.1.1"), "{told}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("cannot read the configuration") && told.contains("ns.conf"), "{told}");
}

#[test]
fn it_answers_on_its_socket_survives_garbage_and_ends_when_told() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    let answer = ask(&mut client, b"{\"line\":\"show ns ip\"}\n");
    assert_eq!(answer["ok"], true, "{answer}");
    assert!(answer["text"].as_str().unwrap().contains("198.51.100.9"), "{answer}");
    let answer = ask(&mut client, b"{\"line\":\"show nonsense\"}\n");
    assert!(answer["text"].as_str().unwrap().contains("ERROR") && answer["ok"] == false, "{answer}");
    for garbage in [&b"\xff\xfe\x00\n"[..], b"{}\n", b"show ns ip\n", b"[[[[[[[[\n"] {
        assert_eq!(ask(&mut client, garbage)["ok"], false);
    }
    let mut long = vec![b'x'; 70_000];
    long.push(b'\n');
    assert_eq!(ask(&mut daemon.connect(), &long)["ok"], false);
    assert_eq!(ask(&mut client, b"{\"line\":\"show ns ip\"}\n")["ok"], true, "it still serves");
    daemon.signal(libc::SIGTERM);
    assert!(daemon.wait_for_end().success());
    assert!(!daemon.socket().exists(), "the socket file is gone");
    assert!(daemon.folder.path().join("state").join("term").exists());
}

#[test]
fn idle_clients_do_not_lock_the_operator_out() {
    let daemon = Daemon::start();
    let mut idle: Vec<_> = (0..64).map(|_| daemon.connect()).collect();
    // Half a request is no request.
    idle[0].get_mut().write_all(b"{\"line\":").unwrap();
    for _ in 0..3 {
        let answer = ask(&mut daemon.connect(), b"{\"line\":\"show ns ip\"}\n");
        assert_eq!(answer["ok"], true, "{answer}");
    }
    // It ends in a reset if the daemon had not come to read the half of a request.
    let ended = match idle[0].read_line(&mut String::new()) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(ended, "the longest idle one had to go");
    assert_eq!(ask(&mut idle[63], b"{\"line\":\"show ns ip\"}\n")["ok"], true);
}

/// A table of descriptors that grows later makes the thread that outgrows it wait for the kernel, for seconds on a busy machine; so does a
/// page that was taken away.
#[test]
fn it_takes_hold_of_descriptors_and_memory_at_its_start() {
    let daemon = Daemon::start();
    let proc = format!("/proc/{}", daemon.child.id());
    let number = |file: &str, label: &str| -> u64 {
        let text = std::fs::read_to_string(format!("{proc}/{file}")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(label)).expect("the kernel tells it");
        line.split_ascii_whitespace().next().unwrap().parse().unwrap()
    };
    let (size, limit) = (number("status", "FDSize:"), number("limits", "Max open files"));
    assert!(limit <= 4096 && size >= limit, "room for {size} of {limit}");
    assert!(number("status", "VmLck:") > 1000, "and its program is locked in memory, where that is allowed (root)");
}

#[test]
fn save_ns_config_replaces_the_file_with_what_runs() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    assert_eq!(ask(&mut client, b"{\"line\":\"add server kept 192.0.2.77\"}\n")["ok"], true);
    assert_eq!(ask(&mut client, b"{\"line\":\"save ns config\"}\n")["ok"], true);
    let saved = std::fs::read_to_string(daemon.folder.path().join("ns.conf")).unwrap();
    assert!(saved.contains("add server kept 192.0.2.77") && saved.contains("198.51.100.9"), "{saved}");
}

/// Whether any write to a file of this process fails from here on, as on a full disk.
fn set_full_disk(pid: u32, full: bool) {
    let room = if full { 0 } else { libc::RLIM_INFINITY };
    let limit = libc::rlimit { rlim_cur: room, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is readable; no old limits are asked for.
    let done = unsafe { libc::prlimit(pid as libc::pid_t, libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_save_on_a_full_disk_is_told_and_leaves_the_old_file() {
    // Else the kernel would end the daemon at such a write.
    let ignore_the_signal = || {
        // SAFETY: allowed between fork and exec.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        Ok(())
    };
    let daemon = Daemon::start_with(|command| {
        // SAFETY: the closure calls nothing that is not allowed there.
        unsafe { command.pre_exec(ignore_the_signal) };
    });
    let mut client = daemon.connect();
    assert_eq!(ask(&mut client, b"{\"line\":\"add server new 192.0.2.77\"}\n")["ok"], true);
    set_full_disk(daemon.child.id(), true);
    let answer = ask(&mut client, b"{\"line\":\"save ns config\"}\n");
    assert!(answer["ok"] == false && answer["text"].as_str().unwrap().contains("cannot save"), "{answer}");
    let path = daemon.folder.path().join("ns.conf");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), CONF);
    let names = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names(daemon.folder.path()).any(|name| name == ".ns.conf.new"), "the disk has its room back");
    set_full_disk(daemon.child.id(), false);
    assert_eq!(ask(&mut client, b"{\"line\":\"save ns config\"}\n")["ok"], true);
    assert!(std::fs::read_to_string(&path).unwrap().contains("add server new"));
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    let daemon = Daemon::start();
    let output = command(daemon.folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("another holdfastd"), "{told}");
}
