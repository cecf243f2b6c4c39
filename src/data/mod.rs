//! Data sets: items with labels, splits, and loaders of batches on a device.

mod block;
mod cache;
mod caught;
mod check;
mod dataset;
mod digest;
mod fingerprint;
mod items;
mod loaders;
mod loading;
mod notes;
mod split;
mod summary;
mod target;
mod test_dl;
mod transforms;

#[cfg(feature = "csv")]
pub use items::{ColReader, ColSplitter, Column, Csv, Row, read_csv};
pub(crate) use loading::{BatchPart, Share, order::shuffle};

pub use {
    block::DataBlock,
    cache::{Cache, CacheStatus},
    check::{CheckReport, ClassCount, Duplicates, Finding, NearDuplicate, verify_images},
    dataset::Dataset,
    items::{
        Annotated, IMAGE_EXTENSIONS, ImageBlock, ImageFiles, ImageSource, Labeller, Listing,
        RegexLabeller, get_annotations, get_image_files, get_voc_annotations, get_yolo_annotations,
        parent_label, using_name, using_path,
    },
    loaders::DataLoaders,
    loading::{Arrays, Batches, DataLoader, LoaderOptions, OnError, SkippedItem},
    split::{
        EndSplitter, FileSplitter, FuncSplitter, GrandparentSplitter, GroupSplitter, IndexSplitter,
        MaskSplitter, RandomSplitter, RandomSubsetSplitter, Splits, Splitter, TorchRng,
        TrainTestSplitter,
    },
    target::{
        BBoxBlock, BBoxLblBlock, CategoryBlock, Corners, EncodedMultiCategoryBlock, MaskBlock,
        MultiCategoryBlock, NA, PointBlock, RegressionBlock, RegressionLabel, Sort, TargetBlock,
    },
    transforms::Transforms,
};

pub(crate) use digest::digest;
