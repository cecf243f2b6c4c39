//! Layers with weights: convolutions, normalizations, linear layers, attention.

use super::{
    builder::{Attribute, Value},
    call::Call,
    record::Dim,
    unsupported::unsupported,
};
use crate::error::Result;

/// Converts the operation and returns the name of its result. `None` if the operation belongs to another file.
pub(super) fn convert(call: &mut Call<'_, '_>, out: &[Dim]) -> Result<Option<String>> {
    match call.name() {
        "_convolution" => {
            let transposed = call.bool(6)?;
            convolution(call, [3, 4, 5, 8], transposed.then_some(7))
        }
        "conv1d" | "conv2d" => convolution(call, [3, 4, 5, 6], None),
        "batch_norm" => batch_norm(call),
        "layer_norm" => layer_norm(call),
        "group_norm" => group_norm(call, out),
        "linear" => linear(call),
        "addmm" => addmm(call),
        "matmul" | "mm" | "bmm" => {
            let (a, b) = (call.tensor(0)?, call.tensor(1)?);
            Ok(call.file().node("MatMul", &[&a.name, &b.name], &[]))
        }
        "scaled_dot_product_attention" => attention(call),
        "embedding" => {
            let (weight, indices) = (call.tensor(0)?, call.tensor(1)?);
            Ok(call.file().node("Gather", &[&weight.name, &indices.name], &[("axis", 0.into())]))
        }
        _ => return Ok(None),
    }
    .map(Some)
}

/// Converts a convolution. The array has the positions of stride, padding, dilation and groups among the arguments.
fn convolution(
    call: &mut Call<'_, '_>,
    [stride, padding, dilation, groups]: [usize; 4],
    output_padding: Option<usize>,
) -> Result<String> {
    let (x, weight, bias) = (call.tensor(0)?, call.tensor(1)?, call.maybe_tensor(2)?);
    let sides = weight.shape.len() - 2;
    let all = |mut n: Vec<i64>| {
        if n.len() == 1 {
            n = vec![n[0]; sides];
        }
        n
    };
    let kernel = (2..sides as i64 + 2).map(|d| weight.side(d)).collect::<Result<Vec<_>>>()?;
    let dilations = all(call.ints(dilation)?);
    let pads = match call.text(padding) {
        None => {
            let pads = all(call.ints(padding)?);
            [pads.clone(), pads].concat()
        }
        Some("valid") => vec![0; 2 * sides],
        Some("same") => {
            let total = |(k, d): (&i64, &i64)| (k - 1) * d;
            let total: Vec<i64> = kernel.iter().zip(&dilations).map(total).collect();
            let before = total.iter().map(|n| n / 2);
            before.clone().chain(total.iter().map(|n| n - n / 2)).collect()
        }
        Some(other) => return Err(unsupported(format!("padding `{other}`"))),
    };
    let mut attributes: Vec<(&str, Attribute)> = vec![
        ("kernel_shape", kernel.into()),
        ("strides", all(call.ints(stride)?).into()),
        ("pads", pads.into()),
        ("dilations", dilations.into()),
        ("group", call.int(groups)?.into()),
    ];
    let mut operator = "Conv";
    if let Some(place) = output_padding {
        operator = "ConvTranspose";
        attributes.push(("output_padding", all(call.ints(place)?).into()));
    }
    let mut inputs = vec![x.name.as_str(), &weight.name];
    inputs.extend(bias.as_ref().map(|b| b.name.as_str()));
    Ok(call.file().node(operator, &inputs, &attributes))
}

/// Returns a parameter of a normalization, or `n` times `value` if it is absent.
fn param_or(call: &mut Call<'_, '_>, i: usize, n: i64, value: f64) -> Result<Value> {
    match call.maybe_tensor(i)? {
        Some(param) => Ok(param),
        None => {
            let tensor = tch::Tensor::f_full([n], value, tch::kind::FLOAT_CPU)?;
            call.place(&format!("all_{value}_{n}"), &tensor)
        }
    }
}

fn batch_norm(call: &mut Call<'_, '_>) -> Result<String> {
    let x = call.tensor(0)?;
    let channels = x.side(1)?;
    let (weight, bias) = (param_or(call, 1, channels, 1.0)?, param_or(call, 2, channels, 0.0)?);
    if call.bool(5)? {
        // Networks that standardize the weights of their convolutions normalize them as a batch of one.
        if x.shape[0] != Dim::Fixed(1) || x.rank() < 3 {
            return Err(unsupported("it uses the statistics of the batch"));
        }
        let (inputs, eps) = ([&*x.name, &weight.name, &bias.name], call.float(7)?);
        let eps = [("epsilon", eps.into())];
        return Ok(call.file().node("InstanceNormalization", &inputs, &eps));
    }
    let (mean, var) = (call.tensor(3)?, call.tensor(4)?);
    let inputs = [&*x.name, &weight.name, &bias.name, &mean.name, &var.name];
    let eps = call.float(7)?;
    Ok(call.file().node("BatchNormalization", &inputs, &[("epsilon", eps.into())]))
}

fn layer_norm(call: &mut Call<'_, '_>) -> Result<String> {
    let x = call.tensor(0)?;
    let shape = call.ints(1)?;
    let eps = call.float_or(4, 1e-5)?;
    let attributes = [("axis", (-(shape.len() as i64)).into()), ("epsilon", eps.into())];
    let weight = match call.maybe_tensor(2)? {
        Some(weight) => weight,
        None => {
            let ones = tch::Tensor::f_ones(&shape[..], tch::kind::FLOAT_CPU)?;
            call.place(&format!("ones_{shape:?}"), &ones)?
        }
    };
    let bias = call.maybe_tensor(3)?;
    let mut inputs = vec![x.name.as_str(), &weight.name];
    inputs.extend(bias.as_ref().map(|b| b.name.as_str()));
    Ok(call.file().node("LayerNormalization", &inputs, &attributes))
}

/// Converts to an instance normalization of the groups, since `GroupNormalization` of ONNX has one weight per group before
/// opset 21.
fn group_norm(call: &mut Call<'_, '_>, out: &[Dim]) -> Result<String> {
    let x = call.tensor(0)?;
    let (groups, eps) = (call.int(1)?, call.float_or(4, 1e-5)?);
    let each = (1..x.rank()).map(|d| x.side(d)).product::<Result<i64>>()? / groups.max(1);
    let ones = tch::Tensor::f_ones([groups], tch::kind::FLOAT_CPU)?;
    let ones = call.place(&format!("all_1_{groups}"), &ones)?;
    let zeros = tch::Tensor::f_zeros([groups], tch::kind::FLOAT_CPU)?;
    let zeros = call.place(&format!("all_0_{groups}"), &zeros)?;
    let grouped = [x.shape[0], Dim::Fixed(groups), Dim::Fixed(each)];
    let grouped = call.file().reshape(&x.name, &grouped)?;
    let inputs = [&*grouped, &ones.name, &zeros.name];
    let normal = call.file().node("InstanceNormalization", &inputs, &[("epsilon", eps.into())]);
    let mut y = call.file().reshape(&normal, out)?;
    let sides: Vec<i64> = (1..x.rank()).map(|d| if d == 1 { -1 } else { 1 }).collect();
    for (i, operator) in [(2, "Mul"), (3, "Add")] {
        if let Some(param) = call.maybe_tensor(i)? {
            let sides = call.file().integers(&sides);
            let param = call.file().node("Reshape", &[&param.name, &sides], &[]);
            y = call.file().node(operator, &[&y, &param], &[]);
        }
    }
    Ok(y)
}

fn linear(call: &mut Call<'_, '_>) -> Result<String> {
    let x = call.tensor(0)?;
    let bias = call.maybe_tensor(2)?;
    if x.rank() == 2 {
        let weight = call.tensor(1)?;
        let mut inputs = vec![x.name.as_str(), &weight.name];
        inputs.extend(bias.as_ref().map(|b| b.name.as_str()));
        return Ok(call.file().node("Gemm", &inputs, &[("transB", 1.into())]));
    }
    let weight = match call.weight(1) {
        Some((name, weight)) => {
            call.place(&format!("{name}.transposed"), &weight.f_transpose(0, 1)?)?.name
        }
        None => {
            let weight = call.tensor(1)?;
            call.file().node("Transpose", &[&weight.name], &[("perm", vec![1, 0].into())])
        }
    };
    let y = call.file().node("MatMul", &[&x.name, &weight], &[]);
    Ok(match bias {
        Some(bias) => call.file().node("Add", &[&y, &bias.name], &[]),
        None => y,
    })
}

fn addmm(call: &mut Call<'_, '_>) -> Result<String> {
    let (bias, a, b) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (beta, alpha) = (call.float_or(3, 1.0)?, call.float_or(4, 1.0)?);
    let factors = [("alpha", alpha.into()), ("beta", beta.into())];
    Ok(call.file().node("Gemm", &[&a.name, &b.name, &bias.name], &factors))
}

fn attention(call: &mut Call<'_, '_>) -> Result<String> {
    let (q, k, v) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    if call.arg(5) == &crate::sys::Argument::Bool(true) {
        return Err(unsupported("causal attention"));
    }
    let scale = call.float_or(6, 1.0 / (q.side(-1)? as f64).sqrt())?;
    let scale = call.file().number(scale);
    let q = call.file().node("Mul", &[&q.name, &scale], &[]);
    let rank = k.rank();
    let perm: Vec<i64> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    let k = call.file().node("Transpose", &[&k.name], &[("perm", perm.into())]);
    let mut scores = call.file().node("MatMul", &[&q, &k], &[]);
    if let Some(mask) = call.maybe_tensor(3)? {
        if mask.kind != "Float" {
            return Err(unsupported("a mask whose elements are not floats"));
        }
        scores = call.file().node("Add", &[&scores, &mask.name], &[]);
    }
    let weights = call.file().node("Softmax", &[&scores], &[("axis", (-1).into())]);
    Ok(call.file().node("MatMul", &[&weights, &v.name], &[]))
}
