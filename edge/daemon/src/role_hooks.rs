//! The operator's programs that are run when this node's role changes.
//!
//! Runs of one hook follow each other in the order of the changes; different
//! hooks do not wait for each other. A program gets no arguments, no input, and an
//! environment that says what has happened. What it prints goes to the log.

use crate::log::Log;
use holdfast_node::HookRun;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::spawn_local;
use tokio::time::timeout;

/// Runs of one hook that may wait for the one before.
const RUNS_LIMIT: usize = 16;
/// Bytes of a program's output that are kept; the rest is read and thrown away.
const OUTPUT_LIMIT: usize = 8 * 1024;
/// Lines of it that go to the log.
const LINES_LIMIT: usize = 40;
/// After a program has ended, what it left running may hold its output open so long.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);
/// Where programs find other programs.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs hooks.
pub struct RoleHooks {
    log: Arc<Log>,
    waiting: Rc<Waiting>,
}

/// The hooks that run, by name, and for each what waits for it to end.
type Waiting = RefCell<HashMap<String, VecDeque<HookRun>>>;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What it printed, both streams.
    pub lines: Vec<String>,
    /// What went wrong, if anything did.
    pub complaint: Option<String>,
}

impl RoleHooks {
    /// No hook has been run yet.
    pub fn new(log: Arc<Log>) -> RoleHooks {
        RoleHooks { log, waiting: Rc::default() }
    }

    /// Runs a hook as soon as its former runs have ended.
    pub fn take(&self, run: HookRun) {
        let mut waiting = self.waiting.borrow_mut();
        match waiting.get_mut(&run.name) {
            Some(runs) if runs.len() >= RUNS_LIMIT => {
                let name = run.name;
                self.log.warn(&format!("hook {name}: too many runs wait for the one before; this one is left out"));
            }
            Some(runs) => runs.push_back(run),
            None => {
                waiting.insert(run.name.clone(), VecDeque::new());
                spawn_local(work(Arc::clone(&self.log), Rc::clone(&self.waiting), run));
            }
        }
    }
}

/// Runs a hook, and again as long as runs of it wait; then nothing is left of it here.
async fn work(log: Arc<Log>, waiting: Rc<Waiting>, first: HookRun) {
    let name = first.name.clone();
    let mut next = Some(first);
    while let Some(hook) = next.take() {
        let ending = run(&hook).await;
        for line in &ending.lines {
            log.info(&format!("hook {}: {line}", hook.name));
        }
        if let Some(complaint) = &ending.complaint {
            log.warn(&format!("hook {}: {complaint}", hook.name));
        }
        let mut waiting = waiting.borrow_mut();
        next = waiting.get_mut(&name).and_then(VecDeque::pop_front);
        if next.is_none() {
            waiting.remove(&name);
        }
    }
}

/// Runs a program to its end, or to the end of its time.
pub async fn run(hook: &HookRun) -> Ending {
    let mut command = Command::new(&hook.command);
    command.env_clear().env("PATH", SEARCH_PATH).envs(hook.environment.iter().map(|(name, value)| (*name, value)));
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: what it has started is ended with it.
    command.process_group(0).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let complaint = Some(format!("cannot run {}: {error}", hook.command));
            return Ending { lines: Vec::new(), complaint };
        }
    };
    let output = [RefCell::default(), RefCell::default()];
    let streams = (child.stdout.take(), child.stderr.take());
    let collecting = async { tokio::join!(collect(streams.0, &output[0]), collect(streams.1, &output[1])) };
    match timeout(hook.timeout, finish(&mut child, collecting)).await {
        Ok(status) => {
            let complaint = match status {
                Ok(status) if status.success() => None,
                Ok(status) => Some(format!("{} ended with {status}", hook.command)),
                Err(error) => Some(format!("cannot wait for {}: {error}", hook.command)),
            };
            Ending { lines: lines(&output), complaint }
        }
        Err(_) => {
            end_group(&mut child).await;
            let complaint = format!("{} was ended: it ran for {} s", hook.command, hook.timeout.as_secs_f64());
            Ending { lines: lines(&output), complaint: Some(complaint) }
        }
    }
}

/// Waits for the end of a program, and a little for the end of its output.
async fn finish(child: &mut Child, collecting: impl Future<Output = ((), ())>) -> std::io::Result<ExitStatus> {
    tokio::pin!(collecting);
    let early = tokio::select! {
        _ = &mut collecting => None,
        status = child.wait() => Some(status),
    };
    match early {
        None => child.wait().await,
        Some(status) => {
            let _ = timeout(OUTPUT_GRACE, collecting).await;
            status
        }
    }
}

/// Ends a program and what it has started.
async fn end_group(child: &mut Child) {
    // Still ours: it was not waited for, so its number names nobody else.
    if let Some(group) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // SAFETY: plain system call.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    let _ = child.wait().await;
}

/// Keeps the beginning of a stream; reads it to its end.
async fn collect(stream: Option<impl AsyncRead + Unpin>, kept: &RefCell<Vec<u8>>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 1024];
    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
        let mut kept = kept.borrow_mut();
        let room = OUTPUT_LIMIT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..len.min(room)]);
    }
}

/// Printable lines, no more than the log should have.
fn lines(streams: &[RefCell<Vec<u8>>]) -> Vec<String> {
    let texts = streams.iter().map(|bytes| String::from_utf8_lossy(&bytes.borrow()).into_owned());
    let clean = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    let all: Vec<String> = texts.flat_map(|text| text.lines().map(clean).collect::<Vec<_>>()).collect();
    all.into_iter().filter(|line| !line.trim().is_empty()).take(LINES_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Instant;

    fn hook(folder: &Path, script: &str, timeout_ms: u64) -> HookRun {
        let path = folder.join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        HookRun {
            name: "h".into(),
            command: path.display().to_string(),
            timeout: Duration::from_millis(timeout_ms),
            environment: vec![("HOLDFAST_ROLE", "Primary".into()), ("HOLDFAST_TERM", "7".into())],
        }
    }

    fn outcome(script: &str, timeout_ms: u64) -> Ending {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(&hook(folder.path(), script, timeout_ms)))
    }

    #[test]
    fn a_hook_finds_in_its_environment_what_has_happened_and_nothing_else() {
        let ending = outcome("echo \"$HOLDFAST_ROLE $HOLDFAST_TERM $HOME.\"; echo loud >&2", 5000);
        assert_eq!(ending, Ending { lines: vec!["Primary 7 .".into(), "loud".into()], complaint: None });
    }

    #[test]
    fn a_hook_that_fails_is_told() {
        let ending = outcome("exit 3", 5000);
        assert!(ending.complaint.is_some_and(|text| text.contains("exit status: 3")));
    }

    #[test]
    fn a_hook_that_does_not_end_is_ended_with_all_that_it_started() {
        let began = Instant::now();
        let ending = outcome("sleep 60 & sleep 60", 200);
        assert!(ending.complaint.is_some_and(|text| text.contains("was ended: it ran for 0.2 s")));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn what_a_hook_leaves_running_does_not_keep_the_next_one_waiting() {
        let began = Instant::now();
        let ending = outcome("echo started; sleep 20 &", 60_000);
        assert_eq!(ending, Ending { lines: vec!["started".into()], complaint: None });
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_hook_that_talks_without_end_fills_no_memory() {
        let ending = outcome("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done", 20_000);
        assert_eq!((ending.lines.len(), ending.complaint), (LINES_LIMIT, None));
    }

    #[test]
    fn a_hook_that_is_not_there_is_told() {
        let missing =
            HookRun { command: "/nonexistent/hook".into(), ..hook(tempfile::tempdir().unwrap().path(), "", 1) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ending = runtime.block_on(run(&missing));
        assert!(ending.complaint.is_some_and(|text| text.starts_with("cannot run /nonexistent/hook")));
    }

    #[test]
    fn runs_of_a_hook_follow_each_other_and_then_nothing_is_left_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let said = folder.path().join("said");
        let script = hook(folder.path(), &format!("echo \"$HOLDFAST_TERM\" >> {}", said.display()), 20_000);
        let hooks = RoleHooks::new(Arc::new(Log::new(crate::log::Format::Text)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        for _ in 0..2 {
            runtime.block_on(local.run_until(async {
                for term in 0..3 {
                    let environment = vec![("HOLDFAST_TERM", term.to_string())];
                    hooks.take(HookRun { environment, ..script.clone() });
                }
                let other = HookRun { name: "other".into(), command: "/bin/true".into(), ..script.clone() };
                hooks.take(other);
                assert_eq!(hooks.waiting.borrow().len(), 2);
            }));
            let done = async {
                while !hooks.waiting.borrow().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            let ended = runtime.block_on(local.run_until(async { timeout(Duration::from_secs(20), done).await }));
            ended.expect("all hooks end");
        }
        assert_eq!(std::fs::read_to_string(said).unwrap(), "0\n1\n2\n0\n1\n2\n");
    }

    #[test]
    fn no_more_runs_wait_than_may() {
        let folder = tempfile::tempdir().unwrap();
        let hooks = RoleHooks::new(Arc::new(Log::new(crate::log::Format::Text)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        runtime.block_on(local.run_until(async {
            for _ in 0..RUNS_LIMIT + 5 {
                hooks.take(hook(folder.path(), "exit 0", 5000));
            }
            assert_eq!(hooks.waiting.borrow()["h"].len(), RUNS_LIMIT);
        }));
    }
}
