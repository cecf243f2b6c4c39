//! The Python side of a comparison, which answers each request with one line of JSON.

use finetune::{Error, Result};
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// A running Python process.
pub(crate) struct Peer {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts `script`.
    pub(crate) fn new(python: &Path, script: &str) -> std::io::Result<Self> {
        let mut process = Command::new(python)
            .arg(script)
            // Python uses its own libtorch.
            .env_remove("LD_LIBRARY_PATH")
            .env("PYTHONHASHSEED", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let missing = || std::io::Error::other("no pipe to the process");
        let requests = process.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(process.stdout.take().ok_or_else(missing)?);
        Ok(Self { process, requests, answers })
    }

    /// Sends a request and returns the answer, or an error if it has the key `error`.
    pub(crate) fn ask(&mut self, request: &Value) -> Result<Value> {
        let broken = |e: std::io::Error| other(format!("the Python side ended: {e}"));
        writeln!(self.requests, "{request}").map_err(broken)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(broken)?;
        let answer: Value =
            serde_json::from_str(&line).map_err(|e| other(format!("no answer: {e}")))?;
        match answer.get("error") {
            Some(error) => Err(other(format!("Python: {error}"))),
            None => Ok(answer),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the error of a comparison that failed.
pub(crate) fn other(why: String) -> Error {
    Error::unsupported("interop", why)
}
