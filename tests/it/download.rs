//! Downloads from a server that fails in various ways.

use super::{
    process,
    server::{Server, respond, serve, serve_first},
};
use finetune::{
    Error,
    download::{Download, sha256_of},
};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

/// Returns bytes without repetitions.
fn bytes(n: u32) -> Vec<u8> {
    (0..n).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

struct Place {
    dir: tempfile::TempDir,
    sha256: String,
    content: Vec<u8>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let content = bytes(200_000);
        let original = dir.path().join("original");
        fs::write(&original, &content).unwrap();
        Self { sha256: sha256_of(&original).unwrap(), content, dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("new/folder/file.bin")
    }

    /// Returns the names of the files in the folder.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path().parent().unwrap()).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn is_complete(&self) {
        assert!(fs::read(self.path()).unwrap() == self.content, "another content");
        assert_eq!(self.files(), ["file.bin"]);
    }
}

fn get(url: impl Into<String>) -> Download {
    Download::new(url).backoff(Duration::from_millis(1)).quiet(true).offline(false)
}

fn refusal(download: &Download, path: &Path) -> String {
    let e = download.fetch_to(path).unwrap_err();
    assert!(matches!(e, Error::Download { .. }), "{e:?}");
    let text = e.to_string();
    assert!(
        text.contains("To place it manually") && text.contains(path.to_str().unwrap()),
        "{text}"
    );
    text
}

#[test]
fn a_file_is_complete_and_not_requested_again() {
    let place = Place::new();
    let server = Server::of(place.content.clone());
    let download = get(server.url("a")).sha256(&place.sha256);
    download.fetch_to(place.path()).unwrap();
    download.fetch_to(place.path()).unwrap();
    place.is_complete();
    assert_eq!(server.requests().len(), 1);
    // The first digits of a checksum, in upper or lower case, are sufficient.
    get(server.url("a")).sha256(place.sha256[..8].to_uppercase()).fetch_to(place.path()).unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |n, request, stream| match n {
        0..3 => serve_first(stream, request, &content, 250_000),
        _ => serve(stream, request, &content),
    });
    get(server.url("a")).fetch_to(place.path()).unwrap();
    place.is_complete();
    let ranges: Vec<_> = server.requests().iter().map(|r| r.range()).collect();
    assert_eq!(ranges, [None, Some(250_000), Some(500_000), Some(750_000)]);
    assert_eq!(server.requests()[1].header("if-range"), Some("\"v1\""));
}

#[test]
fn a_later_call_resumes_a_partial_file() {
    let place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |n, request, stream| match n {
        0 => serve_first(stream, request, &content, 300_000),
        _ => serve(stream, request, &content),
    });
    let url = server.url("a");
    let text = refusal(&get(&url).retries(0), &place.path());
    assert!(text.contains("was lost after 300000 of 800000 bytes"), "{text}");
    assert_eq!(place.files(), ["file.bin.part", "file.bin.part.json"]);
    get(&url).fetch_to(place.path()).unwrap();
    place.is_complete();
    assert_eq!(server.requests()[1].range(), Some(300_000));
}

#[test]
fn a_partial_file_of_another_address_or_of_unknown_origin_is_not_resumed() {
    let place = Place::new();
    let server = Server::of(place.content.clone());
    let part = place.path().with_file_name("file.bin.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, "something else").unwrap();
    get(server.url("a")).fetch_to(place.path()).unwrap();
    place.is_complete();
    fs::remove_file(place.path()).unwrap();
    fs::write(&part, "something else").unwrap();
    let note = r#"{"url":"http://127.0.0.1/other","version":"\"v1\""}"#;
    fs::write(place.path().with_file_name("file.bin.part.json"), note).unwrap();
    get(server.url("a")).fetch_to(place.path()).unwrap();
    place.is_complete();
    assert!(server.requests().iter().all(|r| r.range().is_none()));
}

#[test]
fn a_damaged_partial_file_is_detected_and_downloaded_again() {
    let place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |n, request, stream| match n {
        0 => serve_first(stream, request, &content, 300_000),
        _ => serve(stream, request, &content),
    });
    let download = get(server.url("a")).sha256(&place.sha256);
    refusal(&download.clone().retries(0), &place.path());
    let part = place.path().with_file_name("file.bin.part");
    let mut damaged = fs::read(&part).unwrap();
    damaged[1000] ^= 1;
    fs::write(&part, damaged).unwrap();
    download.fetch_to(place.path()).unwrap();
    place.is_complete();
    let ranges: Vec<_> = server.requests().iter().map(|r| r.range()).collect();
    assert_eq!(ranges, [None, Some(300_000), None]);
}

#[test]
fn a_server_without_ranges_starts_from_scratch() {
    let place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |n, _, stream| {
        let length = format!("Content-Length: {}", content.len());
        let sent = if n == 0 { 300_000 } else { content.len() };
        respond(stream, "200 OK", &[&length, "ETag: \"v1\""], &content[..sent]);
    });
    get(server.url("a")).fetch_to(place.path()).unwrap();
    place.is_complete();
    assert_eq!(server.requests()[1].range(), Some(300_000));
}

#[test]
fn a_server_that_always_fails_at_the_same_byte_is_an_error() {
    let place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |_, _, stream| {
        respond(stream, "200 OK", &["Content-Length: 800000"], &content[..300_000]);
    });
    let text = refusal(&get(server.url("a")).retries(2), &place.path());
    assert!(text.contains("after 3 attempts"), "{text}");
    assert_eq!(server.requests().len(), 3, "what came before is no progress");
    assert!(!place.path().exists());
}

#[test]
fn another_version_on_the_server_is_not_appended_to_the_first() {
    let place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |n, request, stream| match n {
        0 => {
            let headers = ["Content-Length: 800000", "ETag: \"v0\""];
            respond(stream, "200 OK", &headers, &vec![7; 300_000]);
        }
        // This server ignores If-Range: it answers the range from version v1.
        _ => serve(stream, request, &content),
    });
    get(server.url("a")).fetch_to(place.path()).unwrap();
    place.is_complete();
    let ranges: Vec<_> = server.requests().iter().map(|r| r.range()).collect();
    assert_eq!(ranges, [None, Some(300_000), None]);
}

#[test]
fn a_response_with_another_range_is_rejected() {
    let place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |n, request, stream| match (n, request.range()) {
        (0, _) => serve_first(stream, request, &content, 300_000),
        (_, Some(_)) => {
            let range = "Content-Range: bytes 0-799999/800000";
            let headers = ["Content-Length: 800000", range, "ETag: \"v1\""];
            respond(stream, "206 Partial Content", &headers, &content);
        }
        _ => serve(stream, request, &content),
    });
    get(server.url("a")).fetch_to(place.path()).unwrap();
    place.is_complete();
}

#[test]
fn a_partial_file_longer_than_the_file_starts_from_scratch() {
    let place = Place::new();
    let server = Server::of(place.content.clone());
    let part = place.path().with_file_name("file.bin.part");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![1; 900_000]).unwrap();
    let note = format!(r#"{{"url":"{}","version":"\"v1\""}}"#, server.url("a"));
    fs::write(place.path().with_file_name("file.bin.part.json"), note).unwrap();
    get(server.url("a")).fetch_to(place.path()).unwrap();
    place.is_complete();
    let ranges: Vec<_> = server.requests().iter().map(|r| r.range()).collect();
    assert_eq!(ranges, [Some(900_000), None]);
}

#[test]
fn a_wrong_checksum_removes_the_file() {
    let place = Place::new();
    let server = Server::of(b"not the weights".to_vec());
    let text = refusal(&get(server.url("a")).sha256(&place.sha256[..8]), &place.path());
    assert!(text.contains("SHA-256") && text.contains(&place.sha256[..8]), "{text}");
    assert!(text.contains("removed"), "{text}");
    assert_eq!(place.files(), [""; 0]);
    assert_eq!(server.requests().len(), 1, "the same bytes would come again");
}

#[test]
fn a_wrong_file_in_place_is_replaced_and_survives_a_failure() {
    let place = Place::new();
    let server = Server::of(place.content.clone());
    fs::create_dir_all(place.path().parent().unwrap()).unwrap();
    fs::write(place.path(), "broken off").unwrap();
    let download = get(server.url("a")).sha256(&place.sha256);
    let text = refusal(&download.clone().offline(true), &place.path());
    assert!(text.contains("another SHA-256"), "{text}");
    assert_eq!(fs::read(place.path()).unwrap(), b"broken off");
    download.clone().recheck(false).fetch_to(place.path()).unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), b"broken off");
    download.fetch_to(place.path()).unwrap();
    place.is_complete();
}

#[test]
fn wrong_content_lengths_are_errors() {
    let place = Place::new();
    // Content-Length is larger than the body.
    let server = Server::start(|_, _, stream| {
        respond(stream, "200 OK", &["Content-Length: 1000"], &[1; 10]);
    });
    let text = refusal(&get(server.url("a")).retries(1), &place.path());
    assert!(text.contains("after 10 of 1000 bytes") && text.contains("2 attempts"), "{text}");
    // Content-Length is smaller than the body: only the checksum reveals it.
    let content = place.content.clone();
    let server = Server::start(move |_, _, stream| {
        respond(stream, "200 OK", &["Content-Length: 10"], &content);
    });
    let text = refusal(&get(server.url("a")).sha256(&place.sha256), &place.path());
    assert!(text.contains("SHA-256"), "{text}");
    // No length, and a chunked body that ends too early.
    let server = Server::start(|_, _, stream| {
        respond(stream, "200 OK", &["Transfer-Encoding: chunked"], b"a\r\n0123456789\r\n5\r\n012");
    });
    let text = refusal(&get(server.url("a")).retries(0), &place.path());
    assert!(text.contains("the connection was lost"), "{text}");
    assert!(!place.path().exists());
}

#[test]
fn chunks_and_missing_lengths_are_read_to_their_end() {
    let place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |n, _, stream| match n {
        0 => {
            let mut body = format!("{:x}\r\n", content.len()).into_bytes();
            body.extend(content.iter().chain(b"\r\n0\r\n\r\n"));
            respond(stream, "200 OK", &["Transfer-Encoding: chunked"], &body);
        }
        _ => respond(stream, "200 OK", &[], &content),
    });
    for _ in 0..2 {
        get(server.url("a")).fetch_to(place.path()).unwrap();
        place.is_complete();
        fs::remove_file(place.path()).unwrap();
    }
}

#[test]
fn permanent_errors_fail_and_transient_errors_are_retried() {
    let place = Place::new();
    let server = Server::start(|_, _, stream| {
        respond(stream, "404 Not Found", &["Content-Length: 4"], b"gone");
    });
    let text = refusal(&get(server.url("a")), &place.path());
    assert!(text.contains("404") && text.contains(&server.url("a")), "{text}");
    assert_eq!(server.requests().len(), 1, "a missing file is not requested again");
    assert_eq!(place.files(), [""; 0]);

    let content = place.content.clone();
    let server = Server::start(move |n, request, stream| match n {
        0 => respond(stream, "503 Service Unavailable", &["Content-Length: 0"], b""),
        1 => respond(stream, "429 Too Many Requests", &["Retry-After: 0"], b""),
        2 => {} // closes the connection without a response
        _ => serve(stream, request, &content),
    });
    get(server.url("a")).fetch_to(place.path()).unwrap();
    place.is_complete();
}

#[test]
fn redirects_are_followed_also_when_resuming() {
    let place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |n, request, stream| match request.target.as_str() {
        "/a" => respond(stream, "302 Found", &["Location: /b", "Content-Length: 0"], b""),
        _ if n == 1 => serve_first(stream, request, &content, 300_000),
        _ => serve(stream, request, &content),
    });
    get(server.url("a")).fetch_to(place.path()).unwrap();
    place.is_complete();
    assert_eq!(server.requests().last().unwrap().range(), Some(300_000));

    let server = Server::start(|_, _, stream| {
        respond(stream, "302 Found", &["Location: /again", "Content-Length: 0"], b"");
    });
    let other = place.path().with_file_name("other");
    let text = refusal(&get(server.url("a")), &other);
    assert!(text.contains("redirect"), "{text}");
}

#[test]
fn more_bytes_than_the_limit_are_an_error() {
    let place = Place::new();
    let server = Server::of(place.content.clone());
    let text = refusal(&get(server.url("a")).max_bytes(799_999), &place.path());
    assert!(text.contains("limit of 799999"), "{text}");
    assert_eq!(place.files(), [""; 0]);
    // A body without a length.
    let content = place.content.clone();
    let server = Server::start(move |_, _, stream| respond(stream, "200 OK", &[], &content));
    let text = refusal(&get(server.url("a")).max_bytes(400_000), &place.path());
    assert!(text.contains("limit of 400000"), "{text}");
    assert_eq!(place.files(), [""; 0]);
    get(server.url("a")).max_bytes(800_000).fetch_to(place.path()).unwrap();
}

#[test]
fn a_silent_server_times_out() {
    let place = Place::new();
    let server = Server::start(|_, _, stream| {
        respond(stream, "200 OK", &["Content-Length: 1000"], &[1; 10]);
        let stream = stream.try_clone().unwrap();
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(20));
            drop(stream);
        });
    });
    let begin = Instant::now();
    // A loaded machine may take a while to send the first bytes.
    let download = get(server.url("a")).patience(Duration::from_secs(1)).retries(1);
    let text = refusal(&download, &place.path());
    assert!(text.contains("was lost after 10 of 1000"), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(18), "{:?}", begin.elapsed());
}

#[test]
fn concurrent_downloads_of_a_file_request_it_once() {
    let place = Place::new();
    let content = place.content.clone();
    let server = Server::start(move |_, request, stream| {
        thread::sleep(Duration::from_millis(200));
        serve(stream, request, &content);
    });
    let download = get(server.url("a")).sha256(&place.sha256);
    let barrier = Arc::new(Barrier::new(6));
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let (download, barrier, path) = (download.clone(), barrier.clone(), place.path());
            thread::spawn(move || {
                barrier.wait();
                download.fetch_to(path).unwrap();
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    place.is_complete();
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn invalid_options_and_unwritable_paths_are_errors() {
    let place = Place::new();
    let server = Server::of(place.content.clone());
    for digits in ["b627", "not hexadecimal at all", &"0".repeat(65)] {
        let e = get(server.url("a")).sha256(digits).fetch_to(place.path()).unwrap_err();
        assert!(matches!(e, Error::Config { option: "sha256", .. }), "{e}");
    }
    let e = get(server.url("a")).patience(Duration::MAX).fetch_to(place.path()).unwrap_err();
    assert!(matches!(e, Error::Config { option: "patience", .. }), "{e}");
    let below_a_file = place.dir.path().join("original/file.bin");
    let e = get(server.url("a")).fetch_to(below_a_file).unwrap_err();
    assert!(matches!(e, Error::Io { .. }), "{e}");
    assert_eq!(server.requests().len(), 0);
    for url in ["no address", "ftp://127.0.0.1/a", "http://", "file:///etc/hostname"] {
        refusal(&get(url).retries(0), &place.path());
    }
}

/// Runs the test `name` of this program in a separate process.
fn in_a_process(name: &str, env: &[(&str, &str)]) {
    let mut command = process::test(&format!("download::{name}"));
    command.env_remove("no_proxy").env_remove("NO_PROXY").envs(env.iter().copied());
    let (passed, said) = process::run(&mut command);
    assert!(passed, "{said}");
}

#[test]
fn the_environment_names_the_proxy_and_the_offline_switch() {
    let place = Place::new();
    let content = place.content.clone();
    let proxy = Server::start(move |_, request, stream| {
        assert_eq!(request.target, "weights.invalid:80");
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
        let request = super::server::read(stream).unwrap();
        serve(stream, &request, &content);
    });
    let path = place.path();
    let path = path.to_str().unwrap();
    in_a_process("from_a_proxy", &[("HTTP_PROXY", &proxy.url("")), ("PLACE", path)]);
    place.is_complete();
    in_a_process("offline", &[("FINETUNE_OFFLINE", "1")]);
}

#[test]
#[ignore = "run by another test, with its environment"]
fn from_a_proxy() {
    let download = Download::new("http://weights.invalid/a").retries(0);
    download.fetch_to(std::env::var("PLACE").unwrap()).unwrap();
}

#[test]
#[ignore = "run by another test, with its environment"]
fn offline() {
    let dir = tempfile::tempdir().unwrap();
    let text =
        Download::new("http://weights.invalid/a").fetch_to(dir.path().join("a")).unwrap_err();
    assert!(text.to_string().contains("downloads are disabled"), "{text}");
}
