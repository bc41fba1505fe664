//! How fast does the price of blobs move on an L1, and since when?
//!
//! A header says how much blob gas was taken beyond the target, and not what that costs: the fraction by which the price moves changes
//! by configuration (EIP-7840, EIP-7892), without a trace in headers. It is known here for the public chains; for another L1 the
//! file tells that its nodes and op-node are told by: the chain configuration, alone or in a genesis.json.

use serde_json::Value;

/// Ethereum's four public chains, as of their configuration in geth 1.17: id, and since when which fraction. The fractions are those of
/// Cancun, Prague, and the first two changes by configuration alone; Osaka kept Prague's.
const CANCUN: u128 = 3_338_477;
const PRAGUE: u128 = 5_007_716;
const BPO1: u128 = 8_346_193;
const BPO2: u128 = 11_684_671;
const KNOWN: [(u64, [(u64, u128); 4]); 4] = [
    (1, [(1_710_338_135, CANCUN), (1_746_612_311, PRAGUE), (1_765_290_071, BPO1), (1_767_747_671, BPO2)]),
    (17_000, [(1_707_305_664, CANCUN), (1_740_434_112, PRAGUE), (1_759_800_000, BPO1), (1_760_389_824, BPO2)]),
    (11_155_111, [(1_706_655_072, CANCUN), (1_741_159_776, PRAGUE), (1_761_017_184, BPO1), (1_761_607_008, BPO2)]),
    (560_048, [(0, CANCUN), (1_742_999_832, PRAGUE), (1_762_365_720, BPO1), (1_762_955_544, BPO2)]),
];
/// Forks of which a configuration says when they begin and what blobs cost since, in their order.
const FORKS: [&str; 8] = ["cancun", "prague", "osaka", "bpo1", "bpo2", "bpo3", "bpo4", "bpo5"];

/// Since when, in seconds, the price moves by which fraction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlobSchedule {
    /// In order.
    updates: Vec<(u64, u128)>,
}

/// Why a configuration is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobScheduleError {
    /// Not JSON.
    #[error("not a chain configuration: {0}")]
    Json(String),
    /// It does not say what it has to.
    #[error("the chain configuration lacks {0}")]
    Lacks(String),
}

impl BlobSchedule {
    /// A public chain's; for others one that knows Cancun's and Prague's rules by the headers themselves.
    pub fn of_chain(id: u64) -> Self {
        let known = KNOWN.iter().find(|(known, _)| *known == id);
        Self { updates: known.map_or(Vec::new(), |(_, updates)| updates.to_vec()) }
    }

    /// The one in a chain configuration, as geth writes it, or in a genesis.json.
    pub fn parse(json: &str) -> Result<Self, BlobScheduleError> {
        let file: Value = serde_json::from_str(json).map_err(|error| BlobScheduleError::Json(error.to_string()))?;
        let config = file.get("config").unwrap_or(&file);
        let lacks = |what: String| BlobScheduleError::Lacks(what);
        let mut updates = Vec::new();
        for fork in FORKS {
            let Some(time) = config[format!("{fork}Time")].as_u64() else { continue };
            match config["blobSchedule"][fork]["baseFeeUpdateFraction"].as_u64() {
                Some(0) => return Err(lacks(format!("a fraction above zero for {fork}"))),
                Some(fraction) => updates.push((time, u128::from(fraction))),
                // As clients do: what is not said stays as it was.
                None => {}
            }
        }
        match updates.is_empty() {
            true => Err(lacks("blobSchedule".into())),
            false => Ok(Self { updates }),
        }
    }

    /// What a unit of blob gas costs in a block at `timestamp` with this excess, wei; `is_prague` is what its header tells.
    pub fn base_fee(&self, timestamp: u64, excess: u128, is_prague: bool) -> u128 {
        let scheduled = self.updates.iter().rev().find(|(time, _)| *time <= timestamp);
        let by_header = if is_prague { PRAGUE } else { CANCUN };
        alloy_eips::eip4844::fake_exponential(1, excess, scheduled.map_or(by_header, |(_, fraction)| *fraction))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_price_follows_the_schedule_and_not_the_header_alone() {
        let mainnet = BlobSchedule::of_chain(1);
        let excess = 100 * 131_072;
        let price = |timestamp| mainnet.base_fee(timestamp, excess, true);
        assert_eq!(mainnet.base_fee(1_710_338_135, excess, false), BlobSchedule::default().base_fee(0, excess, false));
        assert_eq!(price(1_765_290_070), BlobSchedule::default().base_fee(0, excess, true));
        // e to the power of excess / fraction: 13.7, 4.8, 3.07.
        assert_eq!([price(1_746_612_311), price(1_765_290_071), price(1_767_747_671)], [13, 4, 3]);
        for (_, updates) in KNOWN {
            assert!(updates.is_sorted());
        }
    }

    #[test]
    fn a_configuration_is_read_alone_or_in_a_genesis() {
        let config = json!({
            "chainId": 900, "cancunTime": 0, "pragueTime": 10, "osakaTime": 20, "bpo1Time": 30,
            "blobSchedule": {
                "cancun": { "target": 3, "max": 6, "baseFeeUpdateFraction": CANCUN },
                "prague": { "target": 6, "max": 9, "baseFeeUpdateFraction": PRAGUE },
                "bpo1": { "target": 10, "max": 15, "baseFeeUpdateFraction": BPO1 },
            },
        });
        let expected = BlobSchedule { updates: vec![(0, CANCUN), (10, PRAGUE), (30, BPO1)] };
        assert_eq!(BlobSchedule::parse(&config.to_string()), Ok(expected.clone()));
        assert_eq!(BlobSchedule::parse(&json!({ "config": config }).to_string()), Ok(expected));
        let refused = |json: &str| BlobSchedule::parse(json).expect_err("it is refused").to_string();
        assert_eq!(refused(r#"{"chainId":900,"cancunTime":0}"#), "the chain configuration lacks blobSchedule");
        let zero = r#"{"chainId":900,"cancunTime":0,"blobSchedule":{"cancun":{"baseFeeUpdateFraction":0}}}"#;
        assert!(refused(zero).contains("above zero"));
        assert!(refused("nothing").starts_with("not a chain configuration"));
    }
}
