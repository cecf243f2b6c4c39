//! A local server on 127.0.0.1 whose responses a test defines, including wrong ones.

#![allow(dead_code, reason = "no test program uses all of it")]

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) target: String,
    headers: HashMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the first requested byte; `None` without a range.
    pub(crate) fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

type Answer = dyn FnMut(usize, &Request, &mut TcpStream) + Send;

pub(crate) struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers each request with `answer`, which gets the number of earlier requests, and then closes
    /// the connection.
    pub(crate) fn start(
        answer: impl FnMut(usize, &Request, &mut TcpStream) + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(vec![]));
        let seen = requests.clone();
        let mut answer: Box<Answer> = Box::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let before = seen.lock().unwrap().len();
                seen.lock().unwrap().push(request.clone());
                answer(before, &request, &mut stream);
            }
        });
        Self { address, requests }
    }

    /// Serves the same bytes for all requests, correctly.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self::start(move |_, request, stream| serve(stream, request, &bytes))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// Reads a request.
pub(crate) fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    for line in lines.take_while(|l| !l.is_empty()) {
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Some(Request { target, headers })
}

/// Writes a response. The client may have closed the connection.
pub(crate) fn respond(stream: &mut TcpStream, status: &str, headers: &[&str], body: &[u8]) {
    let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

/// Writes the response of a correct server.
pub(crate) fn serve(stream: &mut TcpStream, request: &Request, bytes: &[u8]) {
    serve_first(stream, request, bytes, usize::MAX);
}

/// Responds correctly, but closes the connection after `limit` bytes.
pub(crate) fn serve_first(stream: &mut TcpStream, request: &Request, bytes: &[u8], limit: usize) {
    let first = request.range().unwrap_or(0);
    let rest = bytes.get(first..).unwrap_or_default();
    let body = &rest[..rest.len().min(limit)];
    let length = format!("Content-Length: {}", rest.len());
    let (status, range) = match request.range() {
        None => ("200 OK", String::new()),
        Some(_) if rest.is_empty() => ("416 Range Not Satisfiable", String::new()),
        Some(_) => {
            let (last, all) = (bytes.len() - 1, bytes.len());
            ("206 Partial Content", format!("Content-Range: bytes {first}-{last}/{all}"))
        }
    };
    let mut headers = vec![length.as_str(), "ETag: \"v1\""];
    headers.extend((!range.is_empty()).then_some(range.as_str()));
    respond(stream, status, &headers, body);
}
