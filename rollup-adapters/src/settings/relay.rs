//! What is configured about a relayer, and how does it start?

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lockstep_protocol::ids::{Account, RollupId};
use lockstep_sdk::{Client, Trust, client::Config};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Log, SettingsError, StatusSettings, account_key, genesis, load};
use crate::{
    poster::{Rpc, Signer, SignerConfig},
    relay::{ApplyConfig, Chain, Links, NetworkLog, ObserverConfig, Relay, Strays},
    retry::Backoff,
    serve::{RelayStatus, Service},
};

/// Printed by `relay --print-config`.
pub const EXAMPLE: &str = include_str!("relay.toml");

/// A relayer's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelaySettings {
    /// The rollup, by its EIP-155 chain id.
    pub rollup: u64,
    /// The log's genesis.json.
    pub genesis: PathBuf,
    /// Lockstep nodes.
    pub nodes: Vec<String>,
    /// The rollup's node.
    pub rpc: String,
    /// Time for one of its answers, milliseconds.
    #[serde(default = "five_seconds")]
    pub timeout_ms: u64,
    /// Pause between two looks at the log and the rollup, milliseconds.
    #[serde(default = "poll_ms")]
    pub poll_ms: u64,
    /// Fee accounts whose payments at the hub are shown to the log.
    #[serde(default)]
    pub fee_accounts: Vec<Account>,
    /// How decisions are applied; absent to observe alone.
    #[serde(default)]
    pub apply: Option<ApplySettings>,
    /// Where to tell how it goes.
    pub status: StatusSettings,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

/// Who applies decisions, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplySettings {
    /// The key of the log's account that pays for bundles.
    pub account_key_file: PathBuf,
    /// The key that pays on the rollup.
    pub signer: SignerConfig,
    /// How.
    #[serde(default)]
    pub calls: ApplyConfig,
}

fn five_seconds() -> u64 {
    5_000
}

/// A fifth of the shortest block interval: what is seen late is decided late.
fn poll_ms() -> u64 {
    50
}

impl RelaySettings {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let (mut settings, folder): (Self, _) = load(path)?;
        settings.genesis = folder.join(&settings.genesis);
        if let Some(apply) = &mut settings.apply {
            apply.account_key_file = folder.join(&apply.account_key_file);
            apply.signer.key_file = apply.signer.key_file.take().map(|path| folder.join(path));
        }
        Ok(settings)
    }
}

/// Relays until `stop` is true.
pub async fn relay(settings: RelaySettings, stop: watch::Receiver<bool>) -> Result<(), SettingsError> {
    let fail = |detail: String| SettingsError::File { path: settings.genesis.clone(), detail };
    let genesis = genesis(&settings.genesis)?;
    let trust = Trust::from_genesis(&genesis).map_err(|error| fail(error.to_string()))?;
    let rules = genesis.rules().map_err(|error| fail(error.to_string()))?;
    let rollup = RollupId(settings.rollup);
    let participant = rules.participant(rollup).map_err(|error| fail(error.to_string()))?.clone();
    let (key, apply) = match &settings.apply {
        Some(apply) => {
            let signer = Signer::open(&apply.signer, Path::new(""))?;
            (Some(account_key(&apply.account_key_file)?), Some((apply.calls.clone(), signer)))
        }
        None => (None, None),
    };
    let config = Config { nodes: settings.nodes.clone(), ..Config::default() };
    let client = Client::new(trust, config).map_err(crate::feed::FeedError::from)?;
    let rpc = Rpc::new(&settings.rpc, Duration::from_millis(settings.timeout_ms), None)?;
    let chain = Arc::new(Chain::new(rpc, participant.hub));
    let service = Service::new(RelayStatus {
        rollup: rollup.0,
        hub: chain.hub().to_string(),
        address: apply.as_ref().map(|(_, signer)| signer.address().to_string()),
        account: key.as_ref().map(|key| key.account().to_string()),
        ..RelayStatus::default()
    });
    let (listener, address) =
        Service::<RelayStatus>::bind(settings.status.listen).await.map_err(SettingsError::Listen)?;
    tracing::info!(%address, "serving /status, /metrics and /healthz");
    tokio::spawn(Arc::clone(&service).serve(listener, stop.clone()));
    if !is_right_chain(&chain, rollup, &service, stop.clone()).await? {
        return Ok(());
    }
    let log = Arc::new(NetworkLog::new(client, rollup, key));
    let accounts = genesis.balances.iter().map(|balance| balance.account).chain(settings.fee_accounts.iter().copied());
    let strays = Strays { network: rules.network, escrows: participant.escrows, accounts: accounts.collect() };
    let observe = ObserverConfig { fee_accounts: settings.fee_accounts, strays: Some(strays) };
    let poll = Duration::from_millis(settings.poll_ms.max(1));
    Relay::new(Links { log, chain, service }, rollup, participant.settled_level, observe, apply, poll).run(stop).await;
    Ok(())
}

/// Waits for the rollup's node, and makes sure that it is one of this rollup. `false` if it is to stop.
async fn is_right_chain(
    chain: &Chain,
    rollup: RollupId,
    service: &Service<RelayStatus>,
    mut stop: watch::Receiver<bool>,
) -> Result<bool, SettingsError> {
    let mut backoff = Backoff::endless();
    let wait = async {
        loop {
            match chain.chain_id().await {
                Ok(id) if id == rollup.0 => {
                    backoff.succeeded();
                    return Ok(true);
                }
                Ok(id) => return Err(SettingsError::Value(format!("rpc is chain {id}, the rollup is {rollup}"))),
                Err(error) => {
                    service.update(|status| status.note_observing(Some(error.to_string())));
                    drop(backoff.failed(error).await);
                }
            }
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => Ok(false),
        right = wait => right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_what_it_says_and_unknown_keys_are_refused() {
        let settings: RelaySettings = toml::from_str(EXAMPLE).expect("the example is valid");
        assert_eq!((settings.poll_ms, settings.timeout_ms), (poll_ms(), five_seconds()));
        assert_eq!(settings.apply.as_ref().map(|apply| &apply.calls), Some(&ApplyConfig::default()));
        assert_eq!(settings.log, Log::default());
        for section in ["", "[apply]\n", "[apply.calls]\n", "[apply.calls.fees]\n", "[status]\n"] {
            let extended = EXAMPLE.replacen(section, &format!("{section}surprise = 1\n"), 1);
            let error = toml::from_str::<RelaySettings>(&extended).expect_err("an unknown key").to_string();
            assert!(error.contains("surprise"), "{error}");
        }
    }

    #[test]
    fn without_apply_it_observes_alone() {
        let (before, rest) = EXAMPLE.split_once("[apply]").expect("a section");
        let (_, after) = rest.split_once("[status]").expect("a section");
        let settings: RelaySettings = toml::from_str(&format!("{before}[status]{after}")).expect("valid");
        assert_eq!(settings.apply, None);
    }
}
