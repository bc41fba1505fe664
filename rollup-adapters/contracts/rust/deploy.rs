//! What must be sent to a rollup so that it has contracts, and where will they be?
//!
//! Addresses follow from the deployer and its nonces alone, so that a genesis can name them before the rollup's first block.

use alloy_primitives::{Address, B256, Bytes, U256, hex};
use alloy_sol_types::{SolCall, SolConstructor, SolValue};

use lockstep_protocol::{
    genesis::GroupKeyBytes,
    ids::{AssetId, NetworkId, RollupId},
};

use crate::{
    abi::{MarginEscrow, ReferenceVenue, SettlementHub, TestToken},
    curve::{self, PointError},
};

/// A gas limit with which `MarginEscrow.prepare` never meets its floor; the contract has the same constant.
pub const PREPARE_GAS: u64 = 500_000;
/// Gas for the creation of any of the contracts: the largest takes about four million.
pub const CREATE_GAS: u64 = 6_000_000;
/// Gas for any call of a [`Plan`].
pub const CALL_GAS: u64 = 200_000;

/// Where a deployer's contracts are: created with consecutive nonces, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// `TestToken`.
    pub token: Address,
    /// `SettlementHub`.
    pub hub: Address,
    /// `MarginEscrow`.
    pub escrow: Address,
    /// `ReferenceVenue`.
    pub venue: Address,
}

impl Addresses {
    /// The addresses if `deployer` creates them with nonces from `nonce`.
    pub fn of(deployer: Address, nonce: u64) -> Self {
        let [token, hub, escrow, venue] = [0, 1, 2, 3].map(|step| deployer.create(nonce + step));
        Self { token, hub, escrow, venue }
    }
}

/// A transaction that the deployer sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it is for.
    pub what: &'static str,
    /// Whom it calls; `None` creates a contract.
    pub to: Option<Address>,
    /// Creation code or calldata.
    pub input: Bytes,
    /// A gas limit that is enough.
    pub gas: u64,
}

/// A rollup with a token, a hub, an escrow and a venue for it. The deployer owns the escrow.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who sends it all.
    pub deployer: Address,
    /// Its next nonce.
    pub nonce: u64,
    /// The log's network.
    pub network: NetworkId,
    /// The log's group key.
    pub group_key: GroupKeyBytes,
    /// Who receives what is paid in for fee accounts; the token is what is paid in.
    pub treasury: Address,
    /// What the token is to the log.
    pub asset: AssetId,
    /// The token's name and symbol.
    pub symbol: String,
    /// The token's decimal places.
    pub decimals: u8,
    /// The venue's first price.
    pub price: U256,
    /// Who owns the venue, and so sets its price.
    pub oracle: Address,
    /// Most that one leg may move.
    pub max_leg: u128,
    /// What redone legs may move.
    pub redo_budget: u128,
    /// Other rollups, and the most that may come in from each above what went out.
    pub corridors: Vec<(RollupId, u128)>,
    /// What the deployer mints and gives to the pool.
    pub inventory: u128,
    /// What the deployer mints and pays in as the venue's own margin, out of which it pays profits.
    pub house: u128,
    /// What the deployer mints and pays in as the margin of accounts.
    pub deposits: Vec<(Address, u128)>,
}

impl Plan {
    /// Where the contracts will be.
    pub fn addresses(&self) -> Addresses {
        Addresses::of(self.deployer, self.nonce)
    }

    /// The transactions, in order: the first has the plan's nonce.
    pub fn steps(&self) -> Result<Vec<Step>, PointError> {
        let Addresses { token, hub, escrow, venue } = self.addresses();
        let asset = B256::from(self.asset.0);
        let create = |what, input| Step { what, to: None, input, gas: CREATE_GAS };
        let call = |what, to, input: Vec<u8>| Step { what, to: Some(to), input: input.into(), gas: CALL_GAS };
        let mut steps = vec![
            create("token", test_token(&self.symbol, &self.symbol, self.decimals)),
            create("hub", settlement_hub(self.network, &self.group_key, token, self.treasury)?),
            create("escrow", margin_escrow(hub, self.deployer)),
            create("venue", reference_venue(escrow, self.asset, self.price, self.oracle)),
            call("set the venue", escrow, MarginEscrow::setVenueCall { venue_: venue }.abi_encode()),
            call("list the asset", escrow, MarginEscrow::listAssetCall { asset, token }.abi_encode()),
            call("set limits", escrow, limits(asset, self.max_leg, self.redo_budget)),
        ];
        for (rollup, cap) in &self.corridors {
            let corridor = MarginEscrow::setCorridorCall { rollup: rollup.0, asset, cap: *cap };
            steps.push(call("set a corridor", escrow, corridor.abi_encode()));
        }
        let deposits: Vec<_> = [(venue, self.house)].into_iter().chain(self.deposits.iter().copied()).collect();
        let amount = U256::from(self.inventory);
        let all = deposits.iter().fold(amount, |sum, (_, amount)| sum + U256::from(*amount));
        steps.extend([
            call("mint", token, TestToken::mintCall { to: self.deployer, amount: all }.abi_encode()),
            call("approve", token, TestToken::approveCall { spender: escrow, value: all }.abi_encode()),
            call("provide", escrow, MarginEscrow::provideCall { asset, amount }.abi_encode()),
        ]);
        for (account, amount) in deposits.into_iter().filter(|(_, amount)| *amount > 0) {
            let deposit = MarginEscrow::depositCall { asset, account, amount: U256::from(amount) };
            steps.push(call("pay margin in", escrow, deposit.abi_encode()));
        }
        Ok(steps)
    }
}

/// Clips to what the contract's fields hold.
fn limits(asset: B256, max_leg: u128, redo_budget: u128) -> Vec<u8> {
    let clip = |amount: u128, bits: u32| amount.min((1 << bits) - 1);
    let call = MarginEscrow::setLimitsCall {
        asset,
        maxLeg: clip(max_leg, 96).try_into().expect("it was clipped"),
        redoBudget: clip(redo_budget, 112).try_into().expect("it was clipped"),
    };
    call.abi_encode()
}

/// Creation code of `TestToken`.
pub fn test_token(name: &str, symbol: &str, decimals: u8) -> Bytes {
    let arguments = TestToken::constructorCall { name: name.into(), symbol: symbol.into(), decimalPlaces: decimals };
    code(include_str!("../artifacts/TestToken.json"), &arguments)
}

/// Creation code of `SettlementHub`. `fee_token` is zero for a rollup that takes no deposits.
pub fn settlement_hub(
    network: NetworkId,
    group_key: &GroupKeyBytes,
    fee_token: Address,
    treasury: Address,
) -> Result<Bytes, PointError> {
    let arguments = SettlementHub::constructorCall {
        network_: B256::from(network.0),
        key: curve::group_key(group_key)?.into(),
        feeToken_: fee_token,
        treasury_: treasury,
    };
    Ok(code(include_str!("../artifacts/SettlementHub.json"), &arguments))
}

/// Creation code of `MarginEscrow`.
pub fn margin_escrow(hub: Address, owner: Address) -> Bytes {
    code(include_str!("../artifacts/MarginEscrow.json"), &MarginEscrow::constructorCall { hub_: hub, owner_: owner })
}

/// Creation code of `ReferenceVenue`.
pub fn reference_venue(escrow: Address, collateral: AssetId, price: U256, owner: Address) -> Bytes {
    let arguments = ReferenceVenue::constructorCall {
        escrow_: escrow,
        collateral_: B256::from(collateral.0),
        price_: price,
        owner_: owner,
    };
    code(include_str!("../artifacts/ReferenceVenue.json"), &arguments)
}

/// Creation code of `FinalityVerifier`, for whoever wants certificates checked without a hub.
pub fn finality_verifier(network: NetworkId, group_key: &GroupKeyBytes) -> Result<Bytes, PointError> {
    let arguments = (B256::from(network.0), Bytes::from(curve::group_key(group_key)?)).abi_encode_params();
    Ok([creation(include_str!("../artifacts/FinalityVerifier.json")), arguments].concat().into())
}

fn code(artifact: &str, arguments: &impl SolConstructor) -> Bytes {
    [creation(artifact), arguments.abi_encode()].concat().into()
}

fn creation(artifact: &str) -> Vec<u8> {
    let artifact: serde_json::Value = serde_json::from_str(artifact).expect("the artifact is JSON");
    let digits = artifact["bytecode"].as_str().expect("an artifact has bytecode");
    hex::decode(digits).expect("bytecode is hexadecimal")
}

#[cfg(test)]
mod tests;
