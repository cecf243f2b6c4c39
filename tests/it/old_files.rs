//! Exported models of earlier versions: they load, and predict like the model that they were written from.

use super::pets::{BREEDS, first_of, photos};
use finetune::{format::StateDict, prelude::*, transform::Normalize};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, fs};
use tch::Kind;

/// Descriptions in the files of earlier versions, in their words, from the oldest to the newest.
const DESCRIPTIONS: [(&str, &str); 2] = [
    (
        "before masks and reduced decoding: the loss ignores no target, and `pad_mode` belongs to every `resize`",
        r#"{"arch":{"arch":"resnet18","n_in":3,"n_out":3,"head":{"lin_ftrs":null,"ps":[0.5],"pool":true,"concat_pool":true,"first_bn":true,"bn_final":false,"lin_first":false,"y_range":null,"act":"Relu","init":"KaimingNormal"}},"task":{"kind":"category","vocab":["Abyssinian","Bengal","american_bulldog"]},"loss":{"cross_entropy":{"weight":null,"label_smoothing":0.0,"axis":-1}},"decode":{"channels":3,"orient":true,"max_pixels":268435456},"item_tfms":[{"transform":"resize","height":72,"width":72,"method":"crop","pad_mode":"reflection","filter":"bilinear"}],"batch_tfms":[{"transform":"augment","mult":1.0,"do_flip":true,"flip_vert":false,"max_rotate":10.0,"min_zoom":1.0,"max_zoom":1.1,"max_lighting":0.2,"max_warp":0.2,"p_affine":0.75,"p_lighting":0.75,"size":[64,64],"mode":"bilinear","pad_mode":"reflection","align_corners":true,"batch":false,"min_scale":1.0,"xtra_tfms":[]},{"transform":"normalize","mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}]}"#,
    ),
    (
        "before exports as ONNX",
        r#"{"arch":{"arch":"resnet18","n_in":3,"n_out":3,"head":{"lin_ftrs":null,"ps":[0.5],"pool":true,"concat_pool":true,"first_bn":true,"bn_final":false,"lin_first":false,"y_range":null,"act":"Relu","init":"KaimingNormal"}},"task":{"kind":"category","vocab":["Abyssinian","Bengal","american_bulldog"]},"loss":{"cross_entropy":{"weight":null,"label_smoothing":0.0,"axis":-1,"ignore_index":-100}},"decode":{"channels":3,"orient":true,"max_pixels":268435456},"item_tfms":[{"transform":"resize","height":72,"width":72,"method":"crop","filter":"bilinear"}],"batch_tfms":[{"transform":"augment","mult":1.0,"do_flip":true,"flip_vert":false,"max_rotate":10.0,"min_zoom":1.0,"max_zoom":1.1,"max_lighting":0.2,"max_warp":0.2,"p_affine":0.75,"p_lighting":0.75,"size":[64,64],"mode":"bilinear","pad_mode":"reflection","align_corners":true,"batch":false,"min_scale":1.0,"xtra_tfms":[]},{"transform":"normalize","mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}]}"#,
    ),
];

/// Returns the bytes of a file as earlier versions wrote it: a header of JSON after its length, then the tensors. The checksum
/// covers the metadata and the tensors in the order of their names.
fn file(description: &str, state: &StateDict) -> Vec<u8> {
    let mut about = BTreeMap::from([
        ("kind", "export".to_owned()),
        ("export", description.to_owned()),
        ("finetune", "1".to_owned()),
        ("format", "pt".to_owned()),
    ]);
    let mut crc = crc32fast::Hasher::new();
    for (key, value) in &about {
        crc.update(format!("{}:{key}{}:{value}", key.len(), value.len()).as_bytes());
    }
    let tensors: BTreeMap<&String, &Tensor> = state.iter().map(|(name, t)| (name, t)).collect();
    let (mut header, mut body) = (Map::new(), vec![]);
    for (name, tensor) in tensors {
        assert_eq!(tensor.kind(), Kind::Float, "{name}");
        let shape: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
        let values: Vec<f32> = Vec::try_from(tensor.contiguous().view([-1])).unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        crc.update(format!("{}:{name}F32{shape:?}", name.len()).as_bytes());
        crc.update(&bytes);
        let at = [body.len(), body.len() + bytes.len()];
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": at}));
        body.extend(bytes);
    }
    about.insert("crc32", format!("{:08x}", crc.finalize()));
    header.insert("__metadata__".to_owned(), json!(about));
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &body].concat()
}

#[test]
fn exports_of_earlier_versions_predict_like_their_model() -> Result<()> {
    let dls = DataBlock::blocks(ImageBlock::rgb(), CategoryBlock::new())
        .get_items(first_of(&BREEDS, 2))
        .splitter(RandomSplitter::new(0.5).seed(1))
        .get_y(using_name(RegexLabeller::new(r"^(.+)_\d+\.jpg$")?))
        .item_tfms(Resize::new(72))
        .batch_tfms(aug_transforms().size(64))
        .batch_tfms(Normalize::imagenet())
        .bs(3)
        .num_workers(0)
        .device(Device::Cpu)
        .dataloaders(photos())?;
    let mut learn = vision_learner(dls, resnet18()).pretrained(false).build()?.quiet();
    let some = first_of(&BREEDS, 2)(&photos())?;
    let expected: Vec<_> = some.iter().map(|photo| learn.predict(photo)).collect::<Result<_>>()?;
    let far = |a: &[f32], b: &[f32]| {
        assert_eq!(a.len(), b.len());
        assert!(a.iter().chain(b).all(|p| p.is_finite()), "{a:?} {b:?}");
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(
        far(&expected[0].probs, &expected[5].probs) > 1e-4,
        "the predictions depend on the photo"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.safetensors");
    for (version, description) in DESCRIPTIONS {
        let bytes = file(description, &learn.model().state_dict());
        fs::write(&path, &bytes).unwrap();
        let loaded =
            [Predictor::load(&path, Device::Cpu)?, Predictor::from_bytes(&bytes, Device::Cpu)?];
        for predictor in loaded {
            let found = predictor.predict_batch(&some)?;
            assert_eq!(found.len(), expected.len(), "{version}");
            for (found, expected) in found.iter().zip(&expected) {
                let difference = far(&found.probs, &expected.probs);
                assert!(difference < 1e-5, "{version}: {difference}");
                assert_eq!(found.label, expected.label, "{version}");
            }
        }
    }
    Ok(())
}
