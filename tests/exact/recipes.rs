//! Stochastic depth compared with timm, averages of weights across interruptions, and recomputed blocks.

use crate::{alone, runs};
use finetune::{
    Result,
    callback::{Ema, GradientAccumulation, SaveBest},
    learner::{Checkpoint, OneCycle},
    model::{Arch, ArchSpec, HeadOptions, Model, UnetOptions, by_name, resnet18, xresnet18},
    seed::Seed,
    tch::{self, Device, Kind, Tensor},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Returns numbers of a formula, as in `tests/timm/recipes.py`.
fn filled(shape: &[i64], salt: f64, scale: f64) -> Tensor {
    let n: i64 = shape.iter().product();
    let at = Tensor::arange(n, (Kind::Double, Device::Cpu));
    ((at * 12.9898 + salt).sin() * scale).to_kind(Kind::Float).reshape(shape)
}

#[test]
fn blocks_are_skipped_as_timm_skips_them() -> Result<()> {
    let _alone = alone();
    let all: Value = serde_json::from_str(include_str!("../timm/recipes.json")).unwrap();
    for (name, case) in all["drop_path"].as_object().unwrap() {
        let arch = by_name(name)?.drop_path(0.6)?;
        let model = ArchSpec::classifier(&arch, 3, 4).build(Device::Cpu, Seed(0))?;
        let mut params: Vec<_> = model.params().iter().collect();
        params.sort_by(|a, b| a.name.cmp(&b.name));
        for (i, p) in params.into_iter().enumerate() {
            let mut to = p.tensor.shallow_clone();
            let base = if to.dim() == 1 { 1.0 } else { 0.0 };
            let from = filled(&to.size(), i as f64, 0.2) + base;
            tch::no_grad(|| to.copy_(&from));
        }
        let size = case["size"].as_i64().unwrap();
        let x = filled(&[8, 3, size, size], 0.25, 1.0);
        tch::manual_seed(7);
        for theirs in case["logits"].as_array().unwrap() {
            let theirs: Vec<Vec<f32>> = serde_json::from_value(theirs.clone()).unwrap();
            let theirs = Tensor::from_slice2(&theirs);
            let ours = tch::no_grad(|| model.forward(&x, true))?;
            let error = f64::try_from((ours - &theirs).abs().max())?;
            let largest = f64::try_from(theirs.abs().max())?;
            assert!(error <= 1e-4 * largest, "{name}: {error} of {largest}");
        }
    }
    Ok(())
}

#[test]
fn an_average_resumes_bit_for_bit_after_an_interruption() -> Result<()> {
    let _alone = alone();
    let plan = || OneCycle::new(4).lr(1e-2);
    let train = |folder: &std::path::Path, kill: Option<u64>| {
        let mut learn = runs::learner(folder)?;
        let run = Checkpoint::new("run").every(3);
        let mut stop = runs::At::kill(kill.unwrap_or(u64::MAX));
        let done = learn.fit_or_resume_with(
            run,
            plan(),
            &mut [
                &mut GradientAccumulation::new(8),
                &mut Ema::new().decay(0.9),
                &mut SaveBest::new(),
                &mut stop,
            ],
        );
        done.map(|()| runs::end(&mut learn))
    };
    let whole = tempfile::tempdir().unwrap();
    let whole = train(whole.path(), None)?;
    let folder = tempfile::tempdir().unwrap();
    for step in [2, 5, 8, 11, 16, 29] {
        let e = train(folder.path(), Some(step)).unwrap_err();
        assert!(e.to_string().contains("killed"), "step {step}: {e}");
    }
    assert!(train(folder.path(), None)? == whole);
    // The run is complete: its weights are the averages.
    assert!(train(folder.path(), None)? == whole);
    Ok(())
}

/// Returns output, gradients and running statistics after a training pass and its backward pass.
fn pass(model: &mut Model, again: bool, x: &Tensor) -> Result<BTreeMap<String, Tensor>> {
    model.grad_checkpointing(again)?;
    tch::manual_seed(3);
    let x = x.copy().set_requires_grad(true);
    let out = model.forward(&x, true)?;
    let loss = (&out * filled(&out.size(), 0.5, 1.0)).sum(Kind::Float);
    loss.f_backward()?;
    let mut all = BTreeMap::from([("out".to_owned(), out.detach()), ("x".to_owned(), x.grad())]);
    // Recomputation does not change the position in the stream of random numbers.
    all.insert("next".to_owned(), Tensor::rand([4], (Kind::Float, Device::Cpu)));
    for p in model.params() {
        let mut tensor = p.tensor.shallow_clone();
        let grad = tensor.grad();
        if grad.defined() {
            all.insert(format!("grad {}", p.name), grad.copy());
            tensor.zero_grad();
        }
    }
    all.extend(model.buffers().iter().map(|(name, t)| (format!("buffer {name}"), t.copy())));
    Ok(all)
}

fn equal(plain: &BTreeMap<String, Tensor>, again: &BTreeMap<String, Tensor>) {
    assert_eq!(plain.keys().collect::<Vec<_>>(), again.keys().collect::<Vec<_>>());
    let differ: Vec<_> = plain.iter().filter(|(name, t)| !t.equal(&again[*name])).collect();
    assert!(differ.is_empty(), "{:?}", differ.iter().map(|d| d.0).collect::<Vec<_>>());
}

/// Compares passes with and without recomputation, from the same weights and statistics.
fn both(spec: &ArchSpec, size: i64, freeze: usize) -> Result<()> {
    let x = filled(&[3, 3, size, size], 0.1, 1.0);
    let run = |again: bool| {
        let mut model = spec.build(Device::Cpu, Seed(1))?;
        model.freeze_to(freeze, freeze.is_multiple_of(2));
        // The second pass starts with the statistics of the first one.
        let first = pass(&mut model, again, &x)?;
        Ok::<_, finetune::Error>((first, pass(&mut model, again, &x)?))
    };
    let (plain, again) = (run(false)?, run(true)?);
    equal(&plain.0, &again.0);
    equal(&plain.1, &again.1);
    Ok(())
}

#[test]
fn recomputed_blocks_have_the_same_gradients() -> Result<()> {
    let _alone = alone();
    let head = || HeadOptions::new();
    for name in ["test_vit", "test_vit3", "test_convnext2", "test_efficientnet"] {
        let arch = by_name(name)?.drop_path(0.5)?.image_size(64, 64);
        both(&ArchSpec::new(&arch, 3, 2, head()), 64, 0)?;
        both(&ArchSpec::classifier(&arch.split_layers(), 3, 5), 64, 3)?;
    }
    for arch in [resnet18(), xresnet18()] {
        both(&ArchSpec::new(&arch, 3, 2, head()), 64, 0)?;
        both(&ArchSpec::new(&arch, 3, 2, head()), 64, 1)?;
    }
    Ok(())
}

#[test]
fn every_family_can_be_recomputed() -> Result<()> {
    let _alone = alone();
    for (name, size) in [
        ("swin_tiny_patch4_window7_224", 64),
        ("resnet26d", 64),
        ("regnety_002", 64),
        ("resnetv2_50x1_bit", 32),
        ("tiny_vit_5m_224", 64),
        ("eva02_tiny_patch14_224", 56),
        ("mobilenetv3_small_100", 64),
    ] {
        let arch = by_name(name)?.drop_path(0.3)?.image_size(size, size);
        both(&ArchSpec::new(&arch, 3, 2, HeadOptions::new()), size, 0)
            .map_err(|e| finetune::Error::unsupported("test", format!("{name}: {e}")))?;
    }
    Ok(())
}

#[test]
fn networks_that_cannot_be_recomputed_are_errors() -> Result<()> {
    let _alone = alone();
    let arch = Arch::new("own", |net, n_in| {
        net.add("conv", move |p| tch::nn::conv2d(p, n_in, 4, 3, Default::default()));
    });
    let mut model = ArchSpec::new(&arch, 3, 2, HeadOptions::new()).build(Device::Cpu, Seed(0))?;
    let e = model.grad_checkpointing(true).unwrap_err().to_string();
    assert!(e.contains("grad_checkpointing") && e.contains("no blocks"), "{e}");
    model.grad_checkpointing(false)?;
    let unet = ArchSpec::unet(&resnet18(), 3, 2, UnetOptions::new().size_hw(64, 64));
    let e = unet.build(Device::Cpu, Seed(0))?.grad_checkpointing(true).unwrap_err().to_string();
    assert!(e.contains("U-Net"), "{e}");

    // A wrong input has libtorch's error.
    let mut model = ArchSpec::new(&by_name("test_vit")?, 3, 2, HeadOptions::new())
        .build(Device::Cpu, Seed(0))?;
    model.grad_checkpointing(true)?;
    let x = Tensor::zeros([2, 4, 160, 160], (Kind::Float, Device::Cpu));
    let e = model.forward(&x, true).unwrap_err().to_string();
    assert!(e.contains("[2, 4, 160, 160]"), "{e}");
    Ok(())
}
