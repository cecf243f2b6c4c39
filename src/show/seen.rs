//! Items as the network receives them.

use super::overlay::drawn;
use crate::{
    data::{DataLoader, LoaderOptions},
    error::{Error, Result},
    image::Image,
    sample::{Batch, Split, spatial_targets},
    transform,
};
use tch::{Device, Kind, Tensor};

/// Returns the first `n` images of a batch, without its normalization.
pub(super) fn pictures(loader: &DataLoader, batch: &Batch, n: usize) -> Result<Vec<Image>> {
    if batch.x.dim() != 4 {
        return Err(Error::unsupported("loader", "its inputs are not images and cannot be shown"));
    }
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    let first = batch.x.f_narrow(0, 0, n.min(batch.x.size()[0]))?;
    let x = transform::denormalize(loader.batch_tfms(), &first)?;
    let bytes = x.f_mul_scalar(255.0)?.f_round()?.f_to_kind(Kind::Uint8)?;
    let rows = bytes.f_to_device(Device::Cpu)?.f_permute([0, 2, 3, 1])?.f_contiguous()?;
    (0..rows.size()[0]).map(|i| picture(&rows.f_get(i)?)).collect()
}

/// As [`pictures`], with masks, points or boxes drawn into them.
pub(super) fn pictures_with_targets(
    loader: &DataLoader,
    batch: &Batch,
    n: usize,
) -> Result<Vec<Image>> {
    let plain = pictures(loader, batch, n)?;
    let task = loader.task();
    let (Some(y), true, Some(first)) = (&batch.y, task.is_spatial(), plain.first()) else {
        return Ok(plain);
    };
    let size = (first.width(), first.height());
    let targets = spatial_targets(y, batch.labels.as_ref(), &task, size)?.unwrap_or_default();
    plain.iter().zip(&targets).map(|(picture, target)| drawn(picture, target, &task)).collect()
}

fn picture(row: &Tensor) -> Result<Image> {
    let (h, w, c) = row.size3()?;
    let pixels: Vec<u8> = Vec::try_from(&row.f_contiguous()?.f_view([-1])?)?;
    Image::new(w as u32, h as u32, c as u8, pixels)
}

/// Returns items as the network receives them in validation: without augmentation, at the input size.
pub(super) fn seen(loader: &DataLoader, items: &[usize]) -> Result<Vec<Image>> {
    if items.is_empty() {
        return Ok(vec![]);
    }
    let plain = LoaderOptions::new().shuffle(false).drop_last(false).split(Split::Valid);
    let loader = loader.with(plain.bs(items.len()))?.subset(items)?;
    let batch = loader.one_batch()?;
    if batch.items != items {
        return Err(Error::mismatch("items", "some of the items to show could not be loaded"));
    }
    pictures(&loader, &batch, items.len())
}
