//! Calendar text from Unix time, in UTC.

use core::time::Duration;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `Sat Jan 16 05:15:53 2021`.
pub(crate) fn calendar(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let clock = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    format!("{} {} {day:2} {clock} {year}", DAYS[(days % 7) as usize], MONTHS[month as usize])
}

/// Year, month from 0, day from 1, of a number of days since 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64) {
    // Whole cycles of 400 years first, so that the loops below are short for any input.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    while days >= year_length(year) {
        days -= year_length(year);
        year += 1;
    }
    let february = if year_length(year) == 366 { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month as u64, days + 1)
}

fn year_length(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

/// `0 days, 00:07:07.20`: the fraction is in milliseconds without leading zeroes, as the market prints it.
pub(crate) fn since(now: u64, then: u64) -> String {
    let ms = now.saturating_sub(then);
    let s = ms / 1000;
    format!("{} days, {:02}:{:02}:{:02}.{}", s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60, ms % 1000)
}

/// `3:3:13:0`, days:hrs:min:sec.
pub(crate) fn days_hours(duration: Duration) -> String {
    let s = duration.as_secs();
    format!("{}:{}:{}:{}", s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60)
}

/// `3 secs`, or `400 msecs` if it is not whole seconds.
pub(crate) fn interval(ms: u32) -> String {
    if ms.is_multiple_of(1000) { format!("{} secs", ms / 1000) } else { format!("{ms} msecs") }
}

/// `12.3` milliseconds.
pub(crate) fn millis(duration: Duration) -> String {
    let tenths = duration.as_micros() / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}
