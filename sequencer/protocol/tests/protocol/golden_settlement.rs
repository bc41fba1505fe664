//! The golden vectors of settlements: ids that contracts recompute, what is signed, slots, chains and records.

use serde_json::{Value, json};

use lockstep_protocol::{
    bundle::{Bundle, Kind},
    hex::encode,
    ids::{Account, Address20, AssetId, Hash32, Height, NetworkId, RollupId, SettlementId},
    settlement::{
        Abort, AbortReason, Claim, DecidedLeg, Decision, Head, HeadAttestation, HeadCertificate, Intent, LaneDecision,
        Lease, Level, MarginTransfer, Observation, SettlementLeg, Side, Subject, Void, decision,
        head::{Ed25519Bytes, HeadSignature},
        proof::ProofNode,
        records::*,
    },
    signature::{AccountKey, Signature},
    state::Stored,
    wire::Wire,
};

use crate::{
    fixture::{key, leg},
    golden::hashed,
};

fn network() -> NetworkId {
    NetworkId::from_name("lockstep-test-1")
}

fn intent(account: Account, legs: usize) -> Intent {
    let leg = |index: u8| SettlementLeg {
        rollup: RollupId([10, 42_161][usize::from(index % 2)]),
        escrow: Address20([0xe0 + index; 20]),
        account: Address20([0xa0 + index; 20]),
        asset: AssetId::from_symbol("USDC"),
        side: [Side::Debit, Side::Credit][usize::from(index % 2)],
        amount: [u128::from(u64::MAX) + 5, 250_000_000][usize::from(index / 2 % 2)],
        level: Level::ALL[usize::from(index / 2 % 3)],
    };
    let legs = (0..legs).map(|index| leg(u8::try_from(index).expect("legs are few"))).collect();
    Intent { account, nonce: 7, transfer: MarginTransfer { legs, deadline: Height(1_234) } }
}

fn sid(intent: &Intent) -> Value {
    let settlement = intent.sid(network());
    let slots: Vec<_> = (0..intent.transfer.legs.len())
        .map(|leg| Subject::Leg { settlement, leg: u8::try_from(leg).expect("legs are few") }.slot())
        .collect();
    json!({
        "network": network(),
        "account": intent.account.word(),
        "json": intent,
        "borsh": encode(&borsh::to_vec(intent).expect("memory")),
        "sid": settlement,
        "slots": slots,
    })
}

fn head() -> Head {
    Head {
        rollup: RollupId(10),
        level: Level::Safe,
        number: 77,
        block_hash: Hash32([1; 32]),
        state_root: Hash32([2; 32]),
        incarnation: 3,
    }
}

fn signed(index: u8, digest: &Hash32) -> Signature {
    key(index).sign(&digest.0)
}

fn heads() -> Value {
    let AccountKey::Ed25519(_) = key(0) else { panic!("even keys are ed25519") };
    let Account::Ed25519(validator) = key(0).account() else { panic!("even keys are ed25519") };
    let digest = head().digest(network(), &validator);
    let Signature::Ed25519(bytes) = signed(0, &digest) else { panic!("even keys are ed25519") };
    let signature = Ed25519Bytes(bytes);
    let attestation = HeadAttestation { head: head(), validator: 0, signature };
    let signatures = vec![HeadSignature { validator: 0, signature }, HeadSignature { validator: 2, signature }];
    json!({
        "key": validator,
        "digest": hashed("lockstep/head/v1", &(network(), validator, head()), digest),
        "signature": signature,
        "attestation": { "json": attestation, "wire": encode(&attestation.to_wire()) },
        "certificate": encode(&HeadCertificate { head: head(), signatures }.to_wire()),
    })
}

fn entries(settlement: SettlementId) -> Value {
    let lease =
        Lease { network: network(), rollup: RollupId(10), holder: key(1).account(), until: Height(500) }.sign(&key(1));
    let abort = Abort { network: network(), account: key(0).account(), settlement }.sign(&key(0));
    let claims = vec![
        Claim { subject: Subject::Leg { settlement, leg: 1 }, proof: vec![ProofNode(vec![0xc1, 2])] },
        Claim { subject: Subject::Deposit { account: key(0).account() }, proof: vec![] },
    ];
    let observation = Observation {
        rollup: RollupId(10),
        level: Level::Final,
        number: 77,
        contract: Address20([0xe0; 20]),
        account_proof: vec![ProofNode(vec![0xc1, 1])],
        claims,
    };
    let void = Void {
        intent: intent(key(1).account(), 2),
        leg: 1,
        level: Level::Executed,
        number: 78,
        account_proof: vec![ProofNode(vec![0xc1, 3])],
        proof: vec![],
    };
    json!({
        "lease": {
            "json": lease,
            "digest": hashed("lockstep/lease/v1", &lease.lease, lease.lease.digest()),
            "wire": encode(&lease.to_wire()),
        },
        "abort": {
            "json": abort,
            "digest": hashed("lockstep/abort/v1", &abort.abort, abort.abort.digest()),
            "wire": encode(&abort.to_wire()),
        },
        "observation": { "json": observation, "wire": encode(&observation.to_wire()) },
        "void": { "json": void, "wire": encode(&void.to_wire()) },
    })
}

fn chain(settlement: SettlementId) -> Value {
    let commit = decision::chain(Hash32::default(), settlement, 1);
    let abort = decision::chain(commit, SettlementId([9; 32]), 2);
    let decided =
        LaneDecision { settlement, outcome: 1, legs: vec![DecidedLeg { index: 0, escrow: Address20([0xe0; 20]) }] };
    json!({
        "settlements": [settlement, SettlementId([9; 32])],
        "outcomes": [1, 2],
        "chain": [commit, abort],
        "decision": { "json": decided, "borsh": encode(&borsh::to_vec(&decided).expect("memory")) },
    })
}

fn records(settlement: SettlementId) -> Value {
    let account = key(0).account();
    let record = |key: [u8; 32], record: [u8; 256]| json!({ "key": encode(&key), "record": encode(&record) });
    let decided = Decided { decision: Decision::Abort(AbortReason::Refused), height: Height(60) };
    let legs = vec![
        LegRecord { rollup: 0, escrow: 1, level: Level::Executed, seen: Seen::Refused, incarnation: 3 },
        LegRecord { rollup: FOREIGN, escrow: 0, level: Level::Final, seen: Seen::Nothing, incarnation: 0 },
    ];
    let settled = SettlementRecord {
        account,
        nonce: 7,
        deadline: Height(1_234),
        decided: Some(decided),
        settled: false,
        late: 1,
        legs,
        flows: vec![FlowRecord { corridor: 4, amount: 1 << 70 }],
    };
    let rollup = RollupRecord {
        incarnation: 3,
        latest: [Some(80), Some(77), None],
        seen_at: Height(61),
        quarantined_until: Height(300),
        late: 1,
        shortfalls: 2,
    };
    let mut under_way = [0; 15];
    under_way[4] = 1 << 70;
    let mut amounts = [0; 8];
    amounts[0] = 1 << 70;
    let due = DuePage { deadline: Height(1_234), count: 4, entries: vec![Due { settlement, account }] };
    json!({
        "settlement": record(settlement_key(&settlement), settled.to_record()),
        "rollup": record(rollup_key(RollupId(10)), rollup.to_record()),
        "head": record(
            head_key(RollupId(10), Level::Safe, 333),
            HeadRecord { head: Head { number: 333, ..head() }, height: Height(61) }.to_record(),
        ),
        "exposure": record(exposure_key(0), ExposurePage { under_way }.to_record()),
        "inFlight": record(in_flight_key(&account), InFlightRecord { open: 1, amounts }.to_record()),
        "due": record(due_key(Height(1_234), 1), due.to_record()),
        "lease": record(
            lease_key(RollupId(10)),
            LeaseRecord { holder: account, until: Height(500), term: 2 }.to_record(),
        ),
        "deposit": record(deposit_key(RollupId(10), &account), DepositRecord { credited: 500 }.to_record()),
    })
}

fn bundle() -> Value {
    let intent = intent(key(0).account(), 2);
    let bundle = Bundle {
        network: network(),
        account: intent.account,
        nonce: intent.nonce,
        tag: lockstep_protocol::bundle::Tag(*b"golden vector 02"),
        valid_until: Height(1_200),
        tip: 5,
        max_fee: 5_000,
        legs: vec![leg(10, &[b"\x02prepare"]), leg(42_161, &[b"\x02prepare too"])],
        kind: Kind::Settlement(intent.transfer),
    };
    let signed = bundle.sign(&key(0));
    json!({
        "json": signed,
        "id": hashed("lockstep/bundle/v1", &signed.bundle, Hash32(signed.bundle.id().0)),
        "sid": signed.bundle.settlement(),
        "wire": encode(&signed.to_wire()),
    })
}

/// The content of `settlement.json`.
pub(crate) fn file() -> Value {
    let intents = [intent(key(0).account(), 2), intent(key(1).account(), 8), intent(key(1).account(), 0)];
    let settlement = intents[0].sid(network());
    let deposits = [0, 1].map(|index| {
        let account = key(index).account();
        json!({ "account": account, "word": account.word(), "slot": Subject::Deposit { account }.slot() })
    });
    json!({
        "intents": intents.iter().map(sid).collect::<Vec<_>>(),
        "deposits": deposits,
        "bundle": bundle(),
        "head": heads(),
        "entries": entries(settlement),
        "decisions": chain(settlement),
        "records": records(settlement),
    })
}
