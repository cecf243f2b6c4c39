//! Pretrained weights from a local server: downloaded once, resumed, checked, stored where Python stores
//! them, and found there without a network.

#![allow(
    clippy::print_stdout,
    reason = "a test in a process of its own reports to its parent by lines"
)]

use super::{
    process,
    server::{Server, respond, serve, serve_first},
};
use finetune::{
    format::{StateDict, Value, write_pth, write_safetensors},
    model::{
        ArchSpec, HeadOptions, Model, UnetOptions, WeightsFrom, adapt_first_layer, by_name,
        read_weights, resnet18, squeezenet1_1,
    },
    seed::Seed,
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};
use tch::{Device, Tensor};

/// Serves files by path. The first response for a path with `flaky` ends halfway.
fn files(files: impl Into<HashMap<String, Vec<u8>>>) -> Server {
    let files = files.into();
    let mut broken = false;
    Server::start(move |_, request, stream| match files.get(&request.target) {
        None => respond(stream, "404 Not Found", &["Content-Length: 0"], &[]),
        Some(file) if request.target.contains("flaky") && !broken => {
            broken = true;
            serve_first(stream, request, file, file.len() / 2);
        }
        Some(file) => serve(stream, request, file),
    })
}

/// Downloads in a separate process with the environment `set`. Returns the path or the error.
fn fetch(what: &str, home: &Path, set: &[(&str, &str)]) -> Result<PathBuf, String> {
    let mut child = process::test("pretrained::child");
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
    let line_after = |word: &str| {
        let at = text.find(word)? + word.len();
        Some(text[at..].lines().next().unwrap_or_default().to_owned())
    };
    match (line_after("PLACE="), line_after("ERROR=")) {
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
        "network" => {
            let mut model = for_two(&by_name(rest).unwrap(), 3);
            let loaded = model.load_pretrained_from(&WeightsFrom::published().retries(0));
            loaded.map(|_| PathBuf::from(rest))
        }
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

/// Returns PyTorch's name for a file of these bytes.
fn named(stem: &str, bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("{stem}-{}.pth", &digits[..8])
}

#[test]
fn published_weights_are_downloaded_once_to_pytorchs_cache() {
    let home = tempfile::tempdir().unwrap();
    let name = named("tiny", &weights());
    let server = files([(format!("/models/{name}"), weights())]);
    let base = server.url("models/");
    let set = [("FINETUNE_WEIGHTS_URL", base.as_str())];
    let place = fetch(&format!("published {name}"), home.path(), &set).unwrap();
    assert_eq!(place, home.path().join("torch/hub/checkpoints").join(&name));
    assert_eq!(fs::read(&place).unwrap(), weights());
    assert_eq!(read_weights(&place).unwrap().len(), 7);
    // The second time, or without a network, nothing is requested.
    for extra in [("X", "1"), ("FINETUNE_OFFLINE", "1")] {
        let again = fetch(&format!("published {name}"), home.path(), &[set[0], extra]);
        assert_eq!(again.unwrap(), place);
    }
    assert_eq!(server.requests().len(), 1);

    // A file that Python has downloaded is used, here in another TORCH_HOME.
    let torch = tempfile::tempdir().unwrap();
    let checkpoints = torch.path().join("hub/checkpoints");
    fs::create_dir_all(&checkpoints).unwrap();
    fs::write(checkpoints.join(&name), weights()).unwrap();
    let home_of_torch = ("TORCH_HOME", torch.path().to_str().unwrap());
    let found = fetch(&format!("published {name}"), home.path(), &[set[0], home_of_torch]);
    assert_eq!(found.unwrap(), checkpoints.join(&name));
    assert_eq!(server.requests().len(), 1);
    // A damaged file is downloaded again: its checksum is in its name.
    fs::write(checkpoints.join(&name), b"cut short").unwrap();
    let found = fetch(&format!("published {name}"), home.path(), &[set[0], home_of_torch]);
    assert_eq!(fs::read(found.unwrap()).unwrap(), weights());
    assert_eq!(server.requests().len(), 2);
}

/// torch finds a file that this crate downloaded, and requests nothing.
#[test]
#[ignore = "needs a Python with torch, named by FINETUNE_PYTHON"]
fn python_uses_files_that_were_downloaded_here() {
    let home = tempfile::tempdir().unwrap();
    let name = named("tiny", &weights());
    let server = files([(format!("/{name}"), weights())]);
    fetch(&format!("url {}", server.url(&name)), home.path(), &[]).unwrap();
    let program = "import sys, torch; \
                   print(len(torch.hub.load_state_dict_from_url(sys.argv[1], check_hash=True)))";
    let out = Command::new(env::var("FINETUNE_PYTHON").expect("FINETUNE_PYTHON is set"))
        .args(["-c", program, &server.url(&name)])
        .env("XDG_CACHE_HOME", home.path())
        .env_remove("TORCH_HOME")
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(said.trim(), "7", "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn an_interrupted_download_is_resumed_and_a_wrong_file_rejected() {
    let home = tempfile::tempdir().unwrap();
    let mut big = weights();
    big.extend(vec![7; 1 << 20]);
    let name = named("flaky", &big);
    let wrong = "wrong-00000000.pth";
    let server = files([(format!("/{name}"), big.clone()), (format!("/{wrong}"), weights())]);
    let url = |name: &str| format!("url {}", server.url(name));
    let place = fetch(&url(&name), home.path(), &[]).unwrap();
    assert_eq!(fs::read(place).unwrap(), big);
    let asked: Vec<_> = server.requests().iter().map(|r| r.range()).collect();
    assert_eq!(asked, [None, Some(big.len() / 2)]);

    let e = fetch(&url(wrong), home.path(), &[]).unwrap_err();
    assert!(e.contains("00000000") && e.contains(wrong), "{e}");
    assert!(!home.path().join("torch/hub/checkpoints").join(wrong).exists());
    let e = fetch(&url("absent-12345678.pth"), home.path(), &[]).unwrap_err();
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
    // A server that does not listen has the same result.
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
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let path = format!("/org/net/resolve/{commit}/model.safetensors");
    let about = format!(r#"{{"sha": "{commit}"}}"#).into_bytes();
    let revision = "/api/models/org/net/revision/v2".to_owned();
    let server = files([(path, b"weights".to_vec()), (revision, about)]);
    let endpoint = server.url("");
    let set = [("HF_ENDPOINT", endpoint.as_str())];
    let place = fetch("hub org/net", home.path(), &set).unwrap();
    assert_eq!(fs::read(&place).unwrap(), b"weights");
    // The file is stored where Python would store it.
    let repo = home.path().join("huggingface/hub/models--org--net");
    assert_eq!(place, repo.join("snapshots").join(commit).join("model.safetensors"));
    assert_eq!(fs::read_to_string(repo.join("refs/v2")).unwrap(), commit);
    let offline = [set[0], ("HF_HUB_OFFLINE", "1")];
    assert_eq!(fetch("hub org/net", home.path(), &offline).unwrap(), place);
    let e = fetch("hub org/other", home.path(), &offline).unwrap_err();
    assert!(e.contains("/org/other/resolve/v2/model.safetensors"), "{e}");
    // A file that is placed where the error says is found.
    let place =
        home.path().join("huggingface/hub/models--org--other/snapshots/v2/model.safetensors");
    assert!(e.contains(place.to_str().unwrap()), "{e}");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, b"placed").unwrap();
    assert_eq!(fetch("hub org/other", home.path(), &offline).unwrap(), place);
    assert_eq!(server.requests().len(), 2);
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
fn options_of_published_weights_apply_to_networks_of_a_hub() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _, stream| {
        respond(stream, "503 Service Unavailable", &["Content-Length: 0"], &[]);
    });
    let endpoint = server.url("");
    let set = [("HF_ENDPOINT", endpoint.as_str())];
    let e = fetch("network test_vit", home.path(), &set).unwrap_err();
    assert!(e.contains("503"), "{e}");
    // One request for the commit of the branch, one for the file, and no retries.
    assert_eq!(server.requests().len(), 2);
    let from = WeightsFrom::published().revision("v2");
    let e = for_two(&by_name("test_vit").unwrap(), 3).load_pretrained_from(&from).unwrap_err();
    assert!(e.to_string().contains("WeightsFrom::revision"), "{e}");
}

#[test]
fn a_local_file_is_used_directly() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pth/module.pth");
    assert_eq!(WeightsFrom::from(path.clone()).fetch(None).unwrap(), path);
    assert_eq!(read_weights(&path).unwrap()[0].0, "0.weight");
    let e = WeightsFrom::published().fetch(None).unwrap_err().to_string();
    assert!(e.contains("pretrained"), "{e}");
}

/// Returns a body for `n_in` channels with a head for two classes.
fn for_two(arch: &finetune::model::Arch, n_in: usize) -> Model {
    let spec = ArchSpec::new(arch, n_in, 2, HeadOptions::new());
    spec.build(Device::Cpu, Seed(2)).unwrap()
}

fn copies(model: &Model) -> StateDict {
    model.state_dict().iter().map(|(n, t)| (n.clone(), t.copy())).collect()
}

#[test]
fn the_body_gets_the_weights_of_a_file_and_the_head_keeps_its_own() {
    let whole =
        ArchSpec::classifier(&squeezenet1_1(), 3, 1000).build(Device::Cpu, Seed(1)).unwrap();
    let published: HashMap<String, Tensor> = whole.state_dict().into_iter().collect();
    let folder = tempfile::tempdir().unwrap();
    let (pth, safe) = (folder.path().join("net.pth"), folder.path().join("net.safetensors"));
    let entries = whole.state_dict().into_iter();
    let entries = entries.map(|(n, t)| (Value::Str(format!("module.{n}")), Value::Tensor(t)));
    let nested = vec![(Value::Str("state_dict".into()), Value::Dict(entries.collect()))];
    write_pth(&pth, &Value::Dict(nested)).unwrap();
    write_safetensors(&safe, &whole.state_dict(), None).unwrap();
    for (file, n_in) in [(&pth, 3), (&safe, 3), (&pth, 1), (&safe, 5)] {
        let mut model = for_two(&squeezenet1_1(), n_in);
        let before = copies(&model);
        model.load_pretrained_from(&WeightsFrom::file(file)).unwrap();
        for ((name, now), (_, before)) in model.state_dict().iter().zip(&before) {
            if name.starts_with("head.") {
                assert!(now.equal(before), "{name}");
            } else if name == "features.0.weight" {
                assert!(
                    now.equal(&adapt_first_layer(&published[name], n_in as i64).unwrap()),
                    "{n_in}"
                );
            } else {
                assert!(now.equal(&published[name]), "{name}");
            }
        }
    }
    // Weights of another network: the error names the first differences, and nothing is loaded.
    let mut other = for_two(&resnet18(), 3);
    let before = copies(&other);
    let e = other.load_pretrained_from(&WeightsFrom::file(&pth)).unwrap_err().to_string();
    let said = ["net.pth", "missing: bn1.bias", "unexpected: ", "features.0.bias"];
    assert!(said.iter().all(|word| e.contains(word)), "{e}");
    assert!(other.state_dict().iter().zip(&before).all(|(now, then)| now.1.equal(&then.1)));
}

/// The variables of Swin's body start with `layers.`, as those of a decoder do.
#[test]
fn the_body_of_a_unet_gets_published_weights_and_the_decoder_keeps_its_own() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["test_convnext", "swin_tiny_patch4_window7_224"] {
        let arch = by_name(name).unwrap().image_size(64, 64);
        let whole = ArchSpec::classifier(&arch, 3, 5).build(Device::Cpu, Seed(1)).unwrap();
        let file = folder.path().join(format!("{name}.safetensors"));
        write_safetensors(&file, &whole.state_dict(), None).unwrap();
        let published: HashMap<String, Tensor> = whole.state_dict().into_iter().collect();
        let unet = ArchSpec::unet(&arch, 3, 2, UnetOptions::new().size_hw(64, 64));
        let mut model = unet.build(Device::Cpu, Seed(2)).unwrap();
        let before = copies(&model);
        model.load_pretrained_from(&WeightsFrom::file(&file)).unwrap();
        let mut of_body = 0;
        for ((name, now), (_, before)) in model.state_dict().iter().zip(&before) {
            of_body += usize::from(published.contains_key(name));
            assert!(now.equal(published.get(name).unwrap_or(before)), "{name}");
        }
        assert_eq!(of_body, published.keys().filter(|name| !name.starts_with("head.")).count());
    }
}
