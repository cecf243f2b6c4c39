//! Files that the real `torch.save` wrote (`tests/pth/write.py`), read without Python.

use finetune::{
    Error,
    format::{StateDict, Value, read_pth, read_pth_bytes, state_dict, write_pth},
};
use std::path::PathBuf;
use tch::{Kind, Tensor};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pth").join(name)
}

fn tensors(name: &str) -> StateDict {
    state_dict(read_pth(file(name)).unwrap()).unwrap()
}

fn get<'a>(all: &'a StateDict, name: &str) -> &'a Tensor {
    &all.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no `{name}`")).1
}

fn doubles(t: &Tensor) -> Vec<f64> {
    Vec::try_from(t.to_kind(Kind::Double).contiguous().view([-1])).unwrap()
}

fn refusal(name: &str) -> String {
    match read_pth(file(name)) {
        Err(Error::Checkpoint { path, why, .. }) => {
            assert!(path.ends_with(name), "{path:?}");
            why
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn every_type_is_read_exactly() {
    let expected = [
        ("float32", Kind::Float),
        ("float64", Kind::Double),
        ("float16", Kind::Half),
        ("bfloat16", Kind::BFloat16),
        ("uint8", Kind::Uint8),
        ("int8", Kind::Int8),
        ("int16", Kind::Int16),
        ("int32", Kind::Int),
        ("int64", Kind::Int64),
        ("bool", Kind::Bool),
        ("complex64", Kind::ComplexFloat),
        ("complex128", Kind::ComplexDouble),
    ];
    for name in ["dtypes.pth", "dtypes_legacy.pth"] {
        let all = tensors(name);
        assert_eq!(all.len(), expected.len());
        for (dtype, kind) in expected {
            let t = get(&all, dtype);
            assert_eq!(t.kind(), kind, "{name} {dtype}");
            match kind {
                Kind::Bool => assert_eq!(doubles(t), [0., 1., 1., 1.]),
                Kind::ComplexFloat | Kind::ComplexDouble => {
                    assert_eq!(doubles(&t.real()), [0., 1., 2., 100.]);
                    assert_eq!(doubles(&t.imag()), [0., -1., -2., -100.]);
                }
                _ => assert_eq!(doubles(t), [0., 1., 2., 100.], "{name} {dtype}"),
            }
        }
    }
    let all = tensors("dtypes_new.pth");
    // Types that tch does not have become wider ones.
    for (dtype, kind) in [
        ("uint16", Kind::Int),
        ("uint32", Kind::Int64),
        ("uint64", Kind::Int64),
        ("float8_e5m2", Kind::Float8e5m2),
        ("float8_e4m3fn", Kind::Float8e4m3fn),
    ] {
        let t = get(&all, dtype);
        assert_eq!(t.kind(), kind, "{dtype}");
        // 96 is the nearest value to 100 of both 8-bit floats.
        let last = if dtype.starts_with("float8") { 96. } else { 100. };
        assert_eq!(doubles(t), [0., 1., 2., last], "{dtype}");
    }
}

#[test]
fn every_layout_is_read_exactly() {
    let base: Vec<f64> = (0..24).map(f64::from).collect();
    for name in ["layouts.pth", "layouts_legacy.pth", "layouts_protocol4.pth"] {
        let all = tensors(name);
        let plain = get(&all, "plain");
        assert_eq!((plain.size(), doubles(plain)), (vec![2, 3, 4], base.clone()), "{name}");
        let transposed = get(&all, "transposed");
        assert_eq!((transposed.size(), transposed.stride()), (vec![6, 4], vec![1, 6]));
        assert_eq!(doubles(transposed)[..4], [0., 6., 12., 18.]);
        let last = get(&all, "channels_last");
        assert_eq!((last.size(), last.stride()), (vec![1, 2, 3, 4], vec![24, 1, 8, 2]));
        assert_eq!(doubles(last), base);
        assert_eq!(doubles(get(&all, "shared")), [6., 7., 8., 9., 10., 11.]);
        assert_eq!(doubles(get(&all, "stepped")), [0., 5., 10., 15., 20.]);
        let expanded = get(&all, "expanded");
        assert_eq!((expanded.size(), expanded.stride()), (vec![2, 2], vec![0, 0]));
        assert_eq!(doubles(expanded), [3.; 4]);
        let scalar = get(&all, "scalar");
        assert_eq!((scalar.dim(), doubles(scalar)), (0, vec![7.5]));
        assert_eq!(get(&all, "empty").size(), [0, 3]);
        assert_eq!(doubles(get(&all, "parameter")), [1., -1.]);
        // Tensors that shared memory in Python share it here.
        let _ = plain.shallow_clone().fill_(9.0);
        assert_eq!(doubles(get(&all, "shared")), [9.; 6], "{name}");
    }
}

#[test]
fn state_dicts_are_found_where_they_are_nested() {
    let (own, nested) = (tensors("module.pth"), tensors("nested.pth"));
    let names = [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    ];
    assert_eq!(own.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(), names);
    for ((a, x), (b, y)) in own.iter().zip(&nested) {
        assert_eq!(a, b, "the prefix of parallel training is taken off");
        assert_eq!(doubles(x), doubles(y));
    }
    let whole = read_pth(file("nested.pth")).unwrap();
    assert!(matches!(whole.get("epoch"), Some(Value::Int(3))));
    assert!(matches!(whole.get("note"), Some(Value::Str(s)) if s == "ü"));
    assert_eq!(whole.get("lr").unwrap().as_f64(), Some(0.25));
    assert_eq!(whole.get("sizes").unwrap().as_list().unwrap().len(), 2);
    // The training script of PyTorch's examples stores the best accuracy as a tensor next to the weights.
    let entry = |name: &str, value| (Value::Str(name.into()), value);
    let weights = Value::Dict(vec![entry("module.fc.bias", Value::Tensor(Tensor::from(2.0_f64)))]);
    let best = entry("best_acc1", Value::Tensor(Tensor::from(71.5_f64)));
    let all = state_dict(Value::Dict(vec![best, entry("state_dict", weights)])).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].0.as_str(), doubles(&all[0].1)), ("fc.bias", vec![2.0]));
    // The options of a network next to its weights are not a state dict.
    let options = || Value::Dict(vec![entry("name", Value::Str("resnet18".into()))]);
    let bias = entry("fc.bias", Value::Tensor(Tensor::from(3.0_f64)));
    let all = state_dict(Value::Dict(vec![entry("model", options()), bias])).unwrap();
    assert_eq!((all[0].0.as_str(), doubles(&all[0].1)), ("fc.bias", vec![3.0]));
    for none in [vec![], vec![entry("model", options())]] {
        let e = state_dict(Value::Dict(none)).unwrap_err().to_string();
        assert!(e.contains("no tensors"), "{e}");
    }
}

#[test]
fn plain_values_come_with_them() {
    let all = read_pth(file("plain.pth")).unwrap();
    let hypers = &all.get("hypers").unwrap().as_list().unwrap()[0];
    assert_eq!(hypers.get("lr").unwrap().as_f64(), Some(0.5));
    assert_eq!(hypers.get("mom").unwrap().as_f64(), Some(0.9));
    assert!(matches!(hypers.get("step"), Some(Value::Int(3))));
    let state = &all.get("state").unwrap().as_list().unwrap()[0];
    assert!(matches!(state.get("grad_avg"), Some(Value::Tensor(t)) if doubles(t) == [1., 1.]));
    assert!(matches!(state.get("do_wd"), Some(Value::Bool(false))));
    assert!(matches!(state.get("none"), Some(Value::None)));
    assert!(matches!(all.get("bytes"), Some(Value::Bytes(b)) if b == &[0, 255]));
    assert!(matches!(all.get("big"), Some(Value::Int(n)) if *n == 1 << 40));
    assert!(matches!(all.get("negative"), Some(Value::Int(-3))));
    assert!(matches!(all.get("dtype"), Some(Value::Str(s)) if s == "torch.float16"));
    assert!(matches!(all.get("device"), Some(Value::Str(s)) if s == "cpu"));
    assert!(
        matches!(&all.get("tuple").unwrap().as_list().unwrap()[1], Value::Str(s) if s == "two")
    );
}

#[test]
fn everything_else_is_rejected_by_name() {
    assert!(refusal("code.pth").contains("torch.nn.modules.container.Sequential"));
    assert!(refusal("evil.pth").contains(".system"));
    assert!(refusal("big_endian.pth").contains("big-endian"));
    // In the old format, this is in the third pickle.
    let mut legacy = std::fs::read(file("layouts_legacy.pth")).unwrap();
    let word = b"little_endian";
    let at = legacy.windows(word.len()).position(|w| w == word).unwrap() + word.len();
    let yes = at + legacy[at..].iter().position(|b| *b == 0x88).unwrap();
    legacy[yes] = 0x89;
    let e = read_pth_bytes(&legacy, "legacy").unwrap_err().to_string();
    assert!(e.contains("big-endian"), "{e}");
    assert!(refusal("script.pth").contains("TorchScript"));
    assert!(refusal("write.py").contains("neither a zip nor a pickle"));
    assert!(matches!(read_pth(file("absent.pth")), Err(Error::Io { .. })));
}

#[test]
fn written_files_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/own.pth");
    let weights: Vec<_> = tensors("dtypes.pth")
        .into_iter()
        .map(|(name, t)| (Value::Str(name), Value::Tensor(t)))
        .collect();
    let strided =
        Value::Tensor(Tensor::arange(6, (Kind::Float, tch::Device::Cpu)).view([2, 3]).tr());
    let value = Value::Dict(vec![
        (Value::Str("model".into()), Value::Dict(weights)),
        (Value::Str("strided".into()), Value::List(vec![strided])),
        (Value::Str("list".into()), Value::List(vec![Value::None, Value::Bool(true)])),
        (Value::Str("int".into()), Value::Int(-(1 << 40))),
        (Value::Str("small".into()), Value::Int(-7)),
        (Value::Str("float".into()), Value::Float(0.1)),
        (Value::Str("bytes".into()), Value::Bytes(vec![0, 200])),
    ]);
    write_pth(&path, &value).unwrap();
    let again = read_pth(&path).unwrap();
    assert_eq!(format!("{:?}", again.get("list")), format!("{:?}", value.get("list")));
    for key in ["int", "small", "float", "bytes"] {
        assert_eq!(format!("{:?}", again.get(key)), format!("{:?}", value.get(key)));
    }
    let [Value::Tensor(t)] = again.get("strided").unwrap().as_list().unwrap() else { panic!() };
    assert_eq!(doubles(t), [0., 3., 1., 4., 2., 5.]);
    for ((a, x), (b, y)) in state_dict(again).unwrap().iter().zip(&tensors("dtypes.pth")) {
        assert_eq!((a, x.kind()), (b, y.kind()));
        assert!(x.equal(y), "{a}");
    }
    assert_eq!(
        std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1,
        "no partial file is left"
    );
    let float8 = Tensor::zeros([1], (Kind::Float, tch::Device::Cpu)).to_kind(Kind::Float8e5m2);
    let e = write_pth(&path, &Value::Tensor(float8)).unwrap_err().to_string();
    assert!(e.contains("Float8e5m2"), "{e}");
}
