//! Is every bad bundle refused by a running node, with its own reason?
//!
//! What exactly is bad is tested where it is decided; here it has to come out at the other end of the wire.

use jsonrpsee_core::{
    client::{ClientT, Error},
    rpc_params,
};
use jsonrpsee_http_client::HttpClientBuilder;
use lockstep_protocol::{
    bundle::{Bundle, Leg, SignedBundle, Transaction},
    hex,
    ids::{Height, NetworkId, RollupId},
    limits::{MAX_LEGS, MAX_TRANSACTION_BYTES, MAX_TRANSACTIONS_PER_LEG, MAX_VALIDITY},
    refusal::Refusal,
    rpc::{Sent, codes},
    signature::{AccountKey, Signature},
    wire::Wire,
};
use lockstep_testnet::{
    network::{Network, ROLLUPS},
    transfers::Wallet,
};
use serde_json::Value;
use std::time::Duration;

use crate::{plan, turn};

type Change = fn(&mut Bundle);

fn changes() -> Vec<(&'static str, Change)> {
    vec![
        ("wrong_network", |bundle| bundle.network = NetworkId::from_name("another")),
        ("no_legs", |bundle| bundle.legs.clear()),
        ("unsorted_legs", |bundle| bundle.legs.reverse()),
        ("repeated_leg", |bundle| bundle.legs[1].rollup = bundle.legs[0].rollup),
        ("empty_leg", |bundle| bundle.legs[0].transactions.clear()),
        ("unknown_rollup", |bundle| bundle.legs[1].rollup = RollupId(999_999)),
        ("malformed_transaction", |bundle| {
            bundle.legs[0].transactions[0].0.pop();
        }),
        ("wrong_chain_id", |bundle| bundle.legs[0].transactions = bundle.legs[1].transactions.clone()),
        ("expired", |bundle| bundle.valid_until = Height(0)),
        ("validity_too_far", |bundle| bundle.valid_until = Height(10 * MAX_VALIDITY)),
        ("fee_too_low", |bundle| bundle.max_fee = 1),
        ("insufficient_balance", |bundle| bundle.max_fee = u64::MAX),
        ("nonce_too_far_ahead", |bundle| bundle.nonce = 1_000_000),
    ]
}

/// Changes that the wire form itself does not allow: the decoder refuses them before anything is allocated.
fn unencodable() -> Vec<Change> {
    vec![
        |bundle| {
            let leg = bundle.legs[0].clone();
            bundle.legs = (0..=MAX_LEGS as u64).map(|id| Leg { rollup: RollupId(id + 1), ..leg.clone() }).collect();
        },
        |bundle| {
            let transaction = bundle.legs[0].transactions[0].clone();
            bundle.legs[0].transactions = vec![transaction; MAX_TRANSACTIONS_PER_LEG + 1];
        },
        |bundle| bundle.legs[0].transactions = vec![Transaction(vec![2; MAX_TRANSACTION_BYTES + 1])],
        |bundle| {
            let large = Transaction(vec![2; MAX_TRANSACTION_BYTES]);
            bundle.legs[0].transactions = vec![large.clone(); 2];
            bundle.legs[1].transactions = vec![large];
        },
    ]
}

struct Door(jsonrpsee_http_client::HttpClient);

impl Door {
    async fn send(&self, bundle: &str) -> Result<Sent, (i32, String)> {
        match self.0.request("lockstep_sendBundle", rpc_params![bundle]).await {
            Ok(sent) => Ok(sent),
            Err(Error::Call(error)) => {
                let data = error.data().map_or("null", |data| data.get());
                let reason = match serde_json::from_str::<Refusal>(data) {
                    Ok(refusal) => refusal.reason().to_owned(),
                    Err(_) => serde_json::from_str::<Value>(data).unwrap_or_default()["reason"].to_string(),
                };
                Err((error.code(), reason))
            }
            Err(other) => panic!("no answer: {other}"),
        }
    }

    async fn refused(&self, signed: &SignedBundle) -> (i32, String) {
        self.send(&hex::encode(&signed.to_wire())).await.expect_err("a bad bundle")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_bundle_is_refused_with_its_reason_and_the_good_one_is_taken() {
    let _turn = turn().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let key = AccountKey::ed25519([9; 32]);
    let mut plan = plan(folder.path());
    plan.balances = vec![lockstep_protocol::genesis::Balance { account: key.account(), credits: 1_000_000_000 }];
    let mut network = Network::deal(plan).expect("dealt");
    network.start_all().expect("started");
    network.all_ready(Duration::from_secs(60), |_| {}).await.expect("ready");
    let door = Door(HttpClientBuilder::new().build(&network.urls()[0]).expect("a client"));

    let wallet = Wallet::of_seed("refusals", 0);
    let good = Bundle {
        network: network.genesis().network_id(),
        account: key.account(),
        nonce: 0,
        tag: Default::default(),
        valid_until: Height(1_000),
        tip: 0,
        max_fee: 1_000_000,
        legs: ROLLUPS
            .map(|(rollup, _)| Leg { rollup, transactions: vec![wallet.transfer(rollup, 0, Default::default(), 1)] })
            .to_vec(),
        kind: Default::default(),
    };
    for (reason, change) in changes() {
        let mut bad = good.clone();
        change(&mut bad);
        assert_eq!(door.refused(&bad.sign(&key)).await, (codes::REFUSED, reason.to_owned()));
    }
    for (index, change) in unencodable().into_iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        let (code, reason) = door.refused(&bad.sign(&key)).await;
        let expected = [
            "malformed",
            "too_many_legs",
            "too_many_transactions",
            "oversized_transaction",
            "oversized_leg",
            "oversized_bundle",
        ];
        assert!(code == codes::REFUSED || code == codes::INVALID_PARAMS, "case {index}: {code} {reason}");
        assert!(expected.contains(&reason.as_str()), "case {index}: {reason}");
    }
    let mut forged = good.clone().sign(&key);
    forged.signature = Signature::Ed25519([7; 64]);
    assert_eq!(door.refused(&forged).await, (codes::REFUSED, "bad_signature".to_owned()));
    let stranger = AccountKey::ed25519([10; 32]);
    let unfunded = Bundle { account: stranger.account(), ..good.clone() };
    assert_eq!(door.refused(&unfunded.sign(&stranger)).await, (codes::REFUSED, "unknown_account".to_owned()));

    let signed = good.sign(&key);
    let wire = signed.to_wire();
    for cut in [0, 1, 10, wire.len() / 2, wire.len() - 1] {
        let (code, reason) = door.send(&hex::encode(&wire[..cut])).await.expect_err("a truncated bundle");
        assert!(code == codes::REFUSED || code == codes::INVALID_PARAMS, "cut at {cut}: {code}");
        assert_eq!(reason, "malformed", "cut at {cut}");
    }
    let sent = door.send(&hex::encode(&wire)).await.expect("the good bundle is taken");
    assert_eq!(sent.bundle_id, signed.bundle.id());
    // Sending it again is no mistake. Once it is ordered, its nonce is used.
    let again = door.send(&hex::encode(&wire)).await;
    assert!(again.is_ok() || again == Err((codes::REFUSED, "nonce_used".to_owned())), "{again:?}");
    network.stop_all().await.expect("all validators stop when asked");
}
