//! One HTTP request and its response.

use super::part::{Origin, Part};
use crate::error::Error;
use indicatif::ProgressBar;
use std::{io::Read as _, time::Duration};
use ureq::{
    Agent, Body,
    http::{Response, StatusCode, header},
};

/// The reason why a request did not complete the file.
#[derive(Debug)]
pub(super) enum Failure {
    /// The file cannot be written locally.
    Local(Error),
    /// A retry would not help.
    Final(String),
    /// A retry may help, after the time that the server requested.
    Passing { why: String, wait: Option<Duration> },
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Local(e)
    }
}

fn passing(why: impl Into<String>) -> Failure {
    Failure::Passing { why: why.into(), wait: None }
}

/// The request for a file.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    agent: Agent,
    url: &'a str,
    max_bytes: Option<u64>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(url: &'a str, max_bytes: Option<u64>, patience: Duration) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("finetune/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience))
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .build()
            .new_agent();
        Self { agent, url, max_bytes }
    }

    /// Requests the missing bytes of the partial file and appends them. `checked` is true if a checksum
    /// will detect bytes of different versions.
    pub(super) fn run(
        &self,
        part: &mut Part,
        checked: bool,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        // A partial file of unknown origin cannot be resumed.
        let origin = part.origin().filter(|o| o.url == self.url);
        let version = origin.as_ref().and_then(|o| o.version.clone());
        if origin.is_none() || (version.is_none() && !checked) {
            part.clear()?;
        }
        let mut request = self.agent.get(self.url).header(header::ACCEPT_ENCODING, "identity");
        if !part.is_empty() {
            request = request.header(header::RANGE, format!("bytes={}-", part.len()));
            if let Some(version) = &version {
                request = request.header(header::IF_RANGE, version);
            }
        }
        let response = request.call().map_err(|e| no_answer(e, part.is_empty()))?;
        let total = self.begin(part, &response, version.as_deref())?;
        if let (Some(total), Some(limit)) = (total, self.max_bytes)
            && total > limit
        {
            return Err(too_large(total, limit));
        }
        bar.set_message("");
        bar.set_length(total.unwrap_or_default());
        bar.set_position(part.len());
        bar.reset_eta();
        self.receive(part, response, total, bar)
    }

    /// Prepares the partial file for the bytes of the response, and returns the length of the complete
    /// file.
    fn begin(
        &self,
        part: &mut Part,
        response: &Response<Body>,
        known: Option<&str>,
    ) -> Result<Option<u64>, Failure> {
        let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        let strong = text(header::ETAG).filter(|tag| !tag.starts_with("W/"));
        let version = strong.or(text(header::LAST_MODIFIED)).map(ToOwned::to_owned);
        let status = response.status();
        match status {
            StatusCode::OK => {
                part.begin(&Origin { url: self.url.to_owned(), version })?;
                Ok(text(header::CONTENT_LENGTH).and_then(|n| n.parse().ok()))
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = text(header::CONTENT_RANGE).and_then(range);
                let goes_on = range.is_some_and(|(first, _)| first == part.len());
                if goes_on && (version.is_none() || version.as_deref() == known || known.is_none())
                {
                    return Ok(range.and_then(|(_, total)| total));
                }
                part.clear()?;
                Err(passing("the server sent another part than requested"))
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                part.clear()?;
                Err(passing("the file on the server is shorter than the partial file"))
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Err(refused(status, text(header::RETRY_AFTER)))
            }
            status if status.is_server_error() => Err(refused(status, text(header::RETRY_AFTER))),
            status => Err(Failure::Final(format!("the server answered {status}"))),
        }
    }

    fn receive(
        &self,
        part: &mut Part,
        response: Response<Body>,
        total: Option<u64>,
        bar: &ProgressBar,
    ) -> Result<(), Failure> {
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 256 << 10];
        let of = total.map(|t| format!(" of {t}")).unwrap_or_default();
        loop {
            let n = body.read(&mut buffer).map_err(|e| {
                passing(format!("the connection was lost after {}{of} bytes: {e}", part.len()))
            })?;
            if n == 0 {
                break;
            }
            part.append(&buffer[..n])?;
            bar.set_position(part.len());
            if let Some(limit) = self.max_bytes.filter(|limit| part.len() > *limit) {
                let came = part.len();
                part.clear()?;
                return Err(too_large(came, limit));
            }
        }
        match total {
            Some(total) if part.len() < total => {
                let why = format!("the connection was lost after {}{of} bytes", part.len());
                Err(passing(why))
            }
            Some(total) if part.len() > total => {
                let why = format!("{} bytes were received, but {total} were announced", part.len());
                part.clear()?;
                Err(passing(why))
            }
            _ => Ok(()),
        }
    }
}

/// Parses the first byte and the total length in `bytes 5-9/10`.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (bytes, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((bytes.split_once('-')?.0.trim().parse().ok()?, total.trim().parse().ok()))
}

fn refused(status: StatusCode, wait: Option<&str>) -> Failure {
    let wait = wait.and_then(|w| w.trim().parse().ok()).map(Duration::from_secs);
    Failure::Passing { why: format!("the server answered {status}"), wait }
}

fn too_large(bytes: u64, limit: u64) -> Failure {
    Failure::Final(format!("{bytes} bytes are more than the limit of {limit}"))
}

/// Decides whether to retry without a response. An unknown host is not retried if it was never reached, so
/// that the error is quick without a network.
fn no_answer(e: ureq::Error, never: bool) -> Failure {
    use ureq::Error as E;
    match e {
        E::HostNotFound if never => Failure::Final("the host was not found".into()),
        E::BadUri(_) | E::Http(_) | E::TooManyRedirects | E::RedirectFailed | E::Tls(_) => {
            Failure::Final(e.to_string())
        }
        E::InvalidProxyUrl | E::LargeResponseHeader(..) => Failure::Final(e.to_string()),
        e => passing(e.to_string()),
    }
}
