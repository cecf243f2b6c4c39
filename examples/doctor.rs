//! Prints what the crate finds on this machine: `cargo run --example doctor`.
#![allow(clippy::print_stdout, reason = "a program shows what it does")]

fn main() {
    print!("{}", finetune::doctor());
}
