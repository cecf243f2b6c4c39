//! Folds batch normalizations into the convolutions before them.

use super::record::{Op, Recording};
use crate::{error::Result, sys::Argument};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// Folds each batch normalization into the convolution before it, in double precision, if nothing else uses the result of
/// the convolution. The normalization becomes an `identity`.
pub(super) fn fold(
    recording: &mut Recording,
    weights: &mut BTreeMap<String, Tensor>,
) -> Result<()> {
    let uses = uses(&recording.ops, recording.output.id);
    let makers: BTreeMap<u64, usize> = recording
        .ops
        .iter()
        .enumerate()
        .flat_map(|(i, op)| op.out.iter().map(move |out| (out.id, i)))
        .collect();
    for at in 0..recording.ops.len() {
        let Some((norm, input)) = Norm::of(&recording.ops[at], weights) else { continue };
        let Some(&conv) = makers.get(&input) else { continue };
        let op = &recording.ops[conv];
        let (Some(Argument::Param(weight)), Some(bias)) = (op.args.get(1), op.args.get(2)) else {
            continue;
        };
        let plain = match op.name.as_str() {
            "conv1d" | "conv2d" => true,
            "_convolution" => op.args.get(6) == Some(&Argument::Bool(false)),
            _ => false,
        };
        let once = uses.values.get(&input) == Some(&1) && uses.params.get(weight) == Some(&1);
        let (Some(w), true, true) = (weights.get(weight), plain, once) else { continue };
        let old = match bias {
            Argument::None => None,
            Argument::Param(name) if uses.params.get(name) == Some(&1) => weights.get(name),
            _ => continue,
        };
        let (scale, shift) = norm.scale_and_shift()?;
        let w = w.f_to_kind(Kind::Double)?;
        let sides: Vec<i64> = (0..w.dim()).map(|d| if d == 0 { -1 } else { 1 }).collect();
        let w = w.f_mul(&scale.f_view(&sides[..])?)?.f_to_kind(Kind::Float)?;
        let b = match old {
            Some(old) => old.f_to_kind(Kind::Double)?.f_mul(&scale)?.f_add(&shift)?,
            None => shift,
        };
        let name = match bias {
            Argument::Param(name) => name.clone(),
            _ => match weight.rsplit_once('.') {
                Some((scope, _)) => unused_name(weights, format!("{scope}.bias")),
                None => unused_name(weights, format!("{weight}.bias")),
            },
        };
        weights.insert(weight.clone(), w);
        weights.insert(name.clone(), b.f_to_kind(Kind::Float)?);
        recording.ops[conv].args[2] = Argument::Param(name);
        let op = &mut recording.ops[at];
        op.name = "identity".into();
        op.args.truncate(1);
    }
    Ok(())
}

/// Returns `name`, changed if needed so that no weight has it.
fn unused_name(weights: &BTreeMap<String, Tensor>, mut name: String) -> String {
    while weights.contains_key(&name) {
        name.push_str("_folded");
    }
    name
}

/// The numbers of uses of results and weights.
#[derive(Default)]
struct Uses {
    values: BTreeMap<u64, usize>,
    params: BTreeMap<String, usize>,
}

fn uses(ops: &[Op], output: u64) -> Uses {
    let mut uses = Uses::default();
    uses.values.insert(output, 1);
    fn count(uses: &mut Uses, arg: &Argument) {
        match arg {
            Argument::Value(id) => *uses.values.entry(*id).or_default() += 1,
            Argument::Param(name) => *uses.params.entry(name.clone()).or_default() += 1,
            Argument::List(items) => items.iter().for_each(|arg| count(uses, arg)),
            _ => {}
        }
    }
    ops.iter().flat_map(|op| &op.args).for_each(|arg| count(&mut uses, arg));
    uses
}

/// A batch normalization in evaluation mode.
struct Norm<'a> {
    weight: Option<&'a Tensor>,
    bias: Option<&'a Tensor>,
    mean: &'a Tensor,
    var: &'a Tensor,
    eps: f64,
}

impl<'a> Norm<'a> {
    /// Returns the normalization and its input, if `op` is a batch normalization in evaluation mode.
    fn of(op: &Op, weights: &'a BTreeMap<String, Tensor>) -> Option<(Self, u64)> {
        let param = |arg: &Argument| match arg {
            Argument::Param(name) => weights.get(name).map(Some),
            Argument::None => Some(None),
            _ => None,
        };
        match &op.args[..] {
            [
                Argument::Value(input),
                weight,
                bias,
                mean,
                var,
                Argument::Bool(false),
                _,
                Argument::Float(eps),
                ..,
            ] if op.name == "batch_norm" => {
                let (weight, bias) = (param(weight)?, param(bias)?);
                let (mean, var) = (param(mean)??, param(var)??);
                Some((Self { weight, bias, mean, var, eps: *eps }, *input))
            }
            _ => None,
        }
    }

    fn scale_and_shift(&self) -> Result<(Tensor, Tensor)> {
        let double = |t: &Tensor| t.f_to_kind(Kind::Double);
        let mut scale = (double(self.var)?.f_add_scalar(self.eps)?).f_rsqrt()?;
        if let Some(weight) = self.weight {
            scale = scale.f_mul(&double(weight)?)?;
        }
        let mut shift = double(self.mean)?.f_mul(&scale)?.f_neg()?;
        if let Some(bias) = self.bias {
            shift = shift.f_add(&double(bias)?)?;
        }
        Ok((scale, shift))
    }
}
