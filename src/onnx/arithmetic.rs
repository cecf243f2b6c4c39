//! Elementwise operations, sums and means.

use super::{call::Call, record::Dim, unsupported::unsupported};
use crate::error::Result;

/// Converts the operation and returns the name of its result. `None` if the operation belongs to another file.
pub(super) fn convert(call: &mut Call<'_, '_>, _: &[Dim]) -> Result<Option<String>> {
    let name = converted(call)?;
    // ONNX does not promote types, and numbers are written as floats.
    let kinds = call.results().first().map(|out| out.kind.clone());
    if let (Some(_), Some(kind)) = (&name, kinds.filter(|kind| kind != "Float")) {
        return Err(unsupported(format!("arithmetic of elements of type {kind}")));
    }
    Ok(name)
}

fn converted(call: &mut Call<'_, '_>) -> Result<Option<String>> {
    if let Some(operator) = plain(call.name()) {
        let x = call.tensor(0)?;
        return Ok(Some(call.file().node(operator, &[&x.name], &[])));
    }
    match call.name() {
        "add" => scaled(call, "Add", [0, 1]),
        "sub" => scaled(call, "Sub", [0, 1]),
        "rsub" => scaled(call, "Sub", [1, 0]),
        "mul" | "multiply" => pair(call, "Mul"),
        "div" | "true_divide" => match call.text(2) {
            None => pair(call, "Div"),
            Some(mode) => Err(unsupported(format!("a division rounded by `{mode}`"))),
        },
        "pow" => pair(call, "Pow"),
        "maximum" => pair(call, "Max"),
        "minimum" => pair(call, "Min"),
        "square" => {
            let x = call.tensor(0)?;
            Ok(call.file().node("Mul", &[&x.name, &x.name], &[]))
        }
        "rsqrt" => {
            let x = call.tensor(0)?;
            let root = call.file().node("Sqrt", &[&x.name], &[]);
            Ok(call.file().node("Reciprocal", &[&root], &[]))
        }
        "silu" => {
            let x = call.tensor(0)?;
            let gate = call.file().node("Sigmoid", &[&x.name], &[]);
            Ok(call.file().node("Mul", &[&x.name, &gate], &[]))
        }
        "mish" => {
            let x = call.tensor(0)?;
            let soft = call.file().node("Softplus", &[&x.name], &[]);
            let gate = call.file().node("Tanh", &[&soft], &[]);
            Ok(call.file().node("Mul", &[&x.name, &gate], &[]))
        }
        "hardsigmoid" => {
            let x = call.tensor(0)?;
            let line = [("alpha", (1.0 / 6.0).into()), ("beta", 0.5.into())];
            Ok(call.file().node("HardSigmoid", &[&x.name], &line))
        }
        "relu6" => clip(call, Some(0.0), Some(6.0)),
        "hardtanh" => {
            let (low, high) = (call.float_or(1, -1.0)?, call.float_or(2, 1.0)?);
            clip(call, Some(low), Some(high))
        }
        "clamp" | "clip" => {
            let bound = |i| if call.absent(i) { Ok(None) } else { call.float(i).map(Some) };
            let (low, high) = (bound(1)?, bound(2)?);
            clip(call, low, high)
        }
        "clamp_min" => {
            let low = call.float(1)?;
            clip(call, Some(low), None)
        }
        "clamp_max" => {
            let high = call.float(1)?;
            clip(call, None, Some(high))
        }
        "leaky_relu" => {
            let (x, slope) = (call.tensor(0)?, call.float_or(1, 0.01)?);
            Ok(call.file().node("LeakyRelu", &[&x.name], &[("alpha", slope.into())]))
        }
        "elu" => {
            let (scale, by) = (call.float_or(2, 1.0)?, call.float_or(3, 1.0)?);
            if (scale, by) != (1.0, 1.0) {
                return Err(unsupported("an ELU with scales"));
            }
            let (x, alpha) = (call.tensor(0)?, call.float_or(1, 1.0)?);
            Ok(call.file().node("Elu", &[&x.name], &[("alpha", alpha.into())]))
        }
        "gelu" => gelu(call),
        "softmax" | "_softmax" | "log_softmax" => {
            let (x, dim) = (call.tensor(0)?, call.int(1)?);
            let operator = if call.name() == "log_softmax" { "LogSoftmax" } else { "Softmax" };
            Ok(call.file().node(operator, &[&x.name], &[("axis", dim.into())]))
        }
        "mean" => reduce(call, "ReduceMean"),
        "sum" => reduce(call, "ReduceSum"),
        "amax" => reduce(call, "ReduceMax"),
        "amin" => reduce(call, "ReduceMin"),
        "norm" | "linalg_vector_norm" | "frobenius_norm" => norm(call),
        "masked_fill" => {
            let (x, mask, value) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
            Ok(call.file().node("Where", &[&mask.name, &value.name, &x.name], &[]))
        }
        "where" => {
            let (mask, a, b) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
            Ok(call.file().node("Where", &[&mask.name, &a.name, &b.name], &[]))
        }
        "var" => variance(call),
        "std" => {
            let variance = variance(call)?;
            Ok(call.file().node("Sqrt", &[&variance], &[]))
        }
        _ => return Ok(None),
    }
    .map(Some)
}

/// Returns the operator for an operation with a single tensor as its argument.
fn plain(name: &str) -> Option<&'static str> {
    Some(match name {
        "relu" => "Relu",
        "sigmoid" => "Sigmoid",
        "tanh" => "Tanh",
        "hardswish" => "HardSwish",
        "softplus" => "Softplus",
        "exp" => "Exp",
        "log" => "Log",
        "sqrt" => "Sqrt",
        "abs" => "Abs",
        "neg" => "Neg",
        "erf" => "Erf",
        "sin" => "Sin",
        "cos" => "Cos",
        "floor" => "Floor",
        "ceil" => "Ceil",
        "reciprocal" => "Reciprocal",
        _ => return None,
    })
}

fn pair(call: &mut Call<'_, '_>, operator: &str) -> Result<String> {
    let (a, b) = (call.tensor(0)?, call.tensor(1)?);
    Ok(call.file().node(operator, &[&a.name, &b.name], &[]))
}

/// Converts an operation with a factor `alpha` for its second operand. `order` has the positions of both operands.
fn scaled(call: &mut Call<'_, '_>, operator: &str, order: [usize; 2]) -> Result<String> {
    let alpha = call.float_or(2, 1.0)?;
    let (a, b) = (call.tensor(order[0])?, call.tensor(order[1])?);
    if alpha == 1.0 {
        return Ok(call.file().node(operator, &[&a.name, &b.name], &[]));
    }
    let alpha = call.file().number(alpha);
    let b = call.file().node("Mul", &[&b.name, &alpha], &[]);
    Ok(call.file().node(operator, &[&a.name, &b], &[]))
}

fn clip(call: &mut Call<'_, '_>, low: Option<f64>, high: Option<f64>) -> Result<String> {
    let x = call.tensor(0)?;
    let low = low.map(|low| call.file().number(low)).unwrap_or_default();
    let high = high.map(|high| call.file().number(high)).unwrap_or_default();
    let mut inputs = vec![x.name.as_str(), &low];
    inputs.extend((!high.is_empty()).then_some(&*high));
    Ok(call.file().node("Clip", &inputs, &[]))
}

fn gelu(call: &mut Call<'_, '_>) -> Result<String> {
    let x = call.tensor(0)?;
    let inner = if call.text(1) == Some("tanh") {
        // tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))
        let (third, by) =
            (call.file().number(0.044_715), call.file().number(0.797_884_560_802_865_4));
        let square = call.file().node("Mul", &[&x.name, &x.name], &[]);
        let cube = call.file().node("Mul", &[&square, &x.name], &[]);
        let cube = call.file().node("Mul", &[&cube, &third], &[]);
        let sum = call.file().node("Add", &[&x.name, &cube], &[]);
        let sum = call.file().node("Mul", &[&sum, &by], &[]);
        call.file().node("Tanh", &[&sum], &[])
    } else {
        let by = call.file().number(std::f64::consts::FRAC_1_SQRT_2);
        let part = call.file().node("Mul", &[&x.name, &by], &[]);
        call.file().node("Erf", &[&part], &[])
    };
    let (one, half) = (call.file().number(1.0), call.file().number(0.5));
    let gate = call.file().node("Add", &[&inner, &one], &[]);
    let gate = call.file().node("Mul", &[&gate, &half], &[]);
    Ok(call.file().node("Mul", &[&x.name, &gate], &[]))
}

/// Converts a reduction: the dimensions are argument 1, and argument 2 says whether they are kept.
fn reduce(call: &mut Call<'_, '_>, operator: &str) -> Result<String> {
    let x = call.tensor(0)?;
    // `mean(x, dtype)` and `sum(x, dtype)` reduce all dimensions.
    let whole = call.op.args.len() < 3;
    let dims = if whole || call.absent(1) { vec![] } else { call.ints(1)? };
    let keep = !whole && call.bool(2)?;
    reduced(call, operator, &x.name, dims, keep)
}

fn reduced(
    call: &mut Call<'_, '_>,
    operator: &str,
    x: &str,
    dims: Vec<i64>,
    keep: bool,
) -> Result<String> {
    let keep = ("keepdims", i64::from(keep).into());
    if dims.is_empty() {
        return Ok(call.file().node(operator, &[x], &[keep]));
    }
    // In opset 17, only `ReduceSum` takes its dimensions as a tensor.
    if operator == "ReduceSum" {
        let dims = call.file().integers(&dims);
        return Ok(call.file().node(operator, &[x, &dims], &[keep]));
    }
    Ok(call.file().node(operator, &[x], &[("axes", dims.into()), keep]))
}

/// Converts a variance: the mean of squared differences from the mean, divided by their number less a correction.
fn variance(call: &mut Call<'_, '_>) -> Result<String> {
    let x = call.tensor(0)?;
    // `var(x, unbiased)` reduces all dimensions.
    let whole = call.op.args.len() < 4;
    let dims = if whole || call.absent(1) { (0..x.rank()).collect() } else { call.ints(1)? };
    let correction = match if whole { 1 } else { 2 } {
        i if call.absent(i) => 1.0,
        i => call.int(i).map(|n| n as f64).or_else(|_| call.float(i))?,
    };
    let keep = !whole && call.bool(3)?;
    let mut count = 1.0;
    for dim in &dims {
        match x.shape.get(x.axis(*dim) as usize) {
            Some(Dim::Fixed(n)) => count *= *n as f64,
            _ => return Err(unsupported("a variance over the images of a batch")),
        }
    }
    let mean = reduced(call, "ReduceMean", &x.name, dims.clone(), true)?;
    let centered = call.file().node("Sub", &[&x.name, &mean], &[]);
    let squares = call.file().node("Mul", &[&centered, &centered], &[]);
    let variance = reduced(call, "ReduceMean", &squares, dims, keep)?;
    let factor = call.file().number(count / (count - correction));
    Ok(call.file().node("Mul", &[&variance, &factor], &[]))
}

fn norm(call: &mut Call<'_, '_>) -> Result<String> {
    let x = call.tensor(0)?;
    let (p, dims, keep) = match call.name() {
        "frobenius_norm" => (2.0, 1, 2),
        _ => (call.float_or(1, 2.0)?, 2, 3),
    };
    let operator = match p {
        1.0 => "ReduceL1",
        2.0 => "ReduceL2",
        p => return Err(unsupported(format!("the norm of order {p}"))),
    };
    let list = if call.absent(dims) { vec![] } else { call.ints(dims)? };
    let keep = !call.absent(keep) && call.bool(keep)?;
    reduced(call, operator, &x.name, list, keep)
}
