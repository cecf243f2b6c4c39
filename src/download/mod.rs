//! Downloads: files, and fastai's data sets with their archives.

mod datasets;
mod exchange;
mod fastai_home;
mod file;
mod part;
mod unpack;
mod untar;

pub use {
    datasets::URLs,
    fastai_home::fastai_path,
    file::{Download, offline_by_environment, sha256_of},
    untar::{UntarData, untar_data},
};
