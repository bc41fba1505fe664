//! What does a node need to know before it starts?

use alloy_eips::{eip1559::BaseFeeParams, eip2935, eip4788, eip7002, eip7251, eip7840::BlobParams};
use alloy_genesis::{ChainConfig, Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, U256, address, b256};
use op_alloy_consensus::{L2_TO_L1_MESSAGE_PASSER_ADDRESS, encode_holocene_extra_data};
use serde_json::json;
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tokio::sync::mpsc;

/// Gas limit of a block where the genesis does not say.
pub const GAS_LIMIT: u64 = 30_000_000;
/// Base fee of the genesis block where it does not say, in wei (EIP-1559's initial base fee).
pub const INITIAL_BASE_FEE: u64 = 1_000_000_000;
/// The parameters of the OP Stack's base fee since Canyon, where the attributes leave them to the chain.
pub const OP_BASE_FEE: BaseFeeParams = BaseFeeParams::new(250, 6);

/// Where a proxy keeps its owner (EIP-1967), and who that is for the OP Stack's contracts (specs, Predeploys).
const PROXY_OWNER_SLOT: B256 = b256!("b53127684a568b3173ae13b9f8a6016e243e63b6e8ee1178d6a717850b5d6103");
const PROXY_OWNER: Address = address!("4200000000000000000000000000000000000018");

/// A node's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The first block and what everybody holds in it; the chain id is its `config.chain_id`.
    pub genesis: Genesis,
    /// Who makes the blocks, and by which rules.
    pub role: Role,
    /// Where JSON-RPC is served, HTTP and WebSocket on one port; port 0 takes a free one.
    pub rpc: SocketAddr,
    /// Where blocks are kept; in memory only when absent.
    pub folder: Option<PathBuf>,
    /// Where a rollup's `eth_sendRawTransaction` goes: a lane's sequencer, not a pool of the node's own. When the channel is
    /// full the caller is told to come back.
    pub forward: Option<mpsc::Sender<Bytes>>,
}

/// Who makes the blocks.
#[derive(Clone, Debug)]
pub enum Role {
    /// The node itself, from its pool, as an L1 does.
    L1(L1),
    /// An OP Stack rollup, driven through the Engine API.
    Optimism(Optimism),
    /// A rollup by Ethereum's rules whose blocks come from [`crate::Node::execute_block`].
    Rollup(Rollup),
}

/// An L1.
#[derive(Clone, Debug)]
pub struct L1 {
    /// Time between blocks; with none, blocks are made on `evm_mine` and, if `instant`, on every transaction.
    pub interval: Option<Duration>,
    /// Makes a block as soon as a transaction arrives.
    pub instant: bool,
    /// How many blocks `safe` is behind the head.
    pub safe_depth: u64,
    /// How many blocks `finalized` is behind the head.
    pub finalized_depth: u64,
    /// Who earns the fees.
    pub beneficiary: Address,
}

impl Default for L1 {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(1)),
            instant: false,
            safe_depth: 4,
            finalized_depth: 8,
            beneficiary: Address::ZERO,
        }
    }
}

/// An OP Stack rollup.
#[derive(Clone, Debug)]
pub struct Optimism {
    /// The fork of every block since genesis.
    pub fork: OpFork,
    /// Where the Engine API is served; port 0 takes a free one.
    pub engine: SocketAddr,
    /// The secret of the Engine API's JSON Web Tokens.
    pub jwt_secret: B256,
}

/// The OP Stack's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpFork {
    /// Holocene: base-fee parameters in `extraData`; Engine API V3.
    Holocene,
    /// Isthmus: Prague rules, and the withdrawals' storage root in the header; Engine API V4.
    Isthmus,
}

/// A rollup that follows an in-process driver.
#[derive(Clone, Debug, Default)]
pub struct Rollup {
    /// A base fee that does not move, in wei; EIP-1559 when absent.
    pub base_fee: Option<u64>,
    /// Who earns the fees where a block does not say.
    pub beneficiary: Address,
    /// Whether [`crate::Node::mark`] says what is safe and final, as L1 has it. Else every block is both at once, for nobody
    /// behind an in-process driver takes its blocks back but itself.
    pub l1_decides: bool,
}

impl Config {
    /// A node in memory on a free port of the loopback.
    pub fn new(genesis: Genesis, role: Role) -> Self {
        Self { genesis, role, rpc: loopback(), folder: None, forward: None }
    }
}

impl Optimism {
    /// Isthmus rules, the Engine API on a free port of the loopback.
    pub fn new(jwt_secret: B256) -> Self {
        Self { fork: OpFork::Isthmus, engine: loopback(), jwt_secret }
    }
}

/// A genesis with `balance` wei for each of `accounts` and the system contracts of Prague. Its configuration has all forks up to
/// Prague active from the start, as clients that read a genesis.json need to be told.
pub fn genesis(chain_id: u64, timestamp: u64, accounts: &[Address], balance: U256) -> Genesis {
    let mut genesis = Genesis {
        timestamp,
        gas_limit: GAS_LIMIT,
        base_fee_per_gas: Some(INITIAL_BASE_FEE.into()),
        ..Genesis::default()
    };
    genesis.config = prague(chain_id);
    for account in accounts {
        genesis.alloc.insert(*account, GenesisAccount::default().with_balance(balance));
    }
    // The nonces and addresses are those that the EIPs give them.
    for (address, code) in [
        (eip4788::BEACON_ROOTS_ADDRESS, &eip4788::BEACON_ROOTS_CODE),
        (eip2935::HISTORY_STORAGE_ADDRESS, &eip2935::HISTORY_STORAGE_CODE),
        (eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS, &eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_CODE),
        (eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS, &eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_CODE),
    ] {
        let account = GenesisAccount::default().with_nonce(Some(1)).with_code(Some(code.clone()));
        genesis.alloc.insert(address, account);
    }
    genesis
}

fn prague(chain_id: u64) -> ChainConfig {
    let (begin, first) = (Some(0), Some(0));
    ChainConfig {
        chain_id,
        homestead_block: first,
        eip150_block: first,
        eip155_block: first,
        eip158_block: first,
        byzantium_block: first,
        constantinople_block: first,
        petersburg_block: first,
        istanbul_block: first,
        muir_glacier_block: first,
        berlin_block: first,
        london_block: first,
        arrow_glacier_block: first,
        gray_glacier_block: first,
        merge_netsplit_block: first,
        shanghai_time: begin,
        cancun_time: begin,
        prague_time: begin,
        terminal_total_difficulty: Some(U256::ZERO),
        terminal_total_difficulty_passed: true,
        blob_schedule: [("cancun", BlobParams::cancun()), ("prague", BlobParams::prague())]
            .map(|(fork, blobs)| (fork.to_owned(), blobs))
            .into(),
        ..ChainConfig::default()
    }
}

/// Like [`genesis`], for an OP Stack rollup by Isthmus' rules: op-geth reads it as it is. With the base-fee parameters that Holocene
/// keeps in `extraData`, and without the request contracts that rollups do not have. The forks in its configuration are for other
/// clients; this node goes by [`Optimism::fork`].
pub fn op_genesis(chain_id: u64, timestamp: u64, accounts: &[Address], balance: U256) -> Genesis {
    let mut genesis = genesis(chain_id, timestamp, accounts, balance);
    genesis.alloc.remove(&eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS);
    genesis.alloc.remove(&eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS);
    genesis.config.blob_schedule.clear();
    let forks = ["regolith", "canyon", "ecotone", "fjord", "granite", "holocene", "isthmus"];
    let forks = forks.map(|fork| (format!("{fork}Time"), json!(0)));
    let fees = json!({
        "eip1559Elasticity": OP_BASE_FEE.elasticity_multiplier,
        "eip1559Denominator": OP_BASE_FEE.max_change_denominator,
        "eip1559DenominatorCanyon": OP_BASE_FEE.max_change_denominator,
    });
    let more = [("bedrockBlock".to_owned(), json!(0)), ("optimism".to_owned(), fees)];
    genesis.config.extra_fields.extend(forks.into_iter().chain(more));
    // Isthmus headers carry the storage root of this contract. On every chain it is a proxy with an owner; without any storage its root
    // would be that of no withdrawals, which op-geth leaves out of its payloads and then misses there.
    let storage = [(PROXY_OWNER_SLOT, PROXY_OWNER.into_word())].into();
    let passer = GenesisAccount::default().with_nonce(Some(1)).with_storage(Some(storage));
    genesis.alloc.insert(L2_TO_L1_MESSAGE_PASSER_ADDRESS, passer);
    genesis.extra_data = encode_holocene_extra_data(Default::default(), OP_BASE_FEE)
        .expect("the chain's own parameters fit into 32 bits");
    genesis
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}
