//! Where are the blobs that L1's blocks name?
//!
//! The execution layer keeps their hashes alone; a beacon node has them for some weeks, behind the standard Beacon API. A blob is
//! believed if its commitment gives the hash that was asked for.

use std::time::Duration;

use alloy_primitives::{B256, Bytes};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{envelope::versioned_hash, l1::L1Header};

/// Time for one answer: a block's blobs are a megabyte.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer: 128 blobs in hex, more than any block may have.
const ANSWER_BYTES_MAX: usize = 36 * 1024 * 1024;

/// How a beacon node names the block of an L1 header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slots {
    /// By its slot, which follows from its time: real networks.
    #[default]
    Time,
    /// By its block number: anvil.
    Number,
}

/// Why there are no blobs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeaconError {
    /// No answer.
    #[error("beacon node, {path}: {detail}")]
    Answer {
        /// What was asked for.
        path: String,
        /// What went wrong.
        detail: String,
    },
    /// It does not have the blob, or gave another.
    #[error("the beacon node does not give blob {hash} of L1 block {number}")]
    Missing {
        /// The blob's versioned hash.
        hash: B256,
        /// The L1 block that names it.
        number: u64,
    },
}

/// A beacon node.
#[derive(Debug)]
pub struct Beacon {
    url: String,
    slots: Slots,
    client: Client<HttpConnector, Empty<hyper::body::Bytes>>,
    clock: tokio::sync::OnceCell<Clock>,
}

/// What turns a time into a slot.
#[derive(Clone, Copy, Debug)]
struct Clock {
    genesis_time: u64,
    seconds_per_slot: u64,
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
struct Genesis {
    genesis_time: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Spec {
    seconds_per_slot: String,
}

impl Beacon {
    /// The node at this `http://` URL.
    pub fn new(url: &str, slots: Slots) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { url: url.trim_end_matches('/').to_owned(), slots, client, clock: tokio::sync::OnceCell::new() }
    }

    /// The blobs with these hashes, in their order, that the block of `header` names.
    pub async fn blobs(&self, header: &L1Header, hashes: &[B256]) -> Result<Vec<Vec<u8>>, BeaconError> {
        let slot = match self.slots {
            Slots::Number => header.number,
            Slots::Time => {
                let clock = self.clock.get_or_try_init(|| self.read_clock()).await?;
                header.timestamp.saturating_sub(clock.genesis_time) / clock.seconds_per_slot.max(1)
            }
        };
        // One at a time: some nodes want several hashes in one parameter with commas, others in a parameter each.
        let mut data = Vec::with_capacity(hashes.len());
        for hash in hashes {
            let path = format!("/eth/v1/beacon/blobs/{slot}?versioned_hashes={hash}");
            let Data { data: found }: Data<Vec<Bytes>> = self.get(&path).await?;
            data.extend(found);
        }
        // Commitments are checked away from the thread that serves everything else: each takes milliseconds.
        let checked = tokio::task::spawn_blocking(move || {
            data.into_iter().map(|blob| (versioned_hash(&blob), blob)).collect::<Vec<_>>()
        });
        let checked = checked
            .await
            .map_err(|error| BeaconError::Answer { path: format!("blobs of {slot}"), detail: error.to_string() })?;
        let find = |hash: &B256| {
            let found = checked.iter().find(|(of, _)| of.as_ref() == Some(hash));
            found.map(|(_, blob)| blob.to_vec()).ok_or(BeaconError::Missing { hash: *hash, number: header.number })
        };
        hashes.iter().map(find).collect()
    }

    async fn read_clock(&self) -> Result<Clock, BeaconError> {
        let fail = |path: &str| BeaconError::Answer { path: path.to_owned(), detail: "not a number".into() };
        let Data { data: genesis }: Data<Genesis> = self.get("/eth/v1/beacon/genesis").await?;
        let Data { data: spec }: Data<Spec> = self.get("/eth/v1/config/spec").await?;
        Ok(Clock {
            genesis_time: genesis.genesis_time.parse().map_err(|_| fail("genesis_time"))?,
            seconds_per_slot: spec.seconds_per_slot.parse().map_err(|_| fail("SECONDS_PER_SLOT"))?,
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, BeaconError> {
        let fail = |detail: String| BeaconError::Answer { path: path.to_owned(), detail };
        let uri =
            format!("{}{path}", self.url).parse().map_err(|error: http::uri::InvalidUri| fail(error.to_string()))?;
        let ask = async {
            let response = self.client.get(uri).await.map_err(|error| fail(error.to_string()))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| fail(error.to_string()))?.to_bytes();
            if !status.is_success() {
                return Err(fail(format!("status {status}")));
            }
            serde_json::from_slice(&body).map_err(|error| fail(error.to_string()))
        };
        match tokio::time::timeout(TIMEOUT, ask).await {
            Ok(result) => result,
            Err(_) => Err(fail(format!("no answer within {} s", TIMEOUT.as_secs()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    // Nodes that take several hashes take them with commas (anvil), or in a parameter each (what Nitro's client sends: 6dce8d139,
    // `util/headerreader/blob_client.go`, `getBlobs`). This one takes one, as all do.
    #[tokio::test]
    async fn several_blobs_are_had_from_nodes_however_they_want_to_be_asked_for_several() {
        let blobs: Vec<Vec<u8>> = (1..4).map(|value| [[0; 31].as_slice(), &[value], &[0; 131_040]].concat()).collect();
        let hashes: Vec<B256> = blobs.iter().map(|blob| versioned_hash(blob).expect("a blob")).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let beacon = Beacon::new(&format!("http://{}", listener.local_addr().expect("an address")), Slots::Number);
        let held: Vec<(String, String)> = hashes
            .iter()
            .zip(&blobs)
            .map(|(hash, blob)| {
                (format!("/eth/v1/beacon/blobs/7?versioned_hashes={hash}"), Bytes::from(blob.clone()).to_string())
            })
            .collect();
        let node = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accepts");
                let mut request = vec![0; 4_096];
                let read = stream.read(&mut request).await.expect("reads");
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let (status, body) = match held.iter().find(|(of, _)| of == path) {
                    Some((_, blob)) => ("200 OK", format!(r#"{{"data":["{blob}"]}}"#)),
                    None => ("400 Bad Request", String::new()),
                };
                let answer =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.expect("writes");
            }
        });
        let header = L1Header { number: 7, ..L1Header::default() };
        assert_eq!(beacon.blobs(&header, &hashes).await, Ok(blobs.clone()));
        assert_eq!(beacon.blobs(&header, &hashes[1..2]).await, Ok(blobs[1..2].to_vec()));
        assert!(matches!(beacon.blobs(&header, &[B256::ZERO]).await, Err(BeaconError::Answer { .. })));
        node.abort();
    }
}
