//! The guarantees of the loader: the same batches for any number of workers, errors that are reported,
//! and an end in time.

use super::pets::{BREEDS, first_of, photos};
use finetune::{
    Error, Result,
    data::{
        Arrays, CategoryBlock, ColReader, ColSplitter, DataBlock, DataLoader, DataLoaders, Dataset,
        ImageBlock, IndexSplitter, LoaderOptions, MultiCategoryBlock, OnError, RegexLabeller,
        RegressionBlock, Row, Splits, TargetBlock, Transforms, get_image_files, read_csv,
        using_name,
    },
    image::Image,
    sample::{Batch, Sample, Split, Target, Task},
    transform::{Resize, aug_transforms},
};
use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};
use tch::{Device, Kind, Tensor};

fn pets() -> DataBlock<CategoryBlock> {
    DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(first_of(&BREEDS, 8))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$").unwrap()))
        .item_tfms(Resize::new(80))
        .bs(6)
        .device(Device::Cpu)
}

/// The content of a batch, bit for bit: the shape, the inputs, the targets, the items.
type Bits = (Vec<i64>, Vec<u32>, Vec<i64>, Vec<usize>);

fn bits(batch: &Batch) -> Bits {
    let x = batch.x.contiguous().view([-1]);
    let x: Vec<u32> = Vec::<f32>::try_from(&x).unwrap().into_iter().map(f32::to_bits).collect();
    let y = batch.y.as_ref().map(|y| Vec::try_from(&y.to_kind(Kind::Int64)).unwrap());
    (batch.x.size(), x, y.unwrap_or_default(), batch.items.clone())
}

fn all(loader: &DataLoader, pass: u64) -> Vec<Bits> {
    loader.batches(pass).map(|batch| bits(&batch.unwrap())).collect()
}

/// A data set of plain squares whose item 5 can fail and whose item 7 can panic.
struct Squares {
    n: usize,
    bad: bool,
    /// The number of times that one of the first `counted` items was loaded.
    loaded: Arc<AtomicUsize>,
    counted: usize,
}

impl Squares {
    fn new(n: usize, bad: bool) -> Self {
        Self { n, bad, loaded: Arc::default(), counted: n }
    }

    fn loaders(self, workers: usize, options: LoaderOptions) -> DataLoaders {
        let splits = Splits { train: (0..self.n).collect(), valid: (0..self.n).collect() };
        let options = options.num_workers(workers).device(Device::Cpu);
        DataLoaders::from_dataset(self, splits, Transforms::new(), options).unwrap()
    }
}

impl Dataset for Squares {
    fn len(&self) -> usize {
        self.n
    }

    fn get(&self, index: usize) -> Result<Sample> {
        if index < self.counted {
            self.loaded.fetch_add(1, Ordering::Relaxed);
        }
        match index {
            5 if self.bad => Err(Error::image(self.name(5), "it is damaged")),
            7 if self.bad => panic!("nobody expects this"),
            _ => {
                let image = Image::new(4, 4, 3, vec![index as u8; 48])?;
                Ok(Sample::new(image, Target::Values(vec![index as f32])))
            }
        }
    }

    fn name(&self, index: usize) -> String {
        format!("square {index}")
    }

    fn task(&self) -> Task {
        Task::Values { n: 1 }
    }
}

/// Fails if `work` takes more than a minute.
fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let worker = thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    match wait.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => worker.join().unwrap(),
    }
}

#[test]
fn batches_are_the_same_for_any_number_of_workers_and_in_every_run() {
    let block = pets().batch_tfms(aug_transforms().size(48).min_scale(0.75));
    let first = block.clone_with(0);
    let expected: Vec<_> = [0, 1].iter().map(|&pass| all(first.train(), pass)).collect();
    assert_ne!(expected[0], expected[1], "each pass has its own order and its own draws");
    let valid = all(first.valid(), 0);
    assert_eq!(valid, all(first.valid(), 1), "validation is the same in every pass");
    for workers in [0, 1, 2, 8] {
        let dls = block.clone_with(workers);
        assert_eq!(all(dls.train(), 0), expected[0], "{workers} workers");
        assert_eq!(all(dls.train(), 1), expected[1], "{workers} workers");
        assert_eq!(all(dls.valid(), 3), valid, "{workers} workers");
    }
}

/// Returns the loaders of a block with another number of workers.
trait CloneWith {
    fn clone_with(&self, workers: usize) -> DataLoaders;
}

impl CloneWith for DataBlock<CategoryBlock> {
    fn clone_with(&self, workers: usize) -> DataLoaders {
        let dls = self.dataloaders(photos()).unwrap();
        dls.with(LoaderOptions::new().num_workers(workers)).unwrap()
    }
}

#[test]
fn a_pass_can_start_at_any_batch() {
    let dls = pets().batch_tfms(aug_transforms().size(48)).dataloaders(photos()).unwrap();
    let whole = all(dls.train(), 7);
    for first in 0..=whole.len() + 1 {
        let rest: Vec<_> = dls.train().batches_from(7, first).map(|b| bits(&b.unwrap())).collect();
        assert_eq!(rest, whole[first.min(whole.len())..], "from {first}");
    }
}

#[test]
fn without_batch_transforms_values_are_bytes_over_255() {
    let dls = pets().dataloaders(photos()).unwrap();
    let batch = dls.valid().one_batch().unwrap();
    for (k, &item) in batch.items.iter().enumerate() {
        let image = dls.valid().sample(item, 0).unwrap().image;
        let plain = Tensor::from_slice(image.pixels()).view([80, 80, 3]).permute([2, 0, 1]);
        assert_eq!(batch.x.get(k as i64), plain.to_kind(Kind::Float) / 255.0);
    }
}

#[test]
fn errors_and_panics_are_errors_of_their_batch_only() {
    for workers in [0, 1, 2, 8] {
        in_time(move || {
            let options = LoaderOptions::new().bs(2).shuffle(false).drop_last(false);
            let dls = Squares::new(12, true).loaders(workers, options);
            let found: Vec<_> = dls.train().batches(0).collect();
            assert_eq!(found.len(), 6, "{workers} workers");
            let text = |k: usize| found[k].as_ref().unwrap_err().to_string();
            assert_eq!(text(2), "square 5 cannot be decoded as an image: it is damaged");
            assert!(matches!(&found[3], Err(Error::Worker { .. })));
            assert!(text(3).contains("nobody expects this") && text(3).contains("square 7"));
            for k in [0, 1, 4, 5] {
                assert_eq!(found[k].as_ref().unwrap().items, [2 * k, 2 * k + 1]);
            }
        });
    }
}

#[test]
fn files_that_cannot_be_decoded_are_skipped_on_request() {
    let mut expected: Option<Vec<_>> = None;
    for workers in [0, 2, 8] {
        let options = LoaderOptions::new().bs(3).on_error(OnError::Skip).seed(3).drop_last(false);
        let squares = Squares { bad: true, ..Squares::new(7, true) };
        let dls = squares.loaders(workers, options);
        let found = all(dls.train(), 0);
        let mut items: Vec<_> = found.iter().flat_map(|b| b.3.clone()).collect();
        for (size, x, y, items) in &found {
            assert_eq!(size[0] as usize, items.len());
            let each = x.len() / items.len();
            for (k, &item) in items.iter().enumerate() {
                assert_eq!(x[k * each], (item as f32 / 255.0).to_bits(), "pixels of their item");
                assert_eq!(y[k], item as i64, "targets of their item");
            }
        }
        items.sort_unstable();
        assert_eq!(items, [0, 1, 2, 3, 4, 6]);
        let skipped = dls.skipped();
        assert_eq!((skipped.len(), skipped[0].item), (1, 5));
        assert!(skipped[0].why.contains("square 5"), "{}", skipped[0].why);
        assert_eq!(expected.get_or_insert(found.clone()), &found, "{workers} workers");
    }
}

#[test]
fn augmented_batches_without_a_skipped_item_are_the_same_for_any_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    for file in first_of(&BREEDS, 8)(&photos()).unwrap() {
        fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    fs::write(folder.path().join("Bengal_999.jpg"), "no image").unwrap();
    let found = |workers| {
        let block = pets().get_items(get_image_files).on_error(OnError::Skip).bs(5);
        let block = block.batch_tfms(aug_transforms().size(32)).num_workers(workers);
        let dls = block.splitter(IndexSplitter::new([0])).dataloaders(folder.path()).unwrap();
        let found = all(dls.train(), 0);
        assert_eq!(dls.skipped().len(), 1);
        found
    };
    let expected = found(0);
    assert_eq!(expected.iter().filter(|b| b.3.len() == 4).count(), 1);
    assert_eq!(found(1), expected);
    assert_eq!(found(8), expected);
}

#[test]
fn an_abandoned_pass_ends() {
    for workers in [0, 1, 2, 8] {
        in_time(move || {
            let squares = Squares::new(64, false);
            let loaded = squares.loaded.clone();
            let dls = squares.loaders(workers, LoaderOptions::new().bs(4));
            for pass in 0..50 {
                for taken in 0..3 {
                    let mut batches = dls.train().batches(pass);
                    (0..taken).for_each(|_| drop(batches.next().unwrap().unwrap()));
                }
            }
            let batches = dls.train().batches(0);
            drop(dls);
            assert_eq!(batches.count(), 16, "batches outlive their loaders");
            assert!(loaded.load(Ordering::Relaxed) < 50 * 3 * 64, "the rest was not loaded");
        });
    }
}

#[test]
fn prefetching_is_bounded() {
    let squares = Squares { counted: 400, ..Squares::new(410, false) };
    let loaded = squares.loaded.clone();
    let splits = Splits { train: (0..400).collect(), valid: (400..410).collect() };
    let options = LoaderOptions::new().bs(10).num_workers(4).device(Device::Cpu);
    let dls = DataLoaders::from_dataset(squares, splits, Transforms::new(), options).unwrap();
    let mut batches = dls.train().batches(0);
    for taken in 1..=5 {
        batches.next().unwrap().unwrap();
        // Both loaders share the threads, which start items in the order of their requests: every training
        // item that was requested has been started when this batch is complete.
        dls.valid().one_batch().unwrap();
        let ahead = loaded.load(Ordering::Relaxed) - 10 * taken;
        assert!(ahead <= 20, "{ahead} items ahead after {taken} batches");
    }
}

#[test]
fn partial_batches_are_dropped_in_training_only() {
    let loaders = |options| Squares::new(10, false).loaders(2, options);
    let sizes = |loader: &DataLoader| {
        let sizes: Vec<_> = loader.batches(0).map(|b| b.unwrap().items.len()).collect();
        assert_eq!(sizes.len(), loader.num_batches());
        sizes
    };
    let dls = loaders(LoaderOptions::new().bs(4));
    assert_eq!((sizes(dls.train()), sizes(dls.valid())), (vec![4, 4], vec![4, 4, 2]));
    let dls = loaders(LoaderOptions::new().bs(4).val_bs(7).drop_last(false));
    assert_eq!((sizes(dls.train()), sizes(dls.valid())), (vec![4, 4, 2], vec![7, 3]));
    let dls = loaders(LoaderOptions::new().bs(4).shuffle(false));
    assert_eq!(sizes(dls.train()), [4, 4, 2], "dropped where shuffled, as in fastai");
    let plain = dls.train().with(LoaderOptions::new().bs(5).split(Split::Valid)).unwrap();
    assert_eq!((sizes(&plain), plain.split()), (vec![5, 5], Split::Valid));
    assert!(matches!(
        dls.train().with(LoaderOptions::new().bs(0)),
        Err(Error::Config { option: "bs", .. })
    ));
    let e = dls.with(LoaderOptions::new().bs(11).shuffle(true)).unwrap_err().to_string();
    assert!(e.contains("11") && e.contains("10"), "{e}");
}

#[test]
fn images_of_two_sizes_are_an_error_that_names_both() {
    let folder = tempfile::tempdir().unwrap();
    for (i, side) in [20, 20, 30, 20].into_iter().enumerate() {
        let png = folder.path().join(format!("{i}.png"));
        image::RgbImage::new(side, 20).save(png).unwrap();
    }
    for workers in [0, 1, 8] {
        let dls = DataBlock::blocks(ImageBlock::rgb(), RegressionBlock::one())
            .get_items(get_image_files)
            .get_y(|_| Ok(0.0))
            .splitter(IndexSplitter::new([]))
            .bs(4)
            .shuffle(false)
            .num_workers(workers)
            .device(Device::Cpu)
            .dataloaders(folder.path())
            .unwrap();
        let e = dls.train().one_batch().unwrap_err();
        let Error::Collate { first, other, other_size, .. } = &e else { panic!("{e}") };
        assert!(first.ends_with("0.png") && other.ends_with("2.png"), "{e}");
        assert_eq!(*other_size, (30, 20));
        assert!(e.to_string().contains("Resize"), "{e}");
    }
}

#[test]
fn items_are_drawn_by_weight() {
    let dls = Squares::new(40, false).loaders(2, LoaderOptions::new().bs(8));
    let weights: Vec<f64> = (0..40).map(|i| f64::from(u8::from(i % 4 == 0))).collect();
    let weighted = dls.weighted(&weights).unwrap();
    let items =
        |pass| all(weighted.train(), pass).into_iter().flat_map(|b| b.3).collect::<Vec<_>>();
    assert_eq!(items(0).len(), 40);
    assert!(items(0).iter().all(|i| i % 4 == 0));
    assert_ne!(items(0), items(1));
    assert_eq!(items(1), items(1));
    let refused = |weights: &[f64]| dls.weighted(weights).unwrap_err().to_string();
    for wrong in [&[1.0][..], &[0.0; 40], &[-1.0; 40]] {
        let e = refused(wrong);
        assert!(e.starts_with("`weights`"), "{e}");
    }
    let e = dls.balanced().unwrap_err().to_string();
    assert!(e.starts_with("`balanced`"), "numbers have no classes: {e}");

    // To evaluate all training items, weights and order are switched off together.
    let plain = LoaderOptions::new().shuffle(false).drop_last(false).split(Split::Valid);
    let plain = weighted.train().with(plain).unwrap();
    let items: Vec<usize> = all(&plain, 1).into_iter().flat_map(|b| b.3).collect();
    assert_eq!(items, (0..40).collect::<Vec<_>>());
    let e = plain.weighted(&weights).unwrap_err().to_string();
    assert!(e.starts_with("`weights`") && e.contains("`shuffle(true)`"), "{e}");

    // Of a class with 2 items and one with 30, each is drawn about equally often.
    let label = |i: &usize| Ok(if *i < 2 { "rare" } else { "usual" }.to_owned());
    let block = DataBlock::rows(ImageBlock::rgb(), CategoryBlock::new())
        .get_x(|i: &usize| Image::new(2, 2, 3, vec![*i as u8; 12]))
        .get_y(label)
        .splitter(IndexSplitter::new([]))
        .bs(16)
        .device(Device::Cpu);
    let dls = block.dataloaders_from((0..32).collect()).unwrap().balanced().unwrap();
    let rare = (0..20).flat_map(|pass| all(dls.train(), pass)).flat_map(|b| b.3);
    let rare = rare.filter(|i| *i < 2).count();
    // Half of 640, with a standard deviation of 13.
    assert!((260..380).contains(&rare), "{rare}");
}

/// Four squares of one category, or whose targets cannot be computed.
struct OfCategory(Option<usize>);

fn two_classes() -> Task {
    Task::Category { vocab: ["a".to_owned(), "b".to_owned()].into() }
}

impl Dataset for OfCategory {
    fn len(&self) -> usize {
        4
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let image = Image::new(4, 4, 3, vec![index as u8; 48])?;
        Ok(Sample::new(image, Target::Category(0)))
    }

    fn name(&self, index: usize) -> String {
        format!("square {index}")
    }

    fn task(&self) -> Task {
        two_classes()
    }

    fn target(&self, _: usize) -> Result<Target> {
        Ok(Target::Category(self.0.expect("no target today")))
    }
}

#[test]
fn targets_that_panic_or_are_not_of_the_task_are_errors() {
    let loaders = |category| {
        let splits = Splits { train: (0..4).collect(), valid: vec![] };
        let options = LoaderOptions::new().bs(2).num_workers(0).device(Device::Cpu);
        DataLoaders::from_dataset(OfCategory(category), splits, Transforms::new(), options).unwrap()
    };
    let panicked = |e: Error| {
        assert!(matches!(e, Error::Worker { .. }), "{e}");
        assert!(e.to_string().contains("no target today (on square "), "{e}");
    };
    let dls = loaders(None);
    panicked(dls.balanced().unwrap_err());
    panicked(dls.check().unwrap_err());
    #[cfg(feature = "show")]
    panicked(dls.show_batch(2).unwrap_err());

    let e = loaders(Some(2)).balanced().unwrap_err();
    assert!(matches!(e, Error::Config { option: "balanced", .. }), "{e}");
    assert!(e.to_string().contains("square 0 has the category 2, but there are only 2"), "{e}");
}

/// A target block that panics in one of its methods.
#[derive(Debug, Clone)]
struct BadBlock(&'static str);

impl BadBlock {
    fn at(&self, call: &str) {
        assert!(self.0 != call, "no {call} today");
    }
}

impl TargetBlock for BadBlock {
    type Label = String;

    fn setup(&mut self, _: &mut dyn Iterator<Item = &String>) -> Result<()> {
        self.at("setup");
        Ok(())
    }

    fn encode(&self, _: &String) -> Result<Target> {
        self.at("encode");
        Ok(Target::Category(0))
    }

    fn decode(&self, _: &Target) -> Option<String> {
        None
    }

    fn check(&self, _: &String) -> Result<()> {
        self.at("check");
        Ok(())
    }

    fn deferred(&self) -> bool {
        self.0 == "check"
    }

    fn task(&self) -> Task {
        two_classes()
    }
}

#[test]
fn a_panic_in_a_target_block_is_an_error() {
    for call in ["setup", "encode", "check"] {
        let e = DataBlock::blocks(ImageBlock::rgb(), BadBlock(call))
            .get_items(first_of(&BREEDS, 8))
            .get_y(|_: &PathBuf| Ok("a".to_owned()))
            .device(Device::Cpu)
            .dataloaders(photos())
            .unwrap_err();
        assert!(matches!(e, Error::Worker { .. }), "{e}");
        assert!(e.to_string().contains(&format!("no {call} today (on ")), "{e}");
    }
}

#[test]
fn an_item_that_is_drawn_again_is_transformed_differently() {
    let dls = pets().splitter(IndexSplitter::new([0])).dataloaders(photos()).unwrap();
    // The photo is not square, so that crops differ.
    let mut weights = vec![0.0; dls.train().len()];
    weights[3] = 1.0;
    let batch = dls.weighted(&weights).unwrap().train().one_batch().unwrap();
    assert!(batch.items.windows(2).all(|w| w[0] == w[1]));
    let same = (1..6).filter(|&k| batch.x.get(k) == batch.x.get(0)).count();
    assert!(same < 5, "every crop is the same");

    // So is an item that is listed several times, for example because its class is rare.
    let item = dls.train().items()[3];
    let train = dls.train().subset([item; 6]).unwrap();
    let batch = train.one_batch().unwrap();
    assert_eq!(batch.items, [item; 6]);
    let same = (1..6).filter(|&k| batch.x.get(k) == batch.x.get(0)).count();
    assert!(same < 5, "every crop is the same");
    let train = train.with(LoaderOptions::new().shuffle(false).drop_last(false)).unwrap();
    let once = train.subset([item]).unwrap().one_batch().unwrap();
    let first = train.one_batch().unwrap();
    assert_eq!(once.x.get(0), first.x.get(0), "the first use has the draws of a single one");
}

#[test]
fn items_to_predict_are_prepared_as_in_validation_and_in_order() {
    let dls = pets().dataloaders(photos()).unwrap();
    let files = first_of(&BREEDS, 8)(&photos()).unwrap();
    let test = dls.test_dl(files.clone()).unwrap();
    let batches: Vec<_> = test.batches(0).map(|b| b.unwrap()).collect();
    assert!(batches.iter().all(|b| b.y.is_none()));
    let order: Vec<_> = batches.iter().flat_map(|b| b.items.clone()).collect();
    assert_eq!(order, (0..files.len()).collect::<Vec<_>>(), "none is dropped");
    let labeled = dls.test_dl_labeled(files.clone()).unwrap();
    let first = labeled.one_batch().unwrap();
    assert_eq!(first.x, batches[0].x);
    assert_eq!(Vec::<i64>::try_from(first.y.unwrap()).unwrap(), [0; 6]);
    // Bytes and images in memory are accepted like files.
    let bytes = dls.test_dl([fs::read(&files[0]).unwrap()]).unwrap().one_batch().unwrap();
    assert_eq!(bytes.x.get(0), batches[0].x.get(0));
    let e = dls.test_dl(Vec::<PathBuf>::new()).unwrap_err();
    assert!(matches!(e, Error::Config { option: "test_dl", .. }), "{e}");
    let e = dls.test_dl_labeled(vec![PathBuf::from("tiger_1.jpg")]).unwrap_err();
    assert!(e.to_string().contains("tiger"), "{e}");
}

#[test]
fn an_index_beyond_the_data_set_is_an_error() {
    let dls = pets().dataloaders(photos()).unwrap();
    let x = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
    let rows = Arrays::from_tensors(&x, &x, Task::Values { n: 3 }).unwrap();
    let options = LoaderOptions::new().bs(1).device(Device::Cpu);
    let arrays = DataLoaders::from_arrays(rows.clone(), rows, options).unwrap();
    for dls in [dls, arrays] {
        let data = dls.train().dataset();
        for index in [data.len(), usize::MAX] {
            let told = format!("index {index} is beyond the data set");
            let e = data.target(index).unwrap_err();
            assert!(matches!(e, Error::Config { option: "item", .. }), "{e}");
            assert!(e.to_string().contains(&told), "{e}");
            let e = data.get(index).unwrap_err();
            let of_arrays = matches!(e, Error::Mismatch { what: "from_arrays", .. });
            assert!(of_arrays || e.to_string().contains(&told), "{e}");
            assert!(data.file(index).is_none() && !data.name(index).is_empty());
        }
    }
}

#[test]
fn items_can_come_from_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = "name,tags,age,held_out\n".to_owned();
    for (i, file) in first_of(&BREEDS, 8)(&photos()).unwrap().iter().enumerate() {
        let name = file.file_stem().unwrap().to_string_lossy();
        let tags = if i < 8 {
            "cat"
        } else if i < 16 {
            "cat spots"
        } else {
            ""
        };
        text += &format!("{name},{tags},{i},{}\n", i % 6 == 0);
    }
    fs::write(folder.path().join("pets.csv"), text).unwrap();
    let image = || ColReader::new("name").folder(photos()).suff(".jpg").text();
    let dls = DataBlock::rows(ImageBlock::gray(), MultiCategoryBlock::new())
        .get_items(|folder| read_csv(folder.join("pets.csv")))
        .get_x(image())
        .get_y(ColReader::new("tags").labels(" "))
        .splitter(ColSplitter::new("held_out"))
        .item_tfms(Resize::new(32))
        .bs(4)
        .device(Device::Cpu)
        .dataloaders(folder.path())
        .unwrap();
    assert_eq!(dls.task().vocab(), ["cat", "spots"]);
    let batch = dls.valid().one_batch().unwrap();
    assert_eq!((batch.items.clone(), batch.x.size()), (vec![0, 6, 12, 18], vec![4, 1, 32, 32]));
    let y = Tensor::from_slice(&[1f32, 0., 1., 0., 1., 1., 0., 0.]).view([4, 2]);
    assert_eq!(batch.y.unwrap(), y);

    let rows: Vec<Row> = read_csv(folder.path().join("pets.csv")).unwrap();
    let dls = DataBlock::rows(ImageBlock::rgb(), RegressionBlock::one())
        .get_x(image())
        .get_y(ColReader::new("age").number())
        .splitter(ColSplitter::new(3).on(["true"]))
        .item_tfms(Resize::new(32))
        .bs(4)
        .device(Device::Cpu)
        .dataloaders_from(rows)
        .unwrap();
    let y = dls.valid().one_batch().unwrap().y.unwrap();
    assert_eq!(Vec::<f32>::try_from(y).unwrap(), [0.0, 6.0, 12.0, 18.0]);
}
