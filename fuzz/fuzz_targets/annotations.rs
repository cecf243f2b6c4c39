//! Reading an annotation file with any content succeeds or returns an error: COCO, Pascal VOC or YOLO.
#![no_main]

use finetune::data::{get_annotations, get_voc_annotations, get_yolo_annotations};
use libfuzzer_sys::fuzz_target;
use std::{fs, path::Path};

fn write(file: &Path, content: &[u8]) {
    let folder = file.parent().expect("the file is in a folder");
    fs::create_dir_all(folder).expect("the folder can be made");
    fs::write(file, content).expect("the folder can be written");
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    let folder = std::env::temp_dir().join(format!("finetune-fuzz-{}", std::process::id()));
    let [images, labels] = ["images", "labels"].map(|name| folder.join(name));
    let found = match first % 3 {
        0 => {
            write(&folder.join("a.json"), rest);
            get_annotations(folder.join("a.json"), "images/")
        }
        1 => {
            write(&labels.join("a.xml"), rest);
            get_voc_annotations(&labels, &images)
        }
        _ => {
            write(&images.join("a.ppm"), b"P6 2 2 255\nabcdefghijkl");
            write(&labels.join("a.txt"), rest);
            get_yolo_annotations(&images, &labels, &["cat", "dog"])
        }
    };
    for item in found.unwrap_or_default() {
        assert_eq!(item.boxes.len(), item.labels.len());
        assert!(item.boxes.iter().flatten().all(|side| side.is_finite()));
    }
});
