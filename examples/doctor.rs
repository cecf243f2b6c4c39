//! Prints what the crate finds on this machine: `cargo run --example doctor`.

fn main() {
    print!("{}", finetune::doctor());
}
