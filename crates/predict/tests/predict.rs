//! Predictions of small networks, and errors for damaged files and images.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use common::{COLORS, Model, SIDE, open_side, plain, pnm};
use finetune_predict::{
    Error, ImageSource, Input, Network, NetworkInput, OutputActivation, Predictor, Target, Task,
    ndarray::{Array3, Array4, Ix2, s},
};
use std::{fs, sync::Arc, thread};
use tract_onnx::pb::{ModelProto, tensor_proto::DataLocation};

fn loaded(model: &Model) -> Predictor {
    Predictor::from_bytes(&model.bytes()).unwrap()
}

const RED: [u8; 3] = [255, 0, 0];
const BLUE: [u8; 3] = [0, 0, 255];

#[test]
fn a_category_has_a_label_probabilities_and_the_most_probable_ones() {
    let colors = loaded(&Model::colors());
    let answer = colors.predict(plain([0, 255, 51], 30, 20)).unwrap();
    assert_eq!((answer.label.as_str(), answer.index), ("green", 1));
    // Softmax of 0, 10 and 2.
    let all = 1.0 + 10_f32.exp() + 2_f32.exp();
    for (p, wanted) in answer.probs.iter().zip([1.0, 10_f32.exp(), 2_f32.exp()]) {
        assert!((p - wanted / all).abs() < 1e-6, "{:?}", answer.probs);
    }
    let names: Vec<String> = answer.top_k(2).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["green", "blue"]);
    assert_eq!(colors.task().vocab(), COLORS);
}

#[test]
fn equal_outputs_give_the_first_category() {
    let colors = loaded(&Model::colors());
    assert_eq!(colors.predict(plain([90, 90, 90], 9, 9)).unwrap().label, "red");
}

#[test]
fn normalization_is_applied_before_the_network() {
    let colors = loaded(&Model::colors().normalized());
    let outputs = colors.outputs(plain(RED, 8, 8)).unwrap();
    assert_eq!(outputs, [10.0, -10.0, -10.0]);
}

#[test]
fn bytes_are_the_input_of_a_network_that_normalizes() {
    let mut model = Model::colors();
    model.card.input = NetworkInput::Pixels;
    let outputs = loaded(&model).outputs(plain([255, 0, 255], 40, 8)).unwrap();
    assert_eq!(outputs, [10.0, 0.0, 10.0]);
}

#[test]
fn an_activation_in_the_file_is_not_applied_again() {
    let mut model = Model::colors();
    model.card.output.applied = true;
    let answer = loaded(&model).predict(plain(BLUE, 8, 8)).unwrap();
    assert_eq!(answer.probs, [0.0, 0.0, 10.0]);
}

#[test]
fn several_categories_are_those_above_the_threshold() {
    let vocab = COLORS.map(String::from).into();
    let mut model = Model::new(Task::Categories { vocab }, OutputActivation::Sigmoid);
    let color = plain([255, 0, 26], 8, 8);
    model.card.output.threshold = 0.6;
    let answer = loaded(&model).predict(color.clone()).unwrap();
    assert_eq!(answer.target, Target::Categories(vec![0, 2]));
    assert_eq!(answer.label, "red; blue");
    // A sigmoid of 0 is 0.5 exactly, which is not above 0.5.
    model.card.output.threshold = 0.5;
    assert_eq!(loaded(&model).predict(color).unwrap().label, "red; blue");
}

#[test]
fn numbers_are_the_outputs() {
    let model = Model::new(Task::Values { n: 2 }, OutputActivation::None);
    let answer = loaded(&model).predict(plain([255, 0, 0], 8, 8)).unwrap();
    assert_eq!(answer.target, Target::Values(vec![10.0, 0.0]));
}

#[test]
fn points_are_in_pixels_of_the_original_image() {
    let mut model = Model::new(Task::Points { n: 1 }, OutputActivation::None);
    model.scale = 0.5;
    // Outputs 0.5 and 0: at (6, 4) of 8x8 pixels, which are the middle of 32x16 pixels at half their size.
    let answer = loaded(&model).predict(plain(RED, 32, 16)).unwrap();
    let Target::Points(points) = &answer.target else { panic!("{answer:?}") };
    assert_eq!((points[0].x, points[0].y), (20.0, 8.0));
}

#[test]
fn masks_have_the_size_of_the_original_image() {
    let codes = COLORS.map(String::from).into();
    let task = Task::Mask { codes, ignored: None };
    let model = Model::new(task, OutputActivation::Softmax);
    // The left half is red, the right half is blue.
    let row = |x: u32| if x < 16 { RED } else { BLUE };
    let pixels = (0..32 * 32).flat_map(|i| row(i % 32)).collect();
    let halves = finetune_predict::Image::new(32, 32, 3, pixels).unwrap();
    let answer = loaded(&model).predict(halves).unwrap();
    let mask = answer.mask().unwrap();
    assert_eq!((mask.width(), mask.height()), (32, 32));
    assert_eq!((mask.pixels()[2], mask.pixels()[29]), (0, 2));
    assert_eq!(answer.label, "red; blue");
    let probs = answer.pixel_probs().unwrap();
    assert_eq!(probs.dim(), (3, 32, 32));
    assert!((probs.sum() - 1024.0).abs() < 0.1, "the probabilities of a pixel sum to 1");
    assert!((answer.probs.iter().sum::<f32>() - 1.0).abs() < 1e-5);
}

#[test]
fn paths_bytes_and_images_give_the_same_answer() {
    let folder = std::env::temp_dir().join(format!("finetune-predict-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (photo, model) = (folder.join("photo.jpg"), folder.join("colors.onnx"));
    let image = plain([10, 20, 200], 50, 30);
    // The format is detected from the content, not from the name.
    fs::write(&photo, pnm(&image)).unwrap();
    fs::write(&model, Model::colors().bytes()).unwrap();
    let colors = Predictor::load(&model).unwrap();
    let sources: [ImageSource; 3] = [(&photo).into(), pnm(&image).into(), image.into()];
    let answers = colors.predict_batch(sources).unwrap();
    assert_eq!(answers[0].label, "blue");
    assert!(answers.iter().all(|a| *a == answers[0]));
    assert_eq!(colors.predict(&photo).unwrap(), answers[0]);
    assert!(colors.predict_batch::<ImageSource>([]).unwrap().is_empty());
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_file_of_several_parts_is_read_to_its_end() {
    let file = std::env::temp_dir().join(format!("finetune-predict-{}.onnx", std::process::id()));
    let mut model = Model::colors();
    // Longer than a part before the network, and after it.
    model.change = |proto| {
        proto.doc_string = "x".repeat(200_000);
        proto.graph.as_mut().unwrap().doc_string = "y".repeat(70_000);
        let mut note = proto.metadata_props[0].clone();
        (note.key, note.value) = ("note".into(), "z".repeat(150_000));
        proto.metadata_props.insert(0, note);
    };
    let bytes = model.bytes();
    fs::write(&file, &bytes).unwrap();
    let colors = Predictor::load(&file).unwrap();
    assert_eq!(colors.outputs(plain(RED, 8, 8)).unwrap(), [10.0, 0.0, 0.0]);
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let e = Predictor::load(&file).unwrap_err();
    assert!(matches!(e, Error::Checkpoint { .. }), "{e}");
    assert!(e.to_string().contains(&file.display().to_string()), "{e}");
    fs::remove_file(&file).unwrap();
}

#[test]
fn threads_share_a_predictor() {
    let colors = Arc::new(loaded(&Model::colors()));
    let one = |k: usize| {
        let colors = colors.clone();
        thread::spawn(move || {
            let color = [RED, [0, 255, 0], BLUE][k % 3];
            (0..20).all(|_| colors.predict(plain(color, 12, 12)).unwrap().label == COLORS[k % 3])
        })
    };
    let threads: Vec<_> = (0..6).map(one).collect();
    assert!(threads.into_iter().all(|t| t.join().unwrap()));
}

#[test]
fn an_invalid_image_does_not_affect_the_others() {
    let colors = loaded(&Model::colors());
    let good = || pnm(&plain(RED, 9, 9));
    let cut = good()[..40].to_vec();
    let answers = colors.predict_each([good(), cut.clone(), vec![], good()]);
    assert!(answers[0].is_ok() && answers[3].is_ok());
    assert!(matches!(answers[1], Err(Error::Image { .. })), "{:?}", answers[1]);
    let why = answers[2].as_ref().unwrap_err().to_string();
    assert!(why.contains("image 2") && why.contains("empty"), "{why}");
    let e = colors.predict_batch([good(), cut]).unwrap_err();
    assert!(matches!(e, Error::Image { .. }), "{e}");
    assert!(matches!(colors.predict("/no/such/file.jpg"), Err(Error::Io { .. })));
}

#[test]
fn large_images_are_errors() {
    let colors = loaded(&Model::colors()).max_pixels(100).unwrap();
    assert!(colors.predict(pnm(&plain(RED, 10, 10))).is_ok());
    let why = colors.predict(pnm(&plain(RED, 11, 10))).unwrap_err().to_string();
    assert!(why.contains("pixels"), "{why}");
}

#[test]
fn an_image_of_another_size_than_the_input_is_an_error() {
    let mut model = Model::colors();
    model.card.item_tfms.clear();
    let colors = loaded(&model);
    assert!(colors.predict(plain(RED, SIDE, SIDE)).is_ok());
    let why = colors.predict(plain(RED, SIDE, SIDE + 1)).unwrap_err().to_string();
    assert!(why.contains("[3, 9, 8]") && why.contains("[3, 8, 8]"), "{why}");
}

#[test]
fn nan_is_an_error() {
    let mut model = Model::colors();
    model.scale = f32::NAN;
    let why = loaded(&model).predict(plain(RED, 8, 8)).unwrap_err().to_string();
    assert!(why.contains("NaN"), "{why}");
}

#[test]
fn an_infinite_output_is_an_error() {
    let model = Model {
        // The second output is infinite if there is green, and the others are finite.
        change: |proto| {
            let weights = &mut proto.graph.as_mut().unwrap().initializer[0].raw_data;
            weights[16..20].copy_from_slice(&f32::INFINITY.to_le_bytes());
        },
        ..Model::colors()
    };
    let colors = loaded(&model);
    let color = plain([255, 128, 51], 8, 8);
    assert_eq!(colors.outputs(color.clone()).unwrap()[1], f32::INFINITY);
    let why = colors.predict(color).unwrap_err().to_string();
    assert!(why.contains("infinite"), "{why}");
}

#[test]
fn a_network_takes_any_number_of_prepared_images() {
    let model = Model {
        // As `Model::export_onnx` writes it, without a description.
        change: |proto| proto.metadata_props.clear(),
        ..Model::colors()
    };
    let network = Network::from_bytes(&model.bytes()).unwrap();
    assert_eq!((network.input_shape(), network.output_shape()), (&[3, 8, 8][..], &[1, 3][..]));
    // Image `n` has the value `n + 0.25 c` in each pixel of channel `c`.
    let images = Array4::from_shape_fn((5, 3, 8, 8), |(n, c, ..)| n as f32 + 0.25 * c as f32);
    let outputs = network.run(images.clone()).unwrap();
    assert_eq!(outputs.shape(), [5, 3]);
    for ((n, c), logit) in outputs.into_dimensionality::<Ix2>().unwrap().indexed_iter() {
        assert!((logit - 10.0 * (n as f32 + 0.25 * c as f32)).abs() < 1e-4, "{n} {c} {logit}");
    }
    // Any layout in memory.
    let columns = images.slice(s![3..4, .., .., ..]).permuted_axes([0, 1, 3, 2]).to_owned();
    let one = network.run(columns).unwrap();
    assert_eq!(one.shape(), [1, 3]);
    assert!((one[[0, 2]] - 35.0).abs() < 1e-4, "{one}");
}

#[test]
fn a_network_takes_what_the_preparation_makes() {
    for kind in [NetworkInput::Prepared, NetworkInput::Pixels] {
        let mut model = Model::colors();
        model.card.input = kind;
        let colors = loaded(&model);
        let network = colors.network();
        let photos = [plain([200, 100, 50], 30, 20), plain([10, 0, 90], 9, 9)];
        let preparation = colors.card().preparation().unwrap();
        let samples = photos.iter().map(|photo| preparation.sample(&photo.clone().into(), "it"));
        let samples = samples.collect::<Result<Vec<_>, _>>().unwrap();
        let input = Input::prepared(preparation.batch(samples, 0).unwrap(), kind).unwrap();
        assert_eq!(&input.shape()[1..], network.input_shape(), "{kind:?}");
        let outputs = network.run(input).unwrap();
        for (photo, row) in photos.into_iter().zip(outputs.outer_iter()) {
            assert_eq!(colors.outputs(photo).unwrap(), row.iter().copied().collect::<Vec<_>>());
        }
    }
}

#[test]
fn an_input_of_another_type_or_shape_is_an_error() {
    let network = Network::from_bytes(&Model::colors().bytes()).unwrap();
    let wrong = |input: Input| match network.run(input) {
        Err(e @ Error::Mismatch { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    };
    let why = wrong(Array4::<f32>::zeros((2, 3, 9, 8)).into());
    assert!(why.contains("[2, 3, 9, 8]") && why.contains("[N, 3, 8, 8]"), "{why}");
    let why = wrong(Array4::<u8>::zeros((2, 3, 8, 8)).into());
    assert!(why.contains("U8") && why.contains("F32"), "{why}");
    let why = wrong(Array4::<f32>::zeros((0, 3, 8, 8)).into());
    assert!(why.contains("[0, 3, 8, 8]"), "{why}");
    wrong(Array3::<f32>::zeros((3, 8, 8)).into());
}

#[test]
fn files_that_no_network_can_be_read_from_are_errors_that_name_them() {
    let e = Network::load("/no/such/file.onnx").unwrap_err();
    assert!(matches!(e, Error::Io { .. }), "{e}");
    let refused = |change| match Network::from_bytes(&Model { change, ..Model::colors() }.bytes()) {
        Err(e @ Error::Checkpoint { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    };
    let why = refused(|proto| proto.graph.as_mut().unwrap().node[1].op_type = "Melt".into());
    assert!(why.contains("in memory") && why.contains("tract") && why.contains("Melt"), "{why}");
    let why = refused(|proto| open_side(proto, 2));
    assert!(why.contains("None") && why.contains("fixed"), "{why}");
    let why = refused(|proto| {
        let input = &mut proto.graph.as_mut().unwrap().input[0];
        input.r#type = None;
    });
    assert!(why.contains("no shape"), "{why}");
}

#[test]
fn files_of_other_programs_may_store_weights_in_other_ways() {
    let image = plain([255, 0, 51], 8, 8);
    let wanted = loaded(&Model::colors()).outputs(image.clone()).unwrap();
    // As a list of numbers, and also listed as an input, as in the first versions of ONNX.
    let change: fn(&mut ModelProto) = |proto| {
        let graph = proto.graph.as_mut().unwrap();
        let weights = &mut graph.initializer[0];
        let bytes = std::mem::take(&mut weights.raw_data);
        let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        weights.float_data = bytes.chunks_exact(4).map(number).collect();
        let mut listed = graph.input[0].clone();
        listed.name = weights.name.clone();
        graph.input.push(listed);
    };
    let other = Model { change, ..Model::colors() };
    assert_eq!(loaded(&other).outputs(image).unwrap(), wanted);
}

#[test]
fn a_mask_of_more_codes_than_a_byte_can_hold_is_an_error() {
    let codes: Vec<String> = (0..257).map(|i| format!("code {i}")).collect();
    let task = |n: usize| Task::Mask { codes: codes[..n].into(), ignored: None };
    let of = |n| loaded(&Model::new(task(n), OutputActivation::Softmax)).predict(plain(RED, 8, 8));
    assert_eq!(of(256).unwrap().probs.len(), 256);
    let why = of(257).unwrap_err().to_string();
    assert!(why.contains("257 codes") && why.contains("256"), "{why}");
}

fn refused(model: &Model) -> String {
    match Predictor::from_bytes(&model.bytes()) {
        Err(e @ Error::Checkpoint { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_that_do_not_match_their_description_are_errors() {
    let changed = |change| refused(&Model { change, ..Model::colors() });
    let why = changed(|proto| proto.metadata_props.clear());
    assert!(why.contains("export_onnx"), "{why}");
    let why = changed(|proto| proto.metadata_props[0].value.insert(0, '!'));
    assert!(why.contains("model description"), "{why}");
    let why = changed(|proto| {
        let card = &mut proto.metadata_props[0].value;
        *card = card.replace("\"version\":1", "\"version\":2");
    });
    assert!(why.contains("the version is 2"), "{why}");
    let why = changed(|proto| {
        let card = &mut proto.metadata_props[0].value;
        *card = card.replace("\"resize\"", "\"melt\"");
    });
    assert!(why.contains("melt"), "{why}");
    let why = changed(|proto| proto.graph = None);
    assert!(why.contains("no network"), "{why}");
    let why = changed(|proto| proto.graph.as_mut().unwrap().output[0].name = "other".into());
    assert!(why.contains("`other`"), "{why}");
    let why = changed(|proto| proto.graph.as_mut().unwrap().input.clear());
    assert!(why.contains("0 inputs"), "{why}");
    let why = changed(|proto| {
        let card = &mut proto.metadata_props[0].value;
        *card = card.replace("\"prepared\"", "\"pixels\"");
    });
    assert!(why.contains("F32") && why.contains("U8"), "{why}");
    let why = changed(|proto| proto.graph.as_mut().unwrap().initializer[0].raw_data.truncate(5));
    assert!(why.contains("`weights`") && why.contains("5 bytes"), "{why}");
    let why = changed(|proto| {
        let weights = &mut proto.graph.as_mut().unwrap().initializer[0];
        weights.raw_data.clear();
        weights.data_location = Some(DataLocation::External as i32);
    });
    assert!(why.contains("`weights`") && why.contains("another file"), "{why}");
    let why = changed(|proto| {
        let weights = &mut proto.graph.as_mut().unwrap().initializer;
        weights.push(weights[0].clone());
    });
    assert!(why.contains("two tensors called `weights`"), "{why}");
    let why = changed(|proto| proto.graph.as_mut().unwrap().initializer[0].dims[0] = -4);
    assert!(why.contains("-4"), "{why}");
    let why = changed(|proto| proto.graph.as_mut().unwrap().node[1].op_type = "Melt".into());
    assert!(why.contains("tract") && why.contains("Melt"), "{why}");
    let why = changed(|proto| proto.graph.as_mut().unwrap().node[0].input[0] = "gone".into());
    assert!(why.contains("tract"), "{why}");
    // One output too few for the vocabulary.
    let why = changed(|proto| {
        let weights = &mut proto.graph.as_mut().unwrap().initializer[0];
        weights.dims = vec![2, 3];
        weights.raw_data.truncate(24);
    });
    assert!(why.contains("[1, 2]") && why.contains("[1, 3]"), "{why}");
    // More points than a network can have outputs.
    let why = refused(&Model {
        change: |proto| {
            let card = &mut proto.metadata_props[0].value;
            *card = card.replace("\"n\":1", "\"n\":18446744073709551615");
        },
        ..Model::new(Task::Points { n: 1 }, OutputActivation::None)
    });
    assert!(why.contains("[1, 2]") && why.contains("18446744073709551615"), "{why}");
    let boxes = Task::Boxes { vocab: COLORS.map(String::from).into() };
    let why = refused(&Model::new(boxes, OutputActivation::None));
    assert!(why.contains("object detector"), "{why}");
}

#[test]
fn damaged_files_are_errors_and_never_panic() {
    let whole = Model::colors().normalized().bytes();
    for cut in 0..whole.len() {
        // A file whose last field is missing may still be a valid message.
        if let Err(e) = Predictor::from_bytes(&whole[..cut]) {
            assert!(matches!(e, Error::Checkpoint { .. }), "{cut}: {e}");
        }
    }
    let image = plain(RED, 8, 8);
    let mut state = 1_u32;
    for _ in 0..2000 {
        let mut damaged = whole.clone();
        for _ in 0..3 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = state as usize % damaged.len();
            damaged[at] = damaged[at].wrapping_add((state >> 24) as u8 | 1);
        }
        if let Ok(predictor) = Predictor::from_bytes(&damaged) {
            let _ = predictor.predict(image.clone());
        }
    }
}
