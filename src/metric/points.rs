//! The distance of predicted points from the true ones.

use super::{Better, Metric};
use crate::{
    error::{Error, Result},
    sample::{Batch, Placement},
};
use tch::{Device, Kind, Tensor};

/// The mean distance of visible points in pixels of the original images; see [`point_distance`].
#[derive(Debug, Default)]
pub struct PointDistance {
    sum: f64,
    n: usize,
}

/// Returns the mean distance between predicted and true visible points, in pixels of the original images,
/// independent of the transforms. Predictions `[N, 2K]`, targets `[N, K, 2]`.
#[must_use]
pub fn point_distance() -> PointDistance {
    PointDistance::default()
}

/// Returns the values of each item.
fn rows(t: &Tensor) -> Result<Vec<Vec<f32>>> {
    let n = t.size().first().copied().unwrap_or(0);
    let t = t.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
    (0..n).map(|i| Ok(Vec::try_from(&t.f_get(i)?.f_reshape([-1])?)?)).collect()
}

impl Metric for PointDistance {
    fn better(&self) -> Option<Better> {
        Some(Better::Lower)
    }
    fn name(&self) -> &str {
        "point_distance"
    }
    fn reset(&mut self) {
        *self = Self::default();
    }
    /// Returns an error: without their images, the points have no pixels.
    fn update(&mut self, _: &Tensor, _: &Tensor) -> Result<()> {
        let why = "points without images have no distance in pixels: use `update_batch`";
        Err(Error::unsupported("point_distance", why))
    }
    fn update_batch(&mut self, pred: &Tensor, batch: &Batch) -> Result<()> {
        let Some(y) = &batch.y else { return Ok(()) };
        if pred.numel() != y.numel() {
            let why =
                format!("predictions have the shape {:?}, but targets {:?}", pred.size(), y.size());
            return Err(Error::mismatch("point_distance", why));
        }
        for (i, (said, is)) in rows(pred)?.into_iter().zip(rows(y)?).enumerate() {
            let unknown = || {
                let why = "a transform of your own has changed the size of an image: set the \
                           position of the image with `Sample::set_placement`";
                Error::mismatch("point_distance", why)
            };
            let place = batch.placements.get(i).and_then(Option::as_ref).ok_or_else(unknown)?;
            for (p, t) in said.chunks_exact(2).zip(is.chunks_exact(2)) {
                if t.iter().all(|v| v.is_finite()) {
                    let ((px, py), (tx, ty)) = (original(place, p), original(place, t));
                    self.sum += (px - tx).hypot(py - ty);
                    self.n = self.n.saturating_add(1);
                }
            }
        }
        Ok(())
    }
    fn state(&self) -> Option<Vec<(String, Tensor)>> {
        Some(vec![("sums".to_owned(), Tensor::from_slice(&[self.sum, self.n as f64]))])
    }
    fn load_state(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let sums = state.iter().find(|(name, _)| name == "sums");
        let sums = sums.map(|(_, t)| Vec::<f64>::try_from(t)).transpose()?;
        let Some([sum, n]) = sums.as_deref() else {
            let why = "this is not the state of a distance";
            return Err(Error::mismatch("Metric::load_state", why));
        };
        *self = Self { sum: *sum, n: *n as usize };
        Ok(())
    }
    fn value(&self) -> Result<Option<f64>> {
        Ok((self.n > 0).then(|| self.sum / self.n as f64))
    }
}

/// Maps a point from -1 to 1 within the image to the original.
fn original(place: &Placement, p: &[f32]) -> (f64, f64) {
    let (w, h) = place.size();
    let pixels = |v: f32, n: u32| (f64::from(v) + 1.0) * f64::from(n) / 2.0;
    place.to_original(pixels(p[0], w), pixels(p[1], h))
}
