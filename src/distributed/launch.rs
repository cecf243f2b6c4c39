//! Starts a job of several processes on this machine.

use super::Environment;
use crate::{
    error::{Error, Result},
    sys::Store,
};
use std::{
    env,
    io::{self, BufRead as _, BufReader, Read, Write},
    net::TcpListener,
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Marks a process that was started by [`launch`].
const LAUNCHED: &str = "FINETUNE_LAUNCHED";
/// The time that the other processes have to end with an error that names the failed one, and again after
/// they have been signaled.
const GRACE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(20);
/// The largest number of processes. It is above the number of devices and processors of a machine, and low enough that
/// a mistyped number does not exhaust the process table.
const MOST: usize = 1024;

/// The output of the processes that [`launch`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LaunchOutput {
    /// All output of rank 0, which keeps the terminal; standard error of the others, with the prefix `[rank
    /// N]` on each line.
    #[default]
    FirstRank,
    /// All output of every rank, with the prefix `[rank N]` on each line.
    Prefixed,
    /// Every rank writes to the terminal directly.
    Inherited,
}

/// Options of [`launch`].
#[derive(Debug, Clone)]
#[must_use]
pub struct LaunchOptions {
    processes: usize,
    restarts: u64,
    output: LaunchOutput,
}

impl LaunchOptions {
    /// Returns the options of a job with `processes` processes.
    pub fn new(processes: usize) -> Self {
        Self { processes, restarts: 0, output: LaunchOutput::default() }
    }

    /// Sets the number of restarts of the job after a process failed. A program that resumes from its
    /// checkpoint then continues automatically. Default: 0.
    pub fn restarts(mut self, restarts: u64) -> Self {
        self.restarts = restarts;
        self
    }

    /// Sets the output of the processes that is shown. Default: [`LaunchOutput::FirstRank`].
    pub fn output(mut self, output: LaunchOutput) -> Self {
        self.output = output;
        self
    }
}

impl From<usize> for LaunchOptions {
    fn from(processes: usize) -> Self {
        Self::new(processes)
    }
}

/// The role of a process after [`launch`]. There are no others, so the enum is exhaustive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the process that launched the others must end"]
pub enum Launched {
    /// One of the job's processes, which continues with the program.
    Worker,
    /// The process that started them; all of them have ended successfully.
    Done,
}

/// Runs this program as a job of several processes on this machine, without Python. The program is started
/// `processes` times with the same arguments, and this call returns [`Launched::Worker`] in each of them.
/// In the original process, it returns when all have ended. A program that `torchrun`, `srun` or `mpirun`
/// started is a worker already.
///
/// - The processes connect over the loopback address, at a port chosen by the system.
/// - If `OMP_NUM_THREADS` is not set, it is set so that the processes share the processors.
/// - SIGINT, SIGTERM and SIGHUP are forwarded.
/// - If a process fails, the others have 15 seconds to end with an error of their own before they are
///   signaled, and another 15 before they are killed. On Linux, they also end when this process ends.
///
/// # Errors
/// [`Error::Config`] for 0 processes and for more than 1,024; [`Error::Distributed`] naming the process that
/// failed first, or the signal.
///
/// ```no_run
/// use finetune::distributed::{Launched, launch};
///
/// fn main() -> finetune::Result<()> {
///     if launch(2)? == Launched::Done {
///         return Ok(());
///     }
///     // The following code runs in two processes.
///     Ok(())
/// }
/// ```
pub fn launch(options: impl Into<LaunchOptions>) -> Result<Launched> {
    let options = options.into();
    if !(1..=MOST).contains(&options.processes) {
        let why = format!("is {}; it must be from 1 to {MOST}", options.processes);
        return Err(Error::config("processes", why));
    }
    if Environment::read()?.is_some() {
        if env::var_os(LAUNCHED).is_some() {
            end_with_parent()?;
        }
        return Ok(Launched::Worker);
    }
    let signals = Signals::new()?;
    let mut attempt = 0;
    loop {
        match Job::start(&options, attempt)?.wait(&signals) {
            Err(Failure::Process(_)) if attempt < options.restarts => attempt += 1,
            Err(Failure::Process(e) | Failure::Stopped(e)) => return Err(e),
            Ok(()) => return Ok(Launched::Done),
        }
    }
}

/// The reason why a job ended.
enum Failure {
    /// A process failed.
    Process(Error),
    /// A signal, after which the job is not restarted.
    Stopped(Error),
}

/// The processes of one attempt.
struct Job {
    children: Vec<Child>,
    statuses: Vec<Option<ExitStatus>>,
    outputs: Vec<JoinHandle<()>>,
    _store: Store,
}

impl Drop for Job {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Processes that have already ended cannot be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Job {
    fn start(options: &LaunchOptions, attempt: u64) -> Result<Self> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| Error::distributed(None, format!("cannot {what}: {e}"))
        };
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed("listen on 127.0.0.1"))?;
        let port = listener.local_addr().map_err(failed("listen on 127.0.0.1"))?.port();
        // The store is served here, so that it outlives rank 0 and no other program takes its port.
        let store = Store::connect("127.0.0.1", port, Some(listener), GRACE)?;
        let program = env::current_exe().map_err(failed("find this program's file"))?;
        let n = options.processes;
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let mut job =
            Self { children: vec![], statuses: vec![None; n], outputs: vec![], _store: store };
        for rank in 0..n {
            let mut command = Command::new(&program);
            command.args(env::args_os().skip(1));
            for (name, value) in [
                ("RANK", rank.to_string()),
                ("LOCAL_RANK", rank.to_string()),
                ("WORLD_SIZE", n.to_string()),
                ("LOCAL_WORLD_SIZE", n.to_string()),
                ("MASTER_ADDR", "127.0.0.1".to_owned()),
                ("MASTER_PORT", port.to_string()),
                ("TORCHELASTIC_USE_AGENT_STORE", "True".to_owned()),
                ("TORCHELASTIC_RESTART_COUNT", attempt.to_string()),
                (LAUNCHED, std::process::id().to_string()),
            ] {
                command.env(name, value);
            }
            if env::var_os("OMP_NUM_THREADS").is_none() {
                command.env("OMP_NUM_THREADS", (processors / n).max(1).to_string());
            }
            let (out, err) = match options.output {
                LaunchOutput::FirstRank if rank > 0 => (Stdio::null(), Stdio::piped()),
                LaunchOutput::Prefixed => (Stdio::piped(), Stdio::piped()),
                _ => (Stdio::inherit(), Stdio::inherit()),
            };
            command.stdout(out).stderr(err);
            let mut child = command.spawn().map_err(failed("start this program again"))?;
            if let Some(out) = child.stdout.take() {
                job.outputs.push(thread::spawn(move || prefix(rank, out, io::stdout)));
            }
            if let Some(err) = child.stderr.take() {
                job.outputs.push(thread::spawn(move || prefix(rank, err, io::stderr)));
            }
            job.children.push(child);
        }
        Ok(job)
    }

    /// Waits until all processes have ended. If one fails, or a signal arrives, the others are ended.
    fn wait(mut self, signals: &Signals) -> std::result::Result<(), Failure> {
        let mut failure: Option<Failure> = None;
        let mut ending: Option<(Instant, Ending)> = None;
        loop {
            for rank in 0..self.children.len() {
                if self.statuses[rank].is_some() {
                    continue;
                }
                let status = self.children[rank]
                    .try_wait()
                    .map_err(|e| Failure::Process(Error::distributed(Some(rank), e.to_string())))?;
                self.statuses[rank] = status;
                if let Some(status) = status.filter(|s| !s.success())
                    && failure.is_none()
                {
                    let why = format!("rank {rank} ended with {status}");
                    failure = Some(Failure::Process(Error::distributed(Some(rank), why)));
                    ending = Some((Instant::now(), Ending::ByThemselves));
                }
            }
            if self.statuses.iter().all(Option::is_some) {
                break;
            }
            for signal in signals.pending() {
                self.signal(signal);
                let why = format!("stopped by signal {signal}");
                failure = Some(Failure::Stopped(Error::distributed(None, why)));
                ending = Some((Instant::now(), Ending::Told));
            }
            if let Some((since, stage)) = ending
                && since.elapsed() > GRACE
            {
                match stage {
                    Ending::ByThemselves => self.signal(TERMINATE),
                    Ending::Told => self.kill(),
                }
                ending = Some((Instant::now(), Ending::Told));
            }
            thread::sleep(PAUSE);
        }
        for output in self.outputs.drain(..) {
            // The thread only copies lines, so its panic would not affect the job.
            let _ = output.join();
        }
        failure.map_or(Ok(()), Err)
    }

    fn running(&mut self) -> impl Iterator<Item = &mut Child> {
        let all = self.children.iter_mut().zip(&self.statuses);
        all.filter(|(_, status)| status.is_none()).map(|(child, _)| child)
    }

    fn kill(&mut self) {
        for child in self.running() {
            // It may have ended in the meantime.
            let _ = child.kill();
        }
    }

    #[cfg(unix)]
    fn signal(&mut self, signal: i32) {
        use rustix::process::{Pid, Signal, kill_process};
        for child in self.running() {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
                // It may have ended in the meantime.
                let _ = kill_process(pid, signal);
            }
        }
    }

    #[cfg(not(unix))]
    fn signal(&mut self, _: i32) {
        self.kill();
    }
}

/// The way in which the remaining processes are ended.
#[derive(Debug, Clone, Copy)]
enum Ending {
    ByThemselves,
    Told,
}

/// Copies lines, prefixed with the rank that wrote them.
fn prefix<W: Write>(rank: usize, from: impl Read, to: impl Fn() -> W) {
    let mut from = BufReader::new(from);
    let mut line = vec![];
    loop {
        line.clear();
        match from.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        // One write per line, so that lines of several ranks do not interleave.
        let mut whole = format!("[rank {rank}] ").into_bytes();
        whole.extend_from_slice(&line);
        if to().write_all(&whole).is_err() {
            return;
        }
    }
}

#[cfg(unix)]
const TERMINATE: i32 = signal_hook::consts::SIGTERM;
#[cfg(not(unix))]
const TERMINATE: i32 = 15;

/// The signals that are forwarded while this value exists.
#[cfg(unix)]
struct Signals(std::sync::Mutex<signal_hook::iterator::Signals>);

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]);
        let wrong = |e| Error::distributed(None, format!("cannot listen for signals: {e}"));
        Ok(Self(std::sync::Mutex::new(signals.map_err(wrong)?)))
    }

    fn pending(&self) -> Vec<i32> {
        let mut signals = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        signals.pending().collect()
    }
}

#[cfg(not(unix))]
struct Signals(());

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Self> {
        Ok(Self(()))
    }

    fn pending(&self) -> Vec<i32> {
        vec![]
    }
}

/// Ends this process when its launcher is killed.
#[cfg(target_os = "linux")]
fn end_with_parent() -> Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let failed = |e| Error::distributed(None, format!("cannot watch the launcher: {e}"));
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(failed)?;
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if parent.as_deref() != env::var(LAUNCHED).ok().as_deref() {
        return Err(Error::distributed(None, "the launcher ended before this process started"));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn end_with_parent() -> Result<()> {
    Ok(())
}
