//! On what it was measured: figures without their machine say little.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::bench::{Bench, Group};
use crate::meter::Meter;
use crate::stats::percentile;

/// The machine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// The processor, by its own name.
    pub(crate) processor: String,
    /// Processors that this process may use.
    pub(crate) cores: usize,
    /// Memory, GiB.
    pub(crate) memory_gib: u64,
    /// The kernel.
    pub(crate) kernel: String,
    /// The filesystem of the temporary folder, where all stores are.
    pub(crate) filesystem: String,
}

impl Machine {
    /// This one.
    pub(crate) fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let value = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kib = value(&text("/proc/meminfo"), "MemTotal").and_then(|v| v.split_whitespace().next()?.parse().ok());
        Self {
            processor: value(&text("/proc/cpuinfo"), "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (kib.unwrap_or(0_u64) + 512 * 1024) / (1024 * 1024),
            kernel: format!("Linux {}", text("/proc/sys/kernel/osrelease").trim()),
            filesystem: filesystem_of(&text("/proc/self/mountinfo"), &std::env::temp_dir()).unwrap_or_else(unknown),
        }
    }

    /// Whether what is written there would be in memory only, so that a sync costs nothing.
    pub(crate) fn keeps_nothing(&self) -> bool {
        matches!(self.filesystem.as_str(), "tmpfs" | "ramfs")
    }
}

/// The type of the filesystem that holds `path`: the longest mount point above it, and of equals the last, which hides the others.
fn filesystem_of(mounts: &str, path: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let point = Path::new(line.split(' ').nth(4)?);
        let kind = line.split_once(" - ")?.1.split(' ').next()?;
        path.starts_with(point).then(|| (point.components().count(), kind.to_owned()))
    });
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

/// What one durable write costs: every figure with a store in it stands on this.
pub(crate) fn disk(bench: &Bench) -> Result<Group> {
    const WRITES: u64 = 200;
    let mut group = Group::new(
        "disk",
        "Durable write",
        "4 KiB written to a file in the temporary folder and synced (`fdatasync`), one after the other: what every figure with a \
         store stands on.",
    );
    for run in 0..bench.runs {
        let bar = bench.bar("disk", run, WRITES);
        let mut file = tempfile::tempfile().context("a temporary file")?;
        let mut took = Vec::new();
        let meter = Meter::begin(None)?;
        for _ in 0..WRITES {
            let began = Instant::now();
            file.write_all(&[7; 4096])?;
            file.sync_data()?;
            took.push(began.elapsed().as_secs_f64() * 1e6);
            bar.inc(1);
        }
        bench.note(&meter.end()?);
        group.add("median", "", "µs", percentile(&took, 50.0));
        group.add("p99", "", "µs", percentile(&took, 99.0));
    }
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_names_the_filesystem() {
        let mounts = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      30 22 0:26 / /tmp rw - tmpfs tmpfs rw\n\
                      31 22 0:27 / /tmp/big rw - xfs /dev/vdb rw\n";
        let of = |path: &str| filesystem_of(mounts, Path::new(path)).unwrap();
        assert_eq!(of("/tmp"), "tmpfs");
        assert_eq!(of("/tmp/big/x"), "xfs");
        assert_eq!(of("/tmpfs"), "ext4", "a name that only begins alike is another folder");
    }
}
