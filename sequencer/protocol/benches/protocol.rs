//! What does ordering cost: per bundle, per signature, per lane item, and in bytes of proof?
//!
//! `cargo bench -p lockstep-protocol`. Ratios are results; absolute times are remarks about the machine.

#![allow(clippy::print_stdout, reason = "sizes are results too")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

use lockstep_protocol::{
    body::{Body, CheckedBody, CheckedBundle, Facts},
    bundle::{Bundle, SignedBundle},
    ids::RollupId,
    lane::{LaneFollower, LaneItem},
    limits::MAX_ROLLUPS,
    settlement::Level,
    signature::{Batch, verify},
    transition::{apply, build},
    wire::Wire,
};

#[path = "../tests/protocol/fixture.rs"]
mod fixture;

#[path = "../tests/protocol/settlement"]
#[allow(dead_code, reason = "the tests use all of it")]
mod settlement {
    pub(crate) mod chain;
    pub(crate) mod escrow_model;
    pub(crate) mod trie;
    pub(crate) mod world;
}

use fixture::{Network, key, leg};
use settlement::world::World;

/// Bundles of a block in these benches: a block interval's worth at several thousand bundles a second.
const BUNDLES: u64 = 1_000;
/// Accounts that send them.
const ACCOUNTS: u8 = 100;
/// Bytes of a transaction: a signed EIP-1559 transfer with a little calldata.
const TRANSACTION_BYTES: usize = 150;

fn rollups() -> Vec<u64> {
    (1..=MAX_ROLLUPS as u64).collect()
}

/// A network of 64 rollups after its first block.
fn network() -> Network {
    let mut network = Network::new(ACCOUNTS, 1 << 50, &rollups());
    network.advance(vec![], vec![]);
    network
}

/// Two-leg bundles over all rollups; of ed25519 accounts, as market makers will use, or of all.
fn bundles(network: &Network, count: u64, step: u64) -> Vec<SignedBundle> {
    let payload = [7; TRANSACTION_BYTES];
    let with = |number: u64| {
        let index = u8::try_from(number * step % u64::from(ACCOUNTS)).expect("accounts are few");
        let first = 1 + number % 63;
        let legs = vec![leg(first, &[&payload]), leg(first + 1, &[&payload])];
        Bundle { tip: number, legs, ..network.bundle(index, number, &[]) }.sign(&key(index))
    };
    (0..count).map(with).collect()
}

fn transition(c: &mut Criterion) {
    let network = network();
    let bundles = bundles(&network, BUNDLES, 2);
    let checked = CheckedBundle::new_batch(bundles, &network.rules);
    let body = CheckedBody::arrange(vec![], checked.into_iter().map(|bundle| bundle.unwrap()).collect());
    let records = network.stage_for(&body);
    let position = network.position();
    let mut group = c.benchmark_group("transition, 64 lanes, 1,000 two-leg bundles");
    group.throughput(Throughput::Elements(BUNDLES));
    group.bench_function("apply", |b| {
        b.iter(|| apply(&network.rules, &position, black_box(&body), &records).expect("the body is valid"));
    });
    group.bench_function("build", |b| {
        b.iter_batched(|| body.clone(), |body| build(&network.rules, &position, body, &records), BatchSize::LargeInput);
    });
    let wire = body.to_body();
    group.bench_function("check shapes, ids and order", |b| {
        b.iter_batched(
            || wire.clone(),
            |wire| CheckedBody::new(wire, &network.rules, |_, _| true).expect("the body is valid"),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("check shapes, ids, order and signatures", |b| {
        b.iter_batched(
            || wire.clone(),
            |wire| CheckedBody::new(wire, &network.rules, |_, _| false).expect("the body is valid"),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// Settlements of the coordinator's benches: of three accounts, each below its own bound.
const SETTLEMENTS: u64 = 60;

/// What the log does to settle: open them, and commit them on the proof of their last legs.
fn coordinator(c: &mut Criterion) {
    let mut world = World::new(&[10, 901]);
    let bundles: Vec<_> = (0..SETTLEMENTS)
        .map(|number| world.transfer(u8::try_from(number % 3).expect("three accounts"), 10, 901, 1, 200 + number))
        .collect();
    let mut group = c.benchmark_group("coordinator, 60 two-leg settlements in a block");
    group.throughput(Throughput::Elements(SETTLEMENTS));
    let checked = CheckedBundle::new_batch(bundles.clone(), world.rules());
    let body = CheckedBody::arrange(vec![], checked.into_iter().map(|bundle| bundle.expect("it is good")).collect());
    let (records, position) = (world.network.stage_for(&body), world.network.position());
    group.bench_function("open", |b| {
        b.iter(|| apply(world.rules(), &position, black_box(&body), &records).expect("the body is valid"));
    });
    assert!(world.advance(Facts::default(), bundles).left_out.is_empty());
    for settlement in world.intents.keys().copied().collect::<Vec<_>>() {
        world.prepare(&settlement, 10);
        world.prepare(&settlement, 901);
    }
    world.show(10);
    let head = world.certify(901, Level::Executed);
    let observation = world.observe_all(901, Level::Executed, head.head.number).expect("there are legs");
    let facts = Facts { heads: vec![head], observations: vec![observation], ..Facts::default() };
    let body = CheckedBody::default().with_facts(facts, world.rules());
    println!("60 prepared legs at one head: {} bytes of body", body.to_body().to_wire().len());
    let (records, position) = (world.network.stage_for(&body), world.network.position());
    let outcome = apply(world.rules(), &position, &body, &records).expect("the body is valid");
    assert_eq!(outcome.decisions[&RollupId(10)].len() as u64, SETTLEMENTS, "all commit");
    group.bench_function("prove the last leg and commit", |b| {
        b.iter(|| apply(world.rules(), &position, black_box(&body), &records).expect("the body is valid"));
    });
    group.finish();
}

fn codec(c: &mut Criterion) {
    let network = network();
    let bundles = bundles(&network, BUNDLES, 2);
    let signed = &bundles[0];
    let bytes = signed.to_wire();
    println!("two-leg bundle: {} bytes on the wire", bytes.len());
    let mut group = c.benchmark_group("one two-leg bundle");
    group.throughput(Throughput::Elements(1));
    group.bench_function("id", |b| b.iter(|| black_box(&signed.bundle).id()));
    group.bench_function("encode", |b| b.iter(|| black_box(signed).to_wire()));
    group.bench_function("decode", |b| b.iter(|| SignedBundle::from_wire(black_box(&bytes)).expect("a bundle")));
    group.finish();
    let bytes = Body { bundles, ..Body::default() }.to_wire();
    let mut group = c.benchmark_group("a body of 1,000 two-leg bundles");
    group.throughput(Throughput::Elements(BUNDLES));
    group.bench_function("decode", |b| b.iter(|| Body::from_wire(black_box(&bytes)).expect("a body")));
    group.finish();
}

fn signatures(c: &mut Criterion) {
    let network = network();
    for (name, step, offset) in [("ed25519", 2, 0), ("secp256k1", 2, 1)] {
        let mut messages = Vec::new();
        for number in 0..256_u64 {
            let index = u8::try_from((number * step + offset) % u64::from(ACCOUNTS)).expect("accounts are few");
            let bundle = network.bundle(index, number, &[1, 2]);
            let id = bundle.id().0;
            messages.push((bundle.account, id, key(index).sign(&id)));
        }
        let mut group = c.benchmark_group(format!("256 signatures, {name}"));
        group.throughput(Throughput::Elements(256));
        group.bench_function("one by one", |b| {
            b.iter(|| messages.iter().all(|(account, id, signature)| verify(account, id, signature).is_ok()));
        });
        group.bench_function("batch", |b| {
            b.iter(|| {
                let mut batch = Batch::default();
                for (account, id, signature) in &messages {
                    batch.queue(account, id, signature);
                }
                batch.verify().expect("all are good");
            });
        });
        group.finish();
    }
}

fn lanes(c: &mut Criterion) {
    let mut network = network();
    let before = LaneFollower::from_genesis(network.verifier(), RollupId(1));
    let two = bundles(&network, 1, 2);
    let small = network.advance(vec![], two);
    let small = network.item(&small, 1);
    let finality = borsh::object_length(&small.finality).expect("memory");
    let path = borsh::object_length(&small.path).expect("memory");
    let leaf = borsh::object_length(&small.leaf).expect("memory");
    println!("64 rollups: certificate {finality} bytes, path {path} bytes, leaf {leaf} bytes");
    println!(
        "64 rollups: certificate and path {} bytes, with the leaf {} bytes",
        finality + path,
        finality + path + leaf
    );
    let mut network = fixture::Network::new(ACCOUNTS, 1 << 50, &rollups());
    let payload = [7; TRANSACTION_BYTES];
    network.advance(vec![], vec![]);
    let many = (0..BUNDLES)
        .map(|number| {
            let index = u8::try_from(number * 2 % u64::from(ACCOUNTS)).expect("accounts are few");
            Bundle { legs: vec![leg(1, &[&payload])], ..network.bundle(index, number, &[]) }.sign(&key(index))
        })
        .collect();
    let large = network.advance(vec![], many);
    let large = network.item(&large, 1);
    assert_eq!(large.entries.len(), 1_000);
    let mut group = c.benchmark_group("lane item, 64 rollups");
    for (name, item) in [("1 leg", &small), ("1,000 legs", &large)] {
        let bytes = item.to_wire();
        group.bench_function(format!("verify, {name}"), |b| {
            b.iter_batched(
                || before.clone(),
                |mut follower| follower.accept(black_box(item)).expect("the item is good"),
                BatchSize::SmallInput,
            );
        });
        group.bench_function(format!("decode, {name}"), |b| {
            b.iter(|| LaneItem::from_wire(black_box(&bytes)).expect("an item"));
        });
    }
    group.finish();
}

criterion_group!(benches, transition, coordinator, codec, signatures, lanes);
criterion_main!(benches);
