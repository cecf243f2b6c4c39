//! The environment variables with which a launcher describes a job to its processes.

use crate::error::{Error, Result};
use std::{env, str::FromStr, sync::OnceLock};

/// The port of the store if the launcher sets none: PyTorch's default.
const DEFAULT_PORT: u16 = 29500;

/// The position of this process in its job.
///
/// | launcher | rank, processes, rank on this machine | store |
/// |---|---|---|
/// | `torchrun`, [`launch`](super::launch()) | `RANK`, `WORLD_SIZE`, `LOCAL_RANK` | `MASTER_ADDR`, `MASTER_PORT` |
/// | `mpirun` of Open MPI | `OMPI_COMM_WORLD_RANK`, `_SIZE`, `_LOCAL_RANK` | the same, or this machine |
/// | `mpirun` of MPICH and Intel MPI | `PMI_RANK`, `PMI_SIZE`, `MPI_LOCALRANKID` | the same, or this machine |
/// | `srun` | `SLURM_PROCID`, `SLURM_STEP_NUM_TASKS`, `SLURM_LOCALID` | the same, or the first node of the step |
///
/// The first launcher of this table whose variables are set is used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Environment {
    /// The launcher, such as `torchrun`.
    pub launcher: &'static str,
    /// The rank of this process, from 0.
    pub rank: usize,
    /// The number of processes.
    pub world_size: usize,
    /// The rank of this process on its machine, from 0.
    pub local_rank: usize,
    /// The number of processes on this machine, if the launcher sets it.
    pub local_world_size: Option<usize>,
    /// The host name or address of the machine that serves the store.
    pub master_addr: String,
    /// The port of the store.
    pub master_port: u16,
    /// True if the launcher serves the store instead of rank 0.
    pub agent_store: bool,
    /// The number of times that the launcher has restarted the job.
    pub attempt: u64,
}

/// The variables of one launcher.
struct Names {
    launcher: &'static str,
    rank: &'static str,
    world_size: &'static str,
    local_rank: &'static str,
    local_world_size: &'static str,
}

const LAUNCHERS: [Names; 4] = [
    Names {
        launcher: "torchrun",
        rank: "RANK",
        world_size: "WORLD_SIZE",
        local_rank: "LOCAL_RANK",
        local_world_size: "LOCAL_WORLD_SIZE",
    },
    Names {
        launcher: "Open MPI",
        rank: "OMPI_COMM_WORLD_RANK",
        world_size: "OMPI_COMM_WORLD_SIZE",
        local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
        local_world_size: "OMPI_COMM_WORLD_LOCAL_SIZE",
    },
    Names {
        launcher: "MPICH",
        rank: "PMI_RANK",
        world_size: "PMI_SIZE",
        local_rank: "MPI_LOCALRANKID",
        local_world_size: "MPI_LOCALNRANKS",
    },
    // A batch script also has SLURM_PROCID and SLURM_NTASKS; only `srun` sets the variables of a step.
    Names {
        launcher: "SLURM",
        rank: "SLURM_PROCID",
        world_size: "SLURM_STEP_NUM_TASKS",
        local_rank: "SLURM_LOCALID",
        local_world_size: "SLURM_NTASKS_PER_NODE",
    },
];

/// Reads variables by name.
struct Vars<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Vars<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|v| !v.trim().is_empty())
    }

    fn number<T: FromStr>(&self, name: &'static str) -> Result<Option<T>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = |_| Error::config(name, format!("is {text:?}; it must be an integer"));
        text.trim().parse().map(Some).map_err(wrong)
    }
}

impl Environment {
    /// Returns the variables of this process's launcher; `None` if there is no launcher. The environment is
    /// read once.
    ///
    /// # Errors
    /// [`Error::Config`] naming the missing or invalid variable.
    pub fn read() -> Result<Option<&'static Self>> {
        static READ: OnceLock<Result<Option<Environment>, (&'static str, String)>> =
            OnceLock::new();
        let read = READ.get_or_init(|| {
            Self::from_vars(&|name| env::var(name).ok()).map_err(|e| match e {
                Error::Config { option, why, .. } => (option, why),
                e => ("environment", e.to_string()),
            })
        });
        match read {
            Ok(found) => Ok(found.as_ref()),
            Err((option, why)) => Err(Error::config(option, why.clone())),
        }
    }

    /// As [`read`](Self::read), from other variables than those of this process.
    ///
    /// # Errors
    /// As [`Environment::read`].
    ///
    /// ```
    /// use finetune::distributed::Environment;
    ///
    /// let vars = |name: &str| match name {
    ///     "SLURM_PROCID" => Some("5".to_owned()),
    ///     "SLURM_STEP_NUM_TASKS" => Some("8".to_owned()),
    ///     "SLURM_LOCALID" => Some("1".to_owned()),
    ///     "SLURM_STEP_NODELIST" => Some("gpu[07-08]".to_owned()),
    ///     "SLURM_JOB_ID" => Some("4711".to_owned()),
    ///     _ => None,
    /// };
    /// let job = Environment::from_vars(&vars)?.expect("variables of srun");
    /// assert_eq!((job.rank, job.world_size, job.local_rank), (5, 8, 1));
    /// assert_eq!((&*job.master_addr, job.master_port), ("gpu07", 19711));
    /// # Ok::<(), finetune::Error>(())
    /// ```
    pub fn from_vars(vars: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let vars = Vars(vars);
        let all_set = |n: &&Names| vars.text(n.rank).is_some() && vars.text(n.world_size).is_some();
        let Some(names) = LAUNCHERS.iter().find(all_set) else {
            return match (vars.text("RANK"), vars.text("WORLD_SIZE")) {
                (Some(_), None) => {
                    Err(Error::config("WORLD_SIZE", "is not set, but `RANK` is: set both"))
                }
                (None, Some(n)) if n.trim() != "1" => {
                    Err(Error::config("RANK", "is not set, but `WORLD_SIZE` is: set both"))
                }
                _ => Ok(None),
            };
        };
        let rank = vars.number(names.rank)?.unwrap_or(0);
        let world_size = vars.number(names.world_size)?.unwrap_or(0);
        if rank >= world_size {
            let why = format!("is {rank}; it must be below `{}`, {world_size}", names.world_size);
            return Err(Error::config(names.rank, why));
        }
        let local_world_size: Option<usize> = vars.number(names.local_world_size)?;
        let local_rank: Option<usize> = vars.number(names.local_rank)?;
        let one_machine = local_world_size.is_none_or(|n| n == world_size);
        let (master_addr, master_port) = master(names, &vars, one_machine)?;
        Ok(Some(Self {
            launcher: names.launcher,
            rank,
            world_size,
            // Without the variable, all processes are on one machine.
            local_rank: local_rank.unwrap_or(rank),
            local_world_size,
            master_addr,
            master_port,
            agent_store: vars.text("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|v| v == "True"),
            attempt: vars.number("TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0),
        }))
    }
}

/// Returns the host and port of the store.
fn master(names: &Names, vars: &Vars<'_>, one_machine: bool) -> Result<(String, u16)> {
    let (addr, port) = (vars.text("MASTER_ADDR"), vars.number("MASTER_PORT")?);
    if names.launcher == "SLURM" {
        let nodes = vars.text("SLURM_STEP_NODELIST").or_else(|| vars.text("SLURM_JOB_NODELIST"));
        let first = nodes.as_deref().and_then(first_node);
        let job: Option<u64> = vars.number("SLURM_JOB_ID")?;
        // Jobs that share a node have different numbers, and so usually different ports.
        let of_job = job.map_or(DEFAULT_PORT, |id| 15_000 + (id % 10_000) as u16);
        let unknown = || {
            let why = "is not set, and `SLURM_STEP_NODELIST` contains no node: set it to the node of rank 0";
            Error::config("MASTER_ADDR", why)
        };
        return Ok((addr.or(first).ok_or_else(unknown)?, port.unwrap_or(of_job)));
    }
    match addr {
        Some(addr) => Ok((addr, port.unwrap_or(DEFAULT_PORT))),
        None if one_machine => Ok(("127.0.0.1".to_owned(), port.unwrap_or(DEFAULT_PORT))),
        None => {
            let why = "is not set, but the job has several machines: set it to the machine of rank 0, for \
                       example with `mpirun -x MASTER_ADDR=…`";
            Err(Error::config("MASTER_ADDR", why))
        }
    }
}

/// Returns the first node of a list in SLURM's notation: `gpu07` for `gpu[07-09,12],login1`.
fn first_node(list: &str) -> Option<String> {
    let (mut node, mut rest) = (String::new(), list);
    // Several dimensions: `rack[1-2]node[3-4]`.
    while let Some((prefix, more)) = rest.split_once('[')
        && !prefix.contains(',')
    {
        let (inside, after) = more.split_once(']')?;
        node += prefix;
        node += inside.split([',', '-']).next()?;
        rest = after;
    }
    node += rest.split(',').next()?;
    let node = node.trim();
    (!node.is_empty()).then(|| node.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Option<Environment>> {
        let find = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Environment::from_vars(&find)
    }

    fn refused(vars: &[(&str, &str)]) -> String {
        read(vars).unwrap_err().to_string()
    }

    #[test]
    fn a_process_without_a_launcher_is_alone() {
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("MASTER_ADDR", "10.0.0.1"), ("SLURM_PROCID", "0")]).unwrap(), None);
    }

    #[test]
    fn torchrun() {
        let job = read(&[
            ("RANK", "3"),
            ("WORLD_SIZE", "4"),
            ("LOCAL_RANK", "1"),
            ("LOCAL_WORLD_SIZE", "2"),
            ("MASTER_ADDR", "node1"),
            ("MASTER_PORT", "1234"),
            ("TORCHELASTIC_USE_AGENT_STORE", "True"),
            ("TORCHELASTIC_RESTART_COUNT", "2"),
            ("SLURM_PROCID", "0"),
            ("SLURM_STEP_NUM_TASKS", "2"),
        ]);
        let job = job.unwrap().unwrap();
        assert_eq!((job.rank, job.world_size, job.local_rank), (3, 4, 1));
        assert_eq!((&*job.master_addr, job.master_port), ("node1", 1234));
        assert!(job.agent_store);
        assert_eq!(job.attempt, 2);
    }

    #[test]
    fn open_mpi_on_one_machine_needs_no_address() {
        let one = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "2"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
        ];
        let job = read(&one).unwrap().unwrap();
        assert_eq!((&*job.master_addr, job.master_port), ("127.0.0.1", 29500));
        let mut two = one;
        two[3].1 = "1";
        assert!(refused(&two).contains("MASTER_ADDR"));
    }

    #[test]
    fn mpich() {
        let job = read(&[("PMI_RANK", "1"), ("PMI_SIZE", "2"), ("MPI_LOCALRANKID", "0")]);
        assert_eq!(job.unwrap().unwrap().local_rank, 0);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert!(refused(&[("RANK", "0")]).starts_with("`WORLD_SIZE`"));
        assert!(refused(&[("WORLD_SIZE", "2")]).starts_with("`RANK`"));
        assert!(refused(&[("RANK", "2"), ("WORLD_SIZE", "2")]).starts_with("`RANK` is 2"));
        assert!(refused(&[("RANK", "x"), ("WORLD_SIZE", "2")]).contains("\"x\""));
        let port = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_PORT", "70000")];
        assert!(refused(&port).starts_with("`MASTER_PORT`"));
    }

    #[test]
    fn the_first_node_of_a_list() {
        for (list, first) in [
            ("node1", "node1"),
            ("node1,node2", "node1"),
            ("gpu[07-09,12],login1", "gpu07"),
            ("a,gpu[07-09]", "a"),
            ("rack[1-2]node[03-04]", "rack1node03"),
            ("n[3].cluster", "n3.cluster"),
        ] {
            assert_eq!(first_node(list).as_deref(), Some(first), "{list}");
        }
        assert_eq!(first_node(""), None);
        assert_eq!(first_node("n[1-2"), None);
        // A list of any length.
        assert_eq!(first_node(&"[1-2]".repeat(100_000)), Some("1".repeat(100_000)));
    }
}
