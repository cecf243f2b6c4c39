//! Single tests of this program in processes of their own, for other environment variables or folders.

use std::{env, process::Command};

/// Returns a command that runs only the test `name`, such as `download::offline`, even if it is ignored.
pub(crate) fn test(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", name, "--include-ignored", "--nocapture"]);
    command
}

/// Runs a command of [`test`]. Returns true if the test passed, and all output.
pub(crate) fn run(command: &mut Command) -> (bool, String) {
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    (out.status.success() && said.contains("1 passed"), said)
}
