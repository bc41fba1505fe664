//! Does anvil, which nobody here wrote, take our transactions, replacements and blobs, and give the blobs back?
//!
//! Needs the program: its path in `LOCKSTEP_ANVIL`, or `anvil` in the search path. Without it this judge is skipped, and says so.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use alloy_primitives::{Address, B256, hex};
use lockstep_adapters::{
    optimism::{decode_blob, encode_blob},
    poster::{Beacon, FeeConfig, L1, Request, Sender, SenderConfig, Sidecar, Signer, beacon::Slots},
};
use serde_json::{Value, json};

use crate::world::rpc;

/// The first account of every development node.
const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

pub(crate) struct Anvil {
    child: Child,
    pub(crate) url: String,
}

impl Anvil {
    /// `None`, and a line that says so, where there is no anvil.
    pub(crate) async fn start(arguments: &[&str]) -> Option<Self> {
        let program = std::env::var("LOCKSTEP_ANVIL").unwrap_or_else(|_| "anvil".into());
        let child = Command::new(&program)
            .args(["--port", "0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: anvil ({program} cannot be started)");
            return None;
        };
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        // It takes a port of its own, and says which.
        let listening = lines.find_map(|line| line.ok()?.strip_prefix("Listening on ").map(str::to_owned));
        let address = listening.unwrap_or_else(|| panic!("anvil ended: are {arguments:?} not its arguments?"));
        std::thread::spawn(move || lines.for_each(drop));
        let anvil = Self { child, url: format!("http://{address}") };
        for _ in 0..500 {
            if L1::new(rpc(&anvil.url)).chain_id().await.is_ok() {
                return Some(anvil);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("anvil was started and does not answer");
    }

    async fn mine(&self) {
        let mined: Result<Value, _> = rpc(&self.url).call("evm_mine", &[]).await;
        mined.expect("anvil mines");
    }

    async fn sender(&self, config: SenderConfig) -> Sender {
        let signer = Signer::from_secret(hex::decode_to_array(KEY).expect("hex")).expect("a key");
        let config = SenderConfig { poll_ms: 10, ..config };
        Sender::new(Arc::new(L1::new(rpc(&self.url))), signer, config).await.expect("anvil answers")
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn blobs_of_both_kinds_are_taken_and_come_back() {
    for (fork, sidecar) in [("prague", Sidecar::Eip4844), ("osaka", Sidecar::Eip7594)] {
        let Some(anvil) = Anvil::start(&["--hardfork", fork]).await else { return };
        let mut sender = anvil.sender(SenderConfig { sidecar, ..SenderConfig::default() }).await;
        let data: Vec<Vec<u8>> = (1..4).map(|byte| vec![byte; 100_000]).collect();
        let blobs = data.iter().map(|data| encode_blob(data).expect("it fits")).collect();
        let request = Request { to: Address::repeat_byte(5), blobs, gas: Some(21_000), ..Request::default() };
        let included = sender.send(vec![request]).await.unwrap_or_else(|error| panic!("{fork}: {error}"));
        assert!(included[0].succeeded);
        let l1 = L1::new(rpc(&anvil.url));
        let header = l1.header(included[0].block).await.expect("anvil answers").expect("it is there");
        assert!(header.takes_blobs);
        let block = l1.block(header.hash).await.expect("anvil answers").expect("it is there");
        let hashes = &block.transactions[0].blob_versioned_hashes;
        assert_eq!((hashes.len(), block.transactions[0].from), (3, sender.address()));
        let beacon = Beacon::new(&anvil.url, Slots::Number);
        let read = beacon.blobs(&header, hashes).await.expect("the blobs are kept");
        let read: Vec<Vec<u8>> = read.iter().map(|blob| decode_blob(blob).expect("ours")).collect();
        assert_eq!(read, data);
        // In another order if asked so, and an error for what is not there.
        let swapped = beacon.blobs(&header, &[hashes[2], hashes[0]]).await.expect("the blobs are kept");
        assert_eq!(decode_blob(&swapped[0]).expect("ours"), data[2]);
        assert!(beacon.blobs(&header, &[B256::repeat_byte(1)]).await.is_err());
    }
}

#[tokio::test]
async fn what_is_stuck_in_anvils_pool_is_outbid_by_its_rules() {
    for blobs in [false, true] {
        let Some(anvil) = Anvil::start(&["--no-mining", "--hardfork", "osaka"]).await else { return };
        let request = move |byte: u8| Request {
            to: Address::repeat_byte(5),
            data: if blobs { vec![] } else { vec![byte] },
            blobs: if blobs { vec![encode_blob(&[byte]).expect("it fits")] } else { vec![] },
            gas: Some(30_000),
        };
        let generous = FeeConfig { min_tip_gwei: 5.0, ..FeeConfig::default() };
        let mut earlier = anvil.sender(SenderConfig { fees: generous, ..SenderConfig::default() }).await;
        let address = earlier.address();
        let run = tokio::spawn(async move { earlier.send(vec![request(1)]).await });
        let l1 = L1::new(rpc(&anvil.url));
        while l1.pending_nonce(address).await.expect("anvil answers") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        run.abort();
        let pending: Value = rpc(&anvil.url)
            .call("eth_getBlockByNumber", &[json!("pending"), json!(false)])
            .await
            .expect("anvil answers");
        let old = pending["transactions"][0].clone();
        let asked = [old];
        let old: Value = rpc(&anvil.url).call("eth_getTransactionByHash", &asked).await.expect("anvil answers");
        let offer = |found: &Value| -> u128 {
            let fee: alloy_primitives::U128 = serde_json::from_value(found["maxFeePerGas"].clone()).expect("a number");
            fee.to()
        };
        let mut sender = anvil.sender(SenderConfig::default()).await;
        let replaced = sender.metrics().replaced.clone();
        let sending = tokio::spawn(async move { sender.send(vec![request(2)]).await });
        // Mining must not begin before: the old one would be as good.
        loop {
            let found: Value = rpc(&anvil.url).call("eth_getTransactionByHash", &asked).await.expect("anvil answers");
            if found.is_null() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(replaced.get() > 0);
        while !sending.is_finished() {
            anvil.mine().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let included = sending.await.expect("it does not panic").expect("it is included");
        assert_eq!((included.len(), l1.nonce(address).await.expect("anvil answers")), (1, 1));
        let found: Value =
            rpc(&anvil.url).call("eth_getTransactionByHash", &[json!(included[0].hash)]).await.expect("it is there");
        assert_eq!(found["nonce"], "0x0");
        // Anvil is content with any more; that it is a tenth where pools ask for it, the embedded node says.
        assert!(offer(&found) > offer(&old), "{found} against {old}");
    }
}
