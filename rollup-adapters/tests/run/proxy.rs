//! An HTTP proxy for JSON-RPC that misbehaves on purpose.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing: it is passed on and answered.
    None,
    /// It is not passed on, and answered with a server error.
    Lost,
    /// It is passed on, and its answer is lost.
    Unanswered,
    /// It is passed on after a while.
    Late(Duration),
    /// It is not passed on, and answered with this result.
    Result(Value),
    /// It is not passed on, and answered with this error.
    Error(i64, &'static str),
    /// It is not passed on, and answered with nonsense.
    Nonsense,
}

type Judge = dyn Fn(u64, &str) -> Fault + Send + Sync;

/// The proxy.
pub(crate) struct Proxy {
    pub(crate) url: String,
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

struct Shared {
    to: String,
    judge: Mutex<Arc<Judge>>,
    seen: AtomicU64,
    passed: Notify,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Proxy {
    /// A proxy to `to`. `judge` is asked what happens to each request, by its number and method.
    pub(crate) async fn start(to: &str, judge: impl Fn(u64, &str) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let url = format!("http://{address}");
        let shared = Arc::new(Shared {
            to: to.to_owned(),
            judge: Mutex::new(Arc::new(judge)),
            seen: AtomicU64::new(0),
            passed: Notify::new(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { url, shared, address, task }
    }

    /// Is gone, with all connections, as a process is that was killed.
    pub(crate) async fn die(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Is back, at the same address.
    pub(crate) async fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("its port is still free");
        self.task = tokio::spawn(serve(listener, Arc::clone(&self.shared)));
    }

    /// From now on, requests are judged like this, and counted anew.
    pub(crate) fn judge(&self, judge: impl Fn(u64, &str) -> Fault + Send + Sync + 'static) {
        *self.shared.judge.lock().expect("no holder panics") = Arc::new(judge);
        self.shared.seen.store(0, Ordering::SeqCst);
    }

    /// Requests seen since they are judged like this.
    pub(crate) fn seen(&self) -> u64 {
        self.shared.seen.load(Ordering::SeqCst)
    }

    /// Returns when so many were seen.
    pub(crate) async fn wait_for(&self, count: u64) {
        loop {
            let passed = self.shared.passed.notified();
            if self.seen() >= count {
                return;
            }
            passed.await;
        }
    }
}

async fn serve(listener: TcpListener, serving: Arc<Shared>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&serving);
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return empty(StatusCode::BAD_REQUEST) };
        let body = body.to_bytes();
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let judge = Arc::clone(&self.judge.lock().expect("no holder panics"));
        let number = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        let fault = judge(number, asked["method"].as_str().unwrap_or_default());
        let pass = async {
            let mut request = Request::post(&self.to);
            for (name, value) in parts.headers.iter().filter(|(name, _)| *name != http::header::HOST) {
                request = request.header(name, value);
            }
            let response = self.client.request(request.body(Full::new(body.clone())).expect("a request")).await;
            let Ok(response) = response else { return empty(StatusCode::BAD_GATEWAY) };
            let (parts, body) = response.into_parts();
            match body.collect().await {
                Ok(body) => Response::from_parts(parts, Full::new(body.to_bytes())),
                Err(_) => empty(StatusCode::BAD_GATEWAY),
            }
        };
        let reply = |key: &str, value: Value| {
            let body = json!({ "jsonrpc": "2.0", "id": asked["id"], key: value });
            Response::new(Full::new(Bytes::from(body.to_string())))
        };
        let answer = match fault {
            Fault::None => pass.await,
            Fault::Lost => empty(StatusCode::SERVICE_UNAVAILABLE),
            Fault::Unanswered => {
                pass.await;
                empty(StatusCode::SERVICE_UNAVAILABLE)
            }
            Fault::Late(late) => {
                tokio::time::sleep(late).await;
                pass.await
            }
            Fault::Result(result) => reply("result", result),
            Fault::Error(code, message) => reply("error", json!({ "code": code, "message": message })),
            Fault::Nonsense => Response::new(Full::new(Bytes::from_static(b"<html>"))),
        };
        self.passed.notify_waiters();
        answer
    }
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
