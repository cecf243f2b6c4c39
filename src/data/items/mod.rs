//! Items and labels: sources and readers.

pub(in crate::data) mod annotations;
#[cfg(feature = "csv")]
pub(in crate::data) mod columns;
pub(in crate::data) mod files;
pub(in crate::data) mod label;
pub(in crate::data) mod labeled;
pub(in crate::data) mod names;
pub(in crate::data) mod source;
#[cfg(feature = "csv")]
pub(in crate::data) mod table;
pub(in crate::data) mod test_items;

pub use {
    annotations::{Annotated, get_annotations, get_voc_annotations, get_yolo_annotations},
    files::{IMAGE_EXTENSIONS, ImageFiles, Listing, get_image_files},
    label::{Labeller, RegexLabeller, parent_label, using_name, using_path},
    source::{ImageBlock, ImageSource},
};
#[cfg(feature = "csv")]
pub use {
    columns::{ColReader, ColSplitter},
    table::{Column, Csv, Row, read_csv},
};
