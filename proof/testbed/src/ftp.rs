//! Real FTP: vsftpd on both servers (or pyftpdlib on one), curl, lftp or Python's ftplib on the client, one large random file.

use crate::config::Vip;
use crate::lab::{Family, Lab};
use crate::node::Node;
use crate::ns::Namespace;
use crate::role::mix;
use crate::sys;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Debian's own Python, whatever else is installed.
pub const PYTHON: &str = "/usr/bin/python3";
const FILE_NAME: &str = "large.bin";
const MIB: u64 = 1 << 20;

/// vsftpd on both servers, serving one file.
pub struct Servers {
    children: Vec<Child>,
    size: u64,
    digest: String,
}

impl Servers {
    /// Makes a file of `mib` MiB of noise and serves it anonymously on both servers, which say the virtual server's address in place
    /// of their own: behind one of type ANY nobody else does.
    pub fn start(lab: &Lab, mib: u64) -> Result<Servers> {
        Servers::start_with(lab, mib, &format!("pasv_address={}\n", Vip::Ftp.address(Family::V4)), &[vsftpd, vsftpd])
    }

    /// The same with servers that say their own address.
    pub fn start_plain(lab: &Lab, mib: u64) -> Result<Servers> {
        Servers::start_with(lab, mib, "connect_from_port_20=YES\n", &[vsftpd, vsftpd])
    }

    /// The same with pyftpdlib on the second server (Debian has pure-ftpd and proftpd in place of vsftpd only).
    pub fn start_mixed(lab: &Lab, mib: u64) -> Result<Servers> {
        Servers::start_with(lab, mib, "connect_from_port_20=YES\n", &[vsftpd, pyftpdlib])
    }

    fn start_with(lab: &Lab, mib: u64, lines: &str, programs: &[Prepare; 2]) -> Result<Servers> {
        let root = lab.directory().join("ftp");
        std::fs::create_dir_all(&root)?;
        // vsftpd serves as user `ftp`, which must be able to walk here.
        open_to_all(lab.directory())?;
        open_to_all(&root)?;
        let file = root.join(FILE_NAME);
        write_noise(&file, mib * MIB)?;
        let digest = digest_of(Stdio::from(File::open(&file)?))?;
        std::fs::create_dir_all("/run/vsftpd/empty").context("vsftpd's empty folder")?;
        let mut servers = Servers { children: Vec::new(), size: mib * MIB, digest };
        for (index, (namespace, prepare)) in lab.servers.iter().zip(programs).enumerate() {
            let conf = lab.directory().join(format!("vsftpd-{index}.conf"));
            std::fs::write(&conf, vsftpd_conf(&root) + lines)?;
            let log = File::options().create(true).append(true).open(lab.directory().join("ftp-servers.log"))?;
            let mut command = prepare(namespace, &root, &conf)?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            let child = command.spawn();
            servers.children.push(child.with_context(|| format!("{command:?}: cargo xtask setup installs it"))?);
        }
        for namespace in &lab.servers {
            sys::wait_until("the FTP server listens", Duration::from_secs(10), || {
                Ok(namespace.run("ss", &["-Hltn", "sport", "=", ":21"], "")?.contains(":21").then_some(()))
            })?;
        }
        Ok(servers)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Prepares a server program in a namespace: the folder that it serves, and vsftpd's configuration.
type Prepare = fn(&Namespace, &Path, &Path) -> Result<Command>;

fn vsftpd(host: &Namespace, _: &Path, conf: &Path) -> Result<Command> {
    let mut command = host.command("vsftpd")?;
    command.arg(conf);
    Ok(command)
}

fn pyftpdlib(host: &Namespace, root: &Path, _: &Path) -> Result<Command> {
    let mut command = host.command(PYTHON)?;
    command.args(["-m", "pyftpdlib", "-i", "::", "-p", "21", "-r", "30000-30999", "-d"]).arg(root);
    Ok(command)
}

/// A client program.
#[derive(Clone, Copy, Debug)]
pub enum Client<'a> {
    /// curl with further arguments; passive unless they say otherwise.
    Curl(&'a [&'a str]),
    /// lftp, passive.
    Lftp,
    /// Python's ftplib, passive.
    Ftplib,
}

/// Writes the file to its output at a rate (bytes a second), from an address of its own.
const FTPLIB: &str = "
import ftplib, sys, time
host, rate, source, name = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]
session = ftplib.FTP()
session.connect(host, 21, timeout=60, source_address=(source, 0))
session.login()
begun, got = time.monotonic(), 0
def take(block):
    global got
    sys.stdout.buffer.write(block)
    got += len(block)
    time.sleep(max(0, got / rate - (time.monotonic() - begun)))
session.retrbinary('RETR ' + name, take, 16384)
print(session.quit(), file=sys.stderr)
sys.stdout.flush()
";

impl Client<'_> {
    /// The program that writes the file to its output.
    fn command(self, host: &Namespace, (family, address): (Family, &str), rate: u64) -> Result<Command> {
        let (rate, source) = (rate.to_string(), family.client_net(10));
        let url = match family {
            Family::V4 => format!("ftp://{address}/{FILE_NAME}"),
            Family::V6 => format!("ftp://[{address}]/{FILE_NAME}"),
        };
        Ok(match self {
            Client::Curl(arguments) => {
                let mut curl = host.command("curl")?;
                curl.args(["--silent", "--show-error", "--globoff", "--limit-rate", &rate, "--output", "-"]);
                curl.args(arguments).args(["--interface", &source, &url]);
                curl
            }
            Client::Lftp => {
                // It would begin anew by itself, and nobody would hear of the loss.
                let settings = format!("set net:max-retries 1; set net:limit-rate {rate}; set net:timeout 60");
                let mut lftp = host.command("lftp")?;
                lftp.args(["-c", &format!("{settings}; cat -b {url}")]);
                lftp
            }
            Client::Ftplib => {
                let mut python = host.command(PYTHON)?;
                python.args(["-c", FTPLIB, address, &rate, &source, FILE_NAME]);
                python
            }
        })
    }
}

/// A virtual server of type FTP.
#[derive(Clone, Copy)]
pub struct Front {
    /// Its clients' and servers' family.
    pub family: Family,
    /// Whether servers see clients.
    pub usip: bool,
}

impl Front {
    /// All that stories use.
    pub const ALL: [Front; 4] = [
        Front { family: Family::V4, usip: false },
        Front { family: Family::V4, usip: true },
        Front { family: Family::V6, usip: false },
        Front { family: Family::V6, usip: true },
    ];

    /// Its address.
    pub fn address(self) -> String {
        self.family.client_net(if self.usip { 131 } else { 130 })
    }

    /// Its name.
    pub fn name(self) -> String {
        format!("ftp_{}_{}", self.family, if self.usip { "usip" } else { "snat" })
    }

    /// Has the pair serve it.
    pub fn add(self, node: &Node, failover: &str) -> Result<()> {
        let (name, family) = (self.name(), self.family);
        let (row, usip) = if self.usip { (40, "YES") } else { (20, "NO") };
        node.cli(&["add", "lb", "vserver", &name, "FTP", &self.address(), "21", "-connFailover", failover])?;
        for server in 1..=2 {
            let (service, host) = (format!("{name}_{server}"), format!("srv{}_{family}", row + server));
            node.cli(&["add", "service", &service, &host, "FTP", "21", "-usip", usip])?;
            node.cli(&["bind", "lb", "vserver", &name, &service])?;
        }
        sys::wait_until("the FTP services are UP", Duration::from_secs(15), || {
            let told = node.cli(&["show", "lb", "vserver", &name])?;
            Ok((told.matches("State: UP").count() >= 3).then_some(()))
        })
    }
}

/// A download that has ended.
pub struct Verdict {
    /// Its family.
    pub family: Family,
    /// Bytes received.
    pub bytes: u64,
    /// Longest time without a byte, in ms.
    pub longest_stall_ms: f64,
    /// Same SHA-256 as the file, and the client content.
    pub equal: bool,
    /// SHA-256 of what was received, and what the client said if it was not content.
    pub message: String,
}

/// A running download through the virtual server.
pub struct Download {
    family: Family,
    client: Child,
    received: Arc<AtomicU64>,
    stall: Arc<Mutex<Duration>>,
    reader: Option<JoinHandle<std::io::Result<()>>>,
    digest: Option<Child>,
    expected: String,
    size: u64,
}

impl Download {
    /// Starts curl (passive mode) at a rate that makes the download last `time`.
    pub fn start(lab: &Lab, servers: &Servers, family: Family, time: Duration) -> Result<Download> {
        Download::from(lab, servers, (family, &Vip::Ftp.address(family)), Client::Curl(&[]), time)
    }

    /// The same from another address, by a certain program.
    pub fn from(
        lab: &Lab,
        servers: &Servers,
        (family, address): (Family, &str),
        program: Client<'_>,
        time: Duration,
    ) -> Result<Download> {
        let rate = (servers.size as f64 / time.as_secs_f64()) as u64;
        let mut command = program.command(&lab.client, (family, address), rate)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = command.spawn().with_context(|| format!("start {program:?}"))?;
        let mut digest = Command::new("sha256sum")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start sha256sum")?;
        let mut from = client.stdout.take().context("the client's output")?;
        let mut to = digest.stdin.take().context("sha256sum's input")?;
        let received = Arc::new(AtomicU64::new(0));
        let stall = Arc::new(Mutex::new(Duration::ZERO));
        let (count, longest) = (received.clone(), stall.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            let mut last: Option<Instant> = None;
            loop {
                let bytes = from.read(&mut buffer)?;
                let now = Instant::now();
                if let (Some(last), Ok(mut longest)) = (last, longest.lock()) {
                    *longest = longest.max(now - last);
                }
                if bytes == 0 {
                    return Ok(());
                }
                last = Some(now);
                to.write_all(&buffer[..bytes])?;
                count.fetch_add(bytes as u64, Ordering::Relaxed);
            }
        });
        let (expected, size) = (servers.digest.clone(), servers.size);
        Ok(Download { family, client, received, stall, reader: Some(reader), digest: Some(digest), expected, size })
    }

    /// Bytes received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Received share of the file, 0 to 1.
    pub fn share(&self) -> f64 {
        self.received() as f64 / self.size.max(1) as f64
    }

    /// Longest time without a byte so far.
    pub fn longest_stall_ms(&self) -> f64 {
        self.stall.lock().map_or(0.0, |stall| stall.as_secs_f64() * 1000.0)
    }

    /// An error if the client has given up.
    pub fn ensure_running(&mut self) -> Result<()> {
        if let Some(status) = self.client.try_wait()?
            && !status.success()
        {
            let complaint = self.complaint();
            bail!("the {} download failed after {} bytes: {status} {complaint}", self.family, self.received());
        }
        Ok(())
    }

    /// Waits for the end and compares.
    pub fn finish(&mut self, limit: Duration) -> Result<Verdict> {
        let status = sys::wait_until("the download is complete", limit, || Ok(self.client.try_wait()?))?;
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| anyhow::anyhow!("the download's reader panicked"))??;
        }
        let output = self.digest.take().context("finish is called once")?.wait_with_output()?;
        let digest = first_word(&output.stdout);
        let equal = status.success() && self.received() == self.size && digest == self.expected;
        let message = format!("sha256 {digest} {}", self.complaint()).trim().to_string();
        Ok(Verdict {
            family: self.family,
            bytes: self.received(),
            longest_stall_ms: self.longest_stall_ms(),
            equal,
            message,
        })
    }

    fn complaint(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.client.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text.trim().to_string()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if let Some(mut digest) = self.digest.take() {
            let _ = digest.wait();
        }
    }
}

fn vsftpd_conf(root: &Path) -> String {
    let root = root.display();
    format!(
        "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\nanon_root={root}\n\
         no_anon_password=YES\nsecure_chroot_dir=/run/vsftpd/empty\nseccomp_sandbox=NO\nxferlog_enable=NO\n\
         pasv_min_port=30000\npasv_max_port=30999\n"
    )
}

fn open_to_all(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Writes bytes that do not compress and do not repeat.
fn write_noise(file: &PathBuf, size: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(file)?);
    let seed = std::time::UNIX_EPOCH.elapsed()?.as_nanos() as u64;
    let mut block = vec![0u8; 1 << 16];
    for number in 0..size / block.len() as u64 {
        for (at, word) in block.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&mix(seed ^ (number << 16 | at as u64)).to_le_bytes());
        }
        out.write_all(&block)?;
    }
    out.flush()?;
    Ok(())
}

fn digest_of(input: Stdio) -> Result<String> {
    let output = Command::new("sha256sum").stdin(input).output().context("run sha256sum")?;
    ensure!(output.status.success(), "sha256sum failed");
    Ok(first_word(&output.stdout))
}

fn first_word(text: &[u8]) -> String {
    String::from_utf8_lossy(text).split_whitespace().next().unwrap_or_default().to_string()
}
