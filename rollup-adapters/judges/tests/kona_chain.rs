//! Does kona, given nothing but L1, arrive at the chain that our driver executed and our poster posted, hash by hash?
//!
//! Driver and poster run against an embedded L1 and an embedded execution client. Then kona reads that L1, with its
//! deposits and a change of the system configuration, and a second client executes what kona derives. That the block hashes are
//! equal says that every attribute of every block was: L1-info transactions, deposits, randomness, gas limit, order.

#[path = "../../tests/run/world.rs"]
#[allow(dead_code, reason = "shared with the tests of the adapters")]
mod world;

use std::sync::Arc;

use alloy_consensus::{Header, Receipt, TxEnvelope};
use alloy_eips::BlockNumHash;
use alloy_primitives::{Address, B256, Bytes, Log, LogData, U64, U256, keccak256};
use kona_derive::{
    EthereumDataSource, Pipeline, PipelineBuilder, PipelineErrorKind, ResetSignal, SignalReceiver,
    StatefulAttributesBuilder, StepResult,
};
use kona_genesis::{ChainGenesis, HardForkConfig, RollupConfig, SystemConfig};
use kona_protocol::{BlockInfo, L1BlockInfoTx, L2BlockInfo};
use lockstep_adapters::{
    optimism::engine::{Engine, Forkchoice},
    poster::{FeeConfig, Jwt, Rpc},
};
use lockstep_judges::l1::{Batcher, Chains};
use serde_json::{Value, json};
use world::{
    BEGIN, CHAIN, Client, INBOX, L1_CHAIN, Miner, PORTAL, SYSTEM_CONFIG, TIMEOUT, Wallet, World, hashes, rpc, until,
};

/// An event of the portal that mints a million wei and sends half of it to `to`.
fn deposit(sender: &Wallet, nonce: u64, to: Address) -> Vec<u8> {
    let event = keccak256("TransactionDeposited(address,address,uint256,bytes)");
    let mut opaque = [U256::from(1_000_000).to_be_bytes::<32>(), U256::from(500_000).to_be_bytes::<32>()].concat();
    opaque.extend(100_000_u64.to_be_bytes());
    opaque.push(0);
    opaque.extend([1, 2, 3]);
    let mut call = [event, sender.address.into_word(), to.into_word(), B256::ZERO].concat();
    call.extend(U256::from(32).to_be_bytes::<32>());
    call.extend(U256::from(opaque.len()).to_be_bytes::<32>());
    call.extend(&opaque);
    call.resize(call.len().next_multiple_of(32), 0);
    sender.sign(L1_CHAIN, nonce, PORTAL, 0, call, 300_000)
}

/// An event that changes the system configuration.
fn update(sender: &Wallet, nonce: u64, kind: u64, values: &[U256]) -> Vec<u8> {
    let event = keccak256("ConfigUpdate(uint256,uint8,bytes)");
    let word = |number: u64| B256::from(U256::from(number));
    let mut call = [event, B256::ZERO, word(kind), word(32), word(values.len() as u64 * 32)].concat();
    call.extend(values.iter().flat_map(|value| value.to_be_bytes::<32>()));
    sender.sign(L1_CHAIN, nonce, SYSTEM_CONFIG, 0, call, 300_000)
}

#[tokio::test]
async fn kona_derives_the_posted_chain_and_a_second_client_gets_the_same_hashes() {
    let mut wallets: Vec<Wallet> = (1..4).map(Wallet::new).collect();
    let l1_user = Wallet::new(1);
    let mut world = World::new(&wallets).await;
    let mut nonce = 0;
    for part in 0..5u8 {
        let raws = match part {
            0..3 => vec![
                deposit(&l1_user, nonce, Address::repeat_byte(0x40 + part)),
                deposit(&l1_user, nonce + 1, Address::repeat_byte(0x50 + part)),
            ],
            3 => vec![
                update(&l1_user, nonce, 2, &[U256::from(50_000_000)]),
                update(&l1_user, nonce + 1, 4, &[U256::from(100_u64 << 32 | 4)]),
            ],
            _ => vec![
                update(&l1_user, nonce, 1, &[U256::ZERO, (U256::from(1) << 248) | U256::from(70_u64 << 32 | 50)]),
                update(&l1_user, nonce + 1, 5, &[U256::from(11_u128 << 64 | 13)]),
            ],
        };
        for raw in &raws {
            world.send_l1(raw).await;
        }
        nonce += raws.len() as u64;
        world
            .pass(30, |height| {
                let wallet = &mut wallets[(height % 3) as usize];
                match height % 5 {
                    0 => vec![wallet.transfer(), wallet.transfer()],
                    // Garbage, which must leave no trace.
                    1 => vec![wallet.sign(CHAIN, wallet.nonce + 9, INBOX, 1, vec![], 21_000), wallet.transfer()],
                    _ => vec![],
                }
            })
            .await;
    }
    let client = world.client().await;
    let driver = world.drive_directly(&client);
    world.wait_for_head(&client).await;
    let miner = Miner::start(&world.l1);
    let poster = world.post(&client, &world.l1.rpc_url(), FeeConfig::default()).await;
    until("all is posted", || poster.service.status().derivation.safe.number == world.target()).await;
    poster.stop().await;
    driver.stop().await;
    miner.stop().await;

    let chains = read_l1(&world).await;
    let second = world.client().await;
    let derived = derive(&world, &chains, &second).await;
    assert_eq!(derived as u64, world.target());
    assert_eq!(hashes(&second), hashes(&client));
    assert_eq!(client.node.head().header.gas_limit, 50_000_000, "the configuration changed on the way");
    for part in 0..3 {
        assert_eq!(client.node.state().balance(Address::repeat_byte(0x50 + part)), U256::from(500_000));
    }
}

/// The whole L1, as kona's types have it.
async fn read_l1(world: &World) -> Chains {
    let chains = Chains::new(&Batcher::default());
    let l1 = rpc(&world.l1.rpc_url());
    for number in 0..=world.l1.head().header.number {
        let block: Value = l1.call("eth_getBlockByNumber", &[json!(U64::from(number)), json!(true)]).await.expect("L1");
        let header: Header = serde_json::from_value(block.clone()).expect("a header");
        assert_eq!(json!(header.hash_slow()), block["hash"], "a header says everything that its hash covers");
        let transactions: Vec<TxEnvelope> =
            serde_json::from_value(block["transactions"].clone()).expect("transactions");
        let receipts: Vec<Value> = l1.call("eth_getBlockReceipts", &[json!(U64::from(number))]).await.expect("L1");
        let receipts = receipts.iter().map(|receipt| {
            let logs = receipt["logs"].as_array().expect("a list").iter().map(|log| {
                let topics: Vec<B256> = serde_json::from_value(log["topics"].clone()).expect("topics");
                let data: Bytes = serde_json::from_value(log["data"].clone()).expect("data");
                let address = serde_json::from_value(log["address"].clone()).expect("an address");
                Log { address, data: LogData::new(topics, data).expect("four topics or fewer") }
            });
            Receipt { status: true.into(), cumulative_gas_used: 0, logs: logs.collect() }
        });
        chains.take(header, transactions, receipts.collect());
    }
    chains
}

fn rollup_config(world: &World) -> RollupConfig {
    let zero = Some(0);
    let genesis = &world.rollup.genesis;
    RollupConfig {
        genesis: ChainGenesis {
            l1: BlockNumHash { number: genesis.l1.number, hash: genesis.l1.hash },
            l2: BlockNumHash { number: genesis.l2.number, hash: genesis.l2.hash },
            l2_time: BEGIN,
            system_config: Some(system_config(world)),
        },
        block_time: 2,
        max_sequencer_drift: 600,
        seq_window_size: 3_600,
        channel_timeout: 300,
        l1_chain_id: L1_CHAIN,
        l2_chain_id: CHAIN.into(),
        hardforks: HardForkConfig {
            regolith_time: zero,
            canyon_time: zero,
            delta_time: zero,
            ecotone_time: zero,
            fjord_time: zero,
            granite_time: zero,
            holocene_time: zero,
            isthmus_time: zero,
            ..Default::default()
        },
        batch_inbox_address: INBOX,
        deposit_contract_address: PORTAL,
        l1_system_config_address: SYSTEM_CONFIG,
        ..Default::default()
    }
}

fn system_config(world: &World) -> SystemConfig {
    let system = world.rollup.system();
    SystemConfig {
        batcher_address: system.batcher,
        scalar: U256::from_be_bytes(world.rollup.genesis.system_config.scalar.0),
        gas_limit: system.gas_limit,
        base_fee_scalar: Some(system.base_fee_scalar.into()),
        blob_base_fee_scalar: Some(system.blob_base_fee_scalar.into()),
        eip1559_denominator: Some(0),
        eip1559_elasticity: Some(0),
        operator_fee_scalar: Some(0),
        operator_fee_constant: Some(0),
        ..Default::default()
    }
}

/// Has `client` execute what kona derives, until L1 ends. Returns how many blocks that were.
async fn derive(world: &World, chains: &Chains, client: &Client) -> usize {
    let chains = chains.clone();
    let config = Arc::new(rollup_config(world));
    let mut system = system_config(world);
    chains.configure(0, system);
    let start = chains.l1_block(0).expect("L1 begins");
    let mut safe = L2BlockInfo {
        block_info: BlockInfo {
            hash: config.genesis.l2.hash,
            number: 0,
            parent_hash: client.node.genesis().header.parent_hash,
            timestamp: BEGIN,
        },
        l1_origin: start.id(),
        seq_num: 0,
    };
    chains.advance(safe);
    let mut pipeline = PipelineBuilder::new()
        .rollup_config(config.clone())
        .dap_source(EthereumDataSource::new_from_parts(chains.clone(), chains.clone(), &config))
        .l2_chain_provider(chains.clone())
        .chain_provider(chains.clone())
        .builder(StatefulAttributesBuilder::new(config.clone(), chains.clone(), chains.clone()))
        .origin(start)
        .build_polled();
    let reset = ResetSignal { l2_safe_head: safe, l1_origin: start, system_config: Some(system) };
    pipeline.signal(reset.signal()).await.expect("the pipeline starts");
    let jwt = Jwt::parse(&B256::repeat_byte(7).to_string()).expect("a secret");
    let engine = Engine::new(Rpc::new(&client.engine, TIMEOUT, Some(jwt)).expect("a URL"));
    let mut derived = 0;
    loop {
        match pipeline.step(safe).await {
            StepResult::PreparedAttributes => {}
            StepResult::AdvancedOrigin => continue,
            StepResult::OriginAdvanceErr(PipelineErrorKind::Temporary(_)) => return derived,
            StepResult::StepFailed(PipelineErrorKind::Temporary(_)) => continue,
            StepResult::OriginAdvanceErr(error) | StepResult::StepFailed(error) => {
                panic!("derivation fails: {error:?}")
            }
        }
        for attributes in pipeline.by_ref() {
            let inner = &attributes.inner;
            let fields = &inner.payload_attributes;
            let root = fields.parent_beacon_block_root.expect("since Ecotone");
            let json = json!({
                "timestamp": U64::from(fields.timestamp),
                "prevRandao": fields.prev_randao,
                "suggestedFeeRecipient": fields.suggested_fee_recipient,
                "withdrawals": [],
                "parentBeaconBlockRoot": root,
                "transactions": inner.transactions,
                "noTxPool": inner.no_tx_pool,
                "gasLimit": inner.gas_limit.map(U64::from),
                "eip1559Params": inner.eip_1559_params,
            });
            let head = safe.block_info.hash;
            let payload = engine.make(&Forkchoice { head, ..Default::default() }, json, true).await.expect("a block");
            engine.take(&payload, root).await.expect("it is valid");
            let hash: B256 = serde_json::from_value(payload.json["blockHash"].clone()).expect("a hash");
            engine.update(&Forkchoice { head: hash, ..Default::default() }).await.expect("it is the head");
            let transactions = inner.transactions.as_ref().expect("derived attributes have transactions");
            let l1_info = l1_info(&transactions[0]);
            let info = l1_info.id();
            safe = L2BlockInfo {
                block_info: BlockInfo {
                    hash,
                    number: safe.block_info.number + 1,
                    parent_hash: head,
                    timestamp: fields.timestamp,
                },
                l1_origin: info,
                seq_num: if info.number == safe.l1_origin.number { safe.seq_num + 1 } else { 0 },
            };
            // A chain carries its configuration along.
            system.scalar = (U256::from(1) << 248) | (l1_info.blob_base_fee_scalar() << 32) | l1_info.l1_fee_scalar();
            system.operator_fee_scalar = Some(l1_info.operator_fee_scalar());
            system.operator_fee_constant = Some(l1_info.operator_fee_constant());
            system.gas_limit = inner.gas_limit.expect("always set");
            let params = inner.eip_1559_params.expect("since Holocene");
            system.eip1559_denominator = Some(u32::from_be_bytes(params.0[..4].try_into().expect("four bytes")));
            system.eip1559_elasticity = Some(u32::from_be_bytes(params.0[4..].try_into().expect("four bytes")));
            chains.configure(safe.block_info.number, system);
            chains.advance(safe);
            derived += 1;
        }
    }
}

fn l1_info(deposit: &[u8]) -> L1BlockInfoTx {
    let envelope =
        <op_alloy_consensus::OpTxEnvelope as alloy_eips::eip2718::Decodable2718>::decode_2718(&mut &*deposit)
            .expect("kona wrote a deposit");
    let deposit = envelope.as_deposit().expect("the L1 info is a deposit");
    L1BlockInfoTx::decode_calldata(&deposit.input).expect("L1 info")
}
