//! Replays draws that fastai made.

use crate::frame::{Golden, number};
use finetune::transform::Draw;
use serde_json::Value;
use std::collections::VecDeque;

/// Python's draws of a case, in order. The requests must be those of fastai.
pub(crate) struct Replay {
    draws: VecDeque<(String, Vec<f64>, f64)>,
    wrong: Vec<String>,
}

impl Replay {
    /// Returns the draws with inline values. Draws of tensors are replayed by the caller.
    pub(crate) fn new(draws: &Value) -> Self {
        let all = draws.as_array().map_or(&[] as &[Value], Vec::as_slice);
        let inline = all.iter().filter(|d| !d["value"].is_null());
        let draws = inline.map(|d| {
            let args = d["args"].as_array().unwrap().iter().map(number).collect();
            (d["fn"].as_str().unwrap().to_owned(), args, number(&d["value"]))
        });
        Self { draws: draws.collect(), wrong: vec![] }
    }

    fn next(&mut self, name: &str, low: f64, high: f64) -> f64 {
        let Some((drawn, args, value)) = self.draws.pop_front() else {
            self.wrong.push(format!("{name}({low}, {high}) is one draw too many"));
            return low;
        };
        // `random.random()` has no arguments.
        let args = if args.is_empty() { vec![0.0, 1.0] } else { args };
        let same = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs().max(1.0);
        let kind = drawn == "random.randint";
        if kind != (name == "integer") || !same(low, args[0]) || !same(high, args[1]) {
            self.wrong.push(format!("{name}({low}, {high}) instead of {drawn}{args:?}"));
        }
        value
    }

    /// Returns the requests that differ from fastai's, and the draws that were not requested.
    pub(crate) fn wrong(self) -> Vec<String> {
        let left =
            self.draws.into_iter().map(|(name, args, _)| format!("{name}{args:?} not drawn"));
        self.wrong.into_iter().chain(left).collect()
    }
}

impl Draw for Replay {
    fn uniform(&mut self, low: f64, high: f64) -> f64 {
        self.next("uniform", low, high)
    }

    fn integer(&mut self, low: i64, high: i64) -> i64 {
        self.next("integer", low as f64, high as f64) as i64
    }
}

/// Converts a size of a golden file, a number or (height, width), to (height, width).
pub(crate) fn size(v: &Value) -> (u32, u32) {
    match v.as_array() {
        Some(hw) => (hw[0].as_u64().unwrap() as u32, hw[1].as_u64().unwrap() as u32),
        None => (v.as_u64().unwrap() as u32, v.as_u64().unwrap() as u32),
    }
}

/// Converts a tensor of bytes, `[height, width]` or `[height, width, channels]`, to an image.
pub(crate) fn image(golden: &Golden, name: &str) -> finetune::image::Image {
    let t = golden.tensor(name);
    let shape = t.size();
    let channels = shape.get(2).copied().unwrap_or(1) as u8;
    let bytes = Vec::<u8>::try_from(&t.contiguous().view([-1])).unwrap();
    finetune::image::Image::new(shape[1] as u32, shape[0] as u32, channels, bytes).unwrap()
}
