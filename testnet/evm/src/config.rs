//! What does a node need to know before it starts?

use alloy_eips::{eip1559::BaseFeeParams, eip2935, eip4788, eip7002, eip7251};
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, U256};
use op_alloy_consensus::{L2_TO_L1_MESSAGE_PASSER_ADDRESS, encode_holocene_extra_data};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tokio::sync::mpsc;

/// Gas limit of a block where the genesis does not say.
pub const GAS_LIMIT: u64 = 30_000_000;
/// Base fee of the genesis block where it does not say, in wei (EIP-1559's initial base fee).
pub const INITIAL_BASE_FEE: u64 = 1_000_000_000;
/// The parameters of the OP Stack's base fee since Canyon, where the attributes leave them to the chain.
pub const OP_BASE_FEE: BaseFeeParams = BaseFeeParams::new(250, 6);

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

/// A genesis with `balance` wei for each of `accounts` and the system contracts of Prague.
pub fn genesis(chain_id: u64, timestamp: u64, accounts: &[Address], balance: U256) -> Genesis {
    let mut genesis = Genesis {
        timestamp,
        gas_limit: GAS_LIMIT,
        base_fee_per_gas: Some(INITIAL_BASE_FEE.into()),
        ..Genesis::default()
    };
    genesis.config.chain_id = chain_id;
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

/// Like [`genesis`], for an OP Stack rollup: with the base-fee parameters that Holocene keeps in `extraData`, and without the
/// request contracts that rollups do not have.
pub fn op_genesis(chain_id: u64, timestamp: u64, accounts: &[Address], balance: U256) -> Genesis {
    let mut genesis = genesis(chain_id, timestamp, accounts, balance);
    genesis.alloc.remove(&eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS);
    genesis.alloc.remove(&eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS);
    // The contract whose storage root Isthmus headers carry has to be an account.
    genesis.alloc.insert(L2_TO_L1_MESSAGE_PASSER_ADDRESS, GenesisAccount::default().with_nonce(Some(1)));
    genesis.extra_data = encode_holocene_extra_data(Default::default(), OP_BASE_FEE)
        .expect("the chain's own parameters fit into 32 bits");
    genesis
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}
