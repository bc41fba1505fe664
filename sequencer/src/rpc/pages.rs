//! What do operators' tools read?
//!
//! `/healthz`: the process answers; it ends when its log does. `/readyz`: it serves the present. `/metrics`: Prometheus' text.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{Method, StatusCode, header::CONTENT_TYPE};
use jsonrpsee::server::{HttpBody, HttpResponse};
use serde_json::json;

use super::Service;

/// Heights that the index may be behind the log and still count as serving the present.
const LAG_MAX: u64 = 16;
/// Heartbeats without a block after which a node is not ready. Some views may fail in a row.
const SILENT_HEARTBEATS: u32 = 10;

/// Answers the three pages and hands everything else on.
#[derive(Clone)]
pub(super) struct PagesLayer {
    service: Arc<Service>,
}

/// See [`PagesLayer`].
#[derive(Clone)]
pub(super) struct Pages<S> {
    inner: S,
    service: Arc<Service>,
}

impl PagesLayer {
    pub(super) fn new(service: Arc<Service>) -> Self {
        Self { service }
    }
}

impl<S> tower::Layer<S> for PagesLayer {
    type Service = Pages<S>;

    fn layer(&self, inner: S) -> Pages<S> {
        Pages { inner, service: self.service.clone() }
    }
}

impl<S, B> tower::Service<http::Request<B>> for Pages<S>
where
    S: tower::Service<http::Request<B>, Response = HttpResponse>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = HttpResponse;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let page = match (request.method(), request.uri().path()) {
            (&Method::GET, "/healthz") => Some(health()),
            (&Method::GET, "/readyz") => Some(readiness(&self.service)),
            (&Method::GET, "/metrics") => {
                let text = self.service.metrics.encode(&self.service.log);
                Some((StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text))
            }
            _ => None,
        };
        match page {
            Some((status, kind, text)) => Box::pin(std::future::ready(Ok(response(status, kind, text)))),
            None => Box::pin(self.inner.call(request)),
        }
    }
}

type Page = (StatusCode, &'static str, String);

const JSON: &str = "application/json";

fn health() -> Page {
    (StatusCode::OK, JSON, json!({ "status": "ok" }).to_string())
}

fn readiness(service: &Service) -> Page {
    let (header, tip) = (service.index.header(), service.log.tip().height);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let silence_ms = now_ms.saturating_sub(u128::from(header.timestamp_ms));
    let silent = silence_ms > (service.heartbeat * SILENT_HEARTBEATS).max(Duration::from_secs(5)).as_millis();
    let obstacle = if header.height.0 == 0 {
        Some("no block is final yet")
    } else if header.height.0 + LAG_MAX < tip.0 {
        Some("the index is catching up")
    } else if header.timestamp_ms < service.started_ms {
        // What was final before a restart says nothing about now.
        Some("no block since this node started: too few validators are connected, or it is catching up")
    } else if silent {
        Some("no recent block: too few validators are connected, or this node is catching up")
    } else {
        None
    };
    let status = if obstacle.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = json!({
        "ready": obstacle.is_none(),
        "detail": obstacle,
        "height": header.height,
        "peers": service.log.peers(),
        "silenceMs": u64::try_from(silence_ms).unwrap_or(u64::MAX),
    });
    (status, JSON, text.to_string())
}

fn response(status: StatusCode, kind: &'static str, text: String) -> HttpResponse {
    let mut response = HttpResponse::new(HttpBody::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
