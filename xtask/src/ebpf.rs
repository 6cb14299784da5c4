//! `cargo xtask ebpf`: builds the eBPF programs and has the kernel judge them.
//!
//! Each built object is committed, with a digest of what it was built from, so
//! that nobody needs the eBPF tool-chain to load it.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program for the kernel.
struct Program {
    /// Its crate; a workspace of its own.
    home: &'static str,
    /// What the build makes.
    binary: &'static str,
    /// The committed object; its digest stands beside it.
    object: &'static str,
    /// All that the object is built from, but tests.
    sources: &'static [&'static str],
}

/// Every program.
const PROGRAMS: &[Program] = &[
    Program {
        home: "proof/ebpf-check",
        binary: "wire-check",
        object: "proof/ebpf-check/wire-check.o",
        sources: &[
            "core/wire/Cargo.toml",
            "core/wire/src",
            "proof/ebpf-check/Cargo.lock",
            "proof/ebpf-check/Cargo.toml",
            "proof/ebpf-check/src",
        ],
    },
    Program {
        home: "edge/fastpath/ebpf",
        binary: "fastpath",
        object: "edge/fastpath/fastpath.o",
        sources: &[
            "core/wire/Cargo.toml",
            "core/wire/src",
            "edge/fastpath/layout/Cargo.toml",
            "edge/fastpath/layout/src",
            "edge/fastpath/ebpf/Cargo.lock",
            "edge/fastpath/ebpf/Cargo.toml",
            "edge/fastpath/ebpf/src",
        ],
    },
    Program {
        home: "proof/bench/ebpf",
        binary: "dnat",
        object: "proof/bench/dnat.o",
        sources: &["proof/bench/ebpf/Cargo.lock", "proof/bench/ebpf/Cargo.toml", "proof/bench/ebpf/src"],
    },
];
/// The loader of the first program.
const CHECKER: &str = "proof/ebpf-check/loader/Cargo.toml";
/// Debian packages (bookworm-security and later) with a compiler, the library's source and LLVM.
const PACKAGES: &[&str] = &["rustc-web", "rust-web-src", "llvm-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev"];
/// Where Debian's LLVM is.
const LLVM: &str = "/usr/lib/llvm-22";
/// The linker's version; others are likely to do.
const LINKER_VERSION: &str = "0.13.0";
/// Where the build puts things, below the root.
const TARGET: &str = "target/ebpf";
/// Capabilities that loading needs: both of the first, or the last (capabilities(7)).
const CAP_NET_ADMIN: u32 = 12;
const CAP_BPF: u32 = 39;
const CAP_SYS_ADMIN: u32 = 21;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Only build and load; change nothing.
    #[arg(long)]
    pub check: bool,
}

/// Rebuilds the committed objects (installing the tool-chain as root); with
/// `--check` verifies that they are fresh and that the kernel takes them.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if options.check { check(root) } else { rebuild(root) }
}

fn rebuild(root: &Path) -> Result<()> {
    let tools = match Tools::find() {
        Some(tools) => tools,
        None => install(root)?,
    };
    for program in PROGRAMS {
        let object = build(root, &tools, program)?;
        let committed = root.join(program.object);
        fs::copy(&object, &committed).with_context(|| format!("copying {}", object.display()))?;
        fs::write(program.digest_file(root), program.digest(root)?)
            .with_context(|| format!("writing the digest of {}", program.object))?;
        println!("== {} is new", program.object);
    }
    if may_load()? {
        return load(root, |program| root.join(program.object));
    }
    println!("== not loaded: this process lacks CAP_BPF and CAP_NET_ADMIN");
    Ok(())
}

fn check(root: &Path) -> Result<()> {
    ensure_fresh(root)?;
    ensure!(
        may_load()?,
        "loading an eBPF program needs CAP_BPF and CAP_NET_ADMIN: run `cargo xtask ebpf --check` as root"
    );
    if let Some(tools) = Tools::find() {
        for program in PROGRAMS {
            build(root, &tools, program)?;
        }
        load(root, |program| program.built(root))?;
    } else {
        println!("== no eBPF tool-chain: only the committed objects are checked");
    }
    load(root, |program| root.join(program.object))
}

/// Fails if a committed object is missing or was not built from these sources.
pub fn ensure_fresh(root: &Path) -> Result<()> {
    for program in PROGRAMS {
        let path = program.digest_file(root);
        let committed = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            committed == program.digest(root)?,
            "{} was built from other sources: run `cargo xtask ebpf` and commit it",
            program.object
        );
    }
    Ok(())
}

impl Program {
    fn digest_file(&self, root: &Path) -> PathBuf {
        root.join(self.object).with_extension("digest")
    }

    /// Contents of the digest file.
    fn digest(&self, root: &Path) -> Result<String> {
        let mut files = Vec::new();
        for source in self.sources {
            collect(&root.join(source), &mut files)?;
        }
        files.sort();
        let mut sources = Fnv::default();
        for file in files {
            sources.write(file.strip_prefix(root)?.as_os_str().as_encoded_bytes());
            sources.write(&fs::read(&file).with_context(|| format!("reading {}", file.display()))?);
        }
        let mut object = Fnv::default();
        object.write(&fs::read(root.join(self.object)).with_context(|| format!("reading {}", self.object))?);
        Ok(format!("sources {:016x}\nobject  {:016x}\n", sources.0, object.0))
    }

    /// Where the build puts it.
    fn built(&self, root: &Path) -> PathBuf {
        root.join(TARGET).join("program/bpfel-unknown-none/release").join(self.binary)
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let is_test = path.file_stem().is_some_and(|name| name == "tests");
    if path.is_dir() && !is_test {
        for entry in fs::read_dir(path).with_context(|| format!("reading {}", path.display()))? {
            collect(&entry?.path(), files)?;
        }
    } else if !is_test {
        files.push(path.to_owned());
    }
    Ok(())
}

/// FNV-1a, 64 bits: it has to notice a forgotten build, not a forgery.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds `bytes` and their length.
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().chain(&(bytes.len() as u64).to_be_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// What building for the kernel takes.
struct Tools {
    /// A compiler whose library's source is installed; nightly, or told to behave like one.
    rustc: PathBuf,
    /// The folder of `bpf-linker`.
    linker: PathBuf,
}

impl Tools {
    fn find() -> Option<Tools> {
        let rustc =
            [Some(PathBuf::from("/usr/bin/rustc")), nightly()].into_iter().flatten().find(|rustc| has_source(rustc))?;
        let linker = linker_folders().find(|folder| folder.join("bpf-linker").is_file())?;
        Some(Tools { rustc, linker })
    }
}

/// rustup's nightly compiler.
fn nightly() -> Option<PathBuf> {
    let output = Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]).output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn has_source(rustc: &Path) -> bool {
    let Ok(output) = Command::new(rustc).args(["--print", "sysroot"]).output() else { return false };
    let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    output.status.success() && sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}

fn linker_folders() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home).map(|cargo| cargo.join("bin"));
    std::env::split_paths(&path).chain(cargo).collect::<Vec<_>>().into_iter()
}

fn install(root: &Path) -> Result<Tools> {
    let missing = "the eBPF tool-chain is missing";
    ensure!(
        fs::metadata("/proc/self")?.uid() == 0,
        "{missing}: run this as root, or: rustup component add --toolchain nightly rust-src && cargo install bpf-linker"
    );
    println!("== {missing}");
    let mut update = Command::new("apt-get");
    update.arg("update");
    crate::step("package lists", update)?;
    let mut packages = Command::new("apt-get");
    packages.args(["install", "-y", "--no-install-recommends"]).args(PACKAGES).env("DEBIAN_FRONTEND", "noninteractive");
    crate::step("packages", packages)?;
    if !linker_folders().any(|folder| folder.join("bpf-linker").is_file()) {
        let mut linker = crate::cargo(&["install", "bpf-linker", "--version", LINKER_VERSION]);
        linker.args(["--no-default-features", "--features", "llvm-22"]);
        linker.env("LLVM_PREFIX", LLVM).env("CARGO_TARGET_DIR", root.join(TARGET).join("linker"));
        crate::step("linker", linker)?;
    }
    Tools::find().context("the tool-chain was installed, and still is not complete")
}

/// Builds a program; answers the object's path.
fn build(root: &Path, tools: &Tools, program: &Program) -> Result<PathBuf> {
    let target = root.join(TARGET).join("program");
    let mut command = crate::cargo(&["build", "--release", "--locked", "-Z", "build-std=core"]);
    command.args(["--target", "bpfel-unknown-none"]).current_dir(root.join(program.home));
    command.env("RUSTC", &tools.rustc).env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", &target);
    command.env("PATH", with_folder(&tools.linker)?).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env_remove("RUSTC_WRAPPER").env_remove("RUSTC_WORKSPACE_WRAPPER");
    crate::step(program.binary, command)?;
    Ok(program.built(root))
}

fn with_folder(folder: &Path) -> Result<OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths([folder.to_owned()].into_iter().chain(std::env::split_paths(&path)))?)
}

/// Loads the objects, runs them on frames, and compares what they do with what
/// wire and the engine do.
fn load(root: &Path, object: impl Fn(&Program) -> PathBuf) -> Result<()> {
    let [checker, fastpath, bound] = PROGRAMS else { bail!("three programs") };
    let mut command = crate::cargo(&["run", "--quiet", "--locked", "--manifest-path"]);
    command.arg(root.join(CHECKER)).arg("--").arg(object(checker));
    command.env("CARGO_TARGET_DIR", root.join(TARGET).join("loader"));
    crate::step("wire-check: verifier and test run", command)?;
    let mut command = crate::cargo(&["run", "--quiet", "--release", "-p", "holdfast-fastpath-proof", "--", "check"]);
    command.arg(object(fastpath));
    crate::step("fast path: verifier and test run", command)?;
    let command = crate::cargo(&["run", "--quiet", "--release", "-p", "holdfast-fastpath-proof", "--", "live"]);
    crate::step("fast path: real TCP", command)?;
    let mut command =
        crate::cargo(&["run", "--quiet", "--release", "-p", "holdfast-bench", "--", "fastpath", "--smoke"]);
    command.arg(object(bound));
    crate::step("minimal DNAT: verifier and test run", command)
}

/// Whether this process may load programs for interfaces.
fn may_load() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("CapEff:")) else {
        bail!("/proc/self/status has no CapEff");
    };
    let held = u64::from_str_radix(line.trim(), 16).context("CapEff is a hexadecimal number")?;
    let has = |capability: u32| held >> capability & 1 == 1;
    Ok(has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_NET_ADMIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_contents_and_borders_apart() {
        let of = |pieces: &[&[u8]]| {
            let mut hash = Fnv::default();
            pieces.iter().for_each(|piece| hash.write(piece));
            hash.0
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        assert_ne!(of(&[b"ab"]), of(&[b"ac"]));
        assert_eq!(of(&[]), 0xcbf2_9ce4_8422_2325);
    }
}
