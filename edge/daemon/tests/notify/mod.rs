//! The socket on which a daemon says that it is ready (`sd_notify`), as the tests hold it.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

/// How long anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where one daemon's word arrives.
pub struct Notify(UnixDatagram);

impl Notify {
    /// Listens at `path`; what was left there by a former one goes.
    pub fn bind(path: &Path) -> Notify {
        let _ = std::fs::remove_file(path);
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Notify(socket)
    }

    /// The daemon's first word. A receive with a time limit is not restarted by the kernel when the process was
    /// stopped or frozen meanwhile (signal(7)): that is no answer, so it is asked again.
    pub fn word(&self) -> std::io::Result<String> {
        let mut buffer = [0; 256];
        loop {
            match self.0.recv(&mut buffer) {
                Ok(len) => return Ok(String::from_utf8_lossy(&buffer[..len]).into_owned()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
