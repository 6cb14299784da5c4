//! `bpf(2)` on maps, many entries at a time: the loader's crate has no batch
//! calls, and one call for an entry costs three times as much.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Commands of `bpf(2)`, from `linux/bpf.h`.
const LOOKUP: libc::c_long = 1;
const UPDATE: libc::c_long = 2;
const DELETE: libc::c_long = 3;
const LOOKUP_AND_DELETE: libc::c_long = 21;
const LOOKUP_BATCH: libc::c_long = 24;
const UPDATE_BATCH: libc::c_long = 26;
/// A flag of updates: only where there is none.
const NO_EXIST: u64 = 1;

/// The part of `union bpf_attr` for one element.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` for a batch.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// A hash map with keys of `K` and values of `V` bytes. That it is one is the
/// promise of whoever makes this value: the kernel copies as many bytes as the
/// map has, whatever these numbers say.
pub(crate) struct HashMap<'a, const K: usize, const V: usize> {
    fd: BorrowedFd<'a>,
}

impl<'a, const K: usize, const V: usize> HashMap<'a, K, V> {
    /// # Safety
    ///
    /// `fd` is a map whose keys are `K` bytes long and whose values `V`, on every processor one.
    pub(crate) unsafe fn new(fd: BorrowedFd<'a>) -> HashMap<'a, K, V> {
        HashMap { fd }
    }

    /// The value of `key`.
    pub(crate) fn get(&self, key: &[u8; K]) -> io::Result<Option<[u8; V]>> {
        let mut value = [0; V];
        let found = self.element(LOOKUP, key, value.as_mut_ptr().addr(), 0);
        absent_is_none(found).map(|found| found.map(|()| value))
    }

    /// Puts a value in, or replaces one.
    pub(crate) fn set(&self, key: &[u8; K], value: &[u8; V]) -> io::Result<()> {
        self.element(UPDATE, key, value.as_ptr().addr(), 0)
    }

    /// Puts a value in, unless there is one.
    pub(crate) fn set_new(&self, key: &[u8; K], value: &[u8; V]) -> io::Result<()> {
        match self.element(UPDATE, key, value.as_ptr().addr(), NO_EXIST) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            result => result,
        }
    }

    /// Takes a value out; `false`: there was none.
    pub(crate) fn delete(&self, key: &[u8; K]) -> io::Result<bool> {
        absent_is_none(self.element(DELETE, key, 0, 0)).map(|found| found.is_some())
    }

    /// Takes a value out and answers it (Linux 5.14).
    pub(crate) fn take(&self, key: &[u8; K]) -> io::Result<Option<[u8; V]>> {
        let mut value = [0; V];
        let found = self.element(LOOKUP_AND_DELETE, key, value.as_mut_ptr().addr(), 0);
        absent_is_none(found).map(|found| found.map(|()| value))
    }

    /// Puts values in, or replaces them, in order. Answers how many are in, and
    /// why the next one is not (Linux 5.6).
    pub(crate) fn set_all(&self, keys: &[[u8; K]], values: &[[u8; V]]) -> (usize, io::Result<()>) {
        let count = keys.len().min(values.len());
        if count == 0 {
            return (0, Ok(()));
        }
        let mut attr = self.batch(keys.as_ptr().addr(), values.as_ptr().addr(), count);
        // SAFETY: keys and values have `count` elements of the map's sizes.
        let done = unsafe { call(UPDATE_BATCH, &mut attr) };
        (attr.count as usize, done)
    }

    /// Reads the next entries behind `cursor` (`None`: from the beginning) into
    /// the beginnings of `keys` and `values`. Answers how many, and the next
    /// cursor, which is `None` at the end.
    pub(crate) fn read_on(
        &self,
        cursor: Option<u32>,
        keys: &mut [[u8; K]],
        values: &mut [[u8; V]],
    ) -> io::Result<(usize, Option<u32>)> {
        let count = keys.len().min(values.len());
        let mut attr = self.batch(keys.as_mut_ptr().addr(), values.as_mut_ptr().addr(), count);
        let (from, mut next) = (cursor.unwrap_or(0), 0u32);
        if cursor.is_some() {
            attr.in_batch = (&raw const from).addr() as u64;
        }
        attr.out_batch = (&raw mut next).addr() as u64;
        // SAFETY: keys and values have room for `count` elements of the map's
        // sizes; a hash map's cursor has four bytes.
        match unsafe { call(LOOKUP_BATCH, &mut attr) } {
            Ok(()) => Ok((attr.count as usize, Some(next))),
            // The end; what was read until then counts.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((attr.count as usize, None)),
            Err(error) => Err(error),
        }
    }

    fn element(&self, command: libc::c_long, key: &[u8; K], value: usize, flags: u64) -> io::Result<()> {
        let map_fd = self.fd.as_raw_fd() as u32;
        let key = key.as_ptr().addr() as u64;
        let mut attr = ElementAttr { map_fd, zero: 0, key, value: value as u64, flags };
        // SAFETY: key and value have the sizes that the map has.
        unsafe { call(command, &mut attr) }
    }

    fn batch(&self, keys: usize, values: usize, count: usize) -> BatchAttr {
        BatchAttr {
            in_batch: 0,
            out_batch: 0,
            keys: keys as u64,
            values: values as u64,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            map_fd: self.fd.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        }
    }
}

/// # Safety
///
/// `attr` is what the kernel expects with `command`, and the addresses in it are
/// of memory that the kernel may read or write so.
unsafe fn call<A>(command: libc::c_long, attr: &mut A) -> io::Result<()> {
    let attr: *mut A = attr;
    // SAFETY: the caller's promise; `attr` lives through the call.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<A>()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn absent_is_none(found: io::Result<()>) -> io::Result<Option<()>> {
    match found {
        Ok(()) => Ok(Some(())),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
