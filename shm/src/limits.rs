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
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left = |limit: Option<u64>, used: Option<u64>| Some(limit?.saturating_sub(used?));
    let v2 = groups(root, "").into_iter();
    let v2 = v2.filter_map(|g| left(number(g.join("memory.max")), number(g.join("memory.current"))));
    let v1 = groups(root, "memory").into_iter().filter_map(|g| {
        left(number(g.join("memory.limit_in_bytes")), number(g.join("memory.usage_in_bytes")))
    });
    let info = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let available = info.lines().find_map(|l| {
        let kib = l.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?;
        Some(kib.trim().parse::<u64>().ok()? * 1024)
    });
    v2.chain(v1).chain(available).min().unwrap_or(u64::MAX)
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

    #[test]
    fn without_groups_the_system_counts() {
        let root = Root::new("none", &[INFO]);
        assert_eq!(memory_left_below(&root.0), 4_096_000);
        assert!(memory_left() > 1 << 20);
        assert!(allowed_cpus().iter().any(|w| *w != 0));
    }
}
