//! Pretrained weights from a server of the test's own: fetched once, resumed, checked, kept where Python
//! keeps them, and found there when there is no network.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panics, and says what it measured"
)]

use finetune::model::{WeightsFrom, read_weights};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

/// What the server was asked for: the path, and the first byte.
type Log = Arc<Mutex<Vec<(String, u64)>>>;

/// Serves files by path. A path with `flaky` breaks off in the middle the first time.
fn serve(files: HashMap<String, Vec<u8>>) -> (String, Log) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let log = Log::default();
    let kept = log.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = answer(stream.unwrap(), &files, &kept);
        }
    });
    (address, log)
}

fn answer(
    mut stream: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    log: &Log,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap()?;
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut from = 0;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap();
        }
    }
    let times = log.lock().unwrap().iter().filter(|(p, _)| *p == path).count();
    log.lock().unwrap().push((path.clone(), from));
    let Some(file) = files.get(&path) else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    };
    let n = file.len() as u64;
    let range = format!("content-range: bytes {from}-{}/{n}\r\n", n - 1);
    let (status, range) = if from > 0 { ("206 Partial Content", &*range) } else { ("200 OK", "") };
    let rest = &file[from as usize..];
    let length = rest.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\netag: \"v1\"\r\n{range}connection: close\r\n\r\n"
    )?;
    let sent = if path.contains("flaky") && times == 0 { &rest[..length / 2] } else { rest };
    stream.write_all(sent)
}

/// Fetches in a process of its own, whose environment is `set`: the place, or the error.
fn fetch(what: &str, home: &Path, set: &[(&str, &str)]) -> Result<PathBuf, String> {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "child", "--ignored", "--nocapture"]);
    for name in ["HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "FINETUNE_OFFLINE", "TORCH_HOME"] {
        child.env_remove(name);
    }
    for proxy in
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    {
        child.env_remove(proxy);
    }
    child.env("XDG_CACHE_HOME", home).env("FETCH", what).envs(set.iter().copied());
    let out = child.output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let said = |word: &str| {
        let at = text.find(word)? + word.len();
        Some(text[at..].lines().next().unwrap_or_default().to_owned())
    };
    match (said("PLACE="), said("ERROR=")) {
        (Some(place), _) => Ok(place.into()),
        (_, Some(error)) => Err(error),
        _ => panic!("{text}\n{}", String::from_utf8_lossy(&out.stderr)),
    }
}

#[test]
#[ignore = "the other half of the tests of this file, in a process of its own"]
fn child() {
    let what = env::var("FETCH").unwrap();
    let (kind, rest) = what.split_once(' ').unwrap();
    let found = match kind {
        "published" => WeightsFrom::published().fetch(Some(rest)),
        "url" => WeightsFrom::url(rest).fetch(None),
        _ => WeightsFrom::hub(rest).revision("v2").fetch(None),
    };
    match found {
        Ok(place) => println!("PLACE={}", place.display()),
        Err(e) => println!("ERROR={}", e.to_string().replace('\n', " ")),
    }
}

fn weights() -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pth/module.pth");
    fs::read(path).unwrap()
}

/// PyTorch's name for a file of these bytes.
fn named(stem: &str, bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("{stem}-{}.pth", &digits[..8])
}

#[test]
fn published_weights_are_fetched_once_and_kept_where_pytorch_keeps_them() {
    let home = tempfile::tempdir().unwrap();
    let name = named("tiny", &weights());
    let (server, log) = serve(HashMap::from([(format!("/models/{name}"), weights())]));
    let base = format!("{server}/models/");
    let set = [("FINETUNE_WEIGHTS_URL", base.as_str())];
    let place = fetch(&format!("published {name}"), home.path(), &set).unwrap();
    assert_eq!(place, home.path().join("torch/hub/checkpoints").join(&name));
    assert_eq!(fs::read(&place).unwrap(), weights());
    assert_eq!(read_weights(&place).unwrap().len(), 7);
    // A second time, and where the network is switched off: nothing is asked for.
    for extra in [("X", "1"), ("FINETUNE_OFFLINE", "1")] {
        let again = fetch(&format!("published {name}"), home.path(), &[set[0], extra]);
        assert_eq!(again.unwrap(), place);
    }
    assert_eq!(log.lock().unwrap().len(), 1);

    // What Python has downloaded is used: here below another TORCH_HOME.
    let torch = tempfile::tempdir().unwrap();
    let checkpoints = torch.path().join("hub/checkpoints");
    fs::create_dir_all(&checkpoints).unwrap();
    fs::write(checkpoints.join(&name), weights()).unwrap();
    let home_of_torch = ("TORCH_HOME", torch.path().to_str().unwrap());
    let found = fetch(&format!("published {name}"), home.path(), &[set[0], home_of_torch]);
    assert_eq!(found.unwrap(), checkpoints.join(&name));
    assert_eq!(log.lock().unwrap().len(), 1);
}

#[test]
fn a_broken_download_is_resumed_and_a_wrong_file_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut big = weights();
    big.extend(vec![7; 1 << 20]);
    let name = named("flaky", &big);
    let wrong = "wrong-00000000.pth";
    let files = [(format!("/{name}"), big.clone()), (format!("/{wrong}"), weights())];
    let (server, log) = serve(HashMap::from(files));
    let place = fetch(&format!("url {server}/{name}"), home.path(), &[]).unwrap();
    assert_eq!(fs::read(place).unwrap(), big);
    let asked: Vec<u64> = log.lock().unwrap().iter().map(|(_, from)| *from).collect();
    assert!(asked.len() == 2 && asked[0] == 0 && asked[1] > 1 << 18, "{asked:?}");

    let e = fetch(&format!("url {server}/{wrong}"), home.path(), &[]).unwrap_err();
    assert!(e.contains("00000000") && e.contains(wrong), "{e}");
    assert!(!home.path().join("torch/hub/checkpoints").join(wrong).exists());
    let e = fetch(&format!("url {server}/absent-12345678.pth"), home.path(), &[]).unwrap_err();
    assert!(e.contains("404") && e.contains("torch/hub/checkpoints/absent-12345678.pth"), "{e}");
}

#[test]
fn without_a_network_the_error_says_what_to_place_where() {
    let home = tempfile::tempdir().unwrap();
    let set = [("FINETUNE_OFFLINE", "1")];
    let e = fetch("published resnet34-b627a593.pth", home.path(), &set).unwrap_err();
    assert!(e.contains("https://download.pytorch.org/models/resnet34-b627a593.pth"), "{e}");
    let place = home.path().join("torch/hub/checkpoints/resnet34-b627a593.pth");
    assert!(e.contains(place.to_str().unwrap()), "{e}");
    // Nobody listens: the same.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let set = [("FINETUNE_WEIGHTS_URL", closed.as_str())];
    let e = fetch("published resnet34-b627a593.pth", home.path(), &set).unwrap_err();
    assert!(e.contains(place.to_str().unwrap()), "{e}");
}

#[test]
fn hub_repositories_are_read_by_name_and_revision() {
    let home = tempfile::tempdir().unwrap();
    let path = "/org/net/resolve/v2/model.safetensors";
    let (server, log) = serve(HashMap::from([(path.to_owned(), b"weights".to_vec())]));
    let set = [("HF_ENDPOINT", server.as_str())];
    let place = fetch("hub org/net", home.path(), &set).unwrap();
    assert_eq!(fs::read(&place).unwrap(), b"weights");
    let offline = [set[0], ("HF_HUB_OFFLINE", "1")];
    assert_eq!(fetch("hub org/net", home.path(), &offline).unwrap(), place);
    let e = fetch("hub org/other", home.path(), &offline).unwrap_err();
    assert!(e.contains("/org/other/resolve/v2/model.safetensors"), "{e}");
    assert_eq!(log.lock().unwrap().len(), 1);
    let e = fetch("hub ../net", home.path(), &set).unwrap_err();
    assert!(e.contains("names"), "{e}");

    // Python's cache.
    let repo = home.path().join("huggingface/hub/models--org--cached");
    let snapshot = repo.join("snapshots/abc123");
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(repo.join("refs/v2"), "abc123\n").unwrap();
    fs::write(snapshot.join("model.safetensors"), b"cached").unwrap();
    let found = fetch("hub org/cached", home.path(), &offline).unwrap();
    assert_eq!(found, snapshot.join("model.safetensors"));
}

#[test]
fn a_local_file_is_taken_as_it_is() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pth/module.pth");
    assert_eq!(WeightsFrom::from(path.clone()).fetch(None).unwrap(), path);
    assert_eq!(read_weights(&path).unwrap()[0].0, "0.weight");
    let e = WeightsFrom::published().fetch(None).unwrap_err().to_string();
    assert!(e.contains("pretrained"), "{e}");
}
