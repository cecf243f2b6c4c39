//! The networks of timm and torchvision by name: tables of their options and of their weights.
//!
//! `scripts/networks` writes the tables from the installed packages.

mod layout;
mod list;
mod suggest;
mod table;

pub use list::{NetworkInfo, list};

pub(super) use {
    layout::torchvision_name,
    suggest::nearest,
    table::{Network, find},
};
