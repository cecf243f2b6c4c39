//! The server as a process, over sockets on the loopback interface.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

#[path = "../../../crates/predict/tests/common/mod.rs"]
mod common;

use common::{COLORS, Model, plain, pnm};
use finetune_image::{card::OutputActivation, image::Image, sample::Task};
use serde_json::Value;
use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// A server that is killed when the test ends.
struct Server {
    process: Child,
    address: String,
    folder: PathBuf,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        Self::of(&Model::colors(), options)
    }

    fn of(model: &Model, options: &[&str]) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("finetune-server-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("model.onnx");
        fs::write(&file, model.bytes()).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_finetune-server"))
            .arg(file)
            .args(["--listen", "127.0.0.1:0"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        Self { process, address, folder }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    fn get(&self, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        answer(self.connect(), request.as_bytes()).unwrap()
    }

    fn post(&self, path: &str, body: &[u8]) -> Answer {
        answer(self.connect(), &upload(path, body)).unwrap()
    }

    /// Returns the value of a metric without labels.
    fn metric(&self, name: &str) -> f64 {
        let metrics = self.get("/metrics").body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} in {metrics}")).parse().unwrap()
    }

    /// Waits until an upload has begun.
    fn wait_for_upload(&self) {
        while self.metric("finetune_predictions_in_progress") == 0.0 {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(&self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Returns the code of an error response.
    fn code(&self) -> String {
        assert!(self.headers.contains("content-type: application/json"), "{self:?}");
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

fn upload(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Sends a request and reads the answer to the end of the connection.
fn answer(mut stream: TcpStream, request: &[u8]) -> io::Result<Answer> {
    stream.write_all(request)?;
    read(stream)
}

fn read(mut stream: TcpStream) -> io::Result<Answer> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut all = String::new();
    stream.read_to_string(&mut all)?;
    let cut = || io::Error::other(format!("an incomplete answer: {all:?}"));
    let (headers, body) = all.split_once("\r\n\r\n").ok_or_else(cut)?;
    let headers = headers.to_ascii_lowercase();
    let status = headers.get(9..12).and_then(|s| s.parse().ok()).ok_or_else(cut)?;
    let length = headers.lines().find_map(|line| line.strip_prefix("content-length: "));
    if length.is_some_and(|n| n.parse() != Ok(body.len())) {
        return Err(cut());
    }
    Ok(Answer { status, body: body.to_owned(), headers })
}

fn red() -> Vec<u8> {
    pnm(&plain([255, 0, 0], 30, 20))
}

#[test]
fn an_upload_gets_its_prediction() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.get("/ready").status, 200);
    let said = server.post("/predict?top_k=2", &red());
    assert_eq!(said.status, 200, "{said:?}");
    let said = said.json();
    assert_eq!(said["label"], "red");
    assert_eq!(said["top"].as_array().unwrap().len(), 2);
    assert!(said["top"][0]["probability"].as_f64().unwrap() > 0.99);
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains("finetune_requests_total{status=\"200\"} 1"), "{metrics}");
    assert!(metrics.contains("finetune_batch_images_count 1"), "{metrics}");
    assert!(metrics.contains("finetune_predictions_in_progress 0"), "{metrics}");
}

#[test]
fn a_mask_is_answered_by_the_share_of_each_code() {
    let codes = COLORS.map(String::from).into();
    let task = Task::Mask { codes, ignored: None };
    let server = Server::of(&Model::new(task, OutputActivation::Softmax), &[]);
    // The left quarter is red, and the rest is blue.
    let row = |x: u32| if x < 8 { [255, 0, 0] } else { [0, 0, 255] };
    let pixels = (0..32 * 32).flat_map(|i| row(i % 32)).collect();
    let said = server.post("/predict", &pnm(&Image::new(32, 32, 3, pixels).unwrap()));
    assert_eq!(said.status, 200, "{said:?}");
    let said = said.json();
    assert_eq!(said["label"], "red; blue");
    for (i, wanted) in [0.25, 0.0, 0.75].into_iter().enumerate() {
        let code = &said["codes"][i];
        assert_eq!(code["label"], COLORS[i]);
        assert!((code["share"].as_f64().unwrap() - wanted).abs() < 0.04, "{said}");
    }
}

#[test]
fn a_connection_serves_several_requests() {
    let server = Server::start(&[]);
    let mut stream = server.connect();
    let body = red();
    let head =
        format!("POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    for _ in 0..3 {
        stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        let mut answer = BufReader::new(&stream);
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            answer.read_line(&mut line).unwrap();
            if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = n.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["label"], "red");
    }
}

#[test]
fn bad_uploads_are_errors_of_the_client() {
    let limits = ["--max-bytes", "3000", "--max-pixels", "700", "--timeout", "2"];
    let server = Server::start(&limits);
    let refused = |answer: Answer, status: u16, code: &str| {
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
        answer.json()["error"]["message"].as_str().unwrap().to_owned()
    };
    let post = |body: &[u8]| server.post("/predict", body);
    assert!(refused(post(b""), 400, "invalid_image").contains("empty"));
    refused(post(b"<html>not found</html>"), 400, "invalid_image");
    refused(post(&red()[..100]), 400, "invalid_image");
    // 725 pixels within 3000 bytes.
    assert!(refused(post(&pnm(&plain([0; 3], 29, 25))), 400, "invalid_image").contains("pixels"));
    refused(post(&[7; 3001]), 413, "too_large");
    // The declared length is enough to reject the upload before its body is read.
    let head = b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: 99999999999\r\n\r\n";
    refused(answer(server.connect(), head).unwrap(), 413, "too_large");
    // An upload without a declared length.
    let head = "POST /predict HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [b"bb9\r\n".as_slice(), &[7; 3001], b"\r\n0\r\n\r\n"].concat();
    refused(
        answer(server.connect(), &[head.as_bytes(), &chunk].concat()).unwrap(),
        413,
        "too_large",
    );
    let form = "POST /predict HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 2\r\n\
                content-type: multipart/form-data; boundary=x\r\n\r\nab";
    refused(answer(server.connect(), form.as_bytes()).unwrap(), 415, "form");
    refused(server.post("/predict?top_k=many", &red()), 400, "invalid_query");
    refused(server.post("/predict?topk=1", &red()), 400, "invalid_query");
    refused(server.get("/predict"), 405, "method_not_allowed");
    refused(server.get("/nothing"), 404, "not_found");
    // An upload that stops halfway.
    let whole = upload("/predict", &red());
    let start = Instant::now();
    refused(answer(server.connect(), &whole[..whole.len() - 9]).unwrap(), 408, "timeout");
    assert!(start.elapsed() < Duration::from_secs(10));
    // Headers that stop halfway: the server closes the connection.
    let mut stream = server.connect();
    stream.write_all(b"POST /predict HTTP/1.1\r\nhost:").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = vec![];
    stream.read_to_end(&mut rest).unwrap();
    // After all of these, the server still works.
    assert_eq!(post(&red()).status, 200);
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn uploads_beyond_the_limit_get_status_503() {
    let server = Server::start(&["--max-requests", "1", "--timeout", "60"]);
    let whole = upload("/predict", &red());
    let mut slow = server.connect();
    slow.write_all(&whole[..whole.len() - 1]).unwrap();
    // The other request is answered after it.
    server.wait_for_upload();
    let refused = server.post("/predict", &red());
    assert_eq!((refused.status, refused.code().as_str()), (503, "busy"));
    assert!(refused.headers.contains("retry-after: 1"), "{refused:?}");
    slow.write_all(&whole[whole.len() - 1..]).unwrap();
    assert_eq!(read(slow).unwrap().status, 200);
}

#[test]
fn concurrent_requests_are_predicted_together() {
    let server = Server::start(&["--batch", "4", "--batch-wait", "5000"]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(server.post("/predict", &red()).status, 200));
        }
    });
    assert_eq!(server.metric("finetune_batch_images_sum"), 4.0);
    assert!(server.metric("finetune_batch_images_count") < 4.0);
}

#[test]
fn a_stop_loses_no_request() {
    let mut server = Server::start(&["--drain", "4", "--batch", "2"]);
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    // Like load balancers, clients leave once the server is not ready.
                    while server.get("/ready").status == 200 {
                        let said = server.post("/predict", &red());
                        assert_eq!((said.status, &said.json()["label"]), (200, &"red".into()));
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // A connection without a request, and an upload that is slower than the drain.
        let idle = server.connect();
        let whole = upload("/predict", &red());
        let mut slow = server.connect();
        slow.write_all(&whole[..200]).unwrap();
        while answered.load(Ordering::Relaxed) < 20 {
            thread::sleep(Duration::from_millis(5));
        }
        server.stop();
        clients.into_iter().for_each(|client| client.join().unwrap());
        // While draining, the server still answers, and closes connections.
        let late = answer(server.connect(), &upload("/predict", &red())).unwrap();
        assert_eq!(late.status, 200);
        // The listener closes.
        while TcpStream::connect(&server.address).is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
        slow.write_all(&whole[200..]).unwrap();
        for said in [answer(idle, &whole).unwrap(), read(slow).unwrap()] {
            assert_eq!((said.status, &said.json()["label"]), (200, &"red".into()));
        }
    });
    assert!(server.wait().success());
}

#[test]
fn a_stop_ends_in_time() {
    let mut server = Server::start(&["--drain", "0", "--grace", "0.3", "--timeout", "60"]);
    let mut slow = server.connect();
    slow.write_all(b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n").unwrap();
    server.wait_for_upload();
    server.stop();
    // It reports the request that it dropped.
    assert!(!server.wait().success());
}

#[test]
fn options_and_files_are_checked_at_the_start() {
    let run = |arguments: &[&str]| {
        let run = Command::new(env!("CARGO_BIN_EXE_finetune-server")).args(arguments).output();
        let run = run.unwrap();
        assert!(!run.status.success());
        String::from_utf8(run.stderr).unwrap()
    };
    assert!(run(&["/no/such/file.onnx"]).contains("/no/such/file.onnx"));
    for (option, wrong) in [
        ("--batch", "0"),
        ("--max-requests", "4000000000"),
        ("--max-connections", "0"),
        ("--batch-wait", "18446744073709551615"),
        ("--timeout", "-1"),
        ("--timeout", "1e19"),
        ("--drain", "NaN"),
        ("--grace", "inf"),
    ] {
        let said = run(&["model.onnx", &format!("{option}={wrong}")]);
        assert!(said.contains(option) && said.contains(&format!("'{wrong}'")), "{said}");
    }
    assert!(run(&[]).contains("MODEL"));
}
