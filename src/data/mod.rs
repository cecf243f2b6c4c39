//! From a source of items to batches on a device.

mod arrays;
mod batch;
mod block;
mod buffers;
mod cache;
mod cache_file;
mod cache_fill;
mod cache_memory;
mod check;
mod check_report;
mod column;
mod columns;
mod dataset;
mod fastai_home;
mod files;
mod label;
mod loader;
mod loaders;
mod options;
mod order;
mod pool;
mod prefetch;
mod skip;
mod source;
mod split;
mod split_by;
mod split_classes;
mod summary;
mod table;
mod target;
mod target_values;
mod test_items;
mod torch_rng;
mod unpack;
mod untar;
mod urls;
mod verify;
mod weighted;

pub use {
    arrays::Arrays,
    block::DataBlock,
    cache::{Cache, CacheStatus},
    check_report::{CheckReport, ClassCount, Duplicates, Finding},
    columns::{ColReader, ColSplitter},
    dataset::Dataset,
    fastai_home::fastai_path,
    files::{IMAGE_EXTENSIONS, ImageFiles, get_image_files},
    label::{Labeller, RegexLabeller, parent_label, using_name, using_path},
    loader::{Batches, DataLoader},
    loaders::DataLoaders,
    options::LoaderOptions,
    skip::{OnError, SkippedItem},
    source::{ImageBlock, ImageSource},
    split::{RandomSplitter, RandomSubsetSplitter, Splits, Splitter},
    split_by::{
        EndSplitter, FileSplitter, FuncSplitter, GrandparentSplitter, IndexSplitter, MaskSplitter,
    },
    split_classes::{GroupSplitter, TrainTestSplitter},
    table::{Column, Csv, Row, read_csv},
    target::{CategoryBlock, NA, Sort, TargetBlock},
    target_values::{EncodedMultiCategoryBlock, MultiCategoryBlock, RegressionBlock, Values},
    torch_rng::TorchRng,
    untar::{UntarData, untar_data},
    urls::URLs,
    verify::verify_images,
};
