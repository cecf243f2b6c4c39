//! Slicing, joining and reshaping of tensors.

use super::{builder::Value, call::Call, record::Dim, unsupported::unsupported};
use crate::{error::Result, sys::Argument};

/// Converts the operation and returns the name of its result. `None` if the operation belongs to another file.
pub(super) fn convert(call: &mut Call<'_, '_>, out: &[Dim]) -> Result<Option<String>> {
    match call.name() {
        // Operations that do nothing in evaluation mode.
        "identity" | "alias" | "clone" | "contiguous" | "detach" | "dropout"
        | "feature_dropout" | "alpha_dropout" | "lift_fresh" | "expand_as_self" => {
            call.tensor(0).map(|x| x.name)
        }
        "to" | "type_as" | "_to_copy" => unchanged(call),
        "view" | "reshape" | "flatten" | "unflatten" | "squeeze" | "unsqueeze" | "_unsafe_view"
        | "view_as" | "reshape_as" | "_reshape_alias" | "ravel" => {
            let x = call.tensor(0)?;
            if x.shape == out { Ok(x.name) } else { call.file().reshape(&x.name, out) }
        }
        "permute" => {
            let x = call.tensor(0)?;
            let perm = call.ints(1)?.into_iter().map(|d| x.axis(d)).collect();
            Ok(transposed(call, &x, perm))
        }
        "transpose" | "swapaxes" => {
            let x = call.tensor(0)?;
            let (a, b) = (x.axis(call.int(1)?) as usize, x.axis(call.int(2)?) as usize);
            let mut perm: Vec<i64> = (0..x.rank()).collect();
            perm.swap(a, b);
            Ok(transposed(call, &x, perm))
        }
        "t" | "numpy_T" | "mT" => {
            let x = call.tensor(0)?;
            let n = x.rank();
            let perm = (0..n - 2).chain([n - 1, n - 2]).collect();
            Ok(if n < 2 { x.name } else { transposed(call, &x, perm) })
        }
        "cat" | "concat" => {
            let parts = call.tensors(0)?;
            let axis = call.int(1)?;
            let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
            Ok(call.file().node("Concat", &names, &[("axis", axis.into())]))
        }
        "stack" => stack(call, out),
        "select" => {
            let (x, dim, index) = (call.tensor(0)?, call.int(1)?, call.int(2)?);
            let index = if index < 0 { index + x.side(dim)? } else { index };
            let index = call.file().integer(index);
            let axis = x.axis(dim);
            Ok(call.file().node("Gather", &[&x.name, &index], &[("axis", axis.into())]))
        }
        "slice" => slice(call),
        "narrow" => {
            let (x, dim) = (call.tensor(0)?, call.int(1)?);
            let (start, n) = (call.int(2)?, call.int(3)?);
            let start = if start < 0 { start + x.side(dim)? } else { start };
            Ok(call.file().slice(&x.name, x.axis(dim), start, start + n, 1))
        }
        "roll" => roll(call),
        "flip" => {
            let x = call.tensor(0)?;
            let dims: Vec<i64> = call.ints(1)?.into_iter().map(|d| x.axis(d)).collect();
            let flipped =
                |name: String, axis: &i64| call.file().slice(&name, *axis, -1, i64::MIN + 1, -1);
            Ok(dims.iter().fold(x.name, flipped))
        }
        "expand" | "expand_as" | "broadcast_to" => {
            let x = call.tensor(0)?;
            if x.shape == out {
                return Ok(Some(x.name));
            }
            let sizes = call.file().sizes(out);
            Ok(call.file().node("Expand", &[&x.name, &sizes], &[]))
        }
        "repeat" | "tile" => repeat(call, out),
        "repeat_interleave" => repeat_interleave(call, out),
        "index_select" => {
            let (x, dim, index) = (call.tensor(0)?, call.int(1)?, call.tensor(2)?);
            let axis = x.axis(dim);
            Ok(call.file().node("Gather", &[&x.name, &index.name], &[("axis", axis.into())]))
        }
        "index" => index(call),
        "upsample_nearest2d" => nearest(call, out),
        "constant_pad_nd" => {
            let (pads, value) = (call.ints(1)?, call.float_or(2, 0.0)?);
            pad(call, &pads, "constant", value)
        }
        "reflection_pad2d" => {
            let pads = call.ints(1)?;
            pad(call, &pads, "reflect", 0.0)
        }
        "replication_pad2d" => {
            let pads = call.ints(1)?;
            pad(call, &pads, "edge", 0.0)
        }
        "pad" => {
            let (pads, value) = (call.ints(1)?, call.float_or(3, 0.0)?);
            let mode = match call.text(2) {
                None | Some("constant") => "constant",
                Some("reflect") => "reflect",
                Some("replicate") => "edge",
                Some(other) => return Err(unsupported(format!("padding `{other}`"))),
            };
            pad(call, &pads, mode, value)
        }
        "zeros" | "new_zeros" | "zeros_like" => filled(call, out, 0.0),
        "ones" | "new_ones" | "ones_like" => filled(call, out, 1.0),
        "full" => {
            let value = call.float(1)?;
            filled(call, out, value)
        }
        "pixel_shuffle" => {
            let (x, by) = (call.tensor(0)?, call.int(1)?);
            let attributes = [("blocksize", by.into()), ("mode", "CRD".into())];
            Ok(call.file().node("DepthToSpace", &[&x.name], &attributes))
        }
        _ => return Ok(None),
    }
    .map(Some)
}

/// Converts a change of type or device that has no effect in the file.
fn unchanged(call: &mut Call<'_, '_>) -> Result<String> {
    let x = call.tensor(0)?;
    let kind = call.results().first().map_or("", |out| &*out.kind);
    if x.kind == kind {
        return Ok(x.name);
    }
    Err(unsupported(format!("a change of type from {} to {kind}", x.kind)))
}

fn transposed(call: &mut Call<'_, '_>, x: &Value, perm: Vec<i64>) -> String {
    call.file().node("Transpose", &[&x.name], &[("perm", perm.into())])
}

fn stack(call: &mut Call<'_, '_>, out: &[Dim]) -> Result<String> {
    let parts = call.tensors(0)?;
    let dim = call.int(1)?;
    let axis = if dim < 0 { dim + out.len() as i64 } else { dim };
    let axes = call.file().integers(&[axis]);
    let mut rows = vec![];
    for part in &parts {
        rows.push(call.file().node("Unsqueeze", &[&part.name, &axes], &[]));
    }
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    Ok(call.file().node("Concat", &rows, &[("axis", axis.into())]))
}

fn slice(call: &mut Call<'_, '_>) -> Result<String> {
    let (x, dim) = (call.tensor(0)?, call.int(1)?);
    let start = if call.absent(2) { 0 } else { call.int(2)? };
    let end = if call.absent(3) { i64::MAX } else { call.int(3)? };
    let step = call.int(4)?;
    if (start, end, step) == (0, i64::MAX, 1) {
        return Ok(x.name);
    }
    let axis = x.axis(dim);
    // Sizes are known, so negative and out-of-range positions are resolved here, not by the runtime.
    let (start, end) = match x.shape.get(axis as usize).and_then(|d| d.fixed()) {
        Some(n) => {
            let within = |i: i64| if i < 0 { (i + n).max(0) } else { i.min(n) };
            (within(start), within(end))
        }
        None => (start, end),
    };
    Ok(call.file().slice(&x.name, axis, start, end, step))
}

fn roll(call: &mut Call<'_, '_>) -> Result<String> {
    let x = call.tensor(0)?;
    let (shifts, dims) = (call.ints(1)?, call.ints(2)?);
    if shifts.len() != dims.len() {
        return Err(unsupported("a roll without dimensions"));
    }
    let mut y = x.name.clone();
    for (shift, dim) in shifts.into_iter().zip(dims) {
        let (axis, n) = (x.axis(dim), x.side(dim)?.max(1));
        let first = (n - shift).rem_euclid(n);
        if first == 0 {
            continue;
        }
        let end = call.file().slice(&y, axis, first, n, 1);
        let start = call.file().slice(&y, axis, 0, first, 1);
        y = call.file().node("Concat", &[&end, &start], &[("axis", axis.into())]);
    }
    Ok(y)
}

fn repeat(call: &mut Call<'_, '_>, out: &[Dim]) -> Result<String> {
    let x = call.tensor(0)?;
    let ones = vec![Dim::Fixed(1); out.len() - x.shape.len()];
    let shape = [ones, x.shape.clone()].concat();
    let y = if shape == x.shape { x.name } else { call.file().reshape(&x.name, &shape)? };
    let times = shape.iter().zip(out).map(|(from, to)| match (from, to) {
        (a, b) if a == b => Ok(Dim::Fixed(1)),
        (Dim::Fixed(a), Dim::Fixed(b)) if *a > 0 => Ok(Dim::Fixed(b / a)),
        (Dim::Fixed(a), Dim::Batch(n)) if *a > 0 && n % a == 0 => Ok(Dim::Batch(n / a)),
        (Dim::Batch(a), Dim::Batch(b)) if *a > 0 => Ok(Dim::Fixed(b / a)),
        _ => Err(unsupported("repeats that depend on the number of images")),
    });
    let times = times.collect::<Result<Vec<_>>>()?;
    let times = call.file().sizes(&times);
    Ok(call.file().node("Tile", &[&y, &times], &[]))
}

/// Repeats each element along a dimension: joins copies along a new dimension after it, and merges the two.
fn repeat_interleave(call: &mut Call<'_, '_>, out: &[Dim]) -> Result<String> {
    let (x, times, dim) = (call.tensor(0)?, call.int(1)?, call.int(2)?);
    if times < 1 {
        return Err(unsupported("a tensor without elements"));
    }
    let axis = x.axis(dim) + 1;
    let axes = call.file().integers(&[axis]);
    let one = call.file().node("Unsqueeze", &[&x.name, &axes], &[]);
    let copies = vec![one.as_str(); times as usize];
    let all = call.file().node("Concat", &copies, &[("axis", axis.into())]);
    call.file().reshape(&all, out)
}

/// Converts an indexing by one tensor of positions, along any one dimension.
fn index(call: &mut Call<'_, '_>) -> Result<String> {
    let Argument::List(places) = call.arg(1).clone() else {
        return Err(call.wrong(1, "a list of positions"));
    };
    let given: Vec<usize> = (0..places.len()).filter(|&i| places[i] != Argument::None).collect();
    let [axis] = given[..] else {
        return Err(unsupported("positions for several dimensions at once"));
    };
    let x = call.tensor(0)?;
    let index = call.nested_tensor(&places[axis])?;
    let attributes = [("axis", (axis as i64).into())];
    Ok(call.file().node("Gather", &[&x.name, &index.name], &attributes))
}

/// Converts an enlargement by the nearest pixel: selects rows and columns by the positions that libtorch computes.
fn nearest(call: &mut Call<'_, '_>, out: &[Dim]) -> Result<String> {
    if !(call.absent(2) && call.absent(3)) {
        return Err(unsupported("an interpolation by a factor instead of a size"));
    }
    let x = call.tensor(0)?;
    let mut name = x.name.clone();
    for axis in [2, 3] {
        let (from, to) = match (x.side(axis)?, out.get(axis as usize)) {
            (from, Some(Dim::Fixed(to))) => (from, *to),
            _ => return Err(unsupported("an interpolation to an unknown size")),
        };
        if from != to {
            let step = from as f32 / to as f32;
            let position = |i: i64| ((i as f32 * step).floor() as i64).min(from - 1);
            let index = call.file().integers(&(0..to).map(position).collect::<Vec<_>>());
            name = call.file().node("Gather", &[&name, &index], &[("axis", axis.into())]);
        }
    }
    Ok(name)
}

/// Converts a padding. `pads` are the pads before and after each dimension, the last dimension first.
fn pad(call: &mut Call<'_, '_>, pads: &[i64], mode: &'static str, value: f64) -> Result<String> {
    let x = call.tensor(0)?;
    let n = x.shape.len();
    let mut all = vec![0; 2 * n];
    for (i, both) in pads.chunks_exact(2).enumerate() {
        let dim = n.checked_sub(i + 1).ok_or_else(|| unsupported("more pads than dimensions"))?;
        (all[dim], all[n + dim]) = (both[0], both[1]);
    }
    if all.iter().any(|n| *n < 0) {
        return Err(unsupported("a pad below 0"));
    }
    let all = call.file().integers(&all);
    if mode != "constant" {
        return Ok(call.file().node("Pad", &[&x.name, &all], &[("mode", mode.into())]));
    }
    let value = call.file().number(value);
    Ok(call.file().node("Pad", &[&x.name, &all, &value], &[("mode", mode.into())]))
}

fn filled(call: &mut Call<'_, '_>, out: &[Dim], value: f64) -> Result<String> {
    let value = call.file().number(value);
    let sizes = call.file().sizes(out);
    Ok(call.file().node("Expand", &[&value, &sizes], &[]))
}

/// Splits a tensor along one dimension.
pub(super) fn parts(call: &mut Call<'_, '_>) -> Result<Vec<Value>> {
    let x = call.tensor(0)?;
    let place = if call.name() == "unbind" { 1 } else { 2 };
    let dim = if call.absent(place) { 0 } else { call.int(place)? };
    let (axis, n) = (x.axis(dim), x.side(dim)?);
    let each = |size: i64| {
        let size = size.max(1);
        (0..n.div_euclid(size) + i64::from(n % size > 0)).map(|i| size.min(n - i * size)).collect()
    };
    let sizes: Vec<i64> = match call.name() {
        "unbind" => vec![1; n as usize],
        "chunk" | "unsafe_chunk" => {
            let parts = call.int(1)?.max(1);
            each((n + parts - 1) / parts)
        }
        "split" | "unsafe_split" if matches!(call.arg(1), Argument::Int(_)) => each(call.int(1)?),
        _ => call.ints(1)?,
    };
    let count = sizes.len();
    let list = call.file().integers(&sizes);
    let names = call.file().nodes("Split", &[&x.name, &list], &[("axis", axis.into())], count);
    let whole = call.name() == "unbind";
    let mut all = vec![];
    for (name, size) in names.into_iter().zip(sizes) {
        let mut shape = x.shape.clone();
        shape[axis as usize] = Dim::Fixed(size);
        let mut name = name;
        if whole {
            shape.remove(axis as usize);
            name = call.file().reshape(&name, &shape)?;
        }
        all.push(Value { name, shape, kind: x.kind.clone() });
    }
    Ok(all)
}
