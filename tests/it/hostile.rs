//! Damaged and hostile files of weights: each is an error, quickly and within a memory limit.

#![allow(
    clippy::print_stdout,
    reason = "a test in a process of its own reports to its parent by lines"
)]

use finetune::{
    Error,
    format::{
        Metadata, StateDict, Value, read_pth, read_pth_bytes, read_safetensors_bytes,
        write_safetensors,
    },
    model::read_weights,
};
use std::{
    env, fs,
    io::{Cursor, Write as _},
    path::PathBuf,
    process::Command,
};
use tch::{Kind, Tensor};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// Pseudo-random numbers, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pth").join(name)
}

fn file(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap()
}

/// Returns all of a value as text, to compare it.
fn text(value: &Value) -> String {
    match value {
        Value::Tensor(t) => format!("{:?} {:?} {:?}", t.kind(), t.size(), bytes(t)),
        Value::List(all) => all.iter().map(|v| text(v) + ",").collect(),
        Value::Dict(all) => all.iter().map(|(k, v)| text(k) + ":" + &text(v) + ",").collect(),
        plain => format!("{plain:?}"),
    }
}

fn bytes(t: &Tensor) -> Vec<u8> {
    let t = t.contiguous();
    let mut all = vec![0; t.numel() * t.kind().elt_size_in_bytes()];
    t.copy_data_u8(&mut all, t.numel());
    all
}

/// Returns the file with one of many kinds of damage.
fn mutate(original: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut b = original.to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(b.len());
        match numbers.below(8) {
            0 if !b.is_empty() => b[at] ^= 1 << numbers.below(8),
            1 if !b.is_empty() => b[at] = numbers.next() as u8,
            2 => b.truncate(at),
            3 => {
                let hostile = [u64::MAX, 1 << 63, 1 << 31, 0, u64::from(u32::MAX)];
                let value = hostile[numbers.below(hostile.len())].to_le_bytes();
                let n = value.len().min(b.len() - at.min(b.len()));
                b[at..at + n].copy_from_slice(&value[..n]);
            }
            4 => {
                let end = (at + numbers.below(64)).min(b.len());
                drop(b.drain(at..end));
            }
            5 => {
                let piece = b[at..(at + numbers.below(64)).min(b.len())].to_vec();
                let to = numbers.below(b.len());
                b.splice(to..to, piece);
            }
            6 => {
                b.splice(at..at, (0..numbers.below(9)).map(|_| numbers.next() as u8)).for_each(drop)
            }
            _ if !b.is_empty() => {
                // An opcode of a pickle, if the file is one.
                let opcodes = b".(01NKMJGXUTCB)t]l}daesuqrhjcRbQ\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x93\x94\x95";
                b[at] = opcodes[numbers.below(opcodes.len())];
            }
            _ => {}
        }
    }
    b
}

#[test]
fn thousands_of_damaged_files_are_read_or_rejected() {
    let files = [
        "module.pth",
        "layouts.pth",
        "layouts_legacy.pth",
        "dtypes_legacy.pth",
        "layouts_protocol4.pth",
        "plain.pth",
        "nested.pth",
        "dtypes_new.pth",
    ];
    let mut numbers = Numbers(7);
    let (mut refused, mut read) = (0, 0);
    for name in files {
        let original = file(name);
        for _ in 0..1500 {
            let damaged = mutate(&original, &mut numbers);
            match read_pth_bytes(&damaged, name) {
                Ok(value) => {
                    text(&value);
                    read += 1;
                }
                Err(e) => {
                    assert!(e.to_string().starts_with(name), "{e}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 6000 && read > 100, "{refused} refused, {read} read");
}

/// The pickle is damaged, and the zip around it is intact.
#[test]
fn thousands_of_damaged_pickles_are_read_or_rejected() {
    let mut numbers = Numbers(11);
    for name in ["layouts.pth", "plain.pth", "dtypes_new.pth"] {
        let original = file(name);
        let mut zip = zip::ZipArchive::new(Cursor::new(&original)).unwrap();
        let names: Vec<String> = zip.file_names().map(ToOwned::to_owned).collect();
        let entries: Vec<(String, Vec<u8>)> = names
            .into_iter()
            .map(|name| {
                let mut data = vec![];
                std::io::copy(&mut zip.by_name(&name).unwrap(), &mut data).unwrap();
                (name, data)
            })
            .collect();
        for _ in 0..1000 {
            let entries: Vec<_> = entries
                .iter()
                .map(|(name, data)| match name.ends_with("data.pkl") {
                    true => (name.as_str(), mutate(data, &mut numbers)),
                    false => (name.as_str(), data.clone()),
                })
                .collect();
            if let Ok(value) = read_pth_bytes(&zipped(&entries), "damaged") {
                text(&value);
            }
        }
    }
}

#[test]
fn a_single_flipped_bit_is_detected_or_harmless() {
    let original = file("module.pth");
    let expected = text(&read_pth_bytes(&original, "original").unwrap());
    for at in 0..original.len() {
        let mut flipped = original.clone();
        flipped[at] ^= 1 << (at % 8);
        if let Ok(value) = read_pth_bytes(&flipped, "flipped") {
            assert_eq!(text(&value), expected, "a flip in byte {at} goes unnoticed");
        }
    }
    for n in 0..original.len() {
        let e = read_pth_bytes(&original[..n], "cut").unwrap_err();
        assert!(matches!(e, Error::Checkpoint { .. }), "cut after {n} bytes: {e}");
        let told = if n < 4 { "cut: was not written by" } else { "cut: is a broken zip" };
        assert!(e.to_string().starts_with(told), "cut after {n} bytes: {e}");
    }
}

fn own_safetensors() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.safetensors");
    let weights = Tensor::arange(12, (Kind::Float, tch::Device::Cpu)).view([3, 4]);
    let state: StateDict = vec![("fc.weight".into(), weights), ("n".into(), Tensor::from(3_i64))];
    let about = Metadata::from([
        ("finetune".to_owned(), "1".to_owned()),
        ("export".to_owned(), r#"{"vocab": ["cat", "dog"]}"#.to_owned()),
    ]);
    write_safetensors(&path, &state, Some(about)).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn damaged_safetensors_are_read_or_rejected() {
    let original = own_safetensors();
    let describe = |(state, about): (StateDict, Metadata)| {
        let state: Vec<_> = state
            .iter()
            .map(|(n, t)| format!("{n} {:?} {:?} {:?}", t.kind(), t.size(), bytes(t)))
            .collect();
        format!("{state:?} {about:?}")
    };
    let expected = describe(read_safetensors_bytes(&original, "original").unwrap());
    for bit in 0..original.len() * 8 {
        let mut flipped = original.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = read_safetensors_bytes(&flipped, "flipped") {
            assert_eq!(describe(read), expected, "a flip of bit {bit} goes unnoticed");
        }
    }
    for n in 0..original.len() {
        let e = read_safetensors_bytes(&original[..n], "cut").unwrap_err();
        assert!(matches!(e, Error::Checkpoint { .. }), "cut after {n} bytes: {e}");
        let told = "cut: is not a safetensors file";
        assert!(e.to_string().starts_with(told), "cut after {n} bytes: {e}");
    }
    let mut numbers = Numbers(5);
    for _ in 0..4000 {
        let damaged = mutate(&original, &mut numbers);
        if let Ok(read) = read_safetensors_bytes(&damaged, "damaged") {
            describe(read);
        }
    }
}

fn zipped(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    packed(entries, CompressionMethod::Stored)
}

fn packed(entries: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(vec![]));
    for (name, data) in entries {
        let how = SimpleFileOptions::default().compression_method(method);
        zip.start_file(*name, how).unwrap();
        zip.write_all(data).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Returns a pickle of one tensor with `elements` elements in its storage of `bytes` bytes, and the
/// given sizes and strides.
fn one_tensor(elements: i64, sizes: &[(i64, i64)], offset: i64, bytes: usize) -> Vec<u8> {
    let int = |n: i64| [&[0x8a, 8][..], &n.to_le_bytes()].concat();
    let tuple = |ns: Vec<i64>| {
        [&b"("[..], &ns.into_iter().flat_map(int).collect::<Vec<_>>(), b"t"].concat()
    };
    let pickle = [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n"
            .to_vec(),
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu".to_vec(),
        int(elements),
        b"tQ".to_vec(),
        int(offset),
        tuple(sizes.iter().map(|s| s.0).collect()),
        tuple(sizes.iter().map(|s| s.1).collect()),
        b"\x89N".to_vec(),
        b"tR.".to_vec(),
    ];
    zipped(&[("a/data.pkl", pickle.concat()), ("a/data/0", vec![0; bytes])])
}

#[track_caller]
fn refused(bytes: &[u8], word: &str) {
    let e = read_pth_bytes(bytes, "hostile").unwrap_err();
    assert!(matches!(e, Error::Checkpoint { .. }) && e.to_string().contains(word), "{word}: {e}");
}

#[test]
fn absurd_tensors_are_rejected() {
    assert!(read_pth_bytes(&one_tensor(4, &[(2, 2), (2, 1)], 0, 16), "sane").is_ok());
    refused(&one_tensor(4, &[(i64::MAX, 1)], 0, 16), "storage of 4");
    refused(&one_tensor(4, &[(i64::MAX, i64::MAX)], 0, 16), "storage of 4");
    refused(&one_tensor(4, &[(1 << 40, 0)], 0, 16), "bomb"); // expanded from one number
    refused(&one_tensor(4, &[(1 << 40, 0), (1 << 40, 0)], 0, 16), "1099511627776");
    refused(&one_tensor(4, &[(-1, 1)], 0, 16), "short list of integers");
    refused(&one_tensor(4, &[(2, -1)], 3, 16), "short list of integers");
    refused(&one_tensor(4, &[(2, 1)], 3, 16), "storage of 4");
    refused(&one_tensor(4, &[(2, 1)], -1, 16), "storage of 4");
    refused(&one_tensor(4, &[(2, 1)], i64::MAX, 16), "storage of 4");
    refused(&one_tensor(i64::MAX, &[(2, 1)], 0, 16), "storage `0`");
    refused(&one_tensor(i64::MIN, &[(2, 1)], 0, 16), "storage `0`");
    refused(&one_tensor(1 << 60, &[(2, 1)], 0, 16), "bomb");
    refused(&one_tensor(1 << 21, &[(2, 1)], 0, 16), "16 bytes");
    refused(&one_tensor(2, &[(2, 1)], 0, 16), "16 bytes");
    refused(&one_tensor(4, &[(1, 1); 65], 0, 16), "short list of integers");
}

/// Returns small files that claim to be large, deep or endless, each with a word of its error.
fn bombs() -> Vec<(Vec<u8>, &'static str)> {
    let pickle = |body: &[u8]| zipped(&[("a/data.pkl", [b"\x80\x02", body].concat())]);
    // A hundred thousand nested lists.
    let deep = [b"]".repeat(100_000), b"a".repeat(99_999), b".".to_vec()].concat();
    // Ten lists of ten lists of ten …: 10^60 values in a few hundred bytes.
    let mut laughs = b"]q\x00".to_vec();
    for level in 0..60_u8 {
        laughs.extend([b']', b'q', level + 1, b'(']);
        laughs.extend([b'h', level].repeat(10));
        laughs.push(b'e');
    }
    laughs.push(b'.');
    // A long string, ten thousand times.
    let mut texts = [&b"](X\0\0\x10\0"[..], &vec![b'x'; 1 << 20], b"q\x00"].concat();
    texts.extend(b"h\x00".repeat(10_000));
    texts.extend(b"e.");
    // A storage of 400 MB of zeros, and a pickle of 100 MB, compressed to less than 1 MB each.
    let announced = one_tensor(100 << 20, &[(100 << 20, 1)], 0, 0);
    let mut zip = zip::ZipArchive::new(Cursor::new(announced)).unwrap();
    let mut data = vec![];
    std::io::copy(&mut zip.by_name("a/data.pkl").unwrap(), &mut data).unwrap();
    let zeros = vec![0; 400 << 20];
    let entries = [("a/data.pkl", data), ("a/data/0", zeros)];
    let zeros = packed(&entries, CompressionMethod::Deflated);
    let entries = [("a/data.pkl", vec![b'N'; 100 << 20])];
    let steps = packed(&entries, CompressionMethod::Deflated);
    assert!(zeros.len() < 2 << 20 && steps.len() < 2 << 20);
    let one = |shape: &str| {
        let header = format!(
            r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":[0,1125899906842624]}}}}"#
        );
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 16]].concat()
    };
    vec![
        (pickle(b"]q\x00h\x00a."), "contains itself"),
        (pickle(b"}q\x00X\x01\0\0\0ah\x00s."), "contains itself"),
        (pickle(&deep), "deep"),
        (pickle(&laughs), "values"),
        (pickle(&texts), "values"),
        // More objects, steps or announced bytes than any checkpoint has.
        (pickle(&b"]".repeat(2_000_000)), "objects"),
        (pickle(&b"N0".repeat(3_000_000)), "steps"),
        (pickle(b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f"), "early"),
        (pickle(b"X\xff\xff\xff\xff"), "early"),
        (pickle(b"\x8b\xff\xff\xff\xffN."), "early"),
        (pickle(b"Nr\xff\xff\xff\xff0j\xff\xff\xff\x7f."), "unknown memo entry"),
        (one_tensor(i64::MAX, &[(i64::MAX, 1)], 0, 16), "storage `0`"),
        (one_tensor(1 << 60, &[(1 << 60, 1)], 0, 16), "bomb"),
        (one_tensor(4, &[(1 << 40, 0)], 0, 16), "bomb"),
        (zeros, "bomb"),
        (steps, "expected"),
        (u64::MAX.to_le_bytes().to_vec(), "neither"),
        ([&(1_u64 << 62).to_le_bytes()[..], b"{"].concat(), "safetensors"),
        (one("[281474976710656]"), "safetensors"),
    ]
}

/// Reads files in a separate process, within `limit` kilobytes of address space. Returns a line per
/// file, and the peak memory.
fn read_within(limit: Option<usize>, files: &[PathBuf]) -> (Vec<String>, usize) {
    let limit = limit.map_or("unlimited".to_owned(), |n| n.to_string());
    let list: Vec<&str> = files.iter().map(|f| f.to_str().unwrap()).collect();
    let out = Command::new("sh")
        .args(["-c", r#"ulimit -v "$0" && exec "$@""#, &limit])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "hostile::reader_of_bombs", "--ignored", "--nocapture"])
        .env("BOMBS", list.join("\n"))
        .env("OMP_NUM_THREADS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{text}\n{}", String::from_utf8_lossy(&out.stderr));
    let lines_after = |word: &str| {
        let of = text.lines().filter_map(|l| l.split_once(word)).map(|(_, rest)| rest.to_owned());
        of.collect::<Vec<String>>()
    };
    (lines_after("SAYS="), lines_after("PEAK=")[0].parse().unwrap())
}

#[test]
#[ignore = "the other half of the next test, in a process of its own"]
fn reader_of_bombs() {
    for file in env::var("BOMBS").unwrap().lines() {
        let said = match read_weights(file) {
            Ok(state) => format!("{} tensors", state.len()),
            Err(e) => e.to_string(),
        };
        println!("SAYS={said}");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmPeak:")).unwrap();
    println!("PEAK={}", peak.trim().trim_end_matches(" kB"));
}

/// The limit applies to all allocated memory, even if it is not written to.
#[test]
#[cfg(target_os = "linux")]
fn bombs_are_rejected_within_a_memory_limit() {
    const ALLOWED: usize = 256 << 10;
    let folder = tempfile::tempdir().unwrap();
    let (sane, needed) = read_within(None, &[path("module.pth")]);
    assert_eq!(sane, ["7 tensors"]);
    let bombs = bombs();
    let files: Vec<PathBuf> =
        (0..bombs.len()).map(|i| folder.path().join(format!("bomb-{i}"))).collect();
    for ((bytes, _), file) in bombs.iter().zip(&files) {
        fs::write(file, bytes).unwrap();
    }
    let (said, peak) = read_within(Some(needed + ALLOWED), &files);
    println!("{} kB more than for a sane file, of {ALLOWED}", peak.saturating_sub(needed));
    assert_eq!(said.len(), bombs.len());
    for (said, (_, word)) in said.iter().zip(&bombs) {
        assert!(said.contains(word), "{said} does not say {word}");
    }
}

#[test]
fn broken_pickles_and_names_are_rejected() {
    let pickle = |body: &[u8]| zipped(&[("a/data.pkl", [b"\x80\x02", body].concat())]);
    for broken in
        [&b"."[..], b"t.", b"0.", b"(0.", b"R.", b"}Ns.", b"](Nu.", b"N(e.", b"NNb.", b"Q."]
    {
        refused(&pickle(broken), "hostile: its pickle");
    }
    // Names are rejected at any position, and are not called.
    refused(&pickle(b"cos\nsystem\nX\x04\0\0\0true\x85R."), "`os.system`");
    refused(&pickle(b"X\x02\0\0\0osX\x06\0\0\0system\x93."), "`os.system`");
    refused(&pickle(b"cbuiltins\neval\n."), "`builtins.eval`");
}

#[test]
fn the_header_of_safetensors_is_verified() {
    let file = |header: &str, data: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    };
    let says = |bytes: &[u8], told: &str| {
        let e = read_safetensors_bytes(bytes, "hostile").unwrap_err();
        assert!(matches!(e, Error::Checkpoint { .. }) && e.to_string().contains(told), "{e}");
    };
    let refused = |bytes: &[u8]| says(bytes, "hostile: is not a safetensors file");
    let one = |shape: &str, ends: &str| {
        format!(r#"{{"w":{{"dtype":"F32","shape":{shape},"data_offsets":{ends}}}}}"#)
    };
    assert!(read_safetensors_bytes(&file(&one("[4]", "[0,16]"), 16), "sane").is_ok());
    refused(&file(&one("[4]", "[0,16]"), 8));
    refused(&file(&one("[5]", "[0,16]"), 16));
    refused(&file(&one("[9223372036854775808]", "[0,16]"), 16));
    refused(&file(&one("[4611686018427387905,4]", "[0,16]"), 16)); // the product wraps to 4
    refused(&file(&one("[4]", "[16,0]"), 16));
    refused(&file(&one("[4]", "[0,18446744073709551615]"), 16));
    refused(&u64::MAX.to_le_bytes());
    refused(&(1_u64 << 62).to_le_bytes());
    refused(b"");
    let long = format!(r#"{{"__metadata__":{{"x":"{}"}}}}"#, "y".repeat(17 << 20));
    says(&file(&long, 0), "bytes of metadata; at most");
}

#[test]
fn an_empty_file_is_rejected() {
    let empty = tempfile::NamedTempFile::new().unwrap();
    let e = read_pth(empty.path()).unwrap_err().to_string();
    assert!(e.contains("not written by `torch.save`"), "{e}");
}
