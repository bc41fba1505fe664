//! Is a genesis that would harm the network refused, with the reason?

use lockstep_protocol::{
    genesis::{Genesis, GenesisError},
    ids::{Hash32, RollupId},
    limits::{MAX_GENESIS_ACCOUNTS, MAX_NAME_BYTES, MAX_ROLLUPS, MAX_SHARING_BYTES, MAX_VALIDATORS},
};

use crate::fixture::{ROLLUPS, genesis};

fn broken(change: impl FnOnce(&mut Genesis)) -> GenesisError {
    let mut genesis = genesis("g", 4, 100, &ROLLUPS);
    change(&mut genesis);
    genesis.rules().expect_err("the genesis is broken")
}

#[test]
fn a_good_genesis_gives_rules_with_the_sum_of_balances_as_supply() {
    let rules = genesis("g", 4, 100, &ROLLUPS).rules().unwrap();
    assert_eq!(rules.supply, 400);
    assert_eq!(rules.rollup_ids().len(), ROLLUPS.len());
}

#[test]
fn every_bound_of_a_genesis_holds() {
    let ids = |count: usize| (0..count as u64).map(|n| Hash32(n.to_be_bytes().repeat(4).try_into().unwrap())).collect();
    assert_eq!(broken(|g| g.network.clear()), GenesisError::NoName);
    assert_eq!(broken(|g| g.network = "n".repeat(MAX_NAME_BYTES + 1)), GenesisError::LongName(MAX_NAME_BYTES + 1));
    assert_eq!(broken(|g| g.rollups[1].name = "é".repeat(33)), GenesisError::LongName(66));
    assert_eq!(broken(|g| g.validators.clear()), GenesisError::NoValidators);
    assert_eq!(broken(|g| g.validators.swap(0, 1)), GenesisError::Validators(Hash32([1; 32])));
    assert_eq!(broken(|g| g.validators[1] = g.validators[0]), GenesisError::Validators(Hash32([1; 32])));
    assert_eq!(broken(|g| g.validators = ids(MAX_VALIDATORS + 1)), GenesisError::ValidatorCount(MAX_VALIDATORS + 1));
    assert_eq!(
        broken(|g| g.sharing = vec![0; MAX_SHARING_BYTES + 1]),
        GenesisError::LongSharing(MAX_SHARING_BYTES + 1)
    );
    assert_eq!(broken(|g| g.rollups.clear()), GenesisError::RollupCount(0));
    assert_eq!(
        broken(|g| g.rollups = vec![g.rollups[0].clone(); MAX_ROLLUPS + 1]),
        GenesisError::RollupCount(MAX_ROLLUPS + 1)
    );
    assert_eq!(broken(|g| g.rollups.swap(0, 2)), GenesisError::Rollups(RollupId(901)));
    assert_eq!(broken(|g| g.rollups[1] = g.rollups[0].clone()), GenesisError::Rollups(RollupId(10)));
    assert_eq!(broken(|g| g.rollups[2].min_base_fee = 0), GenesisError::MinBaseFee(RollupId(42_161)));
    assert_eq!(
        broken(|g| g.balances = vec![g.balances[0]; MAX_GENESIS_ACCOUNTS + 1]),
        GenesisError::AccountCount(MAX_GENESIS_ACCOUNTS + 1)
    );
    assert!(matches!(broken(|g| g.balances.swap(0, 3)), GenesisError::Balances(_)));
    assert!(matches!(broken(|g| g.balances[1] = g.balances[0]), GenesisError::Balances(_)));
    assert_eq!(broken(|g| g.balances[0].credits = u64::MAX), GenesisError::Supply);
    // 2^64 - 1 credits in one hand could pay a fee that saturated.
    assert_eq!(broken(|g| g.balances[0].credits = u64::MAX - 300), GenesisError::Supply);
}

#[test]
fn the_largest_supply_that_is_allowed_is_accepted() {
    let mut genesis = genesis("g", 4, 100, &ROLLUPS);
    genesis.balances[0].credits = u64::MAX - 301;
    assert_eq!(genesis.rules().unwrap().supply, u64::MAX - 1);
}

#[test]
fn a_genesis_file_is_read_back_as_written_and_unknown_keys_are_refused() {
    let genesis = genesis("g", 4, 100, &ROLLUPS);
    let mut json = serde_json::to_value(&genesis).unwrap();
    assert_eq!(serde_json::from_value::<Genesis>(json.clone()).unwrap(), genesis);
    json["extra"] = 1.into();
    assert!(serde_json::from_value::<Genesis>(json).unwrap_err().to_string().contains("extra"));
}

#[test]
fn any_change_of_a_genesis_changes_its_hash() {
    let good = genesis("g", 4, 100, &ROLLUPS);
    let mut other = good.clone();
    other.balances[0].credits += 1;
    assert_ne!(good.hash(), other.hash());
    other = good.clone();
    other.sharing.push(0);
    assert_ne!(good.hash(), other.hash());
}
