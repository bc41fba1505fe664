//! How is one message put on a stream, and how long may it be?
//!
//! Four bytes of length, big-endian, then the message. What the message means is `wire.rs`.

use std::{io, sync::Arc};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response::Codec};

use super::metrics::Metrics;

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

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    if usize::try_from(length).is_ok_and(|length| length > max) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes, at most {max} are allowed")));
    }
    // Memory follows what arrives, not what was announced.
    let mut message = Vec::new();
    io.take(u64::from(length)).read_to_end(&mut message).await?;
    if message.len() < usize::try_from(length).unwrap_or(usize::MAX) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(message)
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, message: &[u8], max: usize) -> io::Result<()> {
    if message.len() > max {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} bytes, at most {max}", message.len())));
    }
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(message).await?;
    io.flush().await
}
