//! How does the OP Stack rollup of the city run?
//!
//! Its execution client (the embedded node behind a real Engine API, or op-geth), its driver and its posters, configured by the files
//! that an operator would write. With op-geth, op-node may derive the same chain beside them.

use std::{net::SocketAddr, path::Path};

use alloy_primitives::{Address, B256, b256, hex, keccak256};
use anyhow::{Context, Result};
use lockstep_adapters::{
    optimism::post::{PostConfig, Target},
    poster::SignerConfig,
    settings::{
        Log, StatusSettings,
        optimism::{DriveSettings, DrivenExecution, DriverChoices, PostSettings, ReadExecution},
    },
};
use lockstep_evm::Genesis;
use serde_json::json;

use super::{L1_CHAIN, Place, RollupView, StockView, batcher, files, pocket_money, posters, status, stock, wait_for};
use crate::{
    chain::{ChainRole, ChainSettings},
    child::Child,
    network::ROLLUPS,
    ports,
};

/// Seconds between its blocks, as on OP Mainnet and Base.
const BLOCK_TIME: u64 = 2;
/// Where its batches go: an address without code, named after the chain as the OP Stack does.
const BATCH_INBOX: Address = Address::new(hex!("ff00000000000000000000000000000000000901"));
/// Contracts on L1 that this city does not need: nobody deposits, and the system configuration stays.
const PORTAL: Address = Address::new(hex!("00000000000000000000000000000000000a0901"));
const SYSTEM_CONFIG: Address = Address::new(hex!("00000000000000000000000000000000000b0901"));
/// Where the system configuration keeps who signs blocks that are not on L1 yet (specs, Batcher and system config).
const UNSAFE_BLOCK_SIGNER_SLOT: B256 = b256!("65a7ed542fb37fe237fdfbdd70b31598523fe5b32879e307bae27a0bd9581c08");
/// So much is posted at once, or whatever there is after a few seconds: a person watches.
const ENOUGH_BYTES: usize = 20_000;
const MAX_DELAY_SECONDS: u64 = 6;
/// How often driver and poster look at L1 and at what there is.
const POLL_MS: u64 = 200;
/// L1 blocks on top of a batch before the driver calls its blocks safe, so that there is something between posted and safe.
const SAFE_CONFIRMATIONS: u64 = 2;

/// The running rollup.
pub(super) struct Optimism {
    /// Execution client, driver, posters; then op-node and its client, where there are any.
    pub(super) children: Vec<Child>,
    pub(super) pages: Pages,
}

/// Where the parts can be asked.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    rpc: SocketAddr,
    drive: SocketAddr,
    posts: [SocketAddr; posters::PER_ROLLUP],
    /// op-node's JSON-RPC.
    node: Option<SocketAddr>,
}

/// What is on L1 from its beginning. op-node asks for a proof of who signs blocks that are not there yet.
pub(super) fn stand_on_l1(genesis: &mut Genesis) {
    let config = genesis.alloc.entry(SYSTEM_CONFIG).or_default();
    // It only stops: the configuration stays.
    config.code = Some(hex!("00").into());
    config.storage = Some([(UNSAFE_BLOCK_SIGNER_SLOT, batcher().address().into_word())].into());
}

impl Optimism {
    pub(super) async fn start(place: &Place<'_>, folder: &Path, log_genesis: &Path, nodes: &[String]) -> Result<Self> {
        let Place { executable, l1, op_stack, funded, rpc, posts } = *place;
        let folder = files::folder(folder)?;
        let (rollup, _) = ROLLUPS[0];
        let [engine, drive_status] =
            <[SocketAddr; 2]>::try_from(ports::free(2)?).expect("as many ports as were asked for");

        let genesis = lockstep_evm::op_genesis(rollup.0, funded.begin, &funded.wallets, pocket_money());
        files::json(&folder.join("genesis.json"), &genesis)?;
        let jwt = keccak256(format!("testnet jwt {engine}"));
        files::secret(&folder.join("jwt.hex"), &hex::encode(jwt))?;
        files::secret(&folder.join("batcher.key"), &hex::encode(batcher().secret()))?;
        let arguments = |words: &[&str], file: &str| {
            let words = words.iter().copied().chain(["--config"]).map(Into::into);
            words.chain([folder.join(file).into()]).collect()
        };
        let geth = |program: &Path, name: &str, at: &str, rpc, engine| {
            let (genesis, jwt) = (&folder.join("genesis.json"), &folder.join("jwt.hex"));
            stock::Geth { program, name, folder: folder.join(at), genesis, jwt, rpc, engine }.begun()
        };
        const CLIENT: &str = "op-execution";
        let mut client = match op_stack {
            Some(stack) => geth(&stack.geth, CLIENT, "op-geth", rpc, engine)?,
            None => {
                let role = ChainRole::Optimism { engine, jwt };
                let data = folder.join("data");
                let chain = ChainSettings { genesis: folder.join("genesis.json"), data, rpc, role };
                files::toml(&folder.join("chain.toml"), &chain)?;
                Child::new(CLIENT, executable, arguments(&["chain"], "chain.toml"), folder.join("chain.log"))
            }
        };
        client.start()?;
        let url = format!("http://{rpc}");
        let genesis_hash = wait_for(&mut client, async || status::block_hash(&url, 0).await).await?;

        let l1_genesis = status::block_hash(&l1.rpc_url(), 0).await.context("L1 does not answer")?;
        files::json(&folder.join("rollup.json"), &rollup_json(rollup.0, funded.begin, l1_genesis, genesis_hash))?;
        let l1_settings = l1.settings(POLL_MS);
        let drive = DriveSettings {
            rollup: "rollup.json".into(),
            genesis: std::fs::canonicalize(log_genesis).context("finding the log's genesis")?,
            nodes: nodes.to_vec(),
            data: Some("drive".into()),
            execution: DrivenExecution {
                rpc: url.clone(),
                engine: format!("http://{engine}"),
                jwt: "jwt.hex".into(),
                timeout_ms: 5_000,
            },
            l1: l1_settings.clone(),
            driver: DriverChoices { safe_confirmations: SAFE_CONFIRMATIONS, ..DriverChoices::default() },
            status: StatusSettings { listen: drive_status },
            log: Log::default(),
        };
        files::folder(&folder.join("drive"))?;
        files::toml(&folder.join("drive.toml"), &drive)?;
        let post = |number: usize| -> Result<PostSettings> {
            Ok(PostSettings {
                rollup: "rollup.json".into(),
                execution: ReadExecution { rpc: url.clone(), timeout_ms: 5_000 },
                l1: l1_settings.clone(),
                signer: SignerConfig { key_file: Some("batcher.key".into()), ..SignerConfig::default() },
                post: PostConfig {
                    target: if l1.takes_blobs() { Target::Blobs } else { Target::Calldata },
                    enough_bytes: ENOUGH_BYTES,
                    max_delay_seconds: MAX_DELAY_SECONDS,
                    poll_ms: POLL_MS,
                },
                sender: l1.sender(POLL_MS),
                lease: Some(posters::lease(&folder, (0, number), log_genesis, nodes)?),
                brotli_quality: 9,
                status: StatusSettings { listen: posts[number] },
                log: Log::default(),
            })
        };
        let mut driver = Child::new(
            "op-driver",
            executable,
            arguments(&["rollup", "drive", "optimism"], "drive.toml"),
            folder.join("drive.log"),
        );
        driver.start()?;
        let mut children = vec![client, driver];
        for number in 0..posters::PER_ROLLUP {
            let (name, file) = (posters::numbered("op-poster", number), posters::numbered("post", number));
            let (settings, log) = (format!("{file}.toml"), format!("{file}.log"));
            files::toml(&folder.join(&settings), &post(number)?)?;
            let arguments = arguments(&["rollup", "post", "optimism"], &settings);
            let mut poster = Child::new(name, executable, arguments, folder.join(log));
            poster.start()?;
            children.push(poster);
        }
        let mut node = None;
        if let Some((stack, program)) = op_stack.and_then(|stack| Some((stack, stack.node.as_ref()?))) {
            let [rpc, engine, client_rpc] =
                <[SocketAddr; 3]>::try_from(ports::free(3)?).expect("as many ports as were asked for");
            let mut client = geth(&stack.geth, "op-node-execution", "op-node", client_rpc, engine)?;
            client.start()?;
            let url = format!("http://{client_rpc}");
            wait_for(&mut client, async || status::height(&url).await).await?;
            let (rollup, jwt) = (&folder.join("rollup.json"), &folder.join("jwt.hex"));
            let at = stock::Node { program, folder: &folder.join("op-node"), l1, rollup, jwt, engine, rpc };
            let mut child = at.child();
            child.start()?;
            children.extend([client, child]);
            node = Some(rpc);
        }
        let pages = Pages { rpc, drive: drive_status, posts, node };
        Ok(Self { children, pages })
    }
}

impl Pages {
    pub(super) fn rpc_url(&self) -> String {
        format!("http://{}", self.rpc)
    }

    /// Where op-node can be asked, if there is one.
    pub(super) fn node_url(&self) -> Option<String> {
        self.node.map(|node| format!("http://{node}"))
    }

    async fn stock(&self, url: &str) -> Option<StockView> {
        Some(status::stock(&self.node_url()?, url).await)
    }

    pub(super) async fn view(&self) -> RollupView {
        let url = self.rpc_url();
        let (drive, posts, executed, state_root, stock) = tokio::join!(
            status::page(self.drive),
            status::pages(&self.posts),
            status::height(&url),
            status::state_root(&url),
            self.stock(&url)
        );
        let number = |pointer: &'static str| posts.iter().filter_map(move |post| status::number(post, pointer));
        // Each counts from its own start on.
        let derived = |pointer| number(pointer).max();
        let per_transaction = match (derived("/derivation/bytes"), derived("/derivation/transactions")) {
            (Some(bytes), Some(count)) if count > 0 => Some(bytes as f64 / count as f64),
            _ => None,
        };
        // Driver and poster derive, each on its own. One that was just started has read nothing yet.
        let mut pages = std::iter::once(&drive).chain(&posts);
        let disagreement = pages.find_map(|page| status::text(page, "/derivation/disagreement"));
        const SAFE: &str = "/derivation/safe/number";
        RollupView {
            rollup: ROLLUPS[0].0.0,
            stack: "OP Stack",
            executed,
            state_root,
            batches: posts.iter().any(Option::is_some).then(|| number("/batchesPosted").sum()),
            leader: posters::leader(&posts),
            bytes: derived("/derivation/bytes"),
            bytes_per_transaction: per_transaction,
            derived: status::number(&drive, SAFE).max(derived(SAFE)),
            agreed: disagreement.is_none(),
            stock,
            skipped: status::number(&drive, "/skipped").unwrap_or(0),
            trouble: disagreement.or_else(|| status::text(&drive, "/trouble")).or_else(|| posters::trouble(&posts)),
        }
    }
}

/// What op-node would be started with.
fn rollup_json(chain_id: u64, begin: u64, l1: B256, l2: B256) -> serde_json::Value {
    let mut scalar = [0; 32];
    // Version 1, and Ecotone's scalars of a cheap chain.
    (scalar[0], scalar[27], scalar[31]) = (1, 7, 5);
    json!({
        "genesis": {
            "l1": { "hash": l1, "number": 0 },
            "l2": { "hash": l2, "number": 0 },
            "l2_time": begin,
            "system_config": {
                "batcherAddr": batcher().address(), "overhead": B256::ZERO, "scalar": B256::from(scalar),
                "gasLimit": 60_000_000,
            },
        },
        "block_time": BLOCK_TIME, "max_sequencer_drift": 600, "seq_window_size": 3_600, "channel_timeout": 300,
        "l1_chain_id": L1_CHAIN, "l2_chain_id": chain_id, "regolith_time": 0, "canyon_time": 0, "delta_time": 0,
        "ecotone_time": 0, "fjord_time": 0, "granite_time": 0, "holocene_time": 0, "isthmus_time": 0,
        "chain_op_config": { "eip1559Elasticity": 6, "eip1559Denominator": 250, "eip1559DenominatorCanyon": 250 },
        "batch_inbox_address": BATCH_INBOX, "deposit_contract_address": PORTAL,
        "l1_system_config_address": SYSTEM_CONFIG,
    })
}
