//! What the system allows: memory, processors. Readers take a root so that tests can use fixtures.

use std::fs;
use std::path::{Path, PathBuf};

/// Words of a processor mask: 1024 processors, as many as the kernel's static mask.
pub const CPU_WORDS: usize = 16;

/// The processors that this thread may run on, a bit each.
pub fn allowed_cpus() -> [u64; CPU_WORDS] {
    let mut mask = [0; CPU_WORDS];
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap_or_default();
    for cpu in
        (0..nix::sched::CpuSet::count().min(CPU_WORDS * 64)).filter(|c| set.is_set(*c).unwrap_or(false))
    {
        mask[cpu / 64] |= 1 << (cpu % 64);
    }
    mask
}

/// How many processors' worth of time the control group may use; `None` if it has no limit.
pub fn cpu_quota() -> Option<f64> {
    cpu_quota_below(Path::new("/"))
}

fn cpu_quota_below(root: &Path) -> Option<f64> {
    let of = |(quota, period): (&str, &str)| {
        let (quota, period) = (quota.trim().parse::<f64>().ok()?, period.trim().parse::<f64>().ok()?);
        (quota > 0.0 && period > 0.0).then(|| quota / period)
    };
    let v2 = groups(root, "").into_iter().filter_map(|g| {
        let text = fs::read_to_string(g.join("cpu.max")).ok()?;
        of(text.trim().split_once(' ')?)
    });
    let v1 = groups(root, "cpu").into_iter().filter_map(|g| {
        let quota = fs::read_to_string(g.join("cpu.cfs_quota_us")).ok()?;
        of((&quota, &fs::read_to_string(g.join("cpu.cfs_period_us")).ok()?))
    });
    v2.chain(v1).min_by(f64::total_cmp)
}

/// Bytes of memory that could still be had: the system's, or the control group's where that is less.
pub(crate) fn memory_left() -> u64 {
    memory_left_below(Path::new("/"))
}

fn memory_left_below(root: &Path) -> u64 {
    let info = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let available = info.lines().find_map(|l| {
        let kib = l.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?;
        Some(kib.trim().parse::<u64>().ok()? * 1024)
    });
    let available = available.unwrap_or(u64::MAX);
    // Of a group: its limit, what it uses, and the lines of `memory.stat` that are files it has read.
    let v2 = ["memory.max", "memory.current", "active_file", "inactive_file"];
    // Here the use is of the group and those below it, and so are the totals.
    let v1 = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_active_file", "total_inactive_file"];
    let v2 = groups(root, "").into_iter().filter_map(|g| group_left(&g, v2, available));
    let v1 = groups(root, "memory").into_iter().filter_map(|g| group_left(&g, v1, available));
    v2.chain(v1).min().unwrap_or(u64::MAX).min(available)
}

/// What a control group may still use, exactly where it is less than `enough`. The files that a group has read count as
/// used, but the kernel drops them before it refuses memory; shared memory is not among them, because it has no file to
/// go back to.
fn group_left(group: &Path, [limit, used, active, inactive]: [&str; 4], enough: u64) -> Option<u64> {
    let number = |name| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let (limit, used) = (number(limit)?, number(used)?);
    let free = limit.saturating_sub(used);
    if free >= enough {
        return Some(free); // the kernel has to add up for `memory.stat`
    }
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let lines = stat.lines().filter_map(|l| l.split_once(' '));
    let files = lines.filter(|(name, _)| [active, inactive].contains(name));
    let files: u64 = files.filter_map(|(_, bytes)| bytes.trim().parse::<u64>().ok()).sum();
    Some(limit.saturating_sub(used.saturating_sub(files)))
}

/// The folders of this process's control group and of those above it, for a v1 controller or (`""`) for v2.
fn groups(root: &Path, controller: &str) -> Vec<PathBuf> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let path = text.lines().find_map(|l| {
        let mut fields = l.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        controllers.split(',').any(|c| c == controller).then(|| fields.next())?
    });
    let mount = root.join("sys/fs/cgroup").join(controller);
    let own = path.map_or_else(|| mount.clone(), |p| mount.join(p.trim_start_matches('/')));
    own.ancestors().take_while(|p| p.starts_with(&mount)).map(Path::to_path_buf).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root of its own that goes when the test ends.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("sapwood-limits-{}-{name}", std::process::id()));
            for (path, text) in files {
                let path = root.join(path);
                fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
                fs::write(path, text).expect("it can be written");
            }
            Root(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const INFO: (&str, &str) = ("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    4000 kB\n");

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = Root::new(
            "v2",
            &[
                INFO,
                ("proc/self/cgroup", "0::/a/b\n"),
                ("sys/fs/cgroup/a/memory.max", "3000\n"),
                ("sys/fs/cgroup/a/memory.current", "1000\n"),
                ("sys/fs/cgroup/a/b/memory.max", "max\n"),
                ("sys/fs/cgroup/a/b/memory.current", "10\n"),
                ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
            ],
        );
        assert_eq!(memory_left_below(&root.0), 2000);
        assert_eq!(cpu_quota_below(&root.0), Some(1.5));
    }

    #[test]
    fn version_one_is_read_too() {
        let root = Root::new(
            "v1",
            &[
                INFO,
                ("proc/self/cgroup", "4:cpu,cpuacct:/x\n3:memory:/x\n0::/\n"),
                ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "5000\n"),
                ("sys/fs/cgroup/memory/x/memory.usage_in_bytes", "4000\n"),
                ("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n"),
                ("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n"),
            ],
        );
        assert_eq!(memory_left_below(&root.0), 1000);
        assert_eq!(cpu_quota_below(&root.0), None);
    }

    /// A data set of 700 bytes has been read in the first group, of 900 in the second.
    #[test]
    fn files_that_can_be_dropped_are_not_used_memory() {
        let v2 = "anon 200\nfile 800\nshmem 100\ninactive_file 400\nactive_file 300\n";
        let root = Root::new(
            "cache2",
            &[
                INFO,
                ("proc/self/cgroup", "0::/a\n"),
                ("sys/fs/cgroup/a/memory.max", "1000\n"),
                ("sys/fs/cgroup/a/memory.current", "990\n"),
                ("sys/fs/cgroup/a/memory.stat", v2),
            ],
        );
        assert_eq!(memory_left_below(&root.0), 710);
        let v1 = "inactive_file 1\nactive_file 2\ntotal_inactive_file 500\ntotal_active_file 400\n";
        let files = |used| {
            [
                INFO,
                ("proc/self/cgroup", "3:memory:/x\n"),
                ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1000\n"),
                ("sys/fs/cgroup/memory/x/memory.usage_in_bytes", used),
                ("sys/fs/cgroup/memory/x/memory.stat", v1),
            ]
        };
        let root = Root::new("cache1", &files("1000\n"));
        assert_eq!(memory_left_below(&root.0), 900);
        let root = Root::new("more", &files("800\n"));
        assert_eq!(memory_left_below(&root.0), 1000, "never more than the limit");
    }

    #[test]
    fn without_groups_the_system_counts() {
        let root = Root::new("none", &[INFO]);
        assert_eq!(memory_left_below(&root.0), 4_096_000);
        assert!(memory_left() > 1 << 20);
        assert!(allowed_cpus().iter().any(|w| *w != 0));
    }
}
