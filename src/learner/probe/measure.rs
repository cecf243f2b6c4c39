//! Computes the features, fits the regression, and measures its accuracy.

use super::{
    logistic::{self, Fitted, Items, Targets},
    options::ProbeOptions,
    report::Probe,
    standing::Standing,
};
use crate::{
    data::{DataLoader, shuffle},
    error::{Error, Result},
    learner::{
        Callback, Learner,
        predict::evaluate::{check_numbers, decode, rows},
        training::{
            epochs::{self, Pooled},
            state::Run,
        },
    },
    metric::Proportion,
    model::LinearHead,
    sample::{Target, Task},
    seed::{Seed, Stream},
    sys::caught,
};
use ndarray::{Array1, Array2};
use std::time::Instant;
use tch::{Kind, Tensor};

impl Learner {
    /// Fits a logistic regression to the features of the frozen body, and measures it on the validation items:
    /// a baseline that fine-tuning should exceed. It costs one pass over the data.
    ///
    /// - The features are the output of the body after the head's pooling: for fastai's head, the maxima
    ///   and the means of all channels. They are computed once for each training and each
    ///   validation item, with the transforms of validation and in the learner's precision, and are
    ///   held in memory during the call: 8 bytes for each item and feature.
    /// - The features are standardized by the statistics of the training items, to mean 0 and standard
    ///   deviation 1.
    /// - For one category per image, the model is a multinomial logistic regression; for several, one
    ///   regression per category, with the same regularization for all. It is fitted in double precision by
    ///   L-BFGS.
    /// - The weight of the L2 penalty is the one with the lowest loss on a fifth of the training items.
    ///   These are drawn class by class, from the learner's seed. The regression is then fitted to all
    ///   training items. The weights of a weighted or balanced loader are not used.
    ///
    /// The same learner gives the same result on the same machine with the same number of threads. The
    /// weights of the network are not changed: see [`Probe::install`]. If several processes train together,
    /// each computes a share of the features, and all return the result of rank 0. Callbacks that take part
    /// in validation get `before_batch` and `after_batch` for each batch, but no prediction.
    ///
    /// ```
    /// use finetune::{data::{Arrays, LoaderOptions}, loss::CrossEntropy, sample::Task, seed::Seed};
    /// use finetune::{model::{Arch, ArchSpec, HeadOptions}, prelude::*, tch::Kind};
    ///
    /// // Two clouds of points, as images of one pixel with two channels.
    /// let rows = |n: i64| {
    ///     let y = Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(2);
    ///     let turn = Tensor::arange(n, (Kind::Float, Device::Cpu));
    ///     let x = Tensor::stack(&[turn.sin() + &y * 3, turn.cos()], 1).view([n, 2, 1, 1]);
    ///     Arrays::from_tensors(&x, &y, Task::Category { vocab: ["a".into(), "b".into()].into() })
    /// };
    /// let options = LoaderOptions::new().bs(10).device(Device::Cpu);
    /// let dls = DataLoaders::from_arrays(rows(60)?, rows(40)?, options)?;
    /// let arch = Arch::new("identity", |net, _| {
    ///     net.step("same", |x| x.shallow_clone());
    /// });
    /// let spec = ArchSpec::new(&arch, 2, 2, HeadOptions::new().concat_pool(false));
    /// let model = spec.build(Device::Cpu, Seed(1))?;
    ///
    /// let mut learn = Learner::new(dls, model, CrossEntropy::new())?.metric(accuracy()).quiet();
    /// let probe = learn.probe()?;
    /// assert!(probe.accuracy.value() > 0.9);
    /// probe.install(&mut learn)?;
    /// assert_eq!(learn.validate()?[1].1, Some(probe.accuracy.value()));
    /// # Ok::<(), finetune::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the targets are not categories, or the model is not a body with a head
    /// of [`HeadOptions`](crate::model::HeadOptions); [`Error::EmptySplit`] without validation items;
    /// [`Error::Config`] if there are too few training items for the inner split;
    /// [`Error::Computation`] if a feature is not finite; errors of the data or a callback.
    pub fn probe(&mut self) -> Result<Probe> {
        self.probe_with(&ProbeOptions::new())
    }

    /// As [`Learner::probe`], with other options.
    ///
    /// # Errors
    /// As [`Learner::probe`], and [`Error::Config`] for an invalid option.
    pub fn probe_with(&mut self, options: &ProbeOptions) -> Result<Probe> {
        options.check()?;
        let task = self.training.dls.task();
        if !matches!(task, Task::Category { .. } | Task::Categories { .. }) {
            let why = "is a logistic regression, so the targets must be categories";
            return Err(Error::unsupported("the linear probe", why));
        }
        self.training.model.head_options()?;
        let valid = self.training.dls.valid().clone();
        if valid.is_empty() {
            return Err(Error::empty_split("validation", "the linear probe is measured on it"));
        }
        let began = Instant::now();
        let train = valid.subset(self.training.dls.train().items())?;
        let of_train = self.features(&train)?;
        let of_valid = self.features(&valid)?;
        let features_time = began.elapsed();

        let began = Instant::now();
        let seed = self.training.seed;
        let fitted = fitted(&of_train, &task, seed, options);
        let measured = self.of_first_rank(fitted)?;
        let head = measured.head()?.into();
        let Measured { scale, fitted } = measured;
        let fit_time = began.elapsed();
        let valid = Valid::new(&of_valid, &task, &scale, &fitted)?;
        let accuracy = valid.accuracy();
        self.probed = Some(Standing::new(accuracy, &of_valid.items));
        let (weight, bias) = scale.folded(&fitted)?;
        let mut notes = vec![];
        if !fitted.converged {
            let n = options.max_iterations;
            notes.push(format!(
                "the regression did not converge in {n} iterations; raise `max_iterations`"
            ));
        }
        if self.training.dls.train().weight_sums().is_some() {
            notes.push("the weights of the training items are not used by the probe".to_owned());
        }
        Ok(Probe {
            accuracy,
            l2: fitted.l2,
            tried: fitted.tried,
            iterations: fitted.iterations,
            converged: fitted.converged,
            train_items: of_train.items.len(),
            weight,
            bias,
            head,
            predictions: valid.predictions,
            features_time,
            fit_time,
            notes,
        })
    }

    /// Computes the features of all items of a loader, with the callbacks that take part in validation.
    fn features(&mut self, loader: &DataLoader) -> Result<Features> {
        let Self { training, progress, callbacks: kept, .. } = self;
        let (at, pass) = (training.at, training.at.pass);
        let mut all: Vec<&mut dyn Callback> = vec![];
        let kept = kept.iter_mut().filter(|c| !c.skip_evaluation());
        all.extend(kept.map(|c| &mut **c as &mut dyn Callback));
        all.extend(progress.as_mut().map(|p| p as &mut dyn Callback));
        training.run = Run::Evaluation;
        let done = epochs::pooled(training, all, loader, pass);
        (training.at, training.run) = (at, Run::Fit);
        let Pooled { features, targets, items } = done?;
        let x = Tensor::f_cat(&features, 0)?;
        let name = |i: usize| {
            let item = items.get(i).copied().unwrap_or(i);
            caught(|| Ok(loader.dataset().name(item))).unwrap_or_default()
        };
        check_numbers(&x, name)?;
        if targets.is_empty() {
            return Err(Error::mismatch("the linear probe", "the items have no targets"));
        }
        Ok(Features { x, y: Tensor::f_cat(&targets, 0)?, items })
    }

    /// Returns the result of rank 0 if several processes train together, otherwise `own`.
    fn of_first_rank(&mut self, own: Result<Measured>) -> Result<Measured> {
        let device = self.training.model.device();
        let Some(p) = &mut self.training.parallel else { return own };
        let own = own.map_err(|e| p.settle(e))?;
        let Measured { scale, fitted } = own;
        let same = |t: Tensor| -> Result<Tensor> {
            let shared = t.f_to_device(device)?.f_contiguous()?;
            p.world().broadcast(&shared)?;
            Ok(shared.f_to_device(tch::Device::Cpu)?)
        };
        let Fitted { weight, bias, l2, tried, iterations, converged } = fitted;
        let (weight, bias) = (same(weight)?, same(bias)?);
        let all = p.world().exchange(&(l2, tried, iterations, converged))?;
        let Some((l2, tried, iterations, converged)) = all.into_iter().next() else {
            return Err(Error::other("no rank answered"));
        };
        Ok(Measured { scale, fitted: Fitted { weight, bias, l2, tried, iterations, converged } })
    }

    /// Computes the probe and installs it, unless an installed one has not been trained since.
    pub(in crate::learner) fn start_from_probe(&mut self) -> Result<()> {
        if self.probed.as_ref().is_some_and(|standing| standing.is_installed) {
            return Ok(());
        }
        self.probe()?.install(self)
    }
}

/// The features and targets of items.
#[derive(Debug)]
struct Features {
    x: Tensor,
    y: Tensor,
    items: Vec<usize>,
}

impl Features {
    fn targets(&self, task: &Task) -> Result<Targets> {
        Ok(match task {
            Task::Category { .. } => Targets::One(self.y.f_to_kind(Kind::Int64)?),
            _ => Targets::Several(self.y.f_to_kind(Kind::Double)?),
        })
    }
}

/// A regression with the scale of its features.
#[derive(Debug)]
struct Measured {
    scale: Scale,
    fitted: Fitted,
}

/// The standardization of features to mean 0 and standard deviation 1.
#[derive(Debug)]
struct Scale {
    /// The means, `f64` `[features]`.
    mean: Tensor,
    /// The reciprocals of the standard deviations; 0 for features that do not vary.
    inverse: Tensor,
}

impl Scale {
    fn of(x: &Tensor) -> Result<Self> {
        let x = x.f_to_kind(Kind::Double)?;
        let rows = [0_i64];
        let mean = x.f_mean_dim(rows.as_slice(), false, Kind::Double)?;
        let std = x.f_std_dim(rows.as_slice(), false, false)?;
        // A smaller deviation is a rounding error of 32-bit floats.
        let varies = std.f_gt_tensor(&(mean.f_abs()? * 1e-6))?;
        let inverse = std.f_reciprocal()?.f_where_self(&varies, &std.f_zeros_like()?)?;
        Ok(Self { mean, inverse })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok((x.f_to_kind(Kind::Double)? - &self.mean) * &self.inverse)
    }

    /// Returns weights, `[classes, features]`, and biases for features that are not standardized.
    fn folded(&self, fitted: &Fitted) -> Result<(Array2<f64>, Array1<f64>)> {
        let weight = &fitted.weight * &self.inverse.f_unsqueeze(1)?;
        let bias = &fitted.bias - self.mean.f_unsqueeze(0)?.f_mm(&weight)?.f_squeeze_dim(0)?;
        let weight = weight.f_tr()?.f_contiguous()?;
        let (rows, columns) = weight.size2()?;
        let shape = (rows as usize, columns as usize);
        let weight: Vec<f64> = Vec::try_from(&weight.f_view([-1])?)?;
        let weight = Array2::from_shape_vec(shape, weight).map_err(Error::other)?;
        Ok((weight, Array1::from(Vec::<f64>::try_from(&bias)?)))
    }
}

impl Measured {
    /// Returns the regression as a head.
    fn head(&self) -> Result<LinearHead> {
        let Self { scale: Scale { mean, inverse }, fitted } = self;
        let float = |t: &Tensor| t.f_to_kind(Kind::Float);
        // Features that do not vary have no weight.
        let std =
            inverse.f_reciprocal()?.f_where_self(&inverse.f_gt(0.0)?, &inverse.f_ones_like()?)?;
        Ok(LinearHead {
            weight: float(&fitted.weight.f_tr()?.f_contiguous()?)?,
            bias: float(&fitted.bias)?,
            mean: float(mean)?,
            std: float(&std)?,
        })
    }
}

fn fitted(train: &Features, task: &Task, seed: Seed, options: &ProbeOptions) -> Result<Measured> {
    let n = train.items.len();
    let scale = Scale::of(&train.x)?;
    let (order, fit) = match options.l2 {
        Some(_) => ((0..n as i64).collect(), n),
        None => inner_split(train, task, seed, options)?,
    };
    let order = Tensor::f_from_slice(&order)?;
    let picked = Features {
        x: train.x.f_index_select(0, &order)?,
        y: train.y.f_index_select(0, &order)?,
        items: vec![],
    };
    let (y, classes) = (picked.targets(task)?, task.n_out() as i64);
    let items = Items { x: scale.apply(&picked.x)?, y, classes };
    drop(picked);
    let what = || format!("the logistic regression on {n} items");
    let done = logistic::fit(&items, fit as i64, options);
    done.map(|fitted| Measured { scale, fitted }).map_err(Error::computation(what))
}

/// Splits the training items. Returns the positions of all items, first those to which candidates are fitted, and
/// the number of these. The same fraction of each category is held out, but never all of its items.
fn inner_split(
    train: &Features,
    task: &Task,
    seed: Seed,
    options: &ProbeOptions,
) -> Result<(Vec<i64>, usize)> {
    let n = train.items.len();
    let mut groups: Vec<Vec<i64>> = match task {
        Task::Category { .. } => {
            let classes: Vec<i64> = Vec::try_from(&train.y.f_to_kind(Kind::Int64)?)?;
            let mut groups = vec![vec![]; task.n_out()];
            for (i, class) in classes.into_iter().enumerate() {
                let group = usize::try_from(class).ok().and_then(|class| groups.get_mut(class));
                group.ok_or_else(|| Error::mismatch("a target", "is not a class"))?.push(i as i64);
            }
            groups
        }
        _ => vec![(0..n as i64).collect()],
    };
    let mut rng = seed.rng(Stream::Probe);
    let (mut fit, mut held_out) = (vec![], vec![]);
    for group in &mut groups {
        shuffle(group, &mut rng);
        let out = (group.len() as f64 * options.held_out()).round() as usize;
        let (out, rest) = group.split_at(out.min(group.len().saturating_sub(1)));
        held_out.extend_from_slice(out);
        fit.extend_from_slice(rest);
    }
    if held_out.is_empty() {
        let why = format!(
            "is {}, which holds out no item of any category of the {n} training items: set `l2` instead",
            options.held_out()
        );
        return Err(Error::config("inner_valid_pct", why));
    }
    // Sorted, so that rows are gathered in memory order.
    fit.sort_unstable();
    held_out.sort_unstable();
    let n = fit.len();
    fit.extend(held_out);
    Ok((fit, n))
}

/// The regression on the validation items.
#[derive(Debug)]
struct Valid {
    predictions: crate::learner::Predictions,
}

impl Valid {
    fn new(valid: &Features, task: &Task, scale: &Scale, fitted: &Fitted) -> Result<Self> {
        let logits = fitted.bias.f_addmm(&scale.apply(&valid.x)?, &fitted.weight)?;
        let targets = valid.targets(task)?;
        let probs = targets.probabilities(&logits)?;
        let losses = targets.loss_of_each(&logits)?.f_to_kind(Kind::Float)?;
        let decided = match targets {
            Targets::One(_) => logits.f_argmax(1, false)?,
            Targets::Several(_) => logits.f_gt(0.0)?,
        };
        let size = (2, 2);
        let predictions = crate::learner::Predictions::new(
            valid.items.clone(),
            rows(&probs)?,
            decode(&valid.y, None, task, size)?,
            decode(&decided, None, task, size)?,
            Vec::try_from(&losses)?,
            task.clone(),
        );
        Ok(Self { predictions })
    }

    fn accuracy(&self) -> Proportion {
        let p = &self.predictions;
        let right = |(a, b): &(&Target, &Target)| a == b;
        let hits = p.targets.iter().zip(&p.decoded).filter(right).count();
        Proportion { hits, of: p.targets.len() }
    }
}
