//! The parts of the daemon, each for itself. The whole is in `tests/`.

use crate::heap::HugePageHeap;
use crate::log::rfc3339;
use crate::poller::Poller;
use crate::probe::{echo_request, is_reply, probe};
use crate::queue::{Input, inbox};
use crate::store::Store;
use crate::{control, key};
use holdfast_netio::HostAddress;
use holdfast_node::{ProbeKind, ProbeRequest};
use std::alloc::{GlobalAlloc, Layout};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn times_are_rfc_3339() {
    assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00.000000Z");
    assert_eq!(rfc3339(Duration::from_micros(951_782_399_000_001)), "2000-02-28T23:59:59.000001Z");
    assert_eq!(rfc3339(Duration::from_secs(951_782_400)), "2000-02-29T00:00:00.000000Z");
    assert_eq!(rfc3339(Duration::from_secs(1_798_761_599)), "2026-12-31T23:59:59.000000Z");
}

#[test]
fn large_allocations_are_zeroed_aligned_and_keep_their_bytes_when_they_grow() {
    let heap = HugePageHeap;
    let layout = |size| Layout::from_size_align(size, 8).unwrap();
    // SAFETY: each block is used within its layout and freed with it.
    unsafe {
        let large = heap.alloc_zeroed(layout(3 << 20));
        assert_eq!(large as usize % (2 << 20), 0);
        assert_eq!((*large, *large.add((3 << 20) - 1)), (0, 0));
        *large = 7;
        let same = heap.realloc(large, layout(3 << 20), 4 << 20);
        assert_eq!(same, large, "the mapping was 4 MiB all along");
        let larger = heap.realloc(same, layout(4 << 20), 9 << 20);
        assert_eq!((*larger, larger as usize % (2 << 20)), (7, 0));
        let small = heap.realloc(larger, layout(9 << 20), 100);
        assert_eq!(*small, 7);
        let large = heap.realloc(small, layout(100), 2 << 20);
        assert_eq!(*large, 7);
        heap.dealloc(large, layout(2 << 20));
    }
}

#[test]
fn a_term_survives_and_nonsense_in_its_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let store = Store::open(&state, &folder.path().join("ns.conf")).unwrap();
    assert_eq!(store.load_term().unwrap(), 0);
    store.save_term(7).unwrap();
    store.save_term(8).unwrap();
    assert_eq!(store.load_term().unwrap(), 8);
    let whole = std::fs::read_to_string(state.join("term")).unwrap();
    let line = |term: u64| format!("term {term:020} {term:020}\n");
    assert_eq!(whole, line(8) + &line(7), "over the older one");
    // A power cut in the middle of a line; what an operator writes; what is neither.
    std::fs::write(
        state.join("term"),
        line(8) + &line(9).replace(" 00000000000000000009\n", " 00000000000000000007\n"),
    )
    .unwrap();
    assert_eq!(store.load_term().unwrap(), 8);
    store.save_term(10).unwrap();
    assert_eq!(std::fs::read_to_string(state.join("term")).unwrap(), line(8) + &line(10));
    std::fs::write(state.join("term"), "term 12\n").unwrap();
    assert_eq!(store.load_term().unwrap(), 12);
    store.save_term(13).unwrap();
    assert_eq!(std::fs::read_to_string(state.join("term")).unwrap(), line(13) + &line(13));
    std::fs::write(state.join("term"), "").unwrap();
    let error = store.load_term().expect_err("an empty file after a full disk").to_string();
    assert!(error.contains("write `term N`"), "{error}");
}

#[test]
fn a_saved_configuration_is_whole_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ns.conf");
    std::fs::write(&path, "old").unwrap();
    let store = Store::open(&folder.path().join("state"), &path).unwrap();
    store.save_config("add ns ip 192.0.2.1 255.255.255.0\n").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "add ns ip 192.0.2.1 255.255.255.0\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
}

/// How a process ended that was to be killed at one of its system calls.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Killed,
    /// It had ended before.
    ByItself,
}

/// Does `work` in a process of its own and kills that (`SIGKILL`) at the beginning or the end of a system call:
/// at its `stop`th stop.
fn killed_at(stop: usize, work: impl FnOnce()) -> End {
    // SAFETY: the child does nothing but `work`, which needs no other thread, and ends without returning.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: plain system calls on ourselves.
        unsafe {
            libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0);
            libc::raise(libc::SIGSTOP);
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok();
        // SAFETY: ends this process at once, which is what is wanted of a copy of the test's process.
        unsafe { libc::_exit(if done { 0 } else { 1 }) }
    }
    let wait = || {
        let mut status = 0;
        // SAFETY: `status` is writable; `child` is our own.
        let found = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(found, child, "{}", std::io::Error::last_os_error());
        status
    };
    let mut status = wait();
    for _ in 0..stop {
        assert!(libc::WIFSTOPPED(status), "status {status}");
        // SAFETY: the child is stopped and traced by this thread.
        let went_on = unsafe { libc::ptrace(libc::PTRACE_SYSCALL, child, 0, 0) };
        assert_eq!(went_on, 0, "{}", std::io::Error::last_os_error());
        status = wait();
        if libc::WIFEXITED(status) {
            assert_eq!(libc::WEXITSTATUS(status), 0, "the work failed");
            return End::ByItself;
        }
    }
    // SAFETY: `child` is our own and has not been waited for.
    unsafe { libc::kill(child, libc::SIGKILL) };
    while !libc::WIFSIGNALED(status) {
        status = wait();
    }
    End::Killed
}

#[test]
fn a_kill_at_any_write_leaves_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, state) = (folder.path().join("ns.conf"), folder.path().join("state"));
    let store = Store::open(&state, &path).unwrap();
    let (old, new) = ("add ns ip 192.0.2.1 255.255.255.0\n".repeat(3000), "add ns ip 192.0.2.2 255.255.255.0\n");
    let (mut kills, mut olds, mut news) = (0, 0, 0);
    for stop in 0.. {
        store.save_config(&old).unwrap();
        store.save_term(7).unwrap();
        let work = || {
            store.save_config(new).unwrap();
            store.save_term(8).unwrap();
        };
        let end = killed_at(stop, work);
        let found = std::fs::read_to_string(&path).unwrap();
        let term = store.load_term().expect("the old term or the new one");
        assert!(found == old || found == new, "after stop {stop}: {} bytes", found.len());
        assert!(term == 7 || term == 8 && found == new, "after stop {stop}: term {term}");
        (olds, news) = (olds + usize::from(found == old), news + usize::from(found == new));
        if end == End::ByItself {
            assert_eq!((found.as_str(), term), (new, 8));
            break;
        }
        kills += 1;
        assert!(stop < 1000, "it does not end");
    }
    assert!(kills > 20 && olds > 5 && news > 5, "{kills} kills, {olds} old, {news} new");
    let left = |folder: &std::path::Path| std::fs::read_dir(folder).unwrap().count();
    assert_eq!((left(folder.path()), left(&state)), (2, 1), "what a kill has left was used again");
}

#[test]
fn the_same_password_and_salt_give_the_same_key() {
    let key = key::derive("secret", b"0123456789abcdef").unwrap();
    assert_eq!(key, key::derive("secret", b"0123456789abcdef").unwrap());
    assert_ne!(key, key::derive("Secret", b"0123456789abcdef").unwrap());
    assert_ne!(key, key::derive("secret", b"0123456789abcdeg").unwrap());
    key::derive("secret", b"short").expect_err("salts below 8 bytes");
}

#[test]
fn the_poller_sleeps_microseconds_and_wakes_for_the_inbox() {
    let (sender, inbox) = inbox().unwrap();
    let mut poller = Poller::new().unwrap();
    poller.add(inbox.raw_fd(), 42, false).unwrap();
    let mut ready = Vec::new();
    let started = Instant::now();
    poller.wait(Duration::from_micros(200), &mut ready);
    assert!(ready.is_empty() && started.elapsed() >= Duration::from_micros(200));
    sender.try_send(Input::TermStored(1)).ok().unwrap();
    sender.try_send(Input::TermStored(2)).ok().unwrap();
    for left in [2, 1] {
        ready.clear();
        poller.wait(Duration::from_secs(5), &mut ready);
        assert_eq!(ready, [42], "{left} inputs wait");
        assert_eq!(inbox.take(1).len(), 1);
    }
}

#[test]
fn a_full_inbox_gives_the_input_back() {
    let (sender, inbox) = inbox().unwrap();
    let full = (0..10_000).find(|at| sender.try_send(Input::TermStored(*at)).is_err());
    assert_eq!(full, Some(1024));
    assert_eq!(inbox.take(usize::MAX - 1).len(), 1024);
    assert!(sender.try_send(Input::Stop).is_ok());
}

#[test]
fn requests_are_json_with_a_line() {
    let parsed = control::parse_request(b"{\"line\":\"show lb vserver\",\"json\":true}\n");
    assert_eq!(parsed, Some(("show lb vserver".to_owned(), true)));
    assert_eq!(control::parse_request(b"{\"line\":\"x\"}"), Some(("x".to_owned(), false)));
    for garbage in [&b"show lb vserver"[..], b"{\"line\":7}", b"{}", b"[]", b"\xff\xfe", b""] {
        assert_eq!(control::parse_request(garbage), None);
    }
}

#[test]
fn a_socket_file_of_a_dead_daemon_is_replaced_and_that_of_a_living_one_kept() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run").join("hf.sock");
    let first = control::bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let error = control::bind(&path).expect_err("it is served");
    assert!(format!("{error:#}").contains("another holdfastd"), "{error:#}");
    drop(first);
    control::bind(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    control::bind(&path).expect_err("not ours to delete");
}

#[test]
fn echo_requests_have_a_good_checksum_and_only_their_reply_counts() {
    let token = [0xa5; 16];
    let request = echo_request(8, token);
    let sum = request.chunks(2).fold(0u32, |sum, pair| sum + u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    let mut reply = vec![0x45; 20];
    reply.extend(echo_request(0, token));
    assert!(is_reply(LOCAL, &reply, 0, token) && is_reply(LOCAL, &reply[20..], 0, token));
    assert!(!is_reply(LOCAL, &reply, 0, [0; 16]), "another prober's reply");
    assert!(!is_reply(LOCAL, &request, 0, token), "our own request, over loopback");
    assert!(!is_reply(LOCAL, &reply[..30], 0, token) && !is_reply(LOCAL, &[], 0, token));
}

fn probe_local(kind: ProbeKind, addr: IpAddr, port: u16) -> (bool, String) {
    let request = ProbeRequest { id: 1, kind, reverse: false, addr, port, timeout: Duration::from_millis(300) };
    let host = [HostAddress { device: "lo".to_owned(), addr: LOCAL, prefix: 8 }];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(probe(&request, &host, 99));
    (outcome.ok, outcome.text)
}

#[test]
fn tcp_probes_tell_open_from_closed() {
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let open = probe_local(ProbeKind::TCP, LOCAL, port);
    assert_eq!(open, (true, "Success - TCP syn+ack received.".to_owned()));
    // Taken, so that no other test gets it, and nobody listens.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind((LOCAL, 0).into()).unwrap();
    let port = silent.local_addr().unwrap().port();
    let closed = probe_local(ProbeKind::TCP, LOCAL, port);
    assert_eq!(closed, (false, "Failure - TCP connection refused".to_owned()));
}

#[test]
fn a_probe_without_an_address_in_the_subnet_says_so() {
    let (ok, text) = probe_local(ProbeKind::TCP, "192.0.2.9".parse().unwrap(), 80);
    assert!(!ok);
    assert_eq!(text, "Failure - No kernel address in the subnet of 192.0.2.9 to send the monitor probe from.");
}

#[test]
fn a_ping_of_this_host_is_answered() {
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: raw sockets need root");
        return;
    }
    let answer = probe_local(ProbeKind::Ping, LOCAL, 0);
    assert_eq!(answer, (true, "Success - ICMP echo reply received.".to_owned()));
}
