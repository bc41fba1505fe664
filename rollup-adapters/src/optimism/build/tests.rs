//! Is exactly what is invalid skipped, whatever kind of client is asked?

use std::cell::Cell;

use serde_json::json;

use super::*;
use crate::conformance::Seed;

/// A client in memory: transactions are (account, nonce), and an account's nonces must come in order.
struct Client<'a> {
    candidates: &'a [Vec<u8>],
    leaves_out: bool,
    names: bool,
    asked: Cell<usize>,
    fails_at: usize,
}

const DEPOSIT: [u8; 2] = [0x7e, 0];

impl Client<'_> {
    fn make(&self, asked: &[usize]) -> Result<Payload, EngineError> {
        self.asked.set(self.asked.get() + 1);
        if self.asked.get() == self.fails_at {
            return Err(EngineError::Syncing);
        }
        let mut nonces = [0; 256];
        let mut held = vec![Bytes::copy_from_slice(&DEPOSIT)];
        for index in asked {
            let bytes = &self.candidates[*index];
            if nonces[bytes[0] as usize] == bytes[1] {
                nonces[bytes[0] as usize] += 1;
                held.push(Bytes::copy_from_slice(bytes));
            } else if !self.leaves_out {
                let named = if self.names { format!("tx: {}", keccak256(bytes)) } else { "a transaction".into() };
                return Err(EngineError::Attributes(format!("failed to force-include {named}: nonce")));
            }
        }
        let json = json!({
            "blockHash": B256::ZERO, "blockNumber": "0x1", "parentHash": B256::ZERO, "timestamp": "0x1",
            "stateRoot": B256::ZERO, "gasUsed": "0x1", "transactions": held,
        });
        Ok(Payload::of(json))
    }
}

#[tokio::test]
async fn clients_that_leave_out_and_clients_that_refuse_lead_to_the_same_block() {
    for seed in 0..200 {
        let mut draw = Seed(seed);
        let count = draw.below(60);
        // Distinct bytes, as signed transactions are.
        let candidates: Vec<Vec<u8>> =
            (0..count).map(|index| vec![draw.below(4) as u8, draw.below(5) as u8, index as u8]).collect();
        let deposits = [DEPOSIT.to_vec()];
        let mut results = vec![];
        let mut asked = vec![];
        for (leaves_out, names) in [(true, false), (false, true), (false, false)] {
            let client = Client { candidates: &candidates, leaves_out, names, asked: Cell::new(0), fails_at: 0 };
            let built =
                build(&deposits, &candidates, usize::MAX, |indexes| std::future::ready(client.make(&indexes))).await;
            let built = built.expect("the client is well");
            results.push((built.invalid, built.block.transactions));
            asked.push(client.asked.get());
        }
        assert!(results.iter().all(|result| *result == results[0]), "seed {seed}");
        let invalid = results[0].0.len();
        assert_eq!(asked[0], 1);
        assert!(asked[1] <= 3 + invalid * 3 && asked[2] <= 3 + invalid * 8, "seed {seed}: {asked:?} for {invalid}");
    }
}

#[tokio::test]
async fn a_block_ends_before_the_last_that_may_be_invalid() {
    // Every second one is invalid.
    let candidates: Vec<Vec<u8>> =
        (0..200).map(|index| vec![0, if index % 2 == 0 { index / 2 } else { 255 }, index]).collect();
    for (most, names) in [(1, true), (4, true), (4, false)] {
        let client = Client { candidates: &candidates, leaves_out: false, names, asked: Cell::new(0), fails_at: 0 };
        let built =
            build(&[DEPOSIT.to_vec()], &candidates, most, |asked| std::future::ready(client.make(&asked))).await;
        let built = built.expect("the client is well");
        assert_eq!(built.invalid, (0..most).map(|index| index * 2 + 1).collect::<Vec<_>>());
        assert_eq!(built.included, (0..most).map(|index| index * 2).collect::<Vec<_>>());
        assert_eq!(built.block.transactions.len(), 1 + most);
    }
}

#[tokio::test]
async fn trouble_of_the_client_blames_no_transaction() {
    let candidates: Vec<Vec<u8>> = (0..20).map(|index| vec![0, index % 7, index]).collect();
    for fails_at in 1..20 {
        let client = Client { candidates: &candidates, leaves_out: false, names: false, asked: Cell::new(0), fails_at };
        let built =
            build(&[DEPOSIT.to_vec()], &candidates, usize::MAX, |asked| std::future::ready(client.make(&asked))).await;
        assert!(matches!(built, Err(EngineError::Syncing)), "asked {fails_at} times");
    }
}

#[tokio::test]
async fn a_block_that_is_not_what_was_asked_for_is_no_answer() {
    let candidates = vec![vec![0, 0, 0], vec![0, 1, 0]];
    let client = Client { candidates: &candidates, leaves_out: true, names: false, asked: Cell::new(0), fails_at: 0 };
    let swapped = |asked: Vec<usize>| {
        let mut payload = client.make(&asked).expect("a payload");
        payload.json["transactions"].as_array_mut().expect("a list").swap(1, 2);
        std::future::ready(Ok(payload))
    };
    assert!(matches!(build(&[DEPOSIT.to_vec()], &candidates, 9, swapped).await, Err(EngineError::Answer(_))));
    let other = build(&[vec![0x7e, 9]], &candidates, 9, |asked| std::future::ready(client.make(&asked))).await;
    assert!(matches!(other, Err(EngineError::Answer(_))), "the deposits are missing");
    // A client that refuses even an empty block is in trouble itself.
    let refuses = |_| std::future::ready(Err(EngineError::Attributes("no".into())));
    assert!(matches!(build(&[DEPOSIT.to_vec()], &candidates, 9, refuses).await, Err(EngineError::Attributes(_))));
}
