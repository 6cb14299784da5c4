//! Network namespaces that vanish with their owner.

use crate::sys;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const NETNS_DIR: &str = "/run/netns";

/// One named network namespace, made here and removed on drop together with the processes in it.
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Creates `hf<our pid>-<part>`, with its loopback up and without duplicate address detection.
    pub fn create(part: &str) -> Result<Namespace> {
        let name = format!("hf{}-{part}", std::process::id());
        ip(&["netns", "add", &name], "")?;
        let file = File::open(Path::new(NETNS_DIR).join(&name)).context("open the namespace")?;
        let namespace = Namespace { name, file };
        namespace.ip_batch("link set lo up\n")?;
        namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
        namespace.sysctl("net/ipv6/conf/all/accept_dad", "0")?;
        namespace.sysctl("net/ipv6/conf/default/accept_ra", "0")?;
        Ok(namespace)
    }

    /// Its full name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs several `ip` commands (one a line, without the word `ip`) inside.
    pub fn ip_batch(&self, lines: &str) -> Result<()> {
        ip(&["-n", &self.name, "-batch", "-"], lines).map(drop)
    }

    /// The output of one `ip` command inside.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(args);
        ip(&all, "")
    }

    /// Writes one kernel setting below /proc/sys, of this namespace.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.inside(|| {
            std::fs::write(Path::new("/proc/sys").join(path), value).with_context(|| format!("set {path} to {value}"))
        })
    }

    /// Runs `work` on a thread of its own inside the namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                sys::enter_netns(&self.file).context("enter the namespace")?;
                work()
            });
            thread.join().map_err(|_| anyhow::anyhow!("the thread inside {} panicked", self.name))?
        })
    }

    /// A command that will run inside, in a process group of its own (a Ctrl-C is ours to handle), and that dies when
    /// this process dies.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let file = self.file.try_clone()?;
        let mut command = Command::new(program);
        command.process_group(0);
        // SAFETY: between fork and exec only setns(2) and prctl(2) are called; both are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                sys::enter_netns(&file)?;
                sys::die_with_parent()
            });
        }
        Ok(command)
    }

    /// Runs a program inside to its end; an error carries what it said.
    pub fn run(&self, program: &str, args: &[&str], input: &str) -> Result<String> {
        let mut command = self.command(program)?;
        command.args(args);
        run(command, input).with_context(|| format!("{program} {}", args.join(" ")))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Kills what runs inside (by pid) and deletes the namespace; best effort, used by destructors.
fn remove(name: &str) {
    for _ in 0..50 {
        let pids: Vec<u32> = ip(&["netns", "pids", name], "")
            .map(|text| text.split_whitespace().filter_map(|word| word.parse().ok()).collect())
            .unwrap_or_default();
        let others: Vec<u32> = pids
            .into_iter()
            .filter(|pid| *pid != std::process::id() && sys::process_state(*pid) != Some('Z'))
            .collect();
        if others.is_empty() {
            break;
        }
        for pid in others {
            let _ = sys::signal(pid, libc::SIGKILL);
        }
        sys::pause(Duration::from_millis(10));
    }
    if let Err(error) = ip(&["netns", "del", name], "") {
        eprintln!("could not remove namespace {name}: {error:#}");
    }
}

/// Removes namespaces and directories of runs whose process is gone. Touches nothing else: a namespace must be called
/// `hf<pid>-<part>` with a part of ours, a directory must carry our marker file.
pub fn remove_leftovers(parts: &[&str], directory_prefix: &str, marker: &str) {
    let gone = |pid: u32| pid == std::process::id() || !Path::new("/proc").join(pid.to_string()).exists();
    for entry in std::fs::read_dir(NETNS_DIR).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((pid, part)) = name.strip_prefix("hf").and_then(|rest| rest.split_once('-')) else { continue };
        if pid.parse().is_ok_and(gone) && parts.contains(&part) {
            println!("removing {name}, left over by a run that is gone");
            remove(&name);
        }
    }
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix(directory_prefix) else { continue };
        if pid.parse().is_ok_and(gone) && entry.path().join(marker).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Runs `ip` with an optional standard input.
pub fn ip(args: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("ip");
    command.args(args);
    run(command, input).with_context(|| format!("ip {} <<< {input}", args.join(" ")))
}

/// Runs a command to its end with `input` on its standard input.
pub fn run(mut command: Command, input: &str) -> Result<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading its input is no failure of ours: its exit code tells.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
