//! One live line on a terminal; now and then a plain line elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Without a terminal, progress is printed this often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

/// Where the demo speaks.
pub struct Screen {
    terminal: bool,
    live: bool,
    next_plain: Instant,
}

impl Screen {
    /// Looks whether there is a terminal.
    pub fn new() -> Screen {
        Screen { terminal: std::io::stdout().is_terminal(), live: false, next_plain: Instant::now() }
    }

    /// A line that stays.
    pub fn say(&mut self, text: &str) {
        if std::mem::take(&mut self.live) {
            println!();
        }
        println!("{text}");
        self.next_plain = Instant::now();
    }

    /// The live line.
    pub fn progress(&mut self, text: &str) {
        if self.terminal {
            print!("\r\x1b[K{text}");
            let _ = std::io::stdout().flush();
            self.live = true;
        } else if Instant::now() >= self.next_plain {
            println!("{text}");
            self.next_plain = Instant::now() + PLAIN_INTERVAL;
        }
    }
}
