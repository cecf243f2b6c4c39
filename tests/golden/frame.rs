//! Reads golden files and counts comparisons.

use serde_json::Value;
use std::{
    collections::BTreeMap,
    env,
    fmt::{Debug, Display},
    fs,
    path::PathBuf,
};
use tch::{Kind, Tensor};

/// Returns true if the values are those in the repository.
pub(crate) fn is_carried() -> bool {
    env::var_os("FINETUNE_GOLDEN_DIR").is_none()
}

/// Returns the folder of the golden files.
pub(crate) fn folder() -> PathBuf {
    env::var_os("FINETUNE_GOLDEN_DIR").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/fastai"),
        PathBuf::from,
    )
}

/// One topic: its parameters and its tensors.
pub(crate) struct Golden {
    pub(crate) json: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Golden {
    /// Reads the files of `topic`. `None` if there is no `<topic>.json`.
    pub(crate) fn open(topic: &str) -> Option<Self> {
        let json = fs::read(folder().join(format!("{topic}.json"))).ok()?;
        let json = serde_json::from_slice(&json).unwrap_or_else(|e| panic!("{topic}.json: {e}"));
        let tensors = folder().join(format!("{topic}.safetensors"));
        let tensors = if tensors.exists() {
            Tensor::read_safetensors(&tensors)
                .unwrap_or_else(|e| panic!("{}: {e}", tensors.display()))
                .into_iter()
                .collect()
        } else {
            BTreeMap::new()
        };
        Some(Self { json, tensors })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Returns the tensor `name`, which must exist.
    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor `{name}`")).shallow_clone()
    }

    /// Returns the tensors whose names begin with `prefix`, without the prefix.
    pub(crate) fn tensors(&self, prefix: &str) -> BTreeMap<String, Tensor> {
        let below = self.tensors.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?, v)));
        below.map(|(k, v)| (k.to_owned(), v.shallow_clone())).collect()
    }

    /// Returns the list under a key of the file.
    pub(crate) fn cases(&self, key: &str) -> &[Value] {
        self.json[key].as_array().unwrap_or_else(|| panic!("no list `{key}`"))
    }
}

/// Returns a number of a golden file, where `NaN` and the infinities are strings.
pub(crate) fn number(v: &Value) -> f64 {
    match v {
        Value::String(s) if s == "NaN" => f64::NAN,
        Value::String(s) if s == "Infinity" => f64::INFINITY,
        Value::String(s) if s == "-Infinity" => f64::NEG_INFINITY,
        v => v.as_f64().unwrap_or_else(|| panic!("{v} is not a number")),
    }
}

/// Returns the numbers of a list.
pub(crate) fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap_or_else(|| panic!("{v} is not a list")).iter().map(number).collect()
}

/// The allowed difference of two numbers: `atol + rtol * |theirs|`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tol {
    pub(crate) rtol: f64,
    pub(crate) atol: f64,
}

/// The comparisons of one topic and their results.
#[derive(Default)]
pub(crate) struct Report {
    cases: usize,
    comparisons: usize,
    /// The error and tolerance of the comparison closest to its tolerance, or furthest beyond it.
    worst: Option<(f64, f64)>,
    failures: Vec<String>,
    differences: Vec<String>,
}

impl Report {
    /// Counts a case.
    pub(crate) fn case(&mut self) {
        self.cases += 1;
    }

    /// Records a failure.
    pub(crate) fn fail(&mut self, why: impl Display) {
        self.failures.push(why.to_string());
    }

    /// Fails unless `yes`.
    pub(crate) fn holds(&mut self, what: impl Display, yes: bool) {
        self.comparisons += 1;
        if !yes {
            self.fail(format!("{what} does not hold"));
        }
    }

    /// Fails unless both are equal.
    pub(crate) fn exact<T: PartialEq + Debug + ?Sized>(
        &mut self,
        what: impl Display,
        ours: &T,
        theirs: &T,
    ) {
        self.comparisons += 1;
        if ours != theirs {
            self.fail(format!("{what}: {ours:?} instead of {theirs:?}"));
        }
    }

    /// Fails unless all numbers are within the tolerance. NaN equals NaN.
    pub(crate) fn close(&mut self, what: impl Display, ours: &[f64], theirs: &[f64], tol: Tol) {
        self.comparisons += 1;
        if ours.len() != theirs.len() {
            self.fail(format!("{what}: {} numbers instead of {}", ours.len(), theirs.len()));
            return;
        }
        let mut far: Option<(usize, f64, f64)> = None;
        for (i, (&a, &b)) in ours.iter().zip(theirs).enumerate() {
            let same = a == b || (a.is_nan() && b.is_nan());
            let error = if same { 0.0 } else { (a - b).abs() };
            let limit = tol.atol + tol.rtol * if b.is_finite() { b.abs() } else { 0.0 };
            let ratio = if error.is_nan() { f64::INFINITY } else { error / limit };
            if !same && far.is_none_or(|(_, e, l)| ratio > e / l) {
                far = Some((i, if error.is_nan() { f64::INFINITY } else { error }, limit));
            }
        }
        let (i, error, limit) = far.unwrap_or((0, 0.0, tol.atol.max(tol.rtol)));
        if self.worst.is_none_or(|(e, l)| error / limit > e / l) {
            self.worst = Some((error, limit));
        }
        if error > limit {
            let (a, b) = (ours[i], theirs[i]);
            self.fail(format!("{what}: [{i}] is {a} instead of {b}, off by {error:e} > {limit:e}"));
        }
    }

    /// Fails unless shapes are equal and all numbers are within the tolerance.
    pub(crate) fn tensor(&mut self, what: impl Display, ours: &Tensor, theirs: &Tensor, tol: Tol) {
        if ours.size() != theirs.size() {
            self.fail(format!("{what}: {:?} instead of {:?}", ours.size(), theirs.size()));
            return;
        }
        self.close(what, &flat(ours), &flat(theirs), tol);
    }

    /// Records an intended difference. The caller has compared with the correct result instead.
    pub(crate) fn differs(&mut self, case: impl Display, why: impl Display) {
        self.differences.push(format!("{case}: {why}"));
    }
}

/// Returns the numbers of a tensor, in row-major order.
pub(crate) fn flat(t: &Tensor) -> Vec<f64> {
    let t = t.detach().to_kind(Kind::Double).contiguous().view([-1]);
    Vec::try_from(&t).expect("a flat tensor of doubles")
}

/// Returns the integers of a tensor, in row-major order.
pub(crate) fn ints(t: &Tensor) -> Vec<i64> {
    let t = t.detach().to_kind(Kind::Int64).contiguous().view([-1]);
    Vec::try_from(&t).expect("a flat tensor of integers")
}

/// Runs one topic and prints its line.
pub(crate) fn run(
    topic: &str,
    golden: Option<Golden>,
    check: fn(&Golden, &mut Report),
    expected: usize,
) -> Result<(), libtest_mimic::Failed> {
    let golden = golden.ok_or_else(|| format!("no {topic}.json in {}", folder().display()))?;
    let mut report = Report::default();
    check(&golden, &mut report);
    if report.cases == 0 || report.comparisons == 0 {
        report.fail("nothing was compared");
    }
    // Otherwise, skipped comparisons would not be noticed.
    if is_carried() && report.comparisons != expected {
        let n = report.comparisons;
        report
            .fail(format!("{n} comparisons instead of {expected}: see TOPICS in tests/golden.rs"));
    }
    let (error, limit) = report.worst.unwrap_or((0.0, 0.0));
    let verdict = if report.failures.is_empty() { "ok" } else { "NOT OK" };
    let mut lines = vec![format!(
        "{topic:10} {:4} cases {:5} comparisons  largest error {error:8.1e}  tolerance {limit:8.1e}  \
         {verdict}",
        report.cases, report.comparisons
    )];
    lines.extend(report.differences.iter().map(|d| format!("    on purpose: {d}")));
    println!("{}", lines.join("\n"));
    if report.failures.is_empty() {
        return Ok(());
    }
    let shown = 20.min(report.failures.len());
    let rest = report.failures.len() - shown;
    Err(format!("{}\n(and {rest} more)", report.failures[..shown].join("\n")).into())
}
