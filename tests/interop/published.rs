//! Compares networks with published weights on photos with timm and torchvision: the logits of Python's inputs, and
//! the classes of photos that this crate prepares.

use crate::{
    LIMIT, difference,
    peer::{Peer, other},
};
use finetune::{
    Result,
    data::get_image_files,
    image::Decode,
    model::{ArchSpec, Weights, WeightsFrom, by_name},
    seed::Seed,
    tch::{self, Device, Kind, Tensor},
};
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Every photo of the bundled ones whose position is a multiple of this number is compared.
const STEP: usize = 6;

/// The largest allowed difference of the logits of photos that are prepared here, as a fraction of the largest logit.
/// Photos are cropped before they are resized here, and afterwards in Python, so that positions differ by less than a
/// pixel.
const PREPARED_LIMIT: f64 = 0.1;

/// Classes whose logits are closer than this fraction of the largest logit may change places in photos that are
/// prepared here.
const TIE: f64 = 0.05;

/// The result of a comparison.
pub(crate) struct Classes {
    /// The largest relative difference of logits for Python's inputs.
    pub(crate) logits: f64,
    /// The largest relative difference of logits for photos that are prepared here.
    prepared: f64,
    photos: usize,
    /// The number of photos with Python's class if they are prepared here.
    same: usize,
    /// The photos with another class although Python's logits are not close.
    wrong: Vec<String>,
}

impl Classes {
    pub(crate) fn is_ok(&self) -> bool {
        self.logits <= LIMIT && self.prepared <= PREPARED_LIMIT && self.wrong.is_empty()
    }

    pub(crate) fn rest(&self) -> String {
        let Self { prepared, photos, same, wrong, .. } = self;
        format!("  photos {prepared:.1e}  classes {same} of {photos} {}", wrong.join(" "))
    }
}

/// Compares the network `name` with the weights of `file`.
pub(crate) fn compare(peer: &mut Peer, name: &str, file: &Path) -> Result<Classes> {
    let photos: Vec<PathBuf> =
        get_image_files("data/pets/images")?.into_iter().step_by(STEP).collect();
    let folder = tempfile::tempdir().map_err(|e| other(e.to_string()))?;
    peer.ask(&json!({"name": name, "file": file, "photos": photos, "folder": folder.path()}))?;
    let values: BTreeMap<String, Tensor> =
        Tensor::read_safetensors(folder.path().join("values.safetensors"))?.into_iter().collect();
    let theirs = &values["logits"];

    let arch = by_name(name)?;
    let weights = *arch.weights().ok_or_else(|| other(format!("{name} has no weights")))?;
    let mut model = ArchSpec::classifier(&arch, 3, 1000).build(Device::Cpu, Seed(0))?;
    model.load_pretrained_from(&WeightsFrom::file(file))?;
    let _guard = tch::no_grad_guard();
    let given = model.forward(&values["x"], false)?;
    if classes(&given)? != classes(theirs)? {
        return Err(other("other classes for the same inputs".to_owned()));
    }
    let inputs =
        photos.iter().map(|photo| prepared(photo, &weights)).collect::<Result<Vec<_>>>()?;
    let ours = model.forward(&Tensor::stack(&inputs, 0), false)?;

    let largest = f64::try_from(theirs.abs().max())?;
    let (best, _) = theirs.topk(2, 1, true, true);
    let margins = (best.select(1, 0) - best.select(1, 1)).to_kind(Kind::Double);
    let margins: Vec<f64> = Vec::try_from(&margins.contiguous())?;
    let pairs = classes(&ours)?.into_iter().zip(classes(theirs)?);
    let (mut same, mut wrong) = (0, vec![]);
    for (((a, b), margin), photo) in pairs.zip(margins).zip(&photos) {
        if a == b {
            same += 1;
        } else if margin > TIE * largest {
            wrong.push(format!("{} is {a} instead of {b}", photo.display()));
        }
    }
    let (logits, prepared) = (difference(&given, theirs)?, difference(&ours, theirs)?);
    Ok(Classes { logits, prepared, photos: photos.len(), same, wrong })
}

/// Returns the class of each row.
fn classes(logits: &Tensor) -> Result<Vec<i64>> {
    Ok(Vec::try_from(&logits.argmax(1, false))?)
}

/// Prepares a photo as the weights expect it: `[3, H, W]`.
fn prepared(photo: &Path, weights: &Weights) -> Result<Tensor> {
    let image = Decode::new().open(photo)?;
    let image = weights.resize_tfm().at(&image, (0.5, 0.5))?;
    let image = weights.crop_tfm().image(&image)?;
    let size = [i64::from(image.height()), i64::from(image.width()), 3];
    let x = Tensor::from_slice(image.pixels()).view(size).permute([2, 0, 1]);
    let of = |values: [f32; 3]| Tensor::from_slice(&values).view([3, 1, 1]);
    Ok((x.to_kind(Kind::Float) / 255.0 - of(weights.mean)) / of(weights.std))
}
