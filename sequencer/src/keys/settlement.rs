//! What may move between the rollups of a new network, as the person says who deals it?
//!
//! One TOML file that refuses unknown keys, turned into the parts of a genesis and of every node's configuration. Whether the
//! genesis as a whole can be is checked there; here is told which line to change.

use std::{collections::BTreeSet, path::Path};

use lockstep_protocol::{
    genesis::Rollup,
    ids::{Account, Address20, AssetId, RollupId},
    limits::{MAX_APPLY_WINDOW, MAX_ASSETS, MAX_CORRIDORS, MAX_ESCROWS, MAX_LANE_BYTES, MAX_LIQUIDATORS, MAX_POSTERS},
    settlement::{
        Level,
        config::{Asset, Corridor, Participant, SettlementConfig},
    },
};
use serde::Deserialize;

use super::{KeysError, parse_account, read};
use crate::config::RollupConfig;

/// The example that `lockstep keys settlement` prints: every key.
pub const SETTLEMENT_EXAMPLE: &str = include_str!("settlement.toml");

/// Longest file: all corridors between all rollups, with room for comments.
const MAX_SETTLEMENT_FILE_BYTES: u64 = 256 * 1024;
/// Longest symbol of an asset. Longer ones are a mistake, not a name.
const MAX_SYMBOL_BYTES: usize = 32;

/// What the file adds to a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlements {
    /// What may move.
    pub config: SettlementConfig,
    /// The rollup nodes that every validator looks at.
    pub nodes: Vec<RollupConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    apply_window: u64,
    #[serde(default)]
    assets: Vec<FileAsset>,
    #[serde(default)]
    rollups: Vec<FileRollup>,
    #[serde(default)]
    corridors: Vec<FileCorridor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAsset {
    asset: String,
    account_cap: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRollup {
    id: u64,
    hub: String,
    escrows: Vec<String>,
    settled_level: Level,
    #[serde(default)]
    posters: Vec<String>,
    #[serde(default)]
    liquidators: Vec<String>,
    #[serde(default)]
    liquidation_bytes: u64,
    rpc: Option<String>,
    poll_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCorridor {
    from: u64,
    to: u64,
    asset: String,
    cap: String,
}

/// Reads the file, and gives each rollup that it names its part.
pub fn load_settlements(path: &Path, rollups: &mut [Rollup]) -> Result<Settlements, KeysError> {
    let text = read(path, MAX_SETTLEMENT_FILE_BYTES)?;
    settlements(&text, rollups).map_err(|detail| KeysError::Content {
        path: path.to_owned(),
        detail: format!("{detail}\n`lockstep keys settlement` prints an example with every key"),
    })
}

fn settlements(text: &str, rollups: &mut [Rollup]) -> Result<Settlements, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    if !(1..=MAX_APPLY_WINDOW).contains(&file.apply_window) {
        return Err(format!("apply_window = {}: it must be 1 to {MAX_APPLY_WINDOW} heights", file.apply_window));
    }
    let mut assets = file.assets.iter().map(FileAsset::read).collect::<Result<Vec<_>, _>>()?;
    assets.sort_by_key(|asset| asset.asset);
    if assets.is_empty() || assets.len() > MAX_ASSETS || assets.windows(2).any(|pair| pair[0].asset == pair[1].asset) {
        return Err(format!("[[assets]]: list 1 to {MAX_ASSETS}, each once"));
    }
    if file.rollups.len() < 2 {
        return Err("[[rollups]]: margin moves between two rollups at least, list both".into());
    }
    let known: Vec<_> = rollups.iter().map(|rollup| rollup.id.to_string()).collect();
    let mut parts = BTreeSet::new();
    let mut nodes = Vec::new();
    for part in &file.rollups {
        let at = |detail: String| format!("rollup {}: {detail}", part.id);
        let unknown =
            || at(format!("it is not among --rollups ({}): add it there, or take it out here", known.join(", ")));
        let rollup = rollups.iter_mut().find(|rollup| rollup.id.0 == part.id).ok_or_else(unknown)?;
        if !parts.insert(part.id) {
            return Err(at("it is listed twice".into()));
        }
        part.join(rollup).map_err(at)?;
        nodes.extend(part.node().map_err(at)?);
    }
    let listed: BTreeSet<_> = assets.iter().map(|asset| asset.asset).collect();
    let read = |corridor: &FileCorridor| {
        let (from, to, asset) = (corridor.from, corridor.to, &corridor.asset);
        corridor.read(&parts, &listed).map_err(|detail| format!("corridor {asset} from {from} to {to}: {detail}"))
    };
    let mut corridors = file.corridors.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let place = |corridor: &Corridor| (corridor.from, corridor.to, corridor.asset);
    corridors.sort_by_key(place);
    if corridors.is_empty() || corridors.len() > MAX_CORRIDORS {
        return Err(format!("[[corridors]]: list 1 to {MAX_CORRIDORS}; without one nothing moves"));
    }
    if let Some(twice) = corridors.windows(2).find(|pair| place(&pair[0]) == place(&pair[1])) {
        return Err(format!("the corridor from {} to {} is listed twice for one asset", twice[0].from, twice[0].to));
    }
    Ok(Settlements { config: SettlementConfig { apply_window: file.apply_window, assets, corridors }, nodes })
}

impl FileAsset {
    fn read(&self) -> Result<Asset, String> {
        let at = |detail| format!("asset {}: {detail}", self.asset);
        let asset = parse_asset(&self.asset).map_err(at)?;
        Ok(Asset { asset, account_cap: parse_amount("account_cap", &self.account_cap).map_err(at)? })
    }
}

impl FileRollup {
    /// Writes what the file says of a rollup into its part of the genesis.
    fn join(&self, rollup: &mut Rollup) -> Result<(), String> {
        let hub = parse_address("hub", &self.hub)?;
        let mut escrows =
            self.escrows.iter().map(|text| parse_address("escrows", text)).collect::<Result<Vec<_>, _>>()?;
        sort_distinct("escrows", &mut escrows, 1, MAX_ESCROWS)?;
        if escrows.contains(&hub) {
            return Err(format!("{hub} cannot be hub and escrow at once: they keep different things at one slot"));
        }
        let (posters, liquidators) = (
            accounts("posters", &self.posters, MAX_POSTERS)?,
            accounts("liquidators", &self.liquidators, MAX_LIQUIDATORS)?,
        );
        let bytes = self.liquidation_bytes;
        if liquidators.is_empty() != (bytes == 0) {
            let rule = "liquidators need a share to be ordered at all, and a share needs liquidators";
            return Err(format!("liquidation_bytes = {bytes} with {} liquidators: {rule}", liquidators.len()));
        }
        if bytes > MAX_LANE_BYTES {
            return Err(format!("liquidation_bytes = {bytes}: a block of a lane has {MAX_LANE_BYTES}"));
        }
        (rollup.posters, rollup.liquidators, rollup.liquidation_bytes) = (posters, liquidators, bytes);
        rollup.settlement = Some(Participant { hub, escrows, settled_level: self.settled_level });
        Ok(())
    }

    fn node(&self) -> Result<Option<RollupConfig>, String> {
        match (&self.rpc, self.poll_ms) {
            (Some(rpc), poll_ms) => RollupConfig::new(RollupId(self.id), rpc.clone(), poll_ms).map(Some),
            (None, Some(_)) => Err("poll_ms says how often the node at rpc is asked, and there is no rpc".into()),
            (None, None) => Ok(None),
        }
    }
}

impl FileCorridor {
    fn read(&self, parts: &BTreeSet<u64>, assets: &BTreeSet<AssetId>) -> Result<Corridor, String> {
        if self.from == self.to {
            return Err("it leads nowhere: from and to are one rollup".into());
        }
        if let Some(id) = [self.from, self.to].into_iter().find(|id| !parts.contains(id)) {
            return Err(format!("rollup {id} has no [[rollups]] here: what takes part has a hub and an escrow"));
        }
        let asset = parse_asset(&self.asset)?;
        if !assets.contains(&asset) {
            return Err("its asset has no [[assets]] here".into());
        }
        Ok(Corridor { from: RollupId(self.from), to: RollupId(self.to), asset, cap: parse_amount("cap", &self.cap)? })
    }
}

fn parse_asset(text: &str) -> Result<AssetId, String> {
    if text.starts_with("0x") {
        return text.parse().map_err(|error| format!("not the id of an asset: {error}"));
    }
    if text.is_empty() || text.len() > MAX_SYMBOL_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "neither a symbol (1 to {MAX_SYMBOL_BYTES} ASCII letters, for example USDC) nor 0x and 32 bytes"
        ));
    }
    Ok(AssetId::from_symbol(text))
}

fn parse_amount(key: &str, text: &str) -> Result<u128, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse().ok().filter(|_| plain) {
        Some(0) => Err(format!("{key} = \"0\": nothing could move; leave it out instead")),
        Some(amount) => Ok(amount),
        None => Err(format!("{key} = \"{text}\": expected decimal digits, in the asset's smallest unit, below 2^128")),
    }
}

fn parse_address(key: &str, text: &str) -> Result<Address20, String> {
    let address: Address20 = text.parse().map_err(|error| format!("{key}: \"{text}\" is no address: {error}"))?;
    if address == Address20::default() {
        return Err(format!("{key}: the zero address holds no contract; deploy first, and put its address here"));
    }
    Ok(address)
}

fn accounts(key: &str, texts: &[String], most: usize) -> Result<Vec<Account>, String> {
    let read = |text: &String| parse_account(text).map_err(|error| format!("{key}: \"{text}\": {error}"));
    let mut accounts = texts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    sort_distinct(key, &mut accounts, 0, most)?;
    Ok(accounts)
}

fn sort_distinct<T: Ord>(key: &str, items: &mut [T], least: usize, most: usize) -> Result<(), String> {
    items.sort_unstable();
    let distinct = items.windows(2).all(|pair| pair[0] != pair[1]);
    if distinct && (least..=most).contains(&items.len()) {
        return Ok(());
    }
    Err(format!("{key}: list {least} to {most}, each once; found {}", items.len()))
}

#[cfg(test)]
mod tests;
