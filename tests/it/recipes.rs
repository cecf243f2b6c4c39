//! Layer-wise learning rate decay, warmup with a cosine, and averages of weights, compared with timm's
//! values, which `tests/timm/recipes.py` wrote.

use crate::fit;
use finetune::{
    Error, Result,
    callback::{Ema, SaveBest},
    data::{Arrays, DataLoaders, LoaderOptions},
    learner::{
        Callback, Course, Defaults, FineTune, Flat, FlatCos, Learner, OneCycle, Policy, Scope,
        Sgdr, Step, Training, TrainingPlan, WarmupCosine, vision_learner,
    },
    loss::CrossEntropy,
    model::{ArchSpec, HeadOptions, Model, ParamKind, batch_norm1d, by_name},
    optim::{Anneal, Hyper, Schedule},
    sample::{Batch, Task},
    seed::Seed,
};
use serde_json::Value;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor, nn};

fn known(what: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../timm/recipes.json")).unwrap();
    all[what].clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn a_warm_up_with_a_cosine_has_timms_rates() -> Result<()> {
    for case in known("cosine").as_array().unwrap() {
        let number = |key: &str| case[key].as_f64().unwrap();
        let (epochs, batches) = (number("epochs"), number("batches"));
        let policy = WarmupCosine::new(epochs as usize)
            .lr(number("lr"))
            .warmup_epochs(number("warmup"))
            .div(number("div"));
        let course = policy.course(2, &Defaults::default())?;
        let (hyper, schedules) = &course.schedules[0];
        assert_eq!(*hyper, Hyper::Lr);
        for (step, theirs) in numbers(&case["rates"]).into_iter().enumerate() {
            let ours = schedules[1].at(step as f64 / (epochs * batches));
            // Schedules store their boundaries in 32 bits, as fastai's do.
            assert!((ours - theirs).abs() < 1e-6 * number("lr"), "{case} step {step}: {ours}");
        }
    }
    Ok(())
}

#[test]
fn warm_restarts_of_too_many_cycles_or_epochs_are_errors() -> Result<()> {
    let course = |policy: &Sgdr| policy.course(1, &Defaults::default());
    let longest = Sgdr::new(3, 2).cycle_mult(usize::MAX);
    for (policy, told) in [
        (Sgdr::new(1 << 40, 1), "`cycles` is 1099511627776; it must be at most 10000"),
        (Sgdr::new(100, 1), "`cycles` is 100, `cycle_len` 1 and `cycle_mult` 2"),
        (longest, "`cycles` is 3, `cycle_len` 2 and `cycle_mult` 18446744073709551615"),
        (Sgdr::new(2, usize::MAX), "`cycle_len` 18446744073709551615"),
    ] {
        let e = course(&policy).unwrap_err();
        assert!(matches!(&e, Error::Config { option: "Sgdr", .. }), "{e}");
        assert!(e.to_string().contains(told), "{e}");
    }
    let course = course(&Sgdr::new(3, 2).lr(1e-3))?;
    assert_eq!(course.epochs, 14);
    // Each cycle starts at the maximum and ends at 0.
    for (start, end) in [(0.0, 2.0), (2.0, 6.0), (6.0, 14.0)] {
        let rate = |epoch: f64| course.schedules[0].1[0].at(epoch / 14.0);
        assert!((rate(start + 0.01) - 1e-3).abs() < 1e-6, "{start}");
        assert!(rate(end - 0.01) < 1e-6, "{end}");
    }
    Ok(())
}

/// The values are those of fastai's `combined_cos` at the steps of four batches.
#[test]
fn a_cycle_may_start_or_end_at_its_peak() -> Result<()> {
    let falls = [0.01, 0.008535548550593679, 0.00500005, 0.0014645514494063209];
    let rises = [0.0004, 0.0018058874503045722, 0.0052, 0.008594112549695427];
    let momenta = [0.85, 0.8646446609406726, 0.9, 0.9353553390593273];
    let back = [0.95, 0.9353553390593273, 0.9, 0.8646446609406726];
    let check = |policy: &dyn Policy, wanted: &[(Hyper, [f64; 4])]| -> Result<()> {
        let schedules = policy.course(1, &Defaults::default())?.schedules;
        assert_eq!(schedules.len(), wanted.len());
        for ((hyper, each), (of, values)) in schedules.iter().zip(wanted) {
            assert_eq!(hyper, of);
            for (step, wanted) in values.iter().enumerate() {
                let ours = each[0].at(step as f64 / 4.0);
                assert!((ours - wanted).abs() < 1e-12, "{hyper} at {step} is {ours}");
            }
        }
        Ok(())
    };
    let cycle = |pct| OneCycle::new(1).lr(1e-2).pct_start(pct);
    check(&cycle(0.0), &[(Hyper::Lr, falls), (Hyper::Mom, momenta)])?;
    check(&cycle(1.0), &[(Hyper::Lr, rises), (Hyper::Mom, back)])?;
    let flat = |pct| FlatCos::new(1).lr(1e-2).pct_start(pct);
    check(&flat(0.0), &[(Hyper::Lr, falls)])?;
    check(&flat(1.0), &[(Hyper::Lr, [0.01; 4])])?;
    for wrong in [-0.1, 1.1, f64::NAN] {
        let e = flat(wrong).course(1, &Defaults::default()).unwrap_err().to_string();
        assert_eq!(e, format!("`pct_start` is {wrong}; it must be from 0 to 1"));
    }
    Ok(())
}

#[test]
fn a_schedule_of_fractions_or_values_that_are_not_finite_is_an_error() {
    let (nan, infinite) = (f64::NAN, f64::INFINITY);
    let one = |fraction, start, end| Schedule::combine(vec![(fraction, Anneal::Cos, start, end)]);
    for (made, told) in [
        (one(nan, 1.0, 0.0), "the sum of the fractions is NaN"),
        (one(infinite, 1.0, 0.0), "the sum of the fractions is inf"),
        (one(0.5, 1.0, 0.0), "the sum of the fractions is 0.5"),
        (Schedule::combine(vec![]), "the sum of the fractions is"),
        (one(1.0, nan, 0.0), "part 0 is from NaN to 0"),
        (one(1.0, 1.0, infinite), "part 0 is from 1 to inf"),
    ] {
        let e = made.unwrap_err();
        assert!(matches!(&e, Error::Config { option: "Schedule::combine", .. }), "{e}");
        assert!(e.to_string().contains(told), "{e}");
    }
    let parts = [(2.0, Anneal::Cos, 1.0, 0.0), (-1.0, Anneal::Cos, 1.0, 0.0)];
    let e = Schedule::combine(parts.to_vec()).unwrap_err().to_string();
    assert!(e.contains("they must not be negative"), "{e}");
    assert_eq!(one(1.0, 1.0, 0.0).unwrap().at(1.0), 0.0);
}

#[test]
fn a_schedule_of_zeros_and_a_rise_is_never_negative() {
    // The boundary in 32 bits is above 0.3 in 64 bits.
    let parts = vec![(0.3, Anneal::Const, 0.0, 0.0), (0.7, Anneal::Linear, 0.0, 1.0)];
    let schedule = Schedule::combine(parts).unwrap();
    assert_eq!(schedule.at(0.3), 0.0);
    assert!(schedule.at(0.31) > 0.0);
    assert_eq!(schedule.at(1.0), 1.0);
}

#[test]
fn a_warmup_longer_than_the_fit_is_an_error() {
    let learn = &mut fit::learner();
    for warmup in [-1.0, 2.0, f64::NAN] {
        let policy = WarmupCosine::new(2).warmup_epochs(warmup);
        let e = learn.fit_with(&policy, &mut []).unwrap_err().to_string();
        assert!(e.contains("warmup_epochs") && e.contains(&warmup.to_string()), "{e}");
    }
    learn.fit_warmup_cosine(2, 1e-2).unwrap();
    let lrs = &learn.recorder().lrs;
    assert!((lrs[0] - 1e-4).abs() < 1e-9 && lrs[1..].iter().all(|lr| *lr < 1e-2 + 1e-9), "{lrs:?}");
}

#[test]
fn layers_learn_at_timms_rates() -> Result<()> {
    let known = known("layer_decay");
    for (name, theirs) in known.as_object().unwrap() {
        let arch = by_name(name)?.split_layers();
        let model = ArchSpec::classifier(&arch, 3, 10).build(Device::Cpu, Seed(0))?;
        let policy = Flat::new(1).lr(1.0).layer_decay(0.75);
        let course = policy.course(model.groups(), &Defaults::default())?;
        let (_, rates) = &course.set[0];
        assert_eq!(model.params().len(), theirs.as_object().unwrap().len(), "{name}");
        for p in model.params() {
            let [scale, decay] = numbers(&theirs[&p.name])[..] else { panic!("{}", p.name) };
            assert_eq!(rates[p.group], scale, "{name}: {}", p.name);
            assert_eq!(p.kind == ParamKind::Weight, decay > 0.0, "{name}: {}", p.name);
        }
    }
    Ok(())
}

fn rates(course: &Course) -> Vec<f64> {
    course.set[0].1.clone()
}

fn close(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len(), "{ours:?}");
    let near = ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= 1e-12 * b.abs());
    assert!(near, "{ours:?} {theirs:?}");
}

#[test]
fn layer_decay_multiplies_other_rates() -> Result<()> {
    let none = Defaults::default();
    let mut halves = Defaults::default();
    halves.layer_decay = Some(0.5);
    let flat = |defaults| Ok::<_, Error>(rates(&Flat::new(1).lr(1.0).course(3, defaults)?));
    close(&flat(&none)?, &[1.0, 1.0, 1.0]);
    close(&flat(&halves)?, &[0.25, 0.5, 1.0]);
    close(&rates(&Flat::new(1).lr(1.0).layer_decay(1.0).course(3, &halves)?), &[1.0, 1.0, 1.0]);
    close(&rates(&OneCycle::new(1).lr(..=1.0).course(3, &halves)?), &[0.025, 0.05, 1.0]);
    close(&rates(&OneCycle::new(1).lr(vec![1.0, 4.0, 8.0]).course(3, &halves)?), &[0.25, 2.0, 8.0]);

    // Layer decay replaces fastai's factor of 100, unless a range of rates is given.
    let stages = |plan: FineTune, defaults| plan.base_lr(2.0).courses(3, defaults);
    close(&rates(&stages(FineTune::new(1), &none)?[1].1), &[0.01, 0.1, 1.0]);
    close(&rates(&stages(FineTune::new(1), &halves)?[1].1), &[0.25, 0.5, 1.0]);
    close(&rates(&stages(FineTune::new(1).layer_decay(0.1), &none)?[1].1), &[0.01, 0.1, 1.0]);
    close(&rates(&stages(FineTune::new(1).lr_mult(4.0), &halves)?[1].1), &[0.0625, 0.25, 1.0]);
    close(&rates(&stages(FineTune::new(1), &halves)?[0].1), &[0.05, 0.1, 2.0]);

    for wrong in [0.0, -0.5, 1.5, f64::NAN] {
        let e = Flat::new(1).layer_decay(wrong).course(3, &none).unwrap_err().to_string();
        assert!(e.contains("layer_decay") && e.contains(&wrong.to_string()), "{e}");
    }
    Ok(())
}

#[test]
fn a_learner_decays_in_every_fit() -> Result<()> {
    let mut learn = fit::learner().layer_decay(0.5);
    learn.fit(1, 1e-2)?;
    let lrs = |learn: &Learner| -> Vec<f64> {
        learn.training().opt.hypers().iter().map(|h| h.lr).collect()
    };
    close(&lrs(&learn), &[5e-3, 1e-2]);
    learn.freeze();
    learn.fit_with(&Flat::new(1).lr(1e-2).layer_decay(0.1), &mut [])?;
    close(&lrs(&learn), &[1e-3, 1e-2]);
    learn.fit_one_cycle(1, 1e-2)?;
    let ratio = lrs(&learn);
    assert!((ratio[0] / ratio[1] - 0.5).abs() < 1e-9, "{ratio:?}");
    Ok(())
}

#[test]
fn decays_of_averages_are_timms() {
    for case in known("ema").as_array().unwrap() {
        for pair in case["decays"].as_array().unwrap() {
            let (step, decay) = (pair[0].as_u64().unwrap(), pair[1].as_f64().unwrap());
            let ours = averaging(&case["options"]).decay_at(step);
            assert!((ours - decay).abs() <= 1e-15, "{case} step {step}: {ours}");
        }
    }
}

/// With timm's names of options.
fn averaging(options: &Value) -> Ema {
    let mut ema = Ema::new();
    for (name, value) in options.as_object().unwrap() {
        let number = || value.as_f64().unwrap();
        ema = match name.as_str() {
            "decay" => ema.decay(number()),
            "use_warmup" => ema.warmup(value.as_bool().unwrap()),
            "warmup_gamma" => ema.warmup_gamma(number()),
            "warmup_power" => ema.warmup_power(number()),
            "min_decay" => ema.min_decay(number()),
            "update_after_step" => ema.update_after_step(value.as_u64().unwrap()),
            other => panic!("{other}"),
        };
    }
    ema
}

/// Sets the weights to numbers of a formula after each step, for comparison with timm's averages.
#[derive(Debug)]
struct Formula(i64);

fn filled(salt: f64) -> Tensor {
    let at = Tensor::arange(3, (Kind::Double, Device::Cpu));
    (at * 12.9898 + salt).sin().to_kind(Kind::Float)
}

impl Callback for Formula {
    fn order(&self) -> i32 {
        -100 // before the averaging callback
    }

    fn after_step(&mut self, t: &mut Training) -> Step {
        self.0 += 1;
        let step = self.0 as f64;
        let _guard = tch::no_grad_guard();
        for (name, mut tensor) in t.model.state_dict() {
            match name.as_str() {
                "norm.weight" => tensor.copy_(&filled(step)),
                "norm.running_mean" => tensor.copy_(&filled(step + 0.5)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Ends the fit after some steps.
#[derive(Debug)]
struct Steps(usize);

impl Callback for Steps {
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        if t.at.is_training() && t.at.fit_batches == self.0 { Scope::Fit.cancel() } else { Ok(()) }
    }
}

fn state(learn: &Learner) -> BTreeMap<String, Vec<f32>> {
    let flat = |t: &Tensor| Vec::try_from(&t.to_kind(Kind::Float).reshape([-1])).unwrap();
    learn.model().state_dict().iter().map(|(n, t)| (n.clone(), flat(t))).collect()
}

#[test]
fn averages_are_timms_after_each_step() -> Result<()> {
    for case in known("ema").as_array().unwrap() {
        for (i, theirs) in case["averages"].as_array().unwrap().iter().enumerate() {
            let mut learn = normalized();
            let mut ema = averaging(&case["options"]);
            let steps: &mut [&mut dyn Callback] =
                &mut [&mut Formula(0), &mut ema, &mut Steps(i + 1)];
            learn.fit_with(&Flat::new(9).lr(1e-2), steps)?;
            let state = state(&learn);
            for (name, theirs) in
                ["norm.weight", "norm.running_mean"].iter().zip(theirs.as_array().unwrap())
            {
                for (ours, theirs) in state[*name].iter().zip(numbers(theirs)) {
                    // The last bit depends on the processor's instructions.
                    assert!(
                        (f64::from(*ours) - theirs).abs() <= 1e-7,
                        "{case} {i} {name}: {ours} {theirs}"
                    );
                }
            }
        }
    }
    Ok(())
}

/// Records the first weight at events.
#[derive(Debug, Default)]
struct Seen(BTreeMap<&'static str, Vec<f32>>);

impl Seen {
    fn note(&mut self, event: &'static str, t: &Training) -> Step {
        let weight = &t.model.params()[0].tensor;
        self.0.entry(event).or_default().push(f32::try_from(weight.flatten(0, -1).get(0))?);
        Ok(())
    }
}

impl Callback for Seen {
    fn before_train(&mut self, t: &mut Training) -> Step {
        self.note("before_train", t)
    }
    fn after_train(&mut self, t: &mut Training) -> Step {
        self.note("after_train", t)
    }
    fn before_validate(&mut self, t: &mut Training) -> Step {
        self.note("before_validate", t)
    }
    fn after_epoch(&mut self, t: &mut Training) -> Step {
        self.note("after_epoch", t)
    }
}

#[test]
fn the_average_is_validated_and_the_training_continues() -> Result<()> {
    let plan = Flat::new(3).lr(1e-2);
    let (mut plain, mut seen) = (fit::learner(), Seen::default());
    plain.fit_with(&plan, &mut [&mut seen])?;
    let (mut averaged, mut with) = (fit::learner(), Seen::default());
    averaged.fit_with(&plan, &mut [&mut with, &mut Ema::new()])?;
    // The training is the same; only the validation differs.
    for event in ["before_train", "after_train"] {
        assert_eq!(seen.0[event], with.0[event], "{event}");
    }
    assert_eq!(plain.recorder().raw_losses, averaged.recorder().raw_losses);
    assert_ne!(seen.0["after_epoch"], with.0["after_epoch"]);
    assert_eq!(with.0["before_validate"], with.0["after_epoch"]);
    let last = state(&averaged).values().next().unwrap().clone();
    assert!(state(&plain) != state(&averaged));
    // The fit ends with the weights of the last validation.
    assert_eq!(averaged.validate()?[0].1, averaged.recorder().rows[2].values[1]);
    let mut without = fit::learner();
    without.fit_with(&plan, &mut [&mut Ema::new().validate(false)])?;
    assert_eq!(without.recorder().rows[2].values[1], plain.recorder().rows[2].values[1]);
    assert_eq!(state(&without).values().next().unwrap(), &last);
    Ok(())
}

#[test]
fn two_averages_in_a_fit_are_an_error() -> Result<()> {
    let mut learn = fit::learner().callback(Ema::new());
    let before = state(&learn);
    let error = learn.fit_with(&Flat::new(2).lr(1e-2), &mut [&mut Ema::new().decay(0.5)]);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`Ema` and `Ema`") && error.contains("averages the weights"), "{error}");
    assert_eq!(state(&learn), before);
    learn.fit_with(&Flat::new(2).lr(1e-2), &mut [])?;
    assert_ne!(state(&learn), before);
    Ok(())
}

#[test]
fn the_best_epoch_is_one_of_the_average() -> Result<()> {
    let mut learn = fit::learner();
    let (mut best, mut ema) = (SaveBest::new(), Ema::new().warmup(false).decay(0.5));
    learn.fit_with(&Flat::new(4).lr(0.3), &mut [&mut best, &mut ema])?;
    let epoch = best.epoch().unwrap();
    let now = learn.validate()?[0].1;
    assert_eq!(now, learn.recorder().rows[epoch].values[1]);
    Ok(())
}

/// Cancels the step of one batch.
#[derive(Debug)]
struct Skip(usize);

impl Callback for Skip {
    fn before_step(&mut self, t: &mut Training) -> Step {
        if t.at.fit_batches == self.0 { Scope::Step.cancel() } else { Ok(()) }
    }
}

#[test]
fn a_cancelled_step_is_not_averaged() -> Result<()> {
    // The mean of the weights after the steps 1 and 3 is that of two steps, not of three.
    let trained = |n: usize| -> Result<f32> {
        let mut learn = fit::learner();
        learn.fit_with(&Flat::new(9).lr(1e-2), &mut [&mut Skip(1), &mut Steps(n)])?;
        Ok(state(&learn).values().next().unwrap()[0])
    };
    let mut learn = fit::learner();
    let mut ema = Ema::new().decay(1.0).warmup_power(1.0);
    learn.fit_with(&Flat::new(9).lr(1e-2), &mut [&mut Skip(1), &mut Steps(3), &mut ema])?;
    let mean = (trained(1)? + trained(3)?) / 2.0;
    let ours = state(&learn).values().next().unwrap()[0];
    assert!((ours - mean).abs() < 1e-6, "{ours} {mean}");
    Ok(())
}

#[test]
fn a_fit_that_fails_ends_with_the_average() {
    let fail = |ema: &mut Ema| {
        let mut learn = fit::learner();
        let mut fails = Fails;
        let done = learn.fit_with(&Flat::new(3).lr(1e-2), &mut [ema, &mut fails]);
        assert!(done.unwrap_err().to_string().contains("enough"));
        learn
    };
    let mut stops = fit::learner();
    stops.fit_with(&Flat::new(3).lr(1e-2), &mut [&mut Ema::new(), &mut Steps(4)]).unwrap();
    assert_eq!(state(&fail(&mut Ema::new())), state(&stops));
}

#[derive(Debug)]
struct Fails;

impl Callback for Fails {
    fn before_batch(&mut self, t: &mut Training, _: &mut Batch) -> Step {
        let now = t.at.is_training() && t.at.fit_batches == 4;
        if now { Err(Error::unsupported("test", "enough").into()) } else { Ok(()) }
    }
}

#[test]
fn options_of_the_average_are_checked() {
    for (ema, option) in [
        (Ema::new().decay(1.5), "decay"),
        (Ema::new().min_decay(-0.1), "min_decay"),
        (Ema::new().warmup_gamma(0.0), "warmup_gamma"),
        (Ema::new().warmup_power(f64::NAN), "warmup_power"),
        (Ema::new().decay(0.9).min_decay(0.95), "min_decay"),
        (Ema::new().warmup(false).min_decay(0.5), "min_decay"),
        (Ema::new().warmup(false).warmup_gamma(2.0), "warmup_gamma"),
        (Ema::new().warmup_power(1.0).warmup(false), "warmup_power"),
    ] {
        let mut ema = ema;
        let e = fit::learner().fit_with(&Flat::new(1), &mut [&mut ema]).unwrap_err().to_string();
        assert!(e.contains(option), "{e}");
    }
}

#[test]
fn a_vision_learner_splits_its_network_into_blocks() -> Result<()> {
    let rows = |n: i64| {
        let at = Tensor::arange(n * 3 * 32 * 32, (Kind::Float, Device::Cpu));
        let y = Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(2);
        let task = Task::Category { vocab: ["even".into(), "odd".into()].into() };
        Arrays::from_tensors(&at.sin().view([n, 3, 32, 32]), &y, task)
    };
    let options = LoaderOptions::new().bs(2).device(Device::Cpu).num_workers(0);
    let dls = DataLoaders::from_arrays(rows(4)?, rows(2)?, options)?;
    let arch = by_name("test_vit")?;
    let learn = vision_learner(dls.clone(), arch.clone()).pretrained(false);
    let mut learn = learn.layer_decay(0.5).build()?.quiet();
    assert_eq!(learn.model().groups(), 8); // the stem, 6 blocks, the head
    learn.fit_one_cycle(1, 1e-2)?;
    let rates: Vec<f64> = learn.training().opt.hypers().iter().map(|h| h.lr).collect();
    assert!(rates.windows(2).all(|pair| (pair[0] / pair[1] - 0.5).abs() < 1e-9), "{rates:?}");
    // Splits of the user are kept.
    let learn = vision_learner(dls, arch.split(&[3])).pretrained(false).layer_decay(0.5).build()?;
    assert_eq!(learn.model().groups(), 3);
    Ok(())
}

#[test]
fn splits_without_effect_are_errors() -> Result<()> {
    let arch = by_name("test_vit")?; // the body has 9 children, the network 10
    let body = |at: usize| ArchSpec::new(&arch.clone().split(&[at]), 3, 2, HeadOptions::new());
    for at in [0, 9, 1000] {
        let e = body(at).build(Device::Cpu, Seed(1)).unwrap_err();
        assert!(matches!(&e, Error::Config { option: "split", .. }), "{e}");
        assert!(e.to_string().contains(&format!("child {at};")), "{e}");
    }
    assert_eq!(body(6).build(Device::Cpu, Seed(1))?.groups(), 3);
    let whole = |at: usize| ArchSpec::classifier(&arch.clone().split(&[at]), 3, 2);
    assert_eq!(whole(9).build(Device::Cpu, Seed(1))?.groups(), 2);
    let e = whole(10).build(Device::Cpu, Seed(1)).unwrap_err().to_string();
    assert!(e.contains("child 10;"), "{e}");
    Ok(())
}

#[test]
fn dropout_is_applied_before_the_classifier() -> Result<()> {
    let _guard = tch::no_grad_guard();
    for (name, fixed) in [("timm/densenet121", false), ("deit_tiny_distilled_patch16_224", true)] {
        let arch = by_name(name)?.dropout(1.0)?;
        let arch = if fixed { arch.image_size(32, 32) } else { arch };
        let model = ArchSpec::classifier(&arch, 3, 2).build(Device::Cpu, Seed(1))?;
        let x = Tensor::arange(2 * 3 * 32 * 32, (Kind::Float, Device::Cpu)).sin();
        let x = x.view([2, 3, 32, 32]);
        let rows_differ = |train: bool| -> Result<bool> {
            let out = model.forward(&x, train)?;
            Ok(!out.get(0).equal(&out.get(1)))
        };
        assert!(!rows_differ(true)?, "{name}: all inputs of the classifier are 0");
        assert!(rows_differ(false)?, "{name}: there is no dropout in prediction");
    }
    Ok(())
}

/// Returns a learner with a batch normalization of three channels.
fn normalized() -> Learner {
    let rows = |n: i64| {
        let x = Tensor::arange(n * 3, (Kind::Float, Device::Cpu)).sin().view([n, 3]);
        let y = Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(3);
        let task = Task::Category { vocab: ["a".into(), "b".into(), "c".into()].into() };
        Arrays::from_tensors(&x, &y, task).unwrap()
    };
    let options = LoaderOptions::new().bs(4).device(Device::Cpu).num_workers(0);
    let dls = DataLoaders::from_arrays(rows(12), rows(4), options).unwrap();
    let vs = nn::VarStore::new(Device::Cpu);
    let norm = batch_norm1d(&(vs.root() / "norm"), 3, nn::BatchNormConfig::default());
    let model = Model::from_module(vs, norm).unwrap();
    Learner::new(dls, model, CrossEntropy::new()).unwrap().quiet()
}
