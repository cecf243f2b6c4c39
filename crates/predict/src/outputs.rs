//! From the outputs of a network to predictions.

use crate::failure::failed;
use finetune_image::{
    Result,
    card::{ModelCard, NetworkInput, OutputActivation},
    ndarray::Array3,
    prediction::{PixelProbs, Prediction, largest},
    sample::{Placement, Point, Target, Task},
};

/// Returns the shape of the output that the task of a description needs.
pub(crate) fn shape(card: &ModelCard, input: [usize; 3]) -> Vec<usize> {
    let outputs = card.task.n_out();
    match card.task {
        Task::Mask { .. } => {
            let (height, width) = sides(card.input, input);
            vec![1, outputs, height, width]
        }
        _ => vec![1, outputs],
    }
}

/// Returns the height and width of an input.
pub(crate) fn sides(kind: NetworkInput, [a, b, c]: [usize; 3]) -> (usize, usize) {
    match kind {
        NetworkInput::Pixels => (a, b),
        _ => (b, c),
    }
}

/// Decodes the outputs of one image. `size` is the height and width of the network's input.
pub(crate) fn prediction(
    card: &ModelCard,
    mut outputs: Vec<f32>,
    size: (usize, usize),
    placement: Option<Placement>,
    name: &str,
) -> Result<Prediction> {
    if outputs.iter().any(|v| !v.is_finite()) {
        return Err(failed(format!("the outputs of the network are infinite or NaN for {name}")));
    }
    let (height, width) = size;
    let whole = || Placement::whole((width as u32, height as u32));
    let n = card.task.n_out();
    if !card.output.applied {
        match card.output.activation {
            OutputActivation::Softmax => softmax(&mut outputs, n),
            OutputActivation::Sigmoid => {
                outputs.iter_mut().for_each(|v| *v = 1.0 / (1.0 + (-*v).exp()));
            }
            _ => {}
        }
    }
    let target = match &card.task {
        Task::Category { .. } => Target::Category(largest(outputs.iter().copied())),
        Task::Categories { .. } => {
            let threshold = card.output.threshold as f32;
            Target::Categories((0..n).filter(|i| outputs[*i] > threshold).collect())
        }
        Task::Points { .. } => {
            let placement = placement.unwrap_or_else(whole);
            Target::Points(outputs.chunks_exact(2).map(|p| point(p, size, &placement)).collect())
        }
        Task::Mask { .. } => {
            let probs = Array3::from_shape_vec((n, height, width), outputs)
                .map_err(|e| failed(e.to_string()))?;
            let means = probs.outer_iter().map(|code| code.mean().unwrap_or(0.0)).collect();
            let pixels = PixelProbs { probs, placement: placement.unwrap_or_else(whole) };
            let mask = Target::Mask(pixels.mask()?);
            return Ok(Prediction::new(means, mask, &card.task).with_pixels(pixels));
        }
        _ => Target::Values(outputs.clone()),
    };
    Ok(Prediction::new(outputs, target, &card.task))
}

/// Converts coordinates from -1 to 1 within the network's input to pixels of the original image.
fn point(p: &[f32], (height, width): (usize, usize), placement: &Placement) -> Point {
    match p {
        [x, y] if x.is_finite() && y.is_finite() => {
            let pixels = |v: f32, n: usize| (v + 1.0) * n as f32 / 2.0;
            let (x, y) = placement.to_original(pixels(*x, width).into(), pixels(*y, height).into());
            Point::new(x as f32, y as f32)
        }
        _ => Point::hidden(),
    }
}

/// Turns logits `[classes, pixels]` into probabilities, in place.
fn softmax(logits: &mut [f32], classes: usize) {
    let area = logits.len() / classes.max(1);
    for pixel in 0..area {
        let places = || (0..classes).map(|c| c * area + pixel);
        let largest = places().map(|k| logits[k]).fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for k in places() {
            logits[k] = (logits[k] - largest).exp();
            sum += logits[k];
        }
        for k in places() {
            logits[k] /= sum;
        }
    }
}
