//! What does a node's HTTP port say to a plain GET?
//!
//! `/healthz`, `/readyz` and `/metrics`, one request a connection. JSON-RPC goes through the SDK.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A node that does not answer a probe within this is not well.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer: the metrics of a node are some hundred lines.
const MAX_ANSWER_BYTES: u64 = 4 * 1024 * 1024;

/// An answer to a GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The body, as it stands.
    pub body: String,
}

/// Asks for `path`. `None` if there is no answer in time, or none that is HTTP.
pub async fn get(address: SocketAddr, path: &str) -> Option<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let ask = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await.ok()?;
        parse(&answer)
    };
    timeout(PROBE_TIMEOUT, ask).await.ok().flatten()
}

/// Whether the node votes and serves.
pub async fn is_ready(address: SocketAddr) -> bool {
    get(address, "/readyz").await.is_some_and(|answer| answer.status == 200)
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = parse(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nwait");
        assert_eq!(answer, Some(Answer { status: 503, body: "wait".to_owned() }));
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n\r\n"), None);
        assert_eq!(parse(b"HTTP/1.1 2"), None);
        assert_eq!(parse(b""), None);
    }
}
