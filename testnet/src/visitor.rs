//! What does a person need who wants to try a running testnet?
//!
//! A funded account, a file that the SDK's example reads, and lines to copy.

use std::{
    fs,
    path::{Path, PathBuf},
};

use alloy_primitives::Address;
use anyhow::{Context, Result};
use lockstep_protocol::{
    genesis::Balance,
    hex,
    ids::{Account, RollupId},
    signature::AccountKey,
};
use serde_json::json;

use crate::{
    network::{Network, ROLLUPS},
    transfers::Wallet,
    venues::{ASSET_NAME, Contracts, DECIMALS, Venues},
};

/// Credits of the visitor: worth nothing, and enough to play with.
const CREDITS: u64 = 1_000_000_000_000;
/// The visitor's ed25519 seed. Anybody may know it.
const SEED: [u8; 32] = [0x42; 32];

fn wallet() -> Wallet {
    Wallet::of_seed("testnet visitor", 0)
}

/// Somebody who is not part of the traffic.
pub(crate) struct Visitor {
    account: Account,
}

impl Visitor {
    pub(crate) fn new() -> Self {
        Self { account: AccountKey::ed25519(SEED).account() }
    }

    /// The visitor's wallet on every rollup.
    pub(crate) fn wallet(&self) -> Address {
        wallet().address()
    }

    /// What the genesis gives to the visitor.
    pub(crate) fn balance(&self) -> Balance {
        Balance { account: self.account, credits: CREDITS }
    }

    /// Writes all that a client needs: whom to ask, what to trust, and who to be.
    pub(crate) fn write_client_file(
        &self,
        folder: &Path,
        network: &Network,
        venues: Option<&Venues>,
    ) -> Result<PathBuf> {
        let genesis = network.genesis();
        let mut client = json!({
            "network": genesis.network,
            "groupKey": genesis.group_key,
            "genesis": "genesis.json",
            "nodes": network.urls(),
            "rollups": ROLLUPS.map(|(id, _)| id),
            "accountKey": format!("ed25519:{}", hex::encode(&SEED)),
        });
        if let Some(venues) = venues {
            let Contracts { token, hub, escrow, venue } = venues.contracts();
            let venue = |((rollup, _), rpc): ((RollupId, &str), &String)| json!({ "rollup": rollup, "rpc": rpc, "token": token, "hub": hub, "escrow": escrow, "venue": venue });
            client["walletKey"] = hex::encode(&wallet().secret()).into();
            client["asset"] = ASSET_NAME.into();
            client["decimals"] = DECIMALS.into();
            client["venues"] = ROLLUPS.into_iter().zip(venues.nodes()).map(venue).collect();
        }
        let path = folder.join("client.json");
        let text = serde_json::to_string_pretty(&client).expect("values have a JSON form") + "\n";
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Lines to copy into another terminal.
    pub(crate) fn guide(&self, network: &Network, venues: Option<&Venues>, client_file: &Path) -> String {
        let url = &network.urls()[0];
        let rollup = ROLLUPS[0].0;
        let account = serde_json::to_string(&json!({ "account": self.account })).expect("an account has a JSON form");
        let call = |method: &str, params: &str| {
            format!(
                "  curl -s {url} -H 'content-type: application/json' \\\n    \
                 -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":[{params}]}}'\n"
            )
        };
        [
            "\nTo try it, in another terminal:\n\n".to_owned(),
            format!("  curl -s {url}/readyz\n"),
            call("lockstep_getHeader", "null"),
            call("lockstep_getLane", &format!("{rollup},1")),
            call("lockstep_getFees", ""),
            call("lockstep_getState", &account),
            "\nSend a bundle and see its outcome proven:\n\n".to_owned(),
            format!("  cargo run --release -p lockstep-sdk --example send -- {}\n", client_file.display()),
            venues.map_or_else(String::new, |_| {
                let file = client_file.display();
                format!(
                    "\nMove margin from one venue to the other, each step proven; `back` after it moves it back:\n\n  \
                     cargo run --release -p lockstep-sdk --example margin_transfer -- {file}\n"
                )
            }),
        ]
        .concat()
    }
}
