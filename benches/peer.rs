//! This crate's side of the comparison with fastai: the tasks and flags of `scripts/fastai_peer.py`.
//!
//! ```text
//! cargo bench --bench peer -- items  --images DIR [--workers N]   decode, Resize(460), collate
//! cargo bench --bench peer -- loader --images DIR [--workers N]   items, then aug_transforms(224, min_scale=0.75)
//! cargo bench --bench peer -- train  --images DIR --phase frozen|unfrozen --arch resnet34 [--precision bf16]
//! cargo bench --bench peer -- infer  --images DIR --arch resnet34
//! cargo bench --bench peer -- predict --images DIR --arch resnet34        Predictor::predict, a photo per call
//! cargo bench --bench peer -- predict-batch --images DIR --arch resnet34  Predictor::predict_batch of the same photos
//! cargo bench --bench peer -- startup --images DIR                process start to first training batch
//! cargo bench --bench peer -- loader-masks --images DIR           loader with masks; DIR is what `scripts/shapes` writes
//! cargo bench --bench peer -- train-masks --images DIR --arch resnet18  a U-Net of the same set
//! cargo bench --bench peer -- cache --images DIR                  items with the presize cache: the epochs after the first
//! cargo bench --bench peer -- network-train --images DIR --arch NAME  a step of training on random images, not on those of DIR
//! cargo bench --bench peer -- network-infer --images DIR --arch NAME  a step of inference on the same images
//! ```
//!
//! The other side of the last two tasks is `scripts/timm_peer.py`: the network is that of timm's name `NAME`, with its own
//! classifier.
//!
//! Training and inference also print the billions of multiplications and additions that a ResNet-18 or 34 needs for an
//! image, and the rate of a product of two matrices in the same precision.
//!
//! Each call prints one JSON object on its last line. `make versus` runs both sides in turn.
#![allow(clippy::print_stdout, reason = "a program whose answer is a line of JSON")]

mod shapes;

use clap::{Parser, ValueEnum};
use finetune::{
    Result,
    data::{Arrays, Cache, LoaderOptions},
    distributed::{Launched, launch, only_on_rank_0},
    learner::{Callback, Flat, Scope, Step, Training},
    loss::CrossEntropy,
    model::ArchSpec,
    prelude::*,
    sample::{Batch, Split},
    seed::Seed,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::PathBuf, time::Instant};
use tch::{Cuda, Device, Kind, Tensor};

#[derive(Parser, Debug)]
#[command(args_override_self = true)]
struct Args {
    task: Task,
    /// The folder of photos, named like the Oxford-IIIT Pet photos
    #[arg(long)]
    images: PathBuf,
    /// The number of loading threads; 0 loads on the main thread
    #[arg(long, default_value_t = 2)]
    workers: usize,
    #[arg(long, default_value_t = 64)]
    bs: usize,
    /// The side of the images after the item transforms
    #[arg(long, default_value_t = 460)]
    presize: u32,
    /// Decode JPEG files at the smallest size that has `presize` pixels
    #[arg(long)]
    reduce: bool,
    /// The side of the images after the batch transforms
    #[arg(long, default_value_t = 224)]
    size: u32,
    #[arg(long, default_value = "resnet34")]
    arch: String,
    #[arg(long, value_enum, default_value_t = Phase::Unfrozen)]
    phase: Phase,
    /// The number of timed epochs of items and loader, after one untimed epoch
    #[arg(long, default_value_t = 2)]
    epochs: u64,
    /// Train and infer: stop after this many batches (0: a full epoch)
    #[arg(long, default_value_t = 0)]
    batches: usize,
    /// The number of libtorch's threads
    #[arg(long)]
    threads: Option<i32>,
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    precision: Precision,
    /// Train: the number of processes that share each batch
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// A flag that `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Task {
    Items,
    Loader,
    Train,
    Infer,
    Predict,
    PredictBatch,
    Startup,
    Cache,
    LoaderMasks,
    TrainMasks,
    NetworkTrain,
    NetworkInfer,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Phase {
    Frozen,
    Unfrozen,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Precision {
    Fp32,
    Bf16,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let threads =
        args.threads.or_else(|| std::thread::available_parallelism().ok()?.get().try_into().ok());
    tch::set_num_threads(threads.unwrap_or(1));
    if args.processes > 1 && launch(args.processes)? == Launched::Done {
        return Ok(());
    }
    match args.task {
        Task::Items | Task::Loader | Task::Cache | Task::LoaderMasks => {
            let dls = match args.task {
                Task::LoaderMasks => mask_dataloaders(&args),
                Task::Cache => block(&args).cache(Cache::memory(2 << 30)).dataloaders(&args.images),
                task => dataloaders(&args, task == Task::Loader),
            }?;
            let pass = |pass| {
                dls.train().batches(pass).try_fold(0, |n, b| Ok::<_, Error>(n + b?.items.len()))
            };
            let start = Instant::now();
            let first = rate(pass(0)?, start.elapsed().as_secs_f64());
            let start = Instant::now();
            let mut n = 0;
            for epoch in 1..=args.epochs {
                n += pass(epoch)?;
            }
            let seconds = start.elapsed().as_secs_f64();
            let first = (args.task == Task::Cache).then_some(first);
            report(&args, Some(n), seconds, json!({ "first_images_per_s": first }));
        }
        Task::Startup => {
            let dls = dataloaders(&args, true)?;
            dls.train().one_batch()?;
            report(&args, None, since_process_start(), json!({}));
        }
        Task::Train | Task::TrainMasks => {
            let mut learn = learner(&args)?;
            if args.processes > 1 {
                learn = learn.distributed()?;
            }
            match args.phase {
                Phase::Frozen => learn.freeze(),
                Phase::Unfrozen => learn.unfreeze(),
            }
            let mut count = Count { batches: args.batches, ..Count::default() };
            learn.fit_with(&OneCycle::new(1).lr(1e-3), &mut [&mut count])?;
            report(&args, Some(count.images), count.seconds, work(&learn, &args));
        }
        Task::Infer => {
            let mut learn = learner(&args)?;
            let mut files = get_image_files(&args.images)?;
            let first = learn.dls().test_dl(files.iter().take(args.bs).cloned())?;
            if args.batches > 0 {
                files.truncate(args.batches * args.bs);
            }
            let all = learn.dls().test_dl(files)?;
            learn.get_preds_on(&first)?;
            let start = Instant::now();
            let n = learn.get_preds_on(&all)?.len();
            report(&args, Some(n), start.elapsed().as_secs_f64(), work(&learn, &args));
        }
        Task::Predict | Task::PredictBatch => {
            let folder = tempfile::tempdir().map_err(Error::io("the temporary folder"))?;
            let file = folder.path().join("model.safetensors");
            learner(&args)?.export(&file)?;
            let mut predictor = Predictor::load(&file, finetune::default_device())?;
            if args.precision == Precision::Bf16 {
                predictor = predictor.to_bf16();
            }
            let mut files = get_image_files(&args.images)?;
            files.truncate(if args.batches > 0 { args.batches * args.bs } else { 128 });
            predictor.predict(&files[0])?;
            let start = Instant::now();
            if args.task == Task::Predict {
                for file in &files {
                    predictor.predict(file)?;
                }
            } else {
                predictor.predict_batch(&files)?;
            }
            report(&args, Some(files.len()), start.elapsed().as_secs_f64(), json!({}));
        }
        Task::NetworkTrain | Task::NetworkInfer => {
            let seconds = network_step(&args)?;
            let ms = (seconds * 1e5).round() / 100.0;
            report(&args, Some(args.bs), seconds, json!({ "ms_per_step": ms }));
        }
    }
    Ok(())
}

fn block(args: &Args) -> DataBlock<CategoryBlock> {
    let pattern = RegexLabeller::new(r"^(.+)_\d+\.jpg$").expect("it is a pattern");
    let images = ImageBlock::rgb();
    let images = if args.reduce { images.reduce_to(args.presize) } else { images };
    DataBlock::blocks(images, CategoryBlock::new())
        .get_items(get_image_files)
        .splitter(RandomSplitter::new(0.2).seed(42))
        .get_y(using_name(pattern))
        .item_tfms(Resize::new(args.presize))
        .bs(args.bs)
        .num_workers(args.workers)
}

fn dataloaders(args: &Args, batch_tfms: bool) -> Result<DataLoaders> {
    let block = block(args);
    let block = if batch_tfms {
        block.batch_tfms(aug_transforms().size(args.size).min_scale(0.75))
    } else {
        block
    };
    block.dataloaders(&args.images)
}

/// Returns the images and masks that `scripts/shapes` wrote.
fn mask_dataloaders(args: &Args) -> Result<DataLoaders> {
    shapes::block(&args.images)?
        .item_tfms(Resize::new(args.presize))
        .batch_tfms(aug_transforms().size(args.size).min_scale(0.75))
        .bs(args.bs)
        .num_workers(args.workers)
        .dataloaders(&args.images)
}

fn learner(args: &Args) -> Result<Learner> {
    let arch = finetune::model::by_name(&args.arch)?;
    let learn = if args.task == Task::TrainMasks {
        unet_learner(mask_dataloaders(args)?, arch).pretrained(false)
    } else {
        vision_learner(dataloaders(args, true)?, arch).pretrained(false).metric(error_rate())
    };
    Ok(in_precision(learn.build()?.quiet(), args))
}

fn in_precision(learn: Learner, args: &Args) -> Learner {
    match args.precision {
        Precision::Fp32 => learn,
        Precision::Bf16 => learn.to_bf16(),
    }
}

/// Returns the median seconds of a step of training or inference on random images in memory.
fn network_step(args: &Args) -> Result<f64> {
    const CLASSES: usize = 37;
    let cpu = |kind| (kind, Device::Cpu);
    // The first step is not timed, and the last one has no end.
    let steps = args.batches.max(1) + 2;
    let rows = (args.bs * steps) as i64;
    let (x, y) =
        (Tensor::zeros([rows, 1], cpu(Kind::Float)), Tensor::zeros([rows], cpu(Kind::Int64)));
    let vocab: Vec<String> = (0..CLASSES).map(|c| c.to_string()).collect();
    let task = finetune::sample::Task::Category { vocab: vocab.into() };
    let placeholders = Arrays::from_tensors(&x, &y, task)?;
    let options = LoaderOptions::new().bs(args.bs).num_workers(0).device(Device::Cpu);
    let dls = DataLoaders::from_arrays(placeholders.clone(), placeholders, options)?;
    let arch = finetune::model::by_name(&args.arch)?;
    let mut model = ArchSpec::classifier(&arch, 3, CLASSES).build(Device::Cpu, Seed(1))?;
    model.channels_last();
    let mut learn = in_precision(Learner::new(dls, model, CrossEntropy::new())?.quiet(), args);
    tch::manual_seed(1);
    let (n, side) = (args.bs as i64, i64::from(args.size));
    let train = args.task == Task::NetworkTrain;
    let mut steps = Steps {
        split: if train { Split::Train } else { Split::Valid },
        x: Tensor::randn([n, side, side, 3], cpu(Kind::Float)).permute([0, 3, 1, 2]),
        y: Tensor::randint(CLASSES as i64, [n], cpu(Kind::Int64)),
        starts: vec![],
    };
    learn.fit_with(&Flat::new(1).lr(1e-3), &mut [&mut steps])?;
    let timed = steps.starts.windows(2).skip(1);
    let mut seconds: Vec<f64> = timed.map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// Runs only the training or only the validation, puts the same images into every batch, and records when each batch
/// starts.
#[derive(Debug)]
struct Steps {
    split: Split,
    x: Tensor,
    y: Tensor,
    starts: Vec<Instant>,
}

impl Callback for Steps {
    fn before_train(&mut self, _: &mut Training) -> Step {
        if self.split == Split::Train { Ok(()) } else { Scope::Train.cancel() }
    }
    fn before_validate(&mut self, _: &mut Training) -> Step {
        if self.split == Split::Valid { Ok(()) } else { Scope::Validate.cancel() }
    }
    fn before_batch(&mut self, _: &mut Training, batch: &mut Batch) -> Step {
        batch.x = self.x.shallow_clone();
        batch.y = Some(self.y.shallow_clone());
        self.starts.push(Instant::now());
        Ok(())
    }
}

/// Returns the number of images through the training loop and the time, without the first batch.
#[derive(Debug, Default)]
struct Count {
    batches: usize,
    images: usize,
    seconds: f64,
    start: Option<Instant>,
}

impl Callback for Count {
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        if t.at.is_training() && t.at.batch == 1 {
            self.start = Some(Instant::now());
        }
        Ok(())
    }
    fn after_batch(
        &mut self,
        t: &mut Training,
        batch: &Batch,
        _: &finetune::learner::Outcome,
    ) -> Step {
        if t.at.is_training() && t.at.batch >= 1 {
            self.images += t.batch_items(batch.items.len());
        }
        if t.at.is_training() && self.batches > 0 && t.at.batch >= self.batches {
            return Scope::Train.cancel();
        }
        Ok(())
    }
    fn before_validate(&mut self, _: &mut Training) -> Step {
        Scope::Validate.cancel()
    }
    fn after_train(&mut self, _: &mut Training) -> Step {
        self.seconds = self.start.map_or(0.0, |s| s.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Returns the operations of the network for one image, and the measured rate of matrix products.
fn work(learn: &Learner, args: &Args) -> Value {
    let kind = match args.precision {
        Precision::Fp32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
    };
    let learning = learn.model().params().iter().filter(|p| p.tensor.requires_grad());
    let gradients: usize = learning.map(|p| p.tensor.numel()).sum();
    json!({
        "gradient_mb": (gradients * 4) as f64 / 1e6,
        "gflop_per_image": gflop_per_image(learn, args),
        "matmul_gflops": matmul_gflops(kind, learn.model().device()),
    })
}

/// Returns the multiplications and additions of convolutions and linear layers, in billions: of the
/// forward pass, and in training also for the gradients of inputs and of trained weights. Defined for
/// networks in which all convolutions of a child have outputs of the child's size.
fn gflop_per_image(learn: &Learner, args: &Args) -> Option<f64> {
    if !["resnet18", "resnet34"].contains(&args.arch.as_str()) || learn.model().is_unet() {
        return None;
    }
    let model = learn.model();
    let mut areas = BTreeMap::new();
    let side = i64::from(args.size);
    let x = Tensor::zeros([1, 3, side, side], (Kind::Float, model.device()));
    let mut visit = |name: &str, out: &Tensor| {
        areas.insert(name.to_owned(), out.size().iter().skip(2).product::<i64>());
    };
    let _ = tch::no_grad(|| model.forward_with(&x, false, &mut visit)).ok()?;
    let mut products = 0;
    for (k, p) in model.params().iter().filter(|p| p.tensor.dim() > 1).enumerate() {
        let area = areas.get(p.name.split('.').next()?)?;
        let mut times = 1;
        if args.task == Task::Train {
            times += i64::from(k > 0) + i64::from(p.tensor.requires_grad());
        }
        products += times * area * p.tensor.numel() as i64;
    }
    Some(2.0 * products as f64 / 1e9)
}

/// Returns the billions of multiplications and additions per second in the best of a few products of two
/// matrices.
fn matmul_gflops(kind: Kind, device: Device) -> f64 {
    let n = if device == Device::Cpu { 2048 } else { 8192 };
    let x = Tensor::randn([n, n], (Kind::Float, device)).to_kind(kind);
    let once = || {
        let start = Instant::now();
        // Wait for a GPU to finish.
        let _ = x.matmul(&x).double_value(&[0, 0]);
        start.elapsed().as_secs_f64()
    };
    let fastest = (0..10).map(|_| once()).fold(f64::INFINITY, f64::min);
    (2.0 * (n as f64).powi(3) / fastest / 1e9).round()
}

/// Rounds images per second to two digits.
fn rate(images: usize, seconds: f64) -> f64 {
    (images as f64 / seconds * 100.0).round() / 100.0
}

/// Prints the result. `more` holds the figures of this task alone.
fn report(args: &Args, images: Option<usize>, seconds: f64, more: Value) {
    let name = args.task.to_possible_value().map(|v| v.get_name().to_owned());
    let phase = (args.task == Task::Train).then_some(format!("{:?}", args.phase).to_lowercase());
    let mut answer = json!({
        "task": name, "phase": phase, "images_per_s": images.map(|n| rate(n, seconds)), "images": images,
        "seconds": (seconds * 1000.0).round() / 1000.0, "peak_rss_mb": peak_rss_mb(),
        "workers": args.workers, "processes": args.processes, "precision": format!("{:?}", args.precision).to_lowercase(),
        "device": if Cuda::is_available() { "cuda" } else { "cpu" },
    });
    if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
        answer.extend(more);
    }
    only_on_rank_0(|| println!("{answer}"));
}

/// Returns the peak memory of this process, as Linux reports it.
fn peak_rss_mb() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}

/// Returns the seconds since the system started this process, including the loading of libtorch.
fn since_process_start() -> f64 {
    let read = || {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let after_name = stat.rsplit_once(") ")?.1.to_owned();
        let ticks: f64 = after_name.split(' ').nth(19)?.parse().ok()?;
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
        Some(uptime - ticks / 100.0)
    };
    read().unwrap_or(f64::NAN)
}
