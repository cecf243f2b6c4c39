//! The results: a line of JSON for each check, written as soon as it is known.

use finetune::{Error, Result};
use serde_json::{Value, json};
use std::{
    fs::{File, OpenOptions},
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Instant,
};

/// Whether a check passed, and its figures.
pub(crate) type Checked = (bool, Value);

/// A check that has not run yet.
pub(crate) struct Check<'a> {
    name: String,
    run: Box<dyn FnOnce() -> Result<Checked> + 'a>,
}

/// Returns a check.
pub(crate) fn check<'a>(
    name: impl Into<String>,
    run: impl FnOnce() -> Result<Checked> + 'a,
) -> Check<'a> {
    Check { name: name.into(), run: Box::new(run) }
}

/// The file of results.
pub(crate) struct Report(File);

impl Report {
    /// Opens the file, to append to it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self(file.map_err(Error::io(path))?))
    }

    fn line(&mut self, line: &Value) -> Result<()> {
        writeln!(self.0, "{line}").map_err(Error::other)
    }

    /// Runs all checks. The first line lists them, so that one which ends the process is noticed. An error or a
    /// panic ends only its own check.
    pub(crate) fn run(mut self, checks: Vec<Check<'_>>) -> Result<()> {
        let names: Vec<_> = checks.iter().map(|check| &check.name).collect();
        self.line(&json!({ "planned": names }))?;
        for Check { name, run } in checks {
            let start = Instant::now();
            let done = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Err(Error::other(format!("panic: {}", text.unwrap_or("without a message"))))
            });
            let seconds = rounded(start.elapsed().as_secs_f64(), 3);
            let mut line = json!({ "check": name, "ok": false, "seconds": seconds, "error": null });
            match done {
                Ok((ok, figures)) => {
                    line["ok"] = ok.into();
                    line["figures"] = figures;
                }
                Err(e) => line["error"] = e.to_string().into(),
            }
            self.line(&line)?;
        }
        Ok(())
    }
}

/// Rounds to a number of decimal places.
pub(crate) fn rounded(v: f64, places: i32) -> f64 {
    let unit = 10_f64.powi(places);
    (v * unit).round() / unit
}

/// Rounds to three significant digits, for errors of any magnitude.
pub(crate) fn digits(v: f64) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return v;
    }
    rounded(v, 2 - v.abs().log10().floor() as i32)
}
