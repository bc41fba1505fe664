//! What does every account hold after a block, and how does the EVM read and change it?
//!
//! [`State`] is a trie of accounts, each with its code and its trie of slots: a clone is a pointer, so every recent block keeps
//! its own. [`View`] is a state that a block or a call runs on. Neither executes anything: see `execute.rs`.

use crate::trie::{Trie, Value};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Encodable;
use alloy_trie::{KECCAK_EMPTY, TrieAccount};
use revm::{
    Database, DatabaseCommit,
    bytecode::Bytecode,
    primitives::AddressMap,
    state::{AccountInfo, EvmStorage},
};
use std::{convert::Infallible, sync::Arc};

/// All accounts after a block.
#[derive(Clone, Debug, Default)]
pub struct State {
    accounts: Trie<Account>,
}

/// One account: its record in the state trie, with what that record commits to.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    pub(crate) code_hash: B256,
    pub(crate) code: Bytecode,
    pub(crate) storage: Trie<U256>,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            nonce: 0,
            balance: U256::ZERO,
            code_hash: KECCAK_EMPTY,
            code: Bytecode::default(),
            storage: Trie::default(),
        }
    }
}

impl Value for Account {
    fn encode_value(&self) -> Vec<u8> {
        let mut rlp = Vec::with_capacity(110);
        self.record().encode(&mut rlp);
        rlp
    }
}

impl Account {
    fn record(&self) -> TrieAccount {
        TrieAccount {
            nonce: self.nonce,
            balance: self.balance,
            storage_root: self.storage.root(),
            code_hash: self.code_hash,
        }
    }

    fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balance.is_zero() && self.code_hash == KECCAK_EMPTY
    }
}

/// An account and some of its slots, each with the trie nodes that prove it (EIP-1186).
#[derive(Clone, Debug)]
pub struct AccountProof {
    /// The account as the state root commits to it; the empty account when there is none.
    pub account: TrieAccount,
    /// Nodes from the state root towards the account.
    pub nodes: Vec<Bytes>,
    /// For each slot asked for: the slot, its value and the nodes from the storage root towards it.
    pub slots: Vec<(B256, U256, Vec<Bytes>)>,
}

impl State {
    /// The state root.
    pub fn root(&self) -> B256 {
        self.accounts.root()
    }

    /// The nonce of an account; zero when there is none.
    pub fn nonce(&self, address: Address) -> u64 {
        self.account(address).map_or(0, |account| account.nonce)
    }

    /// The balance of an account in wei.
    pub fn balance(&self, address: Address) -> U256 {
        self.account(address).map_or(U256::ZERO, |account| account.balance)
    }

    /// The code of an account.
    pub fn code(&self, address: Address) -> Bytes {
        self.account(address).map_or_else(Bytes::new, |account| account.code.original_bytes())
    }

    /// The value of a storage slot.
    pub fn storage(&self, address: Address, slot: U256) -> U256 {
        let slot = keccak256(slot.to_be_bytes::<32>());
        self.account(address).and_then(|account| account.storage.get(&slot)).copied().unwrap_or_default()
    }

    /// The root of an account's storage trie.
    pub fn storage_root(&self, address: Address) -> B256 {
        self.account(address).map_or(alloy_trie::EMPTY_ROOT_HASH, |account| account.storage.root())
    }

    /// Proves an account and some of its slots against [`State::root`].
    pub fn prove(&self, address: Address, slots: &[B256]) -> AccountProof {
        let key = keccak256(address);
        let account = self.accounts.get(&key).cloned().unwrap_or_default();
        let slots = slots.iter().map(|slot| {
            let key = keccak256(slot);
            (*slot, account.storage.get(&key).copied().unwrap_or_default(), account.storage.prove(&key))
        });
        AccountProof { slots: slots.collect(), account: account.record(), nodes: self.accounts.prove(&key) }
    }

    /// Puts an account there, as a genesis does.
    pub(crate) fn put(&mut self, key: B256, account: Account) {
        if account.is_empty() {
            self.accounts.remove(&key);
        } else {
            self.accounts.insert(&key, account);
        }
    }

    /// Adds wei to an account from outside of any transaction (EIP-4895).
    pub(crate) fn credit(&mut self, address: Address, wei: U256) {
        let key = keccak256(address);
        let mut account = self.accounts.get(&key).cloned().unwrap_or_default();
        account.balance = account.balance.saturating_add(wei);
        self.put(key, account);
    }

    pub(crate) fn account(&self, address: Address) -> Option<&Account> {
        self.accounts.get(&keccak256(address))
    }

    /// Every account under the hash of its address.
    pub(crate) fn for_each(&self, visit: &mut impl FnMut(B256, &Account)) {
        self.accounts.for_each(visit);
    }

    fn apply(&mut self, address: Address, changed: revm::state::Account) {
        if !changed.is_touched() {
            return;
        }
        let key = keccak256(address);
        // EIP-161: an account that a transaction leaves empty is no account.
        if changed.is_selfdestructed() || changed.is_empty() {
            return self.accounts.remove(&key);
        }
        match self.accounts.get_mut(&key) {
            Some(account) => {
                // A contract created here starts with no slots, whatever stood at its address before.
                if changed.is_created() {
                    account.storage = Trie::default();
                }
                set(account, changed.info, changed.storage);
            }
            None => {
                let mut account = Account::default();
                set(&mut account, changed.info, changed.storage);
                self.accounts.insert(&key, account);
            }
        }
    }
}

fn set(account: &mut Account, info: AccountInfo, storage: EvmStorage) {
    account.nonce = info.nonce;
    account.balance = info.balance;
    if account.code_hash != info.code_hash {
        account.code_hash = info.code_hash;
        account.code = info.code.unwrap_or_default();
    }
    for (slot, value) in storage {
        if value.is_changed() {
            let slot = keccak256(slot.to_be_bytes::<32>());
            if value.present_value.is_zero() {
                account.storage.remove(&slot);
            } else {
                account.storage.insert(&slot, value.present_value);
            }
        }
    }
}

/// A state to run a block or a call on, with the hashes that `BLOCKHASH` may ask for.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) ancestors: Ancestors,
}

/// The hashes of the blocks before the one that runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ancestors {
    /// The number of the newest, which is the parent.
    pub(crate) parent: u64,
    /// From the parent backwards, at most as many as `BLOCKHASH` reaches.
    pub(crate) hashes: Arc<[B256]>,
}

impl Database for View {
    type Error = Infallible;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        Ok(self.state.account(address).map(|account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            code: Some(account.code.clone()),
            ..AccountInfo::default()
        }))
    }

    fn code_by_hash(&mut self, _: B256) -> Result<Bytecode, Infallible> {
        unreachable!("`basic` always carries the code")
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.state.storage(address, slot))
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Infallible> {
        let back = self.ancestors.parent.checked_sub(number).and_then(|back| usize::try_from(back).ok());
        Ok(back.and_then(|back| self.ancestors.hashes.get(back)).copied().unwrap_or_default())
    }
}

impl DatabaseCommit for View {
    fn commit(&mut self, changes: AddressMap<revm::state::Account>) {
        for (address, account) in changes {
            self.state.apply(address, account);
        }
    }
}
