//! Traffic that looks like an exchange's rollup: ERC-20 transfers, approvals and perp orders from a crowd of accounts.
//!
//! Seeded, so that figures repeat. Signatures are random, as real ones look to a compressor.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Signature, TxKind, U256};
use lockstep_adapters::conformance::Seed;

/// Accounts that send; a few of them, the market makers, send half of everything.
const ACCOUNTS: u64 = 5_000;
const MAKERS: u64 = 20;
const TOKENS: u64 = 12;

/// A crowd with its nonces.
pub struct Traffic {
    seed: Seed,
    chain: u64,
    nonces: Vec<u64>,
    addresses: Vec<Address>,
    base_fee: u64,
}

impl Traffic {
    /// A crowd on `chain`.
    pub fn new(seed: u64, chain: u64) -> Self {
        let mut seed = Seed(seed);
        let addresses = (0..ACCOUNTS + TOKENS + 3).map(|_| Address::from(seed.bytes::<20>())).collect();
        let nonces = (0..ACCOUNTS).map(|_| seed.below(2_000)).collect();
        Self { seed, chain, nonces, addresses, base_fee: 12_345_678 }
    }

    /// The next transaction, signed by somebody.
    pub fn transaction(&mut self) -> Vec<u8> {
        let account = self.account();
        let maker = account < MAKERS;
        let kind = self.seed.below(10);
        let (to, gas_limit, input) = match kind {
            _ if maker && kind < 8 => self.order(),
            0..=5 => self.transfer(),
            6 => self.approval(),
            _ => self.order(),
        };
        let nonce = self.nonces[account as usize];
        self.nonces[account as usize] += 1;
        self.base_fee = self.base_fee + self.seed.below(2_001) - 1_000;
        let tip = [0, 1_000_000, 1_500_000, 100_000_000][self.seed.below(4) as usize];
        let transaction = TxEip1559 {
            chain_id: self.chain,
            nonce,
            gas_limit,
            max_fee_per_gas: u128::from(self.base_fee * 2 + tip),
            max_priority_fee_per_gas: u128::from(tip),
            to: TxKind::Call(to),
            value: U256::ZERO,
            access_list: Default::default(),
            input: input.into(),
        };
        let word = |seed: &mut Seed| U256::from_be_bytes(seed.bytes::<32>());
        let signature = Signature::new(word(&mut self.seed), word(&mut self.seed) >> 1, self.seed.below(2) == 1);
        TxEnvelope::from(transaction.into_signed(signature)).encoded_2718()
    }

    fn account(&mut self) -> u64 {
        if self.seed.below(2) == 0 {
            return self.seed.below(MAKERS);
        }
        // The smaller of two draws: some are busier than others.
        self.seed.below(ACCOUNTS).min(self.seed.below(ACCOUNTS))
    }

    fn token(&mut self) -> Address {
        let index = self.seed.below(TOKENS).min(self.seed.below(TOKENS));
        self.addresses[(ACCOUNTS + index) as usize]
    }

    fn someone(&mut self) -> Address {
        let index = self.account();
        self.addresses[index as usize]
    }

    /// Amounts as people type them, or to the last unit.
    fn amount(&mut self) -> U256 {
        let unit = U256::from(10).pow(U256::from(self.seed.below(13)));
        if self.seed.below(3) == 0 {
            U256::from(self.seed.draw() >> 8)
        } else {
            U256::from(self.seed.below(9_999)) * unit
        }
    }

    fn transfer(&mut self) -> (Address, u64, Vec<u8>) {
        let (token, to, amount) = (self.token(), self.someone(), self.amount());
        (
            token,
            [65_000, 60_000, 51_234][self.seed.below(3) as usize],
            call([0xa9, 0x05, 0x9c, 0xbb], &[word(to), amount]),
        )
    }

    fn approval(&mut self) -> (Address, u64, Vec<u8>) {
        let (token, spender) = (self.token(), self.addresses[(ACCOUNTS + TOKENS) as usize]);
        (token, 50_000, call([0x09, 0x5e, 0xa7, 0xb3], &[word(spender), U256::MAX]))
    }

    /// place(market, side, price, size, deadline, client id)
    fn order(&mut self) -> (Address, u64, Vec<u8>) {
        let venue = self.addresses[(ACCOUNTS + TOKENS + 1 + self.seed.below(2)) as usize];
        let market = self.seed.below(30).min(self.seed.below(30));
        let arguments = [
            U256::from(market),
            U256::from(self.seed.below(2)),
            U256::from((50_000 + market * 137) * 100 + self.seed.below(4_000)) * U256::from(10).pow(U256::from(16)),
            U256::from(1 + self.seed.below(500)) * U256::from(10).pow(U256::from(15)),
            U256::from(1_750_000_000 + self.seed.below(60)),
            U256::from(self.seed.draw() >> 32),
        ];
        (venue, 350_000, call([0x5c, 0x19, 0xa9, 0x5c], &arguments))
    }
}

fn word(address: Address) -> U256 {
    U256::from_be_slice(address.as_slice())
}

fn call(selector: [u8; 4], arguments: &[U256]) -> Vec<u8> {
    let mut out = selector.to_vec();
    arguments.iter().for_each(|argument| out.extend_from_slice(&argument.to_be_bytes::<32>()));
    out
}
