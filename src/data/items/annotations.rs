//! Boxes from annotation files: COCO, Pascal VOC, YOLO.

use super::files::get_image_files;
use crate::{
    data::target::boxes::Corners,
    error::{Error, Result},
    image::{Decode, inspect},
};
use serde::Deserialize;
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// An image with its boxes and their class names: an item for a [`DataBlock`](crate::data::DataBlock).
///
/// ```no_run
/// use finetune::data::{Annotated, BBoxBlock, BBoxLblBlock, DataBlock, ImageBlock, get_annotations};
///
/// let items = get_annotations("coco/train.json", "coco/train/")?;
/// let dls = DataBlock::rows(ImageBlock::rgb(), (BBoxBlock::new(), BBoxLblBlock::new()))
///     .get_x(|item: &Annotated| Ok(item.file.clone()))
///     .get_y(|item| Ok((item.boxes.clone(), item.labels.clone())))
///     .dataloaders_from(items)?;
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Annotated {
    /// The image.
    pub file: PathBuf,
    /// The left, top, right and bottom of each box, in pixels.
    pub boxes: Vec<Corners>,
    /// The class of each box.
    pub labels: Vec<String>,
}

/// Returns the error of an invalid file.
fn broken(file: &Path, why: impl Into<String>) -> Error {
    Error::label(file.display().to_string(), why)
}

/// Returns the corners of a box in a file, if they are finite and in order. A box without width or height is
/// accepted here: published data sets contain some, and a program can filter them. Otherwise, the target block
/// returns an error that names the image.
fn corners_of(sides: [f64; 4]) -> std::result::Result<Corners, String> {
    let [left, top, right, bottom] = sides;
    let what = if !sides.iter().all(|v| (*v as f32).is_finite()) {
        "has a coordinate that is not finite"
    } else if right < left || bottom < top {
        "is inverted"
    } else {
        return Ok(sides.map(|v| v as f32));
    };
    Err(format!("the box from ({left}, {top}) to ({right}, {bottom}) {what}"))
}

/// Returns the text of a file, without the byte order mark that programs for Windows write.
fn text_of(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file).map_err(Error::io(file))?;
    Ok(text.strip_prefix('\u{feff}').map(ToOwned::to_owned).unwrap_or(text))
}

#[derive(Deserialize)]
struct Coco {
    images: Vec<CocoImage>,
    annotations: Vec<CocoBox>,
    categories: Vec<CocoCategory>,
}

#[derive(Deserialize)]
struct CocoImage {
    id: i64,
    file_name: String,
}

#[derive(Deserialize)]
struct CocoBox {
    image_id: i64,
    category_id: i64,
    /// Left, top, width, height.
    bbox: [f64; 4],
}

#[derive(Deserialize)]
struct CocoCategory {
    id: i64,
    name: String,
}

/// Returns the annotated images of a COCO file, in its order, with `prefix` before their file names:
/// fastai's [`get_annotations`](https://docs.fast.ai/vision.data.html#get_annotations). Images without a
/// box are left out, and boxes of crowds (`iscrowd`) are boxes like the others, as in fastai. Polygons and masks
/// (`segmentation`) are not read.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read; [`Error::Label`], naming it, if it is not a COCO file, or if a
/// box is inverted, or refers to an image or a category that is not listed, if two images or two categories
/// have the same id, or if two images have the same file. fastai ignores boxes without an image, and keeps the
/// last image or category of an id.
pub fn get_annotations(file: impl AsRef<Path>, prefix: &str) -> Result<Vec<Annotated>> {
    let file = file.as_ref();
    let coco: Coco = serde_json::from_str(&text_of(file)?)
        .map_err(|e| broken(file, format!("it is not a COCO file: {e}")))?;
    let names = by_id("categories", coco.categories.iter().map(|c| (c.id, c.name.as_str())))
        .map_err(|why| broken(file, why))?;
    let known = by_id("images", coco.images.iter().map(|i| (i.id, i.file_name.as_str())))
        .map_err(|why| broken(file, why))?;
    let mut ids: HashMap<&str, i64> = HashMap::new();
    for image in &coco.images {
        if let Some(first) = ids.insert(&image.file_name, image.id) {
            let (name, id) = (&image.file_name, image.id);
            let why = format!(
                "the images {first} and {id} have the same file, `{name}`: give their boxes to one of them"
            );
            return Err(broken(file, why));
        }
    }
    let mut boxes: HashMap<i64, (Vec<Corners>, Vec<String>)> = HashMap::new();
    for (i, b) in coco.annotations.iter().enumerate() {
        let Some(name) = names.get(&b.category_id) else {
            let why = format!("annotation {i} has category {}, which is not listed", b.category_id);
            return Err(broken(file, why));
        };
        if !known.contains_key(&b.image_id) {
            let why = format!("annotation {i} is of image {}, which is not listed", b.image_id);
            return Err(broken(file, why));
        }
        let [left, top, width, height] = b.bbox;
        let corners = corners_of([left, top, left + width, top + height])
            .map_err(|why| broken(file, format!("annotation {i}: {why}")))?;
        let (all, labels) = boxes.entry(b.image_id).or_default();
        all.push(corners);
        labels.push((*name).to_owned());
    }
    let annotated = |image: &CocoImage| {
        let (boxes, labels) = boxes.remove(&image.id)?;
        Some(Annotated { file: format!("{prefix}{}", image.file_name).into(), boxes, labels })
    };
    Ok(coco.images.iter().filter_map(annotated).collect())
}

/// Returns the names of a list in a COCO file by their ids, which must be distinct.
fn by_id<'a>(
    list: &str,
    entries: impl Iterator<Item = (i64, &'a str)>,
) -> std::result::Result<HashMap<i64, &'a str>, String> {
    let mut all = HashMap::new();
    for (id, name) in entries {
        if let Some(first) = all.insert(id, name) {
            return Err(format!(
                "`{list}` has two entries with the id {id}: `{first}` and `{name}`"
            ));
        }
    }
    Ok(all)
}

/// Returns the files of a folder with an extension, sorted. Files whose names begin with a dot are left out.
fn files_with(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let mut files = vec![];
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Returns the annotated images of a folder of Pascal VOC files, one XML file each, sorted by name. Their
/// images are in `images`. Pixels are counted from 1 in the files, and from 0 here. Files whose names begin with
/// a dot are left out.
///
/// # Errors
/// [`Error::Io`] if a file cannot be read; [`Error::Label`], naming it, if it does not have this format, a
/// box is inverted, or it is of the same image as another file.
pub fn get_voc_annotations(
    folder: impl AsRef<Path>,
    images: impl AsRef<Path>,
) -> Result<Vec<Annotated>> {
    let mut all = vec![];
    let mut owners: HashMap<PathBuf, PathBuf> = HashMap::new();
    for file in files_with(folder.as_ref(), "xml")? {
        let item = voc(&file, images.as_ref())?;
        if let Some(other) = owners.insert(item.file.clone(), file.clone()) {
            let image = item.file.display();
            let why = format!(
                "it is of the same image as {}, {image}: move its objects there, or remove it",
                other.display()
            );
            return Err(broken(&file, why));
        }
        all.push(item);
    }
    Ok(all)
}

fn voc(file: &Path, images: &Path) -> Result<Annotated> {
    let text = text_of(file)?;
    let document = roxmltree::Document::parse(&text)
        .map_err(|e| broken(file, format!("it is not XML: {e}")))?;
    let child = |node: roxmltree::Node<'_, '_>, name: &str| {
        let found = node.children().find(|c| c.has_tag_name(name)).and_then(|c| c.text());
        let missing = || broken(file, format!("`{}` has no `{name}`", node.tag_name().name()));
        found.map(|t| t.trim().to_owned()).ok_or_else(missing)
    };
    let root = document.root_element();
    let mut all =
        Annotated { file: images.join(child(root, "filename")?), boxes: vec![], labels: vec![] };
    for object in root.children().filter(|c| c.has_tag_name("object")) {
        let bounds = object.children().find(|c| c.has_tag_name("bndbox"));
        let bounds = bounds.ok_or_else(|| broken(file, "an `object` has no `bndbox`"))?;
        let side = |name: &str| {
            let text = child(bounds, name)?;
            text.parse::<f64>().map_err(|_| broken(file, format!("`{name}` is `{text}`")))
        };
        // The first pixel is 1, and the last one is part of the box.
        let corners = [side("xmin")? - 1.0, side("ymin")? - 1.0, side("xmax")?, side("ymax")?];
        all.boxes.push(corners_of(corners).map_err(|why| broken(file, why))?);
        all.labels.push(child(object, "name")?);
    }
    Ok(all)
}

/// Returns the images of a folder and its subfolders with the boxes of their YOLO text files, in the order of
/// [`get_image_files`]. The text file of `images/train/a.jpg` is `labels/train/a.txt`: it has the same path within
/// `labels`, which may be the same folder, and the extension `txt`. Each line is a class index, then the center, the
/// width and the height of a box as fractions of the image. `names` are the classes. Image sizes are read from the
/// headers.
///
/// # Errors
/// [`Error::Io`] if a file is missing or cannot be read; [`Error::Label`], naming the text file, if a line
/// is invalid, a box is inverted, a class is not in `names`, or two images have the same text file, such as `a.jpg`
/// and `a.png`; [`Error::Image`] for a file that is not an image.
pub fn get_yolo_annotations<S: AsRef<str>>(
    images: impl AsRef<Path>,
    labels: impl AsRef<Path>,
    names: &[S],
) -> Result<Vec<Annotated>> {
    let (images, labels) = (images.as_ref(), labels.as_ref());
    let mut pairs: Vec<(PathBuf, PathBuf)> = vec![];
    let mut owners: HashMap<PathBuf, PathBuf> = HashMap::new();
    for image in get_image_files(images)? {
        let inside = image.strip_prefix(images).unwrap_or(&image);
        let file = labels.join(inside.with_extension("txt"));
        if let Some(other) = owners.insert(file.clone(), image.clone()) {
            let why = format!(
                "it is the text file of two images, {} and {}: rename or remove one of them",
                other.display(),
                image.display()
            );
            return Err(broken(&file, why));
        }
        pairs.push((file, image));
    }
    pairs.into_iter().map(|(file, image)| yolo(&file, image, names)).collect()
}

fn yolo<S: AsRef<str>>(file: &Path, image: PathBuf, names: &[S]) -> Result<Annotated> {
    let (width, height) = size_of(&image)?;
    let mut all = Annotated { file: image, boxes: vec![], labels: vec![] };
    for (i, line) in text_of(file)?.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let wrong = |why: String| broken(file, format!("line {}, `{line}`: {why}", i + 1));
        let mut words = line.split_whitespace();
        let class = words.next().unwrap_or_default();
        let name = class.parse::<usize>().ok().and_then(|c| names.get(c));
        let name = name.ok_or_else(|| {
            wrong(format!("the class must be a number below {}, the number of names", names.len()))
        })?;
        let numbers: Option<Vec<f64>> = words.map(|w| w.parse().ok()).collect();
        let Some(&[x, y, w, h]) = numbers.as_deref() else {
            return Err(wrong("four numbers must follow the class: x, y, width, height".into()));
        };
        let corners = [x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0];
        let sides = [width, height, width, height].map(f64::from);
        let corners = std::array::from_fn(|k| corners[k] * sides[k]);
        all.boxes.push(corners_of(corners).map_err(wrong)?);
        all.labels.push(name.as_ref().to_owned());
    }
    Ok(all)
}

/// The maximum number of pixels of a decoded image.
const MAX_PIXELS: u64 = 1 << 28;

/// Returns the width and height of an image after decoding.
fn size_of(file: &Path) -> Result<(u32, u32)> {
    let bytes = fs::read(file).map_err(Error::io(file))?;
    let facts = inspect(&bytes, MAX_PIXELS)
        .map_err(|cause| Error::image(file.display().to_string(), cause))?;
    if !facts.turned {
        return Ok((facts.width, facts.height));
    }
    let image = Decode::new().open(file)?;
    Ok((image.width(), image.height()))
}
