//! How is one message put on a stream, and how long may it be?
//!
//! Four bytes of length, big-endian, then the message. What the message means is `wire.rs`.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads one message.
pub(super) async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, max: usize) -> io::Result<Vec<u8>> {
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

/// Writes one message.
pub(super) async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, message: &[u8], max: usize) -> io::Result<()> {
    if message.len() > max {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} bytes, at most {max}", message.len())));
    }
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(message).await?;
    io.flush().await
}
