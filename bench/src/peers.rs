//! The MPIs that take part: which are installed, and with which settings each is at its best.

use std::path::Path;
use std::process::Command;

use crate::contender::Contender;

/// Settings that keep large scratch buffers mapped between calls: without them glibc maps and unmaps one a call.
const MALLOC: &[(&str, &str)] = &[
    ("MALLOC_MMAP_THRESHOLD_", "8589934592"),
    ("MALLOC_TRIM_THRESHOLD_", "17179869184"),
    ("MALLOC_TOP_PAD_", "16777216"),
];
const DYNAMIC: [&str; 3] = ["--mca", "coll_tuned_use_dynamic_rules", "1"];
const YIELDING: [&str; 3] = ["--mca", "mpi_yield_when_idle", "1"];
/// Where bench/peers.sh puts the drivers.
pub(crate) const DRIVERS: &str = "target/peers";

/// An MPI library: the name of its driver, names its launcher may have, and what stands before the version that it
/// prints.
struct Library {
    name: &'static str,
    launchers: [&'static str; 2],
    version_after: &'static str,
    arguments: &'static [&'static str],
}

const OPEN_MPI: Library = Library {
    name: "openmpi",
    launchers: ["mpirun.openmpi", "mpirun"],
    version_after: "(Open MPI)",
    // The driver pins its ranks itself.
    arguments: &["--bind-to", "none", "--oversubscribe", "--allow-run-as-root"],
};
const MPICH: Library = Library {
    name: "mpich",
    launchers: ["mpirun.mpich", "mpiexec.hydra"],
    version_after: "Version:",
    arguments: &[],
};

/// One library with one setting.
struct Peer {
    library: &'static Library,
    /// What its name in the report ends with.
    setting: &'static str,
    arguments: Vec<&'static str>,
    environment: &'static [(&'static str, &'static str)],
}

/// A peer that could not be started.
pub(crate) struct Missing {
    pub(crate) name: String,
    pub(crate) reason: String,
}

/// Starts every peer for `ranks` ranks with the settings that suit `cpus` CPUs.
pub(crate) fn start(ranks: usize, cpus: usize) -> (Vec<Contender>, Vec<Missing>) {
    let (mut running, mut missing) = (Vec::new(), Vec::new());
    for peer in if ranks > cpus { crowded() } else { roomy() } {
        match peer.start(ranks) {
            Ok(contender) => running.push(contender),
            Err(m) => missing.push(m),
        }
    }
    (running, missing)
}

/// A CPU for every rank.
fn roomy() -> Vec<Peer> {
    let peer = |library, setting, arguments, environment| Peer { library, setting, arguments, environment };
    vec![
        peer(&OPEN_MPI, "", Vec::new(), &[]),
        peer(&OPEN_MPI, "-tuned", algorithm("6"), MALLOC),
        peer(&MPICH, "", Vec::new(), &[]),
        peer(&MPICH, "-tuned", Vec::new(), MALLOC),
    ]
}

/// More ranks than CPUs. No single algorithm of Open MPI is its best at every length here. MPICH is left out: its
/// ranks can't be told to give way, and 8 bytes take it milliseconds.
fn crowded() -> Vec<Peer> {
    let peer = |setting, more: Vec<&'static str>| Peer {
        library: &OPEN_MPI,
        setting,
        arguments: [YIELDING.to_vec(), more].concat(),
        environment: MALLOC,
    };
    vec![
        peer("-yielding", Vec::new()),
        peer("-yielding-ring", algorithm("6")),
        peer("-yielding-doubling", algorithm("3")),
    ]
}

/// Open MPI's all-reduce by number: 3 is recursive doubling, 6 the segmented ring.
fn algorithm(number: &'static str) -> Vec<&'static str> {
    [DYNAMIC.to_vec(), vec!["--mca", "coll_tuned_allreduce_algorithm", number]].concat()
}

impl Peer {
    fn start(&self, ranks: usize) -> Result<Contender, Missing> {
        let plain = format!("{}{}", self.library.name, self.setting);
        let missing = |name: &str, reason: String| Missing { name: name.to_owned(), reason };
        let driver = Path::new(DRIVERS).join(self.library.name);
        if !driver.exists() {
            return Err(missing(&plain, format!("{} is missing: run bench/peers.sh", driver.display())));
        }
        let Some((launcher, major)) = self.library.launcher() else {
            return Err(missing(&plain, format!("none of {:?} runs", self.library.launchers)));
        };
        let name = format!("{}-{major}{}", self.library.name, self.setting);
        let mut command = Command::new(launcher);
        command.args(["-n", &ranks.to_string()]).args(self.library.arguments).args(&self.arguments);
        command.envs(self.environment.iter().copied()).arg(driver);
        Contender::launched(&name, &mut command, ranks).map_err(|e| missing(&name, e.to_string()))
    }
}

impl Library {
    /// The launcher that is installed, and the library's major version.
    fn launcher(&self) -> Option<(&'static str, u32)> {
        self.launchers.into_iter().find_map(|launcher| {
            let said = Command::new(launcher).arg("--version").output().ok()?;
            Some((launcher, self.major(&String::from_utf8_lossy(&said.stdout))?))
        })
    }

    fn major(&self, said: &str) -> Option<u32> {
        let (_, version) = said.split_once(self.version_after)?;
        version.trim_start().split('.').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_the_other_library_is_not_taken_for_this_one() {
        let open = "mpirun (Open MPI) 4.1.4\n\nReport bugs to ...\n";
        let mpich = "HYDRA build details:\n    Version:                                 4.0.2\n";
        assert_eq!(OPEN_MPI.major(open), Some(4));
        assert_eq!(MPICH.major(mpich), Some(4));
        assert_eq!(OPEN_MPI.major(mpich), None);
        assert_eq!(MPICH.major(open), None);
    }

    #[test]
    fn no_two_settings_share_a_name() {
        for peers in [roomy(), crowded()] {
            let mut names: Vec<_> = peers.iter().map(|p| (p.library.name, p.setting)).collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all);
        }
    }
}
