//! What does a process cost: processor time and memory?
//!
//! Read from Linux's `/proc` (proc(5)); elsewhere nothing is known. Starts and stops nothing.

use std::time::Duration;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, its threads' together.
    pub cpu: Duration,
    /// Resident memory now. Bytes.
    pub memory: u64,
    /// The most it ever was. Bytes.
    pub memory_peak: u64,
    /// Bytes that it made the disks write.
    pub written: u64,
}

/// What process `id` has used; `None` if there is no such process, or no `/proc`.
pub fn usage(id: u32) -> Option<Usage> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).ok();
    let ticks = rustix::param::clock_ticks_per_second();
    let (memory, memory_peak) = parse_status(&read("status")?)?;
    // Written bytes are told to the process's owner only, and not by every kernel.
    let written = read("io").and_then(|text| value(&text, "write_bytes:")).unwrap_or(0);
    Some(Usage { cpu: parse_stat(&read("stat")?, ticks)?, memory, memory_peak, written })
}

/// User and system time of `/proc/<id>/stat`. The second field is the name in parentheses, which may hold anything.
fn parse_stat(text: &str, ticks_per_second: u64) -> Option<Duration> {
    let (_, fields) = text.rsplit_once(')')?;
    // Counted from the third: utime is the 14th, stime the 15th.
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1_000 / ticks_per_second.max(1)))
}

fn parse_status(text: &str) -> Option<(u64, u64)> {
    Some((value(text, "VmRSS:")? * 1_024, value(text, "VmHWM:")? * 1_024))
}

fn value(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = "123 (a ) b) S 1 123 123 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 1000 1 1 1";
        assert_eq!(parse_stat(text, 100), Some(Duration::from_secs(3)));
        assert_eq!(parse_stat("123 (short) S 1", 100), None);
        assert_eq!(parse_stat("nothing", 100), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse_status(text), Some((1_048_576, 2_097_152)));
        assert_eq!(parse_status("Name:\tzombie\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_memory_and_a_missing_one_is_missing() {
        let usage = usage(std::process::id()).expect("this process runs");
        assert!(usage.memory > 0 && usage.memory_peak >= usage.memory);
        assert_eq!(super::usage(u32::MAX), None);
    }
}
