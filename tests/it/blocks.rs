//! Every target block from labels to batches, their default loss, and back.

use finetune::{
    Error,
    data::{
        BBoxBlock, BBoxLblBlock, CategoryBlock, DataBlock, DataLoaders, EncodedMultiCategoryBlock,
        GrandparentSplitter, ImageBlock, IndexSplitter, MultiCategoryBlock, NA, RegressionBlock,
        Sort, TargetBlock, get_image_files, parent_label,
    },
    image::Image,
    loss,
    sample::Target,
};
use std::{collections::BTreeMap, fs};
use tch::{Device, Kind, Tensor};

/// Returns items 0 to 5 as gray squares, the last two for validation.
fn block<Y: TargetBlock>(target: Y) -> DataBlock<Y, usize> {
    DataBlock::rows(ImageBlock::rgb(), target)
        .get_x(|i: &usize| Image::new(3, 2, 1, vec![*i as u8; 6]))
        .splitter(IndexSplitter::new([4, 5]))
        .shuffle(false)
        .bs(4)
        .device(Device::Cpu)
}

fn items() -> Vec<usize> {
    (0..6).collect()
}

/// Returns the targets of the first training batch, and its default loss for outputs of 0.
fn targets_and_loss(dls: &DataLoaders) -> (Tensor, f64) {
    let batch = dls.train().one_batch().unwrap();
    assert_eq!(batch.x.size(), [4, 3, 2, 3], "gray pictures become three channels");
    let y = batch.y.unwrap();
    let zeros = Tensor::zeros([4, dls.task().n_out() as i64], (Kind::Float, Device::Cpu));
    let loss = loss::default_for(&dls.task()).mean(&zeros, &y).unwrap();
    (y, f64::try_from(loss).unwrap())
}

#[test]
fn one_category() {
    let name = |i: &usize| Ok(["b", "a", "c", "a", "c", "b"][*i].to_owned());
    let dls = block(CategoryBlock::new()).get_y(name).dataloaders_from(items()).unwrap();
    let (y, loss) = targets_and_loss(&dls);
    assert_eq!((y.kind(), Vec::<i64>::try_from(&y).unwrap()), (Kind::Int64, vec![1, 0, 2, 0]));
    assert!((loss - 3f64.ln()).abs() < 1e-6, "cross-entropy of three equal chances: {loss}");

    // A given, unsorted vocabulary; a label that is not in it.
    let given = CategoryBlock::new().vocab(["c", "b", "a"]).sort(Sort::Given);
    let dls = block(given.clone()).get_y(name).dataloaders_from(items()).unwrap();
    assert_eq!(dls.task().vocab(), ["c", "b", "a"]);
    let other = |i: &usize| Ok(if *i == 3 { "tiger" } else { "a" }.to_owned());
    let e = block(given).get_y(other).dataloaders_from(items()).unwrap_err();
    let Error::Label { item, why, .. } = &e else { panic!("{e}") };
    assert_eq!(item, "item 3");
    assert!(why.contains("`tiger`") && why.contains("vocab"), "{why}");

    // A label that occurs only in validation is an error, unless there is a category for unknown labels.
    let late = |i: &usize| Ok(["a", "b", "a", "b", "c", "a"][*i].to_owned());
    let e = block(CategoryBlock::new()).get_y(late).dataloaders_from(items()).unwrap_err();
    assert!(e.to_string().starts_with("no label for item 4: `c` is not among"), "{e}");
    let dls =
        block(CategoryBlock::new().add_na(true)).get_y(late).dataloaders_from(items()).unwrap();
    assert_eq!(dls.task().vocab(), [NA, "a", "b"]);
    let y = dls.valid().one_batch().unwrap().y.unwrap();
    assert_eq!(Vec::<i64>::try_from(y).unwrap(), [0, 1]);

    let one = |_: &usize| Ok("a".to_owned());
    let e = block(CategoryBlock::new()).get_y(one).dataloaders_from(items()).unwrap_err();
    assert!(e.to_string().contains("every label is `a`"), "{e}");

    let mut decode = CategoryBlock::new();
    decode.setup(&mut ["x".to_owned(), "y".to_owned()].iter()).unwrap();
    assert_eq!(decode.decode(&Target::Category(1)).as_deref(), Some("y"));
    assert_eq!(decode.decode(&Target::Category(2)), None);
    assert_eq!(decode.decode(&Target::Values(vec![1.0])), None);
}

#[test]
fn several_categories() {
    let names = |i: &usize| {
        let all = [&["sun", "sea"][..], &[], &["sea"], &["sun"], &["sea"], &[]];
        Ok(all[*i].iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let dls = block(MultiCategoryBlock::new()).get_y(names).dataloaders_from(items()).unwrap();
    assert_eq!(dls.task().vocab(), ["sea", "sun"]);
    let (y, loss) = targets_and_loss(&dls);
    let expected = Tensor::from_slice(&[1f32, 1., 0., 0., 1., 0., 0., 1.]).view([4, 2]);
    assert_eq!(y, expected);
    assert!((loss - 2f64.ln()).abs() < 1e-6, "binary cross-entropy of even chances: {loss}");

    // The same labels, one-hot encoded.
    let flags = move |i: &usize| {
        let found = names(i)?;
        Ok(["sea", "sun"].iter().map(|n| found.iter().any(|f| f == n)).collect::<Vec<_>>())
    };
    let encoded = EncodedMultiCategoryBlock::new(["sea", "sun"]);
    let dls = block(encoded.clone()).get_y(flags).dataloaders_from(items()).unwrap();
    assert_eq!(targets_and_loss(&dls), (expected, loss));
    assert_eq!(encoded.decode(&Target::Categories(vec![1])), Some(vec![false, true]));
    let e = block(encoded).get_y(|_| Ok(vec![true])).dataloaders_from(items()).unwrap_err();
    assert!(e.to_string().contains("item 0: there are 1 values, but 2 categories"), "{e}");

    let unknown = |i: &usize| Ok(vec![if *i > 3 { "moon" } else { "sea" }.to_owned()]);
    let e = block(MultiCategoryBlock::new()).get_y(unknown).dataloaders_from(items()).unwrap_err();
    assert!(e.to_string().starts_with("no label for item 4: `moon`"), "{e}");
}

#[test]
fn numbers() {
    let dls = block(RegressionBlock::one()).get_y(|i| Ok(*i as f32)).dataloaders_from(items());
    let (y, loss) = {
        let batch = dls.as_ref().unwrap().train().one_batch().unwrap();
        let y = batch.y.unwrap();
        let zeros = Tensor::zeros([4, 1], (Kind::Float, Device::Cpu));
        let loss = loss::default_for(&dls.unwrap().task()).mean(&zeros, &y).unwrap();
        (y, f64::try_from(loss).unwrap())
    };
    assert_eq!(Vec::<f32>::try_from(&y).unwrap(), [0.0, 1.0, 2.0, 3.0]);
    assert!((loss - 3.5).abs() < 1e-6, "the mean of squares: {loss}");

    let two = |i: &usize| Ok(vec![*i as f32, -1.0]);
    let dls = block(RegressionBlock::new(2)).get_y(two).dataloaders_from(items()).unwrap();
    let (y, loss) = targets_and_loss(&dls);
    assert_eq!(y.size(), [4, 2]);
    assert!((loss - (14.0 + 4.0) / 8.0).abs() < 1e-6, "{loss}");
    let block_of_two = RegressionBlock::new(2);
    assert_eq!(block_of_two.decode(&Target::Values(vec![1.0, 2.0])), Some(vec![1.0, 2.0]));
    assert_eq!(RegressionBlock::one().decode(&Target::Values(vec![1.0, 2.0])), None);

    let e = block(RegressionBlock::new(3)).get_y(two).dataloaders_from(items()).unwrap_err();
    assert!(e.to_string().contains("item 0: there are 2 numbers, but the block expects 3"), "{e}");
    let e = block(RegressionBlock::one()).get_y(|_| Ok(f32::NAN)).dataloaders_from(items());
    assert!(e.unwrap_err().to_string().contains("NaN is not finite"));
}

#[test]
fn folders_are_classes_and_splits() {
    let folder = tempfile::tempdir().unwrap();
    for (i, name) in ["train/cat", "train/dog", "train/cat", "valid/dog"].iter().enumerate() {
        let class = folder.path().join(name);
        fs::create_dir_all(&class).unwrap();
        let side = image::GrayImage::from_pixel(4, 4, image::Luma([i as u8]));
        side.save(class.join(format!("{i}.png"))).unwrap();
    }
    let dls = DataBlock::blocks(ImageBlock::gray(), CategoryBlock::new())
        .get_items(get_image_files)
        .get_y(parent_label)
        .splitter(GrandparentSplitter::new())
        .bs(3)
        .shuffle(false)
        .device(Device::Cpu)
        .dataloaders(folder.path())
        .unwrap();
    let batch = dls.train().one_batch().unwrap();
    assert_eq!(batch.x.size(), [3, 1, 4, 4], "one channel");
    let values = Vec::<f32>::try_from(batch.x.select(3, 0).select(2, 0).view([-1])).unwrap();
    let classes = Vec::<i64>::try_from(batch.y.unwrap()).unwrap();
    let of: BTreeMap<_, _> =
        values.iter().map(|v| (v * 255.0).round() as u8).zip(classes).collect();
    assert_eq!(of, BTreeMap::from([(0, 0), (2, 0), (1, 1)]));
    assert_eq!(dls.valid().one_batch().unwrap().items.len(), 1);
}

#[test]
fn a_class_that_is_given_twice_is_an_error() {
    let given = ["cat", "dog", "cat"];
    let one = [String::from("cat")];
    let several = [vec![String::from("cat")]];
    let boxes = [(vec![[0.0, 0.0, 2.0, 2.0]], several[0].clone())];
    let mut boxed = (BBoxBlock::new(), BBoxLblBlock::new().vocab(given));
    for result in [
        CategoryBlock::new().vocab(given).setup(&mut one.iter()),
        CategoryBlock::new().vocab(given).strict(true).setup(&mut one.iter()),
        MultiCategoryBlock::new().vocab(given).setup(&mut several.iter()),
        boxed.setup(&mut boxes.iter()),
    ] {
        let e = result.unwrap_err();
        assert!(matches!(e, Error::Config { option: "vocab", .. }), "{e}");
        assert!(e.to_string().contains("`cat`"), "{e}");
    }
}

#[test]
fn missing_parts_are_named() {
    let none: DataBlock<_, usize> = DataBlock::rows(ImageBlock::rgb(), CategoryBlock::new());
    let option = |e: Error| match e {
        Error::Config { option, .. } => option,
        e => panic!("{e}"),
    };
    assert_eq!(option(none.dataloaders("x").unwrap_err()), "get_items");
    assert_eq!(option(none.dataloaders_from(items()).unwrap_err()), "get_x");
    let with_x = block(CategoryBlock::new());
    assert_eq!(option(with_x.dataloaders_from(items()).unwrap_err()), "get_y");
    let whole = with_x.get_y(|i| Ok(i.to_string()));
    assert_eq!(option(whole.dataloaders_from(vec![]).unwrap_err()), "get_items");
    let all = whole.splitter(IndexSplitter::new(0..6));
    let e = all.dataloaders_from(items()).unwrap_err();
    assert!(matches!(e, Error::EmptySplit { split: "training", .. }), "{e}");
    // An error of user code gets the item's name.
    let own = block(CategoryBlock::new())
        .get_y(|i| if *i == 2 { Err(Error::other("no idea")) } else { Ok(i.to_string()) });
    let e = own.dataloaders_from(items()).unwrap_err().to_string();
    assert_eq!(e, "get_y failed on item 2: no idea");
}
