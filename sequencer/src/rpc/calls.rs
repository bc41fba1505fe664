//! How many calls run at once, and what is counted of them?
//!
//! The calls of a batch run side by side, so that bundles of one batch are checked together. A connection that has too many
//! calls running is refused further ones instead of being queued without end.

use std::{collections::HashSet, future::Future, sync::Arc};

use futures::future::{Either, join_all, ready};
use jsonrpsee::{
    core::server::BatchResponseBuilder,
    server::{
        MethodResponse,
        middleware::rpc::{Batch, BatchEntry, Notification, Request, RpcServiceT},
    },
    types::ErrorObjectOwned,
};
use lockstep_protocol::rpc::QueryError;
use tokio::sync::Semaphore;

use super::{
    CALLS_MAX, Failure, RESPONSE_BYTES_MAX,
    metrics::{CodeLabel, MethodLabel},
};
use crate::metrics::Metrics;

/// Puts the bounds around each connection's service.
#[derive(Clone)]
pub(super) struct CallsLayer {
    names: Arc<HashSet<&'static str>>,
    metrics: Arc<Metrics>,
}

/// A connection's calls.
#[derive(Clone)]
pub(super) struct Calls<S> {
    inner: S,
    running: Arc<Semaphore>,
    layer: CallsLayer,
}

impl CallsLayer {
    pub(super) fn new(methods: &jsonrpsee::server::Methods, metrics: Arc<Metrics>) -> Self {
        let names: HashSet<_> = methods.method_names().collect();
        for method in names.iter().copied().chain([UNKNOWN]) {
            drop(metrics.calls.calls.get_or_create(&MethodLabel { method }));
        }
        Self { names: Arc::new(names), metrics }
    }
}

/// What a method that does not exist is counted as.
const UNKNOWN: &str = "unknown";

impl<S> tower::Layer<S> for CallsLayer {
    type Service = Calls<S>;

    fn layer(&self, inner: S) -> Calls<S> {
        Calls { inner, running: Arc::new(Semaphore::new(CALLS_MAX)), layer: self.clone() }
    }
}

impl<S> RpcServiceT for Calls<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            BatchResponse = MethodResponse,
            NotificationResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let numbers = self.layer.metrics.clone();
        let method = self.layer.names.get(request.method_name()).copied().unwrap_or(UNKNOWN);
        numbers.calls.calls.get_or_create(&MethodLabel { method }).inc();
        let response = match self.running.clone().try_acquire_owned() {
            Ok(permit) => {
                let call = self.inner.call(request);
                Either::Left(async move {
                    let response = call.await;
                    drop(permit);
                    response
                })
            }
            Err(_) => {
                let max = CALLS_MAX as u64;
                let error = ErrorObjectOwned::from(Failure::from(QueryError::TooMany { max, found: max + 1 }));
                Either::Right(ready(MethodResponse::error(request.id, error)))
            }
        };
        async move {
            let response = response.await;
            if let Some(code) = response.as_error_code() {
                numbers.calls.errors.get_or_create(&CodeLabel { code }).inc();
            }
            response
        }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.clone();
        async move {
            let mut notified = false;
            let mut calls = Vec::with_capacity(batch.len());
            for entry in batch {
                match entry {
                    Ok(BatchEntry::Call(request)) => calls.push(Either::Left(service.call(request))),
                    Ok(BatchEntry::Notification(notification)) => {
                        notified = true;
                        service.notification(notification).await;
                    }
                    Err(error) => {
                        let (error, id) = error.into_parts();
                        calls.push(Either::Right(ready(MethodResponse::error(id, error))));
                    }
                }
            }
            let mut responses = BatchResponseBuilder::new_with_limit(RESPONSE_BYTES_MAX as usize);
            for response in join_all(calls).await {
                if let Err(too_long) = responses.append(response) {
                    return too_long;
                }
            }
            match responses.is_empty() && notified {
                true => MethodResponse::notification(),
                false => MethodResponse::from_batch(responses.finish()),
            }
        }
    }

    fn notification<'a>(&self, notification: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.inner.notification(notification)
    }
}
