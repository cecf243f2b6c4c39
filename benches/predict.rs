//! Writes a trained ResNet-18 to two files and prints its labels, computed by libtorch. `scripts/predict-figures`
//! compares them with the predictor without libtorch. `cargo bench --bench predict -- PHOTOS OUT ODD`
//! trains on the folder PHOTOS, writes OUT/pets.safetensors and OUT/pets.onnx, and prints label and path
//! of each photo in PHOTOS and ODD, separated by a tab.

#![allow(clippy::print_stdout, reason = "a program shows what it does")]

use finetune::{learner::OnnxOptions, model::resnet18, prelude::*};
use std::path::PathBuf;

fn main() -> Result<()> {
    let args: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        .filter(|a| !a.to_string_lossy().starts_with("--"))
        .map(PathBuf::from)
        .collect();
    let [photos, out, odd] = &args[..] else {
        return Err(finetune::Error::other("usage: predict PHOTOS OUT ODD"));
    };
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(get_image_files)
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .splitter(RandomSplitter::new(0.2).seed(42))
        .item_tfms(Resize::new(224))
        .bs(16)
        .device(Device::Cpu)
        .dataloaders(photos)?;
    // Without pretrained weights, no download is needed. The labels only have to differ between photos.
    let mut learn = vision_learner(dls, resnet18()).pretrained(false).build()?.quiet();
    learn.fit_one_cycle(2, 3e-3)?;
    let bundle = out.join("pets.safetensors");
    learn.export(&bundle)?;
    learn.export_onnx(OnnxOptions::new(out.join("pets.onnx")).verify(0))?;
    let predictor = Predictor::load(&bundle, Device::Cpu)?;
    let mut files = get_image_files(photos)?;
    files.extend(get_image_files(odd)?);
    for (file, answer) in files.iter().zip(predictor.predict_batch(&files)?) {
        println!("{}\t{}", answer.label, file.display());
    }
    Ok(())
}
