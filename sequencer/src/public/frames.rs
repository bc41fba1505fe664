//! How does libp2p read and write our requests?
//!
//! Lends it the frames of `framing.rs`, and counts what cannot be read. What a message means is `wire.rs`.

use std::{io, sync::Arc};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{StreamProtocol, request_response::Codec};

use super::{
    framing::{read, write},
    metrics::Metrics,
};

/// Reads and writes one request and one response, of bounded lengths.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    /// Longest request.
    pub(super) max_request: usize,
    /// Longest response.
    pub(super) max_response: usize,
    /// Where requests that cannot be read are counted: no event tells of them.
    pub(super) metrics: Arc<Metrics>,
}

impl Codec for Frames {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(io, self.max_request).await.inspect_err(|error| {
            let oversized = error.kind() == io::ErrorKind::InvalidData;
            self.metrics.count_request(if oversized { "oversized" } else { "broken" });
        })
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        read(io, self.max_response).await
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Vec<u8>,
    ) -> io::Result<()> {
        write(io, &request, self.max_request).await
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: Vec<u8>,
    ) -> io::Result<()> {
        write(io, &response, self.max_response).await
    }
}
