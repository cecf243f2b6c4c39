//! Every batch transform on both devices: the same plan, executed by libtorch's operations and by the kernels
//! of the CPU.

use super::{
    Args, check, photos,
    report::{Check, Checked, digits},
};
use finetune::{
    image::{Image, PadMode},
    prelude::*,
    sample::Split,
    seed::{Seed, Stream},
    transform::{
        self, BatchTransform, Brightness, Contrast, Dihedral, Flip, Hue, Mode, Normalize, Plan,
        RandAugment, RandomErasing, RandomResizedCropGpu, Rotate, Saturation, TrivialAugment, Warp,
        Zoom,
    },
};
use serde_json::json;
use std::sync::Arc;
use tch::Kind;

type Tfms = Vec<Arc<dyn BatchTransform>>;

/// The largest mean difference of values between 0 and 1.
const MEAN: f64 = 2e-5;
/// A larger difference of a value is a jump: another pixel, or another level.
const JUMP: f64 = 1e-3;
/// The largest share of jumps of transforms that round to pixels or levels.
const JUMPS: f64 = 0.005;

/// Returns all transforms by name, and whether they round to pixels or levels.
fn all() -> Vec<(String, Tfms, bool)> {
    let one = |name: &str, tfm: Arc<dyn BatchTransform>| (name.to_owned(), vec![tfm], false);
    let mut all = vec![
        one("Flip", Arc::new(Flip::new().p(1.0))),
        one("Dihedral", Arc::new(Dihedral::new().p(1.0))),
        one("Zoom", Arc::new(Zoom::new(0.6, 1.5).p(1.0))),
        one("Warp", Arc::new(Warp::new(0.3).p(1.0))),
        one("RandomResizedCropGpu", Arc::new(RandomResizedCropGpu::new(96).min_scale(0.4))),
        one("Brightness", Arc::new(Brightness::new(0.4).p(1.0))),
        one("Contrast", Arc::new(Contrast::new(0.4).p(1.0))),
        one("Saturation", Arc::new(Saturation::new(0.5).p(1.0))),
        one("Hue", Arc::new(Hue::new(0.2).p(1.0))),
        one("RandomErasing", Arc::new(RandomErasing::new().p(1.0).max_count(3))),
        one("Normalize", Arc::new(Normalize::imagenet())),
        one("aug_transforms", Arc::new(aug_transforms().size(96).min_scale(0.6).flip_vert(true))),
    ];
    for pad in [PadMode::Zeros, PadMode::Border, PadMode::Reflection] {
        let rotate = Rotate::new(45.0).p(1.0).pad_mode(pad);
        all.push(one(&format!("Rotate {pad:?}"), Arc::new(rotate)));
    }
    let rounding = |name: &str, tfm: Arc<dyn BatchTransform>| (name.to_owned(), vec![tfm], true);
    all.extend([
        rounding("Rotate Nearest", Arc::new(Rotate::new(45.0).p(1.0).mode(Mode::Nearest))),
        rounding("TrivialAugment", Arc::new(TrivialAugment::new())),
        rounding("RandAugment", Arc::new(RandAugment::new())),
    ]);
    let together: Tfms = vec![
        Arc::new(aug_transforms().size(96).min_scale(0.6).xtra_tfms(Saturation::new(0.5).p(1.0))),
        Arc::new(RandomErasing::new().p(1.0)),
        Arc::new(Normalize::imagenet()),
    ];
    all.push(("all together".to_owned(), together, false));
    all
}

pub(crate) fn checks(args: &Args) -> Vec<Check<'_>> {
    let one = |(name, tfms, rounds): (String, Tfms, bool)| {
        check(format!("transform {name}"), move || compared(args, &tfms, rounds))
    };
    let mut checks: Vec<_> = all().into_iter().map(one).collect();
    checks.push(check("transform of masks", || masks(args)));
    checks
}

/// Returns the plans of training and validation.
fn plans(tfms: &Tfms, n: usize, size: (u32, u32)) -> Result<Vec<(Split, Plan)>> {
    let of = |split| {
        let mut rng = Seed(7).rng(Stream::Batch { pass: 1, index: 0 });
        Ok((split, transform::plan(tfms, n, size, 3, split, &mut rng)?))
    };
    [Split::Train, Split::Valid].into_iter().map(of).collect()
}

fn compared(args: &Args, tfms: &Tfms, rounds: bool) -> Result<Checked> {
    let side = args.of(256, 96);
    let (n, pixels) = photos::pixels(args, args.of(32, 8), side)?;
    let shape = [n as i64, side.into(), side.into(), 3];
    let (mut ok, mut figures) = (true, json!({ "limit_of_mean": MEAN }));
    for (split, plan) in plans(tfms, n, (side, side))? {
        let x = Tensor::f_from_slice(&pixels)?.f_view(shape)?.f_to_device(args.device())?;
        let here = plan.execute_tensor(&x)?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let (w, h) = plan.output_size();
        let cpu = Tensor::f_from_slice(&plan.execute(&pixels, true)?)?;
        let cpu = cpu.f_view([n as i64, h.into(), w.into(), 3])?.f_permute([0, 3, 1, 2])?;
        let cpu = plan.tensor_steps(cpu)?;
        if here.size() != cpu.size() {
            figures[format!("{split:?}")] = json!({ "shapes": [here.size(), cpu.size()] });
            ok = false;
            continue;
        }
        let off = (here - cpu).abs().to_kind(Kind::Double);
        let jumps = off.gt(JUMP).to_kind(Kind::Double);
        let number = |t: &Tensor| t.mean(Kind::Double).double_value(&[]);
        let share = number(&jumps);
        // The outermost pixels, where padding begins.
        let (_, _, h, w) = jumps.size4()?;
        let inside = jumps.narrow(2, 1, h - 2).narrow(3, 1, w - 2).sum(Kind::Double);
        let at_edges = (jumps.sum(Kind::Double) - inside).double_value(&[]);
        let mean = number(&off);
        let mean_without_jumps = number(&(&off * (1.0 - &jumps)));
        ok &= match rounds {
            true => mean_without_jumps <= MEAN && share <= JUMPS,
            false => mean <= MEAN,
        };
        figures[format!("{split:?}")] = json!({
            "mean": digits(mean), "largest": digits(off.max().double_value(&[])),
            "mean_without_jumps": digits(mean_without_jumps), "share_of_jumps": digits(share),
            "jumps": jumps.sum(Kind::Double).double_value(&[]), "jumps_at_edges": at_edges,
        });
    }
    if rounds {
        figures["limit_of_jumps"] = JUMPS.into();
    }
    Ok((ok, figures))
}

/// Compares codes of masks, which are moved with the nearest pixel.
fn masks(args: &Args) -> Result<Checked> {
    let (n, side) = (args.of(16, 4), 96);
    let tfms: Tfms = vec![Arc::new(aug_transforms().size(64).min_scale(0.6).max_rotate(30.0))];
    let code = |i: usize| ((i % side / 12 + i / side / 12) % 5) as u8;
    let codes: Vec<u8> = (0..n * side * side).map(code).collect();
    let (w, all) = (side as i64, Tensor::f_from_slice(&codes)?);
    let all = all.f_view([n as i64, w, w])?.f_to_device(args.device())?;
    let (mut ok, mut figures) = (true, json!({ "limit": JUMPS }));
    for (split, plan) in plans(&tfms, n, (side as u32, side as u32))? {
        let plan = plan.for_masks();
        let here = plan.execute_tensor(&all)?.to_device(Device::Cpu);
        let mut cpu = vec![];
        for (i, codes) in codes.chunks(side * side).enumerate() {
            let mask = Image::new(side as u32, side as u32, 1, codes.to_vec())?;
            cpu.extend_from_slice(plan.execute(i, &mask)?.pixels());
        }
        let cpu = Tensor::f_from_slice(&cpu)?.f_view(&here.size()[..])?;
        let differ = here.ne_tensor(&cpu.to_kind(Kind::Int64)).to_kind(Kind::Double);
        let share = differ.mean(Kind::Double).double_value(&[]);
        ok &= share <= JUMPS;
        figures[format!("{split:?}")] = json!({ "share_of_different_codes": digits(share) });
    }
    Ok((ok, figures))
}
