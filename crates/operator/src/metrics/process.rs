//! What the kernel tells of this process, under the names that every Prometheus client uses.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};

use super::{Count, Number, words};

/// Tells of this process.
#[derive(Debug)]
pub(super) struct Collector;

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        // Elsewhere than on Linux there is nothing to tell.
        let seen = Seen::look().unwrap_or_default();
        for (word, value) in [
            (words::PROCESS_RSS, seen.resident_bytes),
            (words::PROCESS_FDS, seen.open_files),
            (words::PROCESS_START, seen.started_at),
        ] {
            let number = Number::new(value);
            number.encode(encoder.encode_descriptor(word.name, word.help, None, number.metric_type())?)?;
        }
        let word = words::PROCESS_CPU;
        let cpu = Count::new(seen.cpu_seconds);
        let name = word.name.trim_end_matches("_total");
        cpu.encode(encoder.encode_descriptor(name, word.help, None, cpu.metric_type())?)
    }
}

#[derive(Debug, Default)]
struct Seen {
    resident_bytes: f64,
    cpu_seconds: f64,
    open_files: f64,
    started_at: f64,
}

impl Seen {
    fn look() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may hold anything; what follows it is numbers, from field 3 of proc(5).
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        let boot = std::fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes = resident.trim().trim_end_matches("kB").trim().parse::<f64>().ok()?;
        let open = std::fs::read_dir("/proc/self/fd").ok()?.count();
        // Times are told in hundredths of a second on every Linux there is.
        Some(Self {
            resident_bytes: kibibytes * 1024.0,
            cpu_seconds: (number(14)? + number(15)?) / 100.0,
            open_files: f64::from(u32::try_from(open).unwrap_or(u32::MAX)),
            started_at: boot + number(22)? / 100.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let seen = Seen::look().unwrap();
        assert!(seen.resident_bytes > 100_000.0 && seen.open_files > 2.0, "{seen:?}");
        assert!(seen.started_at > 1_700_000_000.0, "{seen:?}");
    }
}
