//! What does a venue's own rollup say: inventory, margin, what became of a leg, what a transaction costs?
//!
//! Questions to one JSON-RPC server of the rollup, of the caller's choice: its answers are not proven. They say why
//! something would be refused, or was; whether a settlement commits, the log alone says.

use std::time::Duration;

use alloy_primitives::U256;
use jsonrpsee_core::{
    client::{ClientT, Error as RpcError},
    params::ArrayParams,
};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_protocol::{
    ids::{Address20, AssetId, RollupId, SettlementId},
    rpc::HexBytes,
    settlement::{LegStatus, Side, Subject},
};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};
use serde_json::{Value, json};

use super::{
    native::{address, call, number, topic},
    reason::VenueReason,
};
use crate::error::ConfigError;

/// Longest wait for a rollup's answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the longest answer that is read: a page of logs, mostly a few words.
const MAX_RESPONSE_BYTES: u32 = 1024 * 1024;
/// Blocks behind the latest in which a refusal's event is looked for: servers bound the range of such questions.
const LOG_BLOCKS: u64 = 1_024;

/// An escrow on a rollup, and where to ask.
#[derive(Clone, Debug)]
pub struct Venue {
    rollup: RollupId,
    escrow: Address20,
    http: HttpClient,
}

/// A rollup's server did not answer, or not with an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum VenueError {
    #[error("rollup {rollup}: no answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout { rollup: RollupId },
    #[error("rollup {rollup} is unreachable: {detail}")]
    Unreachable { rollup: RollupId, detail: String },
    #[error("rollup {rollup} answered with error {code}: {message}")]
    Rpc { rollup: RollupId, code: i32, message: String },
    #[error("rollup {rollup}: the answer is not one: {detail}")]
    Malformed { rollup: RollupId, detail: String },
    #[error("the server of rollup {rollup} is of chain {found}")]
    WrongChain { rollup: RollupId, found: u64 },
}

/// What an escrow has of an asset. In its smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The token; zero if the asset is not listed.
    pub token: Address20,
    /// Most that one leg may move.
    pub max_leg: u128,
    /// What can be promised to credits.
    pub available: u128,
    /// What stands promised.
    pub reserved: u128,
}

/// An account's margin in an escrow. In the asset's smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margin {
    /// Counts at the venue.
    pub free: u128,
    /// Locked by debits under way.
    pub in_flight: u128,
    /// Credits that stand prepared.
    pub open_credits: u64,
    /// Owed to the pool.
    pub debt: u128,
}

/// How far an escrow trusts what another rollup's legs pay for. In the asset's smallest unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscrowCorridor {
    /// Most that may come in above what went out.
    pub cap: u128,
    /// What came in, less what went out.
    pub net: i128,
}

/// A number in hexadecimal, as Ethereum's JSON-RPC has it: a quantity, or a word with its zeros.
struct Quantity(U256);

impl Venue {
    /// The escrow at `escrow`, on a rollup whose JSON-RPC is at the URL `rpc`.
    pub fn new(rollup: RollupId, escrow: Address20, rpc: &str) -> Result<Self, ConfigError> {
        if rpc.starts_with("https://") && !cfg!(feature = "tls") {
            return Err(ConfigError::NoTls(format!("of rollup {rollup}")));
        }
        let http = HttpClientBuilder::new()
            .max_response_size(MAX_RESPONSE_BYTES)
            .request_timeout(CALL_TIMEOUT)
            .build(rpc)
            // The URL may hold a secret: it is not repeated.
            .map_err(|_| ConfigError::Url(format!("of rollup {rollup}")))?;
        Ok(Self { rollup, escrow, http })
    }

    /// Its rollup.
    pub fn rollup(&self) -> RollupId {
        self.rollup
    }

    /// Its escrow.
    pub fn escrow(&self) -> Address20 {
        self.escrow
    }

    /// What the escrow has of an asset.
    pub async fn inventory(&self, asset: AssetId) -> Result<Inventory, VenueError> {
        // (token, maxLeg, inventory, reserved, held, owed, redoBudget)
        let words = self.view("assetOf(bytes32)", &[asset.0], 7).await?;
        Ok(Inventory {
            token: self.address_of(words[0])?,
            max_leg: self.amount(words[1])?,
            available: self.amount(words[2])?,
            reserved: self.amount(words[3])?,
        })
    }

    /// An account's margin.
    pub async fn margin(&self, account: Address20, asset: AssetId) -> Result<Margin, VenueError> {
        // (free, inFlight, openCredits, indebted, debt)
        let words = self.view("accountOf(address,bytes32)", &[address(account), asset.0], 5).await?;
        let indebted = words[3] != U256::ZERO;
        Ok(Margin {
            free: self.amount(words[0])?,
            in_flight: self.amount(words[1])?,
            open_credits: u64::try_from(words[2]).map_err(|_| self.malformed("a count above 64 bits"))?,
            debt: if indebted { self.amount(words[4])? } else { 0 },
        })
    }

    /// What came from `from`, and how much may.
    pub async fn corridor(&self, from: RollupId, asset: AssetId) -> Result<EscrowCorridor, VenueError> {
        let words = self.view("corridorOf(uint64,bytes32)", &[number(from.0.into()), asset.0], 2).await?;
        // Two's complement: the lower half has the number.
        let low = words[1].as_limbs();
        let net = (u128::from(low[1]) << 64 | u128::from(low[0])).cast_signed();
        Ok(EscrowCorridor { cap: self.amount(words[0])?, net })
    }

    /// Whether the venue lets the account's margin fall or rise by `amount`.
    pub async fn allows(
        &self,
        account: Address20,
        asset: AssetId,
        side: Side,
        amount: u128,
    ) -> Result<bool, VenueError> {
        let venue = self.address_of(self.view("venue()", &[], 1).await?[0])?;
        let question = match side {
            Side::Debit => "mayDebit(address,bytes32,uint256)",
            Side::Credit => "mayCredit(address,bytes32,uint256)",
        };
        let input = call(question, &[address(account), asset.0, number(amount)]);
        // As the escrow hears it: whatever is not a clear yes is a no.
        match self.eth_call(None, venue, input, None).await {
            Ok(answer) => Ok(U256::try_from_be_slice(&answer) == Some(U256::ONE)),
            Err(VenueError::Rpc { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What became of a leg, and why it was refused, if it was and the rollup still tells.
    pub async fn leg(&self, settlement: SettlementId, leg: u8) -> Result<(LegStatus, Option<VenueReason>), VenueError> {
        let slot = Subject::Leg { settlement, leg }.slot();
        let Quantity(word) = self.ask("eth_getStorageAt", json!([self.escrow, slot, "latest"])).await?;
        let status = LegStatus::of(word).map_err(|error| self.malformed(error))?;
        let reason = match status {
            LegStatus::Refused => Some(VenueReason::of(word.byte(1))),
            // The word is overwritten when the abort is applied; the event stays.
            LegStatus::Released => self.refusal_logged(settlement, leg).await?,
            _ => None,
        };
        Ok((status, reason))
    }

    async fn refusal_logged(&self, settlement: SettlementId, leg: u8) -> Result<Option<VenueReason>, VenueError> {
        #[derive(Deserialize)]
        struct Log {
            data: HexBytes,
        }
        let Quantity(latest) = self.ask("eth_blockNumber", json!([])).await?;
        let from = latest.saturating_sub(U256::from(LOG_BLOCKS));
        let (from, latest) = (format!("{from:#x}"), format!("{latest:#x}"));
        let topic = topic("LegRefused(bytes32,uint8,address,uint8)");
        let filter =
            json!([{ "address": self.escrow, "fromBlock": from, "toBlock": latest, "topics": [topic, settlement] }]);
        let logs: Vec<Log> = self.ask("eth_getLogs", filter).await?;
        // Two words: the leg's place and the reason.
        let of = |log: &Log| log.data.0.get(31) == Some(&leg);
        let reason = logs.iter().find(|log| of(log)).and_then(|log| log.data.0.get(63).copied());
        Ok(reason.map(VenueReason::of))
    }

    /// Whether `prepare` would lock a leg if it were called now, or the text of its revert.
    pub(crate) async fn would_prepare(
        &self,
        sender: Address20,
        input: Vec<u8>,
        gas: u64,
    ) -> Result<Result<LegStatus, String>, VenueError> {
        match self.eth_call(Some(sender), self.escrow, input, Some(gas)).await {
            Ok(answer) => {
                let word = U256::try_from_be_slice(&answer).ok_or_else(|| self.malformed("a status is a word"))?;
                Ok(Ok(LegStatus::of(word).map_err(|error| self.malformed(error))?))
            }
            Err(VenueError::Rpc { message, .. }) => Ok(Err(message)),
            Err(error) => Err(error),
        }
    }

    /// The next nonce of an account, as the rollup has executed it.
    pub(crate) async fn nonce(&self, account: Address20) -> Result<u64, VenueError> {
        let Quantity(nonce) = self.ask("eth_getTransactionCount", json!([account, "latest"])).await?;
        u64::try_from(nonce).map_err(|_| self.malformed("a nonce above 64 bits"))
    }

    /// What an account can pay gas with. Wei.
    pub(crate) async fn balance(&self, account: Address20) -> Result<U256, VenueError> {
        let Quantity(balance) = self.ask("eth_getBalance", json!([account, "latest"])).await?;
        Ok(balance)
    }

    /// The base fee of the latest block. Wei for a unit of gas; zero where the rollup has none.
    pub(crate) async fn base_fee(&self) -> Result<u128, VenueError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Block {
            base_fee_per_gas: Option<Quantity>,
        }
        let block: Block = self.ask("eth_getBlockByNumber", json!(["latest", false])).await?;
        self.amount(block.base_fee_per_gas.map_or(U256::ZERO, |Quantity(fee)| fee))
    }

    /// Whether the server is of the rollup that it is asked for.
    pub(crate) async fn check_chain(&self) -> Result<(), VenueError> {
        let Quantity(found) = self.ask("eth_chainId", json!([])).await?;
        let found = u64::try_from(found).unwrap_or(u64::MAX);
        if found == self.rollup.0 { Ok(()) } else { Err(VenueError::WrongChain { rollup: self.rollup, found }) }
    }

    async fn view(&self, signature: &str, arguments: &[[u8; 32]], words: usize) -> Result<Vec<U256>, VenueError> {
        let answer = self.eth_call(None, self.escrow, call(signature, arguments), None).await?;
        if answer.len() != 32 * words {
            return Err(self.malformed(format!("{} bytes from {signature}: is there an escrow?", answer.len())));
        }
        Ok(answer.chunks(32).map(U256::from_be_slice).collect())
    }

    async fn eth_call(
        &self,
        from: Option<Address20>,
        to: Address20,
        input: Vec<u8>,
        gas: Option<u64>,
    ) -> Result<Vec<u8>, VenueError> {
        let mut transaction = json!({ "to": to, "input": HexBytes(input) });
        if let Some(from) = from {
            transaction["from"] = json!(from);
        }
        if let Some(gas) = gas {
            transaction["gas"] = json!(format!("{gas:#x}"));
        }
        let answer: HexBytes = self.ask("eth_call", json!([transaction, "latest"])).await?;
        Ok(answer.0)
    }

    async fn ask<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, VenueError> {
        let rollup = self.rollup;
        let mut arguments = ArrayParams::new();
        for value in params.as_array().into_iter().flatten() {
            arguments.insert(value).expect("JSON has a JSON form");
        }
        match self.http.request(method, arguments).await {
            Ok(answer) => Ok(answer),
            Err(RpcError::RequestTimeout) => Err(VenueError::Timeout { rollup }),
            Err(RpcError::Call(error)) => {
                let data = error.data().map(|data| format!(" {}", data.get())).unwrap_or_default();
                let message = crate::node::clip(format!("{}{data}", error.message()));
                Err(VenueError::Rpc { rollup, code: error.code(), message })
            }
            Err(RpcError::ParseError(error)) => Err(self.malformed(error)),
            Err(error) => Err(VenueError::Unreachable { rollup, detail: crate::node::chain(&error) }),
        }
    }

    fn amount(&self, word: U256) -> Result<u128, VenueError> {
        u128::try_from(word).map_err(|_| self.malformed("an amount above 128 bits"))
    }

    fn address_of(&self, word: U256) -> Result<Address20, VenueError> {
        let word: [u8; 32] = word.to_be_bytes();
        let mut address = Address20::default();
        address.0.copy_from_slice(&word[12..]);
        if word[..12] == [0; 12] { Ok(address) } else { Err(self.malformed("an address above 20 bytes")) }
    }

    fn malformed(&self, detail: impl ToString) -> VenueError {
        VenueError::Malformed { rollup: self.rollup, detail: crate::node::clip(detail.to_string()) }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let digits = text.strip_prefix("0x").filter(|digits| !digits.is_empty());
        let number = digits.and_then(|digits| U256::from_str_radix(digits, 16).ok());
        number.map(Self).ok_or_else(|| de::Error::custom("a number is 0x and at most 64 hexadecimal digits"))
    }
}
