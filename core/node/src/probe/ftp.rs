//! The control connection of FTP: greeting and login (RFC 959, 4.2 and 5.4).

use super::Finding;

const UNREADABLE: &str = "The password was encrypted on another node; set it again";

/// Who logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Behind `USER`.
    pub user: String,
    /// Behind `PASS`; `None` if this node cannot read it.
    pub password: Option<String>,
}

/// What the next reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    User,
    Password,
}

/// A session as far as the monitor takes it.
#[derive(Debug)]
pub(super) struct Session {
    login: Option<Login>,
    asked: Asked,
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// Code of a reply of several lines, until its last one.
    open: Option<u16>,
}

impl Session {
    pub(super) fn new(login: Option<Login>) -> Session {
        Session { login, asked: Asked::Nothing, line: Vec::new(), open: None }
    }

    /// Takes bytes of the server; what to answer goes to `outgoing`.
    pub(super) fn hear(&mut self, bytes: &[u8], outgoing: &mut Option<Vec<u8>>) -> Option<Finding> {
        for &byte in bytes {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            let line = core::mem::take(&mut self.line);
            let finding = match self.reply(&line) {
                Reply::Partial => None,
                Reply::Nonsense => Some(Finding::bad("The response is not FTP")),
                Reply::Code(code) => self.answer(code, outgoing),
            };
            if finding.is_some() {
                *outgoing = Some(b"QUIT\r\n".to_vec());
                return finding;
            }
        }
        None
    }

    /// Reads one line.
    fn reply(&mut self, line: &[u8]) -> Reply {
        let code = line.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let code = code.map(|digits| digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')));
        let last = !matches!(line.get(3), Some(b'-'));
        match (self.open, code) {
            (Some(open), Some(code)) if open == code && last => {
                self.open = None;
                Reply::Code(code)
            }
            (Some(_), _) => Reply::Partial,
            (None, Some(code)) if last => Reply::Code(code),
            (None, Some(code)) => {
                self.open = Some(code);
                Reply::Partial
            }
            (None, None) => Reply::Nonsense,
        }
    }

    fn answer(&mut self, code: u16, outgoing: &mut Option<Vec<u8>>) -> Option<Finding> {
        let told = |good: bool| {
            let how = format!("FTP response code {code} received.");
            Some(if good { Finding::good(how) } else { Finding::bad(how) })
        };
        match (self.asked, code, &self.login) {
            // Preliminary: another reply follows.
            (_, 100..=199, _) => None,
            (Asked::Nothing, 220, None) | (Asked::User | Asked::Password, 230, _) | (Asked::Password, 202, _) => {
                told(true)
            }
            (Asked::Nothing, 220, Some(login)) => {
                self.asked = Asked::User;
                *outgoing = Some(format!("USER {}\r\n", login.user).into_bytes());
                None
            }
            (Asked::User, 331, Some(login)) => {
                let Some(password) = &login.password else { return Some(Finding::bad(UNREADABLE)) };
                self.asked = Asked::Password;
                *outgoing = Some(format!("PASS {password}\r\n").into_bytes());
                None
            }
            (Asked::Nothing | Asked::User | Asked::Password, _, _) => told(false),
        }
    }
}

/// What a line says.
enum Reply {
    /// A line of several.
    Partial,
    /// A reply is complete.
    Code(u16),
    /// No line of FTP.
    Nonsense,
}
