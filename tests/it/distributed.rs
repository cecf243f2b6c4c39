//! Training by several processes. The processes run this program; environment variables select the case.
//! They connect on the loopback address.

use finetune::{
    Error, Result,
    callback::{Checkpoint, EarlyStopping, Ema, GradientAccumulation, GradientClip, MixUp},
    data::{
        Arrays, BBoxBlock, BBoxLblBlock, DataBlock, DataLoaders, ImageBlock, IndexSplitter,
        LoaderOptions, MaskBlock, MultiCategoryBlock, PointBlock, TargetBlock,
    },
    distributed::{self, Launched, launch},
    image::Image,
    learner::{
        Callback, DistributedOptions, FineTune, Flat, Learner, OneCycle, PredictOptions, Scope,
        Step, Training,
    },
    loss::{BceWithLogits, Combined, CrossEntropy, Focal, Loss, PointMse},
    metric::{OverEpoch, accuracy, iou_of_class, point_distance},
    model::{Arch, ArchSpec, BatchNorm, HeadOptions, Model, batch_norm1d},
    sample::{Batch, Point, Task},
    seed::Seed,
    transform::Resize,
};
use serde_json::{Value, json};
use std::{
    env, fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tch::{Device, Kind, Tensor, nn};

const CASE: &str = "FINETUNE_TEST_CASE";
const OUT: &str = "FINETUNE_TEST_OUT";

// ---- The cases that the processes run ------------------------------------------------------------------------------

fn rows(n: i64, salt: f64) -> Arrays {
    let at = Tensor::arange(n * 4, (Kind::Float, Device::Cpu));
    let x = (at * 12.9898 + salt).sin().view([n, 4]) * 2.0;
    let y = x.sum_dim_intlist([1_i64].as_slice(), false, Kind::Float).gt(0.0);
    let task = Task::Category { vocab: ["negative".into(), "positive".into()].into() };
    Arrays::from_tensors(&x, &y.to_kind(Kind::Int64), task).unwrap()
}

/// Returns [`rows`] as images of one pixel.
fn pixels(n: i64, salt: f64) -> Arrays {
    let at = Tensor::arange(n * 4, (Kind::Float, Device::Cpu));
    let x = (at * 12.9898 + salt).sin().view([n, 4]) * 2.0;
    let y = x.sum_dim_intlist([1_i64].as_slice(), false, Kind::Float).gt(0.0);
    let task = Task::Category { vocab: ["negative".into(), "positive".into()].into() };
    Arrays::from_tensors(&x.view([n, 4, 1, 1]), &y.to_kind(Kind::Int64), task).unwrap()
}

fn linear(path: &nn::Path<'_>, group: usize, i: i64, o: i64) -> nn::Linear {
    let at = Tensor::arange(i * o, (Kind::Float, Device::Cpu)).view([o, i]);
    let config = nn::LinearConfig { bs_init: Some(nn::Init::Const(0.0)), ..Default::default() };
    let mut linear = nn::linear(path.set_group(group) / group.to_string(), i, o, config);
    tch::no_grad(|| linear.ws.copy_(&((at * 78.233).sin() * 0.5)));
    linear
}

/// A linear layer; that of tch would start with random weights.
fn norm(root: &nn::Path<'_>, channels: i64) -> BatchNorm {
    let config = nn::BatchNormConfig { ws_init: nn::Init::Const(1.0), ..Default::default() };
    batch_norm1d(&(root / "norm"), channels, config)
}

/// Returns a network with or without batch normalization and dropout.
fn model(with_norm: bool, hidden: i64) -> Model {
    let vs = nn::VarStore::new(Device::Cpu);
    let root = vs.root();
    let mut net = nn::seq_t().add(linear(&root, 0, 4, hidden));
    if with_norm {
        let norm = norm(&root, hidden);
        net = net.add(norm).add_fn_t(|x, train| x.dropout(0.2, train));
    }
    let net = net.add_fn(Tensor::relu).add(linear(&root, 1, hidden, 2));
    Model::from_module(vs, net).unwrap()
}

/// Returns a learner with 64 training items in batches of 16, and 37 validation items, which no number
/// of processes divides.
fn learner(norm: bool) -> Learner {
    let options = LoaderOptions::new().bs(16).device(Device::Cpu).num_workers(0);
    let dls = DataLoaders::from_arrays(rows(70, 1.0), rows(37, 2.0), options).unwrap();
    let weights = CrossEntropy::new().weight(vec![1.0, 3.0]);
    Learner::new(dls, model(norm, 8), weights)
        .unwrap()
        .metric(accuracy())
        .metric(OverEpoch::new("spread", |pred: &Tensor, _: &Tensor| {
            Ok(pred.std(true).double_value(&[]))
        }))
        .quiet()
}

fn flat(all: impl Iterator<Item = Tensor>) -> Vec<f64> {
    let all: Vec<Tensor> = all.map(|t| t.reshape([-1]).to_kind(Kind::Double)).collect();
    Vec::try_from(&Tensor::cat(&all, 0)).unwrap()
}

fn weights(learn: &Learner) -> Vec<f64> {
    flat(learn.model().state_dict().into_iter().map(|(_, t)| t))
}

/// Records the gradients of the first step.
#[derive(Debug, Default)]
struct FirstGrads(Vec<f64>);

impl Callback for FirstGrads {
    fn before_step(&mut self, t: &mut Training) -> Step {
        if self.0.is_empty() {
            self.0 = flat(t.model.params().iter().map(|p| p.tensor.grad()));
        }
        Ok(())
    }
}

/// Calls a closure before a training batch.
#[derive(derive_more::Debug)]
struct AtBatch(usize, #[debug(skip)] Box<dyn FnMut(&mut Training) -> Step + Send>);

impl Callback for AtBatch {
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        if t.at.is_training() && t.at.fit_batches == self.0 { (self.1)(t) } else { Ok(()) }
    }
}

/// Makes the loss of a batch NaN.
#[derive(Debug)]
struct Spoil;

impl Callback for Spoil {
    fn after_loss(&mut self, t: &mut Training, _: &Batch, loss: &mut Tensor) -> Step {
        if t.at.is_training() && t.at.fit_batches == 1 {
            *loss = &*loss * f64::NAN;
        }
        Ok(())
    }
}

fn message(done: &Result<()>) -> String {
    done.as_ref().map_or_else(ToString::to_string, |()| "ended well".to_owned())
}

/// Trains for two epochs, and returns all observable results.
fn train(mut learn: Learner) -> Value {
    let mut grads = FirstGrads::default();
    learn.fit_with(&OneCycle::new(2).lr(0.05), &mut [&mut grads]).unwrap();
    let losses = learn.recorder().losses.clone();
    let values: Vec<Vec<Option<f64>>> =
        learn.recorder().rows.iter().map(|row| row.values.clone()).collect();
    let preds = learn.get_preds().unwrap();
    json!({
        "grads": grads.0,
        "losses": losses,
        "rows": values,
        "weights": weights(&learn),
        "items": preds.items,
        "preds": preds.preds.iter().copied().collect::<Vec<f32>>(),
        "item_losses": preds.losses,
        "rank": distributed::rank(),
    })
}

/// Returns loaders of seven training and seven validation images of different sizes, in batches of four:
/// some ranks have no item of the last batch.
fn images<Y: TargetBlock + 'static>(
    block: Y,
    label: impl Fn(usize) -> Y::Label + Send + Sync + 'static,
) -> Result<DataLoaders> {
    let photo = |i: usize| {
        let (w, h) = (24 + 2 * i as u32, 40 - i as u32);
        let pixels = (0..w * h * 3).map(|k| (k * (i as u32 + 3) % 251) as u8);
        Image::new(w, h, 3, pixels.collect())
    };
    DataBlock::rows(ImageBlock::rgb(), block)
        .get_x(move |&i: &usize| photo(i))
        .get_y(move |&i| Ok(label(i)))
        .splitter(IndexSplitter::new(7..14))
        .item_tfms(Resize::new(16))
        .bs(4)
        .drop_last(false)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders_from((0..14).collect())
}

/// The distance of four outputs from the first box of each image.
#[derive(Debug)]
struct FirstBox;

impl Loss for FirstBox {
    fn each(&self, pred: &Tensor, y: &Tensor) -> Result<Tensor> {
        let first = y.f_narrow(1, 0, 1)?.f_squeeze_dim(1)?;
        Ok((pred - first).f_abs()?.f_mean_dim([1_i64].as_slice(), false, Kind::Float)?)
    }
}

/// Returns a model that computes the mean of the channels of each image, or of each pixel, and a linear
/// layer.
fn of_images(outputs: i64, each_pixel: bool) -> Model {
    let vs = nn::VarStore::new(Device::Cpu);
    let last = linear(&vs.root(), 0, 3, outputs);
    let net = nn::func(move |x| {
        let x = x.permute([0, 2, 3, 1]);
        let dims: &[i64] = &[1, 2];
        let x = if each_pixel { x } else { x.mean_dim(dims, false, Kind::Float) };
        let x = x.apply(&last);
        if each_pixel { x.permute([0, 3, 1, 2]) } else { x }
    });
    Model::from_module(vs, net).unwrap()
}

/// Returns all values of each item after an evaluation, and the metrics of an epoch.
fn targets(learn: Learner) -> Result<Value> {
    let mut learn = learn.quiet().distributed()?;
    let all = learn.get_preds_with(&PredictOptions::new().inputs(true).pixels(true))?;
    let inputs = all.inputs.unwrap();
    let pixels = all.pixels.unwrap();
    learn.fit_with(&Flat::new(1).lr(0.0), &mut [])?;
    let row = learn.recorder().rows[0].values.clone();
    Ok(json!({
        "items": all.items,
        "targets": format!("{:?}", all.targets),
        "placements": format!("{:?}", all.placements),
        "inputs": format!("{:?}", inputs.shape()),
        "preds": all.preds.iter().copied().collect::<Vec<f32>>(),
        "losses": all.losses,
        "pixels": pixels.iter().copied().collect::<Vec<f32>>(),
        "row": row,
    }))
}

fn run(case: &str, out: &Path) -> Result<Value> {
    let rank = distributed::rank();
    let exact = || DistributedOptions::new().deterministic_reduction();
    Ok(match case {
        "average" => train(learner(false).distributed()?),
        "boxes" => {
            let block = (BBoxBlock::new(), BBoxLblBlock::new());
            // One to three boxes per image.
            let dls = images(block, |i| {
                let boxes = (0..=i % 3).map(|k| [k as f32, 2.0, 20.0 + k as f32, 24.0]);
                let names = (0..=i % 3).map(|k| ["cat", "dog"][(i + k) % 2].to_owned());
                (boxes.collect(), names.collect())
            })?;
            targets(Learner::new(dls, of_images(4, false), FirstBox)?)?
        }
        "masks" => {
            let dls = images(MaskBlock::new(["ground", "disc", "void"]).ignored(2), |i| {
                let (w, h) = (24 + 2 * i as u32, 40 - i as u32);
                let codes = (0..w * h).map(|k| ((k + i as u32) % 3) as u8);
                Image::new(w, h, 1, codes.collect()).unwrap().into()
            })?;
            let loss = CrossEntropy::new().axis(1).ignore_index(2);
            let learn = Learner::new(dls, of_images(3, true), loss)?;
            targets(learn.metric(iou_of_class(1, "disc")).train_metrics(true))?
        }
        "points" => {
            let dls = images(PointBlock::new(2), |i| {
                let other = if i % 3 == 0 { Point::hidden() } else { Point::new(i as f32, 20.0) };
                vec![Point::new(12.0, 4.0 + i as f32), other]
            })?;
            let learn = Learner::new(dls, of_images(4, false), PointMse)?;
            targets(learn.metric(point_distance()).train_metrics(true))?
        }
        "several labels" => {
            let dls = images(MultiCategoryBlock::new(), |i| {
                let names = ["cat", "dog", "bird"].iter().enumerate();
                names.filter(|(k, _)| (i >> k) % 2 == 1).map(|(_, n)| (*n).to_owned()).collect()
            })?;
            targets(Learner::new(dls, of_images(3, false), BceWithLogits::new())?)?
        }
        "sum of losses" => {
            let weighted = || CrossEntropy::new().weight(vec![1.0, 3.0]);
            let loss = Combined::new(weighted(), 0.5).and(weighted().label_smoothing(0.2), 2.0);
            let learn = Learner::new(learner(false).dls().clone(), model(false, 8), loss)?.quiet();
            train(learn.distributed()?)
        }
        "other divisors" => {
            let weighted = CrossEntropy::new().weight(vec![1.0, 3.0]);
            let loss = Combined::new(weighted, 0.5).and(Focal::new(), 2.0);
            let learn = Learner::new(learner(false).dls().clone(), model(false, 8), loss)?.quiet();
            let mut learn = learn.distributed()?;
            json!({ "said": message(&learn.fit_with(&Flat::new(1), &mut [])) })
        }
        "averaged" => train(learner(true).callback(Ema::new()).distributed()?),
        "sync_bn" => {
            let dls = learner(true).dls().clone();
            let vs = nn::VarStore::new(Device::Cpu);
            let root = vs.root();
            let norm = norm(&root, 8);
            let net = nn::seq_t().add(linear(&root, 0, 4, 8)).add(norm).add(linear(&root, 1, 8, 2));
            let model = Model::from_module(vs, net).unwrap();
            let learn = Learner::new(dls, model, CrossEntropy::new()).unwrap().quiet();
            train(learn.distributed_with(DistributedOptions::new().sync_bn(true))?)
        }
        "exact" => {
            let learn = learner(true)
                .callback(MixUp::new(0.4))
                .callback(GradientAccumulation::new(32))
                .callback(GradientClip::new(0.5))
                .callback(Ema::new().decay(0.9));
            train(learn.distributed_with(exact())?)
        }
        "interrupted" | "resumed" => {
            let learn = learner(true).callback(Ema::new()).model_dir(out);
            let mut learn = learn.distributed_with(exact())?;
            let mut every = Checkpoint::new("last").every(1);
            let mut stop = AtBatch(3, Box::new(|_| Scope::Fit.cancel()));
            if case == "interrupted" {
                learn.fit_with(&OneCycle::new(2).lr(0.05), &mut [&mut every, &mut stop])?;
            } else {
                learn.resume("last", &mut [&mut every])?;
            }
            json!({ "weights": weights(&learn) })
        }
        "alike" => {
            // One rank requests a stop; all stop.
            let mut learn = learner(false).distributed()?;
            let handle = learn.stop_handle();
            let mut ask = AtBatch(
                2,
                Box::new(move |_| {
                    if distributed::rank() == 1 {
                        handle.stop();
                    }
                    Ok(())
                }),
            );
            learn.fit_with(&Flat::new(2), &mut [&mut ask])?;
            let stopped_after = learn.recorder().losses.len();
            learn.stop_handle().reset();
            // One rank has a NaN loss; all ranks return the same error, and can continue.
            let before = weights(&learn);
            let mut spoil = Spoil;
            let mut lent: Vec<&mut dyn Callback> = vec![];
            if rank == 1 {
                lent.push(&mut spoil);
            }
            let nan = message(&learn.fit_with(&Flat::new(1), &mut lent));
            assert_ne!(weights(&learn), before);
            let mut learn = learner(false).distributed()?;
            // If no epoch improves, all stop in the same epoch.
            let mut early = EarlyStopping::new(1);
            learn.fit_with(&Flat::new(5).lr(0.0), &mut [&mut early])?;
            let epochs = learn.recorder().rows.len();
            let curve = learn.lr_find()?;
            json!({ "stopped_after": stopped_after, "nan": nan, "epochs": epochs, "curve": curve.losses })
        }
        "killed" | "first killed" | "slow" | "failed" => {
            let mut learn = learner(false).distributed()?;
            let case = case.to_owned();
            let mut at = AtBatch(
                2,
                Box::new(move |_| {
                    match (distributed::rank(), &*case) {
                        (1, "killed") | (0, "first killed") => std::process::abort(),
                        (1, "failed") => return Err(Error::other("no more paper").into()),
                        (1, "slow") => thread::sleep(Duration::from_secs(1)),
                        _ => {}
                    }
                    Ok(())
                }),
            );
            let began = Instant::now();
            let done = message(&learn.fit_with(&Flat::new(1), &mut [&mut at]));
            json!({ "said": done, "seconds": began.elapsed().as_secs_f64() })
        }
        "other model" => {
            let dls = learner(false).dls().clone();
            let model = model(false, 8 + rank as i64);
            let learn = Learner::new(dls, model, CrossEntropy::new()).unwrap().quiet();
            json!({ "said": message(&learn.distributed().map(|_| ())) })
        }
        "other data" => {
            let options = LoaderOptions::new().bs(16).device(Device::Cpu);
            let train = rows(70 + rank as i64, 1.0);
            let dls = DataLoaders::from_arrays(train, rows(37, 2.0), options).unwrap();
            let learn = Learner::new(dls, model(false, 8), CrossEntropy::new()).unwrap().quiet();
            json!({ "said": message(&learn.distributed().map(|_| ())) })
        }
        "probe" => {
            let options = LoaderOptions::new().bs(16).device(Device::Cpu).num_workers(0);
            let dls = DataLoaders::from_arrays(pixels(70, 1.0), pixels(37, 2.0), options).unwrap();
            let arch = Arch::new("identity", |net, _| {
                net.step("same", Tensor::shallow_clone);
            });
            let spec = ArchSpec::new(&arch, 4, 2, HeadOptions::new().ps(vec![0.0]));
            let model = spec.build(Device::Cpu, Seed(1)).unwrap();
            let learn = Learner::new(dls, model, CrossEntropy::new()).unwrap().quiet();
            let mut learn = learn.distributed_with(exact())?;
            let probe = learn.probe()?;
            probe.install(&mut learn)?;
            learn.fine_tune(FineTune::new(1).from_probe())?;
            json!({
                "weight": probe.weight.iter().copied().collect::<Vec<f64>>(),
                "hits": probe.accuracy.hits,
                "items": probe.predictions.items,
                "weights": weights(&learn),
            })
        }
        "join" => {
            let listening = listening_addresses();
            let done = distributed::barrier();
            json!({
                "said": message(&done),
                "listening": listening_addresses().into_iter().filter(|a| !listening.contains(a)).collect::<Vec<_>>(),
                "first": distributed::only_on_rank_0(|| rank),
            })
        }
        "three" => json!({
            "said": message(&learner(false).distributed_with(exact()).map(|_| ())),
        }),
        "launch" => match launch(2)? {
            Launched::Done => json!({ "parent": true }),
            Launched::Worker => train(learner(false).distributed()?),
        },
        "launch waiting" => match launch(2) {
            Ok(Launched::Worker) => {
                let ready = out.join(format!("{rank}.ready"));
                fs::write(ready, std::process::id().to_string()).unwrap();
                thread::sleep(Duration::from_secs(120));
                json!({ "said": "nobody ended it" })
            }
            done => json!({ "said": message(&done.map(|_| ())) }),
        },
        "launch failing" => match launch(2) {
            Ok(Launched::Worker) if rank == 1 => std::process::exit(7),
            done => json!({ "said": message(&done.map(|_| ())), "rank": rank }),
        },
        other => panic!("no case `{other}`"),
    })
}

/// Returns the addresses on which this machine listens at the job's port, in Linux's notation.
fn listening_addresses() -> Vec<String> {
    let port: u16 = env::var("MASTER_PORT").unwrap().parse().unwrap();
    let files = ["/proc/net/tcp", "/proc/net/tcp6"];
    let all = files.iter().filter_map(|f| fs::read_to_string(f).ok()).collect::<String>();
    let listens = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, at) = fields.get(1)?.rsplit_once(':')?;
        let here = fields.get(3) == Some(&"0A") && u16::from_str_radix(at, 16) == Ok(port);
        here.then(|| address.to_owned())
    };
    all.lines().filter_map(listens).collect()
}

/// Not a test: the code that the processes of the tests below run.
#[test]
fn worker() {
    let (Ok(case), Ok(out)) = (env::var(CASE), env::var(OUT)) else { return };
    let value = match run(&case, Path::new(&out)) {
        Ok(value) => value,
        Err(e) => json!({ "said": e.to_string() }),
    };
    let name = match (case.starts_with("launch"), env::var("RANK")) {
        (true, Err(_)) => "parent.json".to_owned(),
        (_, rank) => format!("{}.json", rank.unwrap()),
    };
    fs::write(Path::new(&out).join(name), value.to_string()).unwrap();
}

// ---- The tests that start processes ---------------------------------------------------------------------------------

struct Job {
    out: tempfile::TempDir,
    children: Vec<Child>,
}

fn command(case: &str, out: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "distributed::worker", "--nocapture", "--test-threads=1"]);
    command.env(CASE, case).env(OUT, out).env("OMP_NUM_THREADS", "1");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for name in ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"] {
        command.env_remove(name);
    }
    command
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Job {
    fn start(case: &str, ranks: impl IntoIterator<Item = usize>, n: usize) -> Self {
        Self::start_at(case, ranks, n, free_port(), tempfile::tempdir().unwrap())
    }

    fn start_at(
        case: &str,
        ranks: impl IntoIterator<Item = usize>,
        n: usize,
        port: u16,
        out: tempfile::TempDir,
    ) -> Self {
        let ranks: Vec<usize> = ranks.into_iter().collect();
        let complete = ranks.len() == n;
        let start = |rank: usize| {
            let mut command = command(case, out.path());
            for (name, value) in [
                ("RANK", rank.to_string()),
                ("LOCAL_RANK", rank.to_string()),
                ("WORLD_SIZE", n.to_string()),
                ("MASTER_ADDR", "127.0.0.1".into()),
                ("MASTER_PORT", port.to_string()),
            ] {
                command.env(name, value);
            }
            if ["join", "three"].contains(&case) {
                // A rank that is missing is soon given up.
                let seconds = if complete { "60" } else { "4" };
                command.env("FINETUNE_DISTRIBUTED_TIMEOUT", seconds);
            }
            command.spawn().unwrap()
        };
        let children = ranks.into_iter().map(start).collect();
        Self { out, children }
    }

    /// Returns the output of each rank; null if it wrote none.
    fn results(&mut self, n: usize) -> Vec<Value> {
        for child in &mut self.children {
            let began = Instant::now();
            while child.try_wait().unwrap().is_none() {
                assert!(began.elapsed() < Duration::from_secs(300), "a process hangs");
                thread::sleep(Duration::from_millis(20));
            }
        }
        (0..n).map(|rank| self.read(&format!("{rank}.json"))).collect()
    }

    fn read(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.out.path().join(name)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn results(case: &str, n: usize) -> Vec<Value> {
    Job::start(case, 0..n, n).results(n)
}

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(all) => all.iter().flat_map(numbers).collect(),
        Value::Number(n) => vec![n.as_f64().unwrap()],
        _ => vec![],
    }
}

fn close(a: &Value, b: &Value, tolerance: f64) {
    let (a, b) = (numbers(a), numbers(b));
    assert!(!a.is_empty());
    assert_eq!(a.len(), b.len());
    let scale = a.iter().fold(1e-9_f64, |m, v| m.max(v.abs()));
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{worst:e}");
}

fn message_of(result: &Value) -> &str {
    result["said"].as_str().unwrap_or_else(|| panic!("{result}"))
}

fn all_but_rank(result: &Value) -> Value {
    let mut result = result.clone();
    result["rank"] = Value::Null;
    result
}

/// Every rank gets the probe of rank 0, which equals that of one process.
#[test]
fn a_probe_is_the_same_on_every_rank() {
    let (one, two) = (results("probe", 1), results("probe", 2));
    assert_eq!(two[0], two[1]);
    assert_eq!((&one[0]["items"], &one[0]["hits"]), (&two[0]["items"], &two[0]["hits"]));
    close(&one[0]["weight"], &two[0]["weight"], 1e-6);
    close(&one[0]["weights"], &two[0]["weights"], 1e-4);
}

#[test]
fn several_processes_train_like_one() {
    let one = results("average", 1).remove(0);
    for n in [2, 3] {
        let all = results("average", n);
        for result in &all {
            assert_eq!(all_but_rank(result), all_but_rank(&all[0]), "every rank sees the same");
        }
        close(&one["grads"], &all[0]["grads"], 1e-6);
        for what in ["losses", "rows", "weights", "preds", "item_losses"] {
            close(&one[what], &all[0][what], 1e-4);
        }
        // Complete, in order, without duplicates.
        assert_eq!(all[0]["items"], one["items"]);
        assert_eq!(numbers(&all[0]["items"]).len(), 37);
    }
}

/// A sum of losses is averaged over the processes by the divisor of its parts. Parts with different
/// divisors are an error, but not in one process.
#[test]
fn a_sum_of_losses_is_that_of_one_process_or_an_error() {
    let one = results("sum of losses", 1).remove(0);
    for result in results("sum of losses", 2) {
        for what in ["grads", "losses", "weights", "preds", "item_losses"] {
            close(&one[what], &result[what], 1e-4);
        }
    }
    assert_eq!(message_of(&results("other divisors", 1)[0]), "ended well");
    for result in results("other divisors", 2) {
        let told = message_of(&result);
        assert!(told.contains("different divisors") && told.contains("`focal`"), "{told}");
    }
}

/// Targets of every kind are gathered completely: boxes with their classes, although the ranks pad them
/// to different numbers, and the placements of images, which distances in pixels need.
#[test]
fn every_process_sees_the_targets_of_all() {
    for case in ["boxes", "masks", "points", "several labels"] {
        let one = results(case, 1).remove(0);
        assert_eq!(one["items"], json!([7, 8, 9, 10, 11, 12, 13]), "{one}");
        for result in results(case, 2) {
            for what in ["items", "targets", "placements", "inputs"] {
                assert_eq!(result[what], one[what], "{case}: {what}");
            }
            for what in ["preds", "losses", "pixels", "row"] {
                close(&one[what], &result[what], 1e-5);
            }
        }
        if case == "boxes" {
            let targets = one["targets"].as_str().unwrap();
            assert!(targets.contains("class: 1") && targets.contains("class: 2"), "{targets}");
        }
    }
}

/// Each rank sees other items, so that its normalizations have other statistics until the end of an
/// epoch.
#[test]
fn averages_of_weights_are_equal_on_every_rank() {
    let all = results("averaged", 2);
    assert!(!numbers(&all[0]["weights"]).is_empty(), "{}", all[0]);
    assert_eq!(all_but_rank(&all[0]), all_but_rank(&all[1]));
}

#[test]
fn fixed_shards_are_equal_bit_for_bit_for_any_number_of_processes() {
    let one = all_but_rank(&results("exact", 1)[0]);
    assert!(!numbers(&one["weights"]).is_empty(), "{one}");
    for n in [2, 4] {
        for result in results("exact", n) {
            assert_eq!(all_but_rank(&result), one, "{n} processes");
        }
    }
    let three = results("three", 3);
    assert!(message_of(&three[1]).contains("1, 2, 4 or 8"), "{three:?}");
}

#[test]
fn a_resume_with_another_number_of_processes_ends_in_the_same_weights() {
    let begin = |n: usize, then: usize| {
        let mut job = Job::start("interrupted", 0..n, n);
        let stopped = job.results(n).remove(0);
        let out = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(job.out.path()).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().ends_with(".checkpoint.safetensors") {
                fs::copy(entry.path(), out.path().join(entry.file_name())).unwrap();
            }
        }
        let resumed = Job::start_at("resumed", 0..then, then, free_port(), out).results(then);
        assert_ne!(stopped["weights"], resumed[0]["weights"]);
        assert!(!numbers(&resumed[0]["weights"]).is_empty(), "{resumed:?}");
        resumed[0]["weights"].clone()
    };
    assert_eq!(begin(2, 1), begin(1, 2));
}

#[test]
fn synchronized_batch_norm_is_that_of_the_whole_batch() {
    let (one, two) = (results("sync_bn", 1), results("sync_bn", 2));
    close(&one[0]["grads"], &two[0]["grads"], 1e-5);
    close(&one[0]["weights"], &two[1]["weights"], 1e-3);
}

#[test]
fn all_ranks_follow_the_decision_of_one() {
    let all = results("alike", 2);
    assert_eq!(all[0], all[1]);
    assert_eq!(all[0]["stopped_after"], 3);
    assert!(all[0]["nan"].as_str().unwrap().contains("the loss is NaN"), "{}", all[0]);
    assert_eq!(all[0]["epochs"], 2);
}

#[test]
fn a_rank_that_dies_is_named_by_all_others() {
    let all = results("killed", 3);
    assert_eq!(all[1], Value::Null);
    for rank in [0, 2] {
        assert!(message_of(&all[rank]).starts_with("rank 1 (process "), "{}", all[rank]);
    }
}

#[test]
fn the_rank_that_serves_the_store_is_named_when_it_dies() {
    let all = results("first killed", 3);
    assert_eq!(all[0], Value::Null);
    for result in &all[1..] {
        assert!(message_of(result).starts_with("rank 0 (process "), "{result}");
    }
}

#[test]
fn a_rank_that_fails_ends_all_and_a_slow_one_does_not() {
    let failed = results("failed", 2);
    let (first, second) = (message_of(&failed[0]), message_of(&failed[1]));
    assert!(first.starts_with("rank 1 (process ") && first.contains("no more paper"), "{first}");
    assert!(second.contains("no more paper"), "{second}");
    for result in results("slow", 2) {
        assert_eq!(message_of(&result), "ended well");
    }
}

#[test]
fn ranks_that_differ_are_found_at_the_start() {
    for (case, what) in
        [("other model", "the model"), ("other data", "the number of training items")]
    {
        for result in results(case, 2) {
            let said = message_of(&result);
            assert!(said.contains(what) && said.contains("rank 1 has"), "{said}");
        }
    }
}

#[test]
fn errors_of_a_start_name_the_cause() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let taken =
        Job::start_at("join", [0], 2, port, tempfile::tempdir().unwrap()).results(1).remove(0);
    assert!(message_of(&taken).starts_with("`MASTER_PORT`"), "{taken}");
    drop(held);
    let missing = Job::start("join", [1], 2).results(2).remove(1);
    assert!(message_of(&missing).contains("MASTER_ADDR"), "{missing}");
    let alone = Job::start("join", [0], 2).results(1).remove(0);
    assert!(message_of(&alone).contains("[1] did not join"), "{alone}");
}

#[test]
fn the_store_listens_on_the_loopback_address_alone() {
    let all = results("join", 2);
    assert_eq!(message_of(&all[0]), "ended well");
    assert_eq!((&all[0]["first"], &all[1]["first"]), (&json!(0), &Value::Null));
    if cfg!(target_os = "linux") {
        assert_eq!(all[0]["listening"], json!(["0100007F"]));
    }
}

#[test]
fn the_launcher_starts_a_job_and_names_the_failed_rank() {
    let run = |case: &str| {
        let out = tempfile::tempdir().unwrap();
        let mut children = [command(case, out.path()).spawn().unwrap()];
        children[0].wait().unwrap();
        Job { out, children: vec![] }
    };
    let job = run("launch");
    assert_eq!(job.read("parent.json"), json!({ "parent": true }));
    let (first, second) = (job.read("0.json"), job.read("1.json"));
    assert_eq!(all_but_rank(&first), all_but_rank(&second));
    let job = run("launch failing");
    let parent = job.read("parent.json");
    assert!(message_of(&parent).starts_with("rank 1 ended with exit status: 7"), "{parent}");
}

#[test]
fn a_number_of_processes_that_no_machine_runs_is_an_error() {
    for n in [0, usize::MAX] {
        let e = launch(n).unwrap_err();
        assert!(matches!(e, Error::Config { option: "processes", .. }), "{e}");
        assert!(e.to_string().contains(&format!("is {n}; it must be from 1 to 1024")), "{e}");
    }
}

#[test]
fn the_launcher_passes_a_signal_on() {
    let out = tempfile::tempdir().unwrap();
    let mut parent = command("launch waiting", out.path()).spawn().unwrap();
    let process = |rank: usize| {
        let text = fs::read_to_string(out.path().join(format!("{rank}.ready"))).ok()?;
        (!text.is_empty()).then_some(text)
    };
    let began = Instant::now();
    let workers = loop {
        if let (Some(a), Some(b)) = (process(0), process(1)) {
            break [a, b];
        }
        assert!(began.elapsed() < Duration::from_secs(120), "the workers did not begin");
        thread::sleep(Duration::from_millis(20));
    };
    let kill = |signal: &str, process: &str| {
        let mut kill = Command::new("kill");
        kill.args([signal, process]).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(kill("-TERM", &parent.id().to_string()));
    parent.wait().unwrap();
    assert!(workers.iter().all(|worker| !kill("-0", worker)), "a worker lives on");
    let job = Job { out, children: vec![] };
    assert!(message_of(&job.read("parent.json")).contains("stopped by signal 15"));
}
