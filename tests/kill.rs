//! Runs that are killed repeatedly with SIGKILL end like an undisturbed run: `make kill TRIALS=1000`.
//!
//! This program is parent and child. The parent starts a child, kills it at a random moment or at a
//! chosen event of a chosen phase, and restarts it until the run is complete. Then it compares weights,
//! optimizer state, history, CSV log, event files and predictions bit for bit with those of an
//! undisturbed run. The child reports each phase when it enters it. Before a chosen system call of the
//! file writer it waits for the kill, so that the moments between those calls are tested too.
//!
//! Without arguments a short version runs; `cargo test --test kill -- --trials 1000 --seed 1` runs more.

#![allow(clippy::unwrap_used, reason = "a test fails by panics")]
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "it/pets.rs"]
mod pets;

use finetune::{
    callback::{CsvLogger, EarlyStopping, Ema, GradientAccumulation, SaveBest, TensorBoard},
    disk,
    learner::{Checkpoint, Outcome},
    model::squeezenet1_1,
    prelude::*,
    sample::Batch,
    tch,
};
use pets::{BREEDS, first_of, photos};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// The phases in which a run can be killed, and the approximate number of events of each per start.
const PHASES: [(&str, usize); 5] =
    [("loading", 15), ("step", 15), ("validation", 6), ("checkpoint", 40), ("export", 9)];
const CHILD: &str = "FINETUNE_KILL_CHILD";
const WORKERS: &str = "FINETUNE_KILL_WORKERS";
const AIM: &str = "FINETUNE_KILL_AIM";

fn main() -> ExitCode {
    if let Ok(folder) = env::var(CHILD) {
        return match child(Path::new(&folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("{e}");
                ExitCode::FAILURE
            }
        };
    }
    let args: Vec<String> = env::args().collect();
    let number = |name: &str, default: u64| {
        let at = args.iter().position(|a| a == name);
        at.and_then(|i| args.get(i + 1)?.parse().ok()).unwrap_or(default)
    };
    if args.iter().any(|a| a == "--list") {
        println!("kill: test");
        return ExitCode::SUCCESS;
    }
    parent(number("--trials", 8) as usize, number("--seed", 1))
}

/// Reports phases to the parent.
#[derive(Debug, Clone)]
struct Reporter(Arc<Mutex<Reported>>);

#[derive(Debug)]
struct Reported {
    counts: BTreeMap<&'static str, usize>,
    aim: Option<(String, usize)>,
}

impl Reporter {
    fn new() -> Self {
        let aim = env::var(AIM).ok();
        let aim = aim.as_deref().and_then(|a| a.split_once(':'));
        let aim = aim.map(|(phase, n)| (phase.to_owned(), n.parse().unwrap()));
        Self(Arc::new(Mutex::new(Reported { counts: BTreeMap::new(), aim })))
    }

    /// Reports a phase. If `wait` is set and the event was chosen, waits for the kill.
    fn at(&self, phase: &'static str, wait: bool) {
        let mut reported = self.0.lock().unwrap();
        let count = reported.counts.entry(phase).or_default();
        *count += 1;
        let count = *count;
        let chosen = reported.aim.as_ref().is_some_and(|(p, n)| p == phase && *n == count);
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}{phase}", if chosen { '!' } else { '@' }).unwrap();
        out.flush().unwrap();
        if chosen && wait {
            drop(out);
            thread::sleep(Duration::from_secs(60));
        }
    }
}

impl Callback for Reporter {
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        self.at(if t.at.is_training() { "step" } else { "validation" }, false);
        Ok(())
    }

    fn after_batch(&mut self, t: &mut Training, _: &Batch, _: &Outcome) -> Step {
        if t.at.is_training() {
            self.at("loading", false);
        }
        Ok(())
    }
}

/// Starts or resumes the run, and returns its results.
fn child(folder: &Path) -> Result<()> {
    let reporter = Reporter::new();
    let watcher = reporter.clone();
    let _watch = disk::watch(folder, move |call| {
        let name = call.path.file_name().unwrap().to_string_lossy().into_owned();
        if name.contains(".checkpoint.") {
            watcher.at("checkpoint", true);
        } else if name.starts_with("export") {
            watcher.at("export", true);
        }
        Ok(())
    });
    reporter.at("loading", false);
    let workers = env::var(WORKERS).unwrap().parse().unwrap();
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(first_of(&BREEDS, 9))
        .splitter(RandomSplitter::new(0.2).seed(42))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(72))
        .batch_tfms(aug_transforms().size(48).min_scale(0.75))
        .bs(4)
        .num_workers(workers)
        .device(Device::Cpu)
        .dataloaders(photos())?;
    let learner = vision_learner(dls, squeezenet1_1()).pretrained(false).metric(accuracy());
    let mut learner = learner.build()?.quiet().to_bf16().model_dir(folder);
    learner.fit_or_resume_with(
        Checkpoint::new("run").every(3).interval(Duration::from_millis(300)),
        FineTune::new(2).base_lr(1e-3),
        &mut [
            &mut GradientAccumulation::new(8),
            &mut Ema::new().decay(0.99),
            &mut EarlyStopping::new(1),
            &mut SaveBest::new(),
            &mut CsvLogger::new(folder.join("log.csv")).append(true),
            &mut TensorBoard::new(folder.join("events")),
            &mut reporter.clone(),
        ],
    )?;
    reporter.at("export", false);
    let export = folder.join("export.safetensors");
    learner.export(&export)?;
    let exported = Predictor::load(&export, Device::Cpu)?.predict(photos().join("Bengal_1.jpg"));
    let predictions = learner.get_preds()?;
    let mut history = learner.recorder().clone();
    history.rows.iter_mut().for_each(|row| row.seconds = 0.0);
    let state = learner.model().state_dict();
    let opt = learner.training().opt.state();
    println!("result weights {}", digest_tensors(&state));
    println!("result optimizer {}", digest_tensors(&opt));
    println!("result history {}", digest(format!("{history:?}").as_bytes()));
    println!("result predictions {}", digest(format!("{:?}", predictions.preds).as_bytes()));
    println!("result exported {}", digest(format!("{:?}", exported?.probs).as_bytes()));
    println!("result log {}", digest(&log(&folder.join("log.csv"))));
    println!("result events {}", digest(&events(&folder.join("events"))));
    println!("end");
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|b| format!("{b:02x}")).collect()
}

fn digest_tensors(all: &[(String, Tensor)]) -> String {
    let mut bytes = vec![];
    for (name, tensor) in all {
        let flat = Vec::<f32>::try_from(&tensor.to_kind(tch::Kind::Float).reshape([-1])).unwrap();
        bytes.extend(name.bytes());
        bytes.extend(flat.iter().flat_map(|v| v.to_bits().to_le_bytes()));
    }
    digest(&bytes)
}

/// Returns the CSV log without the last column, the time.
fn log(path: &Path) -> Vec<u8> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "a row of the log is not whole");
    let lines = text.lines().map(|line| line.rsplit_once(',').unwrap().0);
    lines.collect::<Vec<_>>().join("\n").into_bytes()
}

/// Returns the events of all files in order, without their times.
fn events(folder: &Path) -> Vec<u8> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(|f| f.extension().unwrap().to_string_lossy().into_owned());
    let mut all = vec![];
    for file in files {
        let bytes = fs::read(file).unwrap();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            // The time is the first field, in 9 bytes.
            all.extend(&rest[12 + 9..12 + length]);
            rest = &rest[16 + length..];
        }
    }
    all
}

/// The end of a child process.
enum Ended {
    /// Killed in this phase.
    Killed(String),
    /// Completed, with these results.
    Complete(Vec<String>),
    /// Failed, with an error.
    Failed(String),
}

/// The moment of a kill.
enum Plan {
    Never,
    After(Duration),
    At(&'static str, usize),
}

fn start(folder: &Path, workers: u32, plan: &Plan, rng: &mut ChaCha8Rng) -> Ended {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(CHILD, folder).env(WORKERS, workers.to_string()).env_remove(AIM);
    if let Plan::At(phase, n) = plan {
        command.env(AIM, format!("{phase}:{n}"));
    }
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let (send, lines) = channel();
    let out = child.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).for_each(|line| drop(send.send(line)));
    });
    let began = Instant::now();
    let mut phase = "loading".to_owned();
    let mut results = vec![];
    let mut take = |line: String, phase: &mut String| {
        if let Some(name) = line.strip_prefix(['@', '!']) {
            name.clone_into(phase);
        } else {
            results.push(line.clone());
        }
        line.starts_with('!')
    };
    let mut killed = false;
    loop {
        let wait = match plan {
            Plan::After(after) => after.saturating_sub(began.elapsed()),
            _ => Duration::from_secs(300),
        };
        match receive(&lines, wait) {
            Ok(line) => {
                if !take(line, &mut phase) {
                    continue;
                }
                // Kill inside the phase, not at its start.
                thread::sleep(Duration::from_micros(rng.random_range(0..4_000)));
                killed = true;
            }
            Err(RecvTimeoutError::Timeout) => killed = matches!(plan, Plan::After(_)),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        child.kill().expect("the child can be killed");
        break;
    }
    let output = child.wait_with_output().unwrap();
    reader.join().unwrap();
    for line in lines.try_iter() {
        take(line, &mut phase);
    }
    if results.last().is_some_and(|line| line == "end") {
        Ended::Complete(results)
    } else if killed {
        Ended::Killed(phase)
    } else {
        let error = String::from_utf8_lossy(&output.stderr);
        Ended::Failed(format!("{} in {phase}: {error}", output.status))
    }
}

fn receive(lines: &Receiver<String>, wait: Duration) -> Result<String, RecvTimeoutError> {
    lines.recv_timeout(wait)
}

fn parent(trials: usize, seed: u64) -> ExitCode {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let reference = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let Ended::Complete(expected) = start(reference.path(), 2, &Plan::Never, &mut rng) else {
        println!("the undisturbed run failed");
        return ExitCode::FAILURE;
    };
    let whole = began.elapsed();
    println!("an undisturbed run takes {:.1} s", whole.as_secs_f64());
    let (mut kills, mut lost, mut different, mut runs) = (0, 0, 0, 0);
    let mut phases: BTreeMap<String, usize> = BTreeMap::new();
    while kills < trials {
        let folder = tempfile::tempdir().unwrap();
        runs += 1;
        loop {
            let plan = if kills >= trials {
                Plan::Never
            } else if rng.random_bool(0.3) {
                Plan::After(whole.mul_f64(rng.random_range(0.0..1.0)))
            } else {
                let (phase, events) = PHASES[kills % PHASES.len()];
                Plan::At(phase, rng.random_range(1..=events))
            };
            let workers = [1, 2, 4][rng.random_range(0..3)];
            match start(folder.path(), workers, &plan, &mut rng) {
                Ended::Killed(phase) => {
                    kills += 1;
                    *phases.entry(phase).or_default() += 1;
                    continue;
                }
                Ended::Failed(why) => {
                    lost += 1;
                    println!("run {runs} is lost after {kills} kills: {why}");
                }
                Ended::Complete(results) => {
                    for (ours, theirs) in results.iter().zip(&expected) {
                        if ours != theirs {
                            println!("run {runs}: {ours}, and undisturbed {theirs}");
                        }
                    }
                    different += usize::from(results != expected);
                    for entry in fs::read_dir(folder.path()).unwrap().flatten() {
                        let name = entry.file_name().to_string_lossy().into_owned();
                        if name.ends_with("-part") {
                            println!("run {runs}: {name} was left behind");
                            different += 1;
                        }
                    }
                }
            }
            break;
        }
    }
    println!("{runs} runs; kills by phase: {phases:?}");
    println!("{kills} kills, {lost} lost, {different} different");
    if lost + different == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
