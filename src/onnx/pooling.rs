//! Maximum and average pooling.

use super::{
    builder::{Attribute, Value},
    call::Call,
    record::Dim,
    unsupported::unsupported,
};
use crate::error::Result;
use tch::Tensor;

/// Converts the operation and returns the name of its result. `None` if the operation belongs to another file.
pub(super) fn convert(call: &mut Call<'_, '_>, out: &[Dim]) -> Result<Option<String>> {
    match call.name() {
        "max_pool2d" | "max_pool2d_with_indices" => {
            let (dilation, ceil) = (pair(call.ints(4)?), call.bool(5)?);
            let x = call.tensor(0)?;
            let mut attributes = window(call)?;
            attributes.push(("dilations", dilation.into()));
            attributes.push(("ceil_mode", i64::from(ceil).into()));
            Ok(call.file().node("MaxPool", &[&x.name], &attributes))
        }
        "avg_pool2d" => {
            if !call.absent(6) {
                return Err(unsupported("a custom divisor"));
            }
            let (ceil, padded) = (call.bool(4)?, call.bool(5)?);
            let x = call.tensor(0)?;
            let mut attributes = window(call)?;
            attributes.push(("ceil_mode", i64::from(ceil).into()));
            attributes.push(("count_include_pad", i64::from(padded).into()));
            Ok(call.file().node("AveragePool", &[&x.name], &attributes))
        }
        "adaptive_avg_pool2d" => adaptive_mean(call, out),
        "adaptive_max_pool2d" => adaptive_max(call, out),
        _ => return Ok(None),
    }
    .map(Some)
}

fn pair(mut n: Vec<i64>) -> Vec<i64> {
    if n.len() == 1 {
        n.push(n[0]);
    }
    n
}

/// Returns kernel, stride and padding, which have the same positions for maximum and average pooling.
fn window(call: &mut Call<'_, '_>) -> Result<Vec<(&'static str, Attribute)>> {
    let kernel = pair(call.ints(1)?);
    let strides = match call.ints(2)? {
        none if none.is_empty() => kernel.clone(),
        some => pair(some),
    };
    let pads = pair(call.ints(3)?);
    let pads = [pads.clone(), pads].concat();
    Ok(vec![("kernel_shape", kernel.into()), ("strides", strides.into()), ("pads", pads.into())])
}

/// Returns height and width of the input and the output.
fn sizes(x: &Value, out: &[Dim]) -> Result<[(i64, i64); 2]> {
    let side = |d: usize| match out.get(d).and_then(|dim| dim.fixed()) {
        Some(to) => Ok((x.side(d as i64)?, to)),
        None => Err(unsupported("a size that depends on the number of images")),
    };
    if x.rank() != 4 {
        return Err(unsupported(format!("a tensor of {} dimensions", x.rank())));
    }
    let sizes = [side(2)?, side(3)?];
    match sizes.iter().all(|(from, to)| *from > 0 && *to > 0) {
        true => Ok(sizes),
        false => Err(unsupported("a tensor without elements")),
    }
}

/// Returns the kernel that divides the input into equal regions, if there is one.
fn equal_regions(sizes: [(i64, i64); 2]) -> Option<Vec<(&'static str, Attribute)>> {
    let even = sizes.iter().all(|(from, to)| from % to == 0);
    let kernel: Vec<i64> = sizes.iter().map(|(from, to)| from / to).collect();
    even.then(|| vec![("kernel_shape", kernel.clone().into()), ("strides", kernel.into())])
}

fn adaptive_mean(call: &mut Call<'_, '_>, out: &[Dim]) -> Result<String> {
    let x = call.tensor(0)?;
    let sizes = sizes(&x, out)?;
    if sizes.iter().all(|(from, to)| from == to) {
        return Ok(x.name);
    }
    if sizes.iter().all(|(_, to)| *to == 1) {
        return Ok(call.file().node("GlobalAveragePool", &[&x.name], &[]));
    }
    if let Some(regions) = equal_regions(sizes) {
        return Ok(call.file().node("AveragePool", &[&x.name], &regions));
    }
    // For overlapping regions, multiply by a matrix for the rows and one for the columns.
    let [rows, columns] = sizes;
    let rows = call.place(&format!("means_{}_{}", rows.0, rows.1), &means(rows)?)?;
    let name = format!("means_{}_{}.transposed", columns.0, columns.1);
    let columns = call.place(&name, &means(columns)?.f_transpose(0, 1)?)?;
    let y = call.file().node("MatMul", &[&rows.name, &x.name], &[]);
    Ok(call.file().node("MatMul", &[&y, &columns.name], &[]))
}

/// Returns the weights `[to, from]` of `to` means, as libtorch divides `from` values.
fn means((from, to): (i64, i64)) -> Result<Tensor> {
    let mut all = vec![0.0_f32; (from * to) as usize];
    for (i, row) in all.chunks_mut(from as usize).enumerate() {
        let (start, end) = region(i as i64, from, to);
        row[start as usize..end as usize].fill(1.0 / (end - start) as f32);
    }
    Ok(Tensor::f_from_slice(&all)?.f_view([to, from])?)
}

/// Returns the first value of region `i` and the one after its last.
fn region(i: i64, from: i64, to: i64) -> (i64, i64) {
    (i * from / to, ((i + 1) * from + to - 1) / to)
}

fn adaptive_max(call: &mut Call<'_, '_>, out: &[Dim]) -> Result<String> {
    let x = call.tensor(0)?;
    let sizes = sizes(&x, out)?;
    if sizes.iter().all(|(_, to)| *to == 1) {
        return Ok(call.file().node("GlobalMaxPool", &[&x.name], &[]));
    }
    if let Some(regions) = equal_regions(sizes) {
        return Ok(call.file().node("MaxPool", &[&x.name], &regions));
    }
    // Overlapping regions: means along the rows, then along the columns.
    let mut y = x.name;
    for (axis, (from, to)) in [(2, sizes[0]), (3, sizes[1])] {
        let mut parts = vec![];
        for i in 0..to {
            let (start, end) = region(i, from, to);
            let part = call.file().slice(&y, axis, start, end, 1);
            let keep = [("axes", vec![axis].into()), ("keepdims", 1.into())];
            parts.push(call.file().node("ReduceMax", &[&part], &keep));
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        y = call.file().node("Concat", &parts, &[("axis", axis.into())]);
    }
    Ok(y)
}
