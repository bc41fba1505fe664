//! Which chain does this validator's own rollup node show?
//!
//! The newest blocks, linked by their parents, and some older ones that were asked for by number. A pure memory: `node.rs`
//! asks the node.

use std::collections::BTreeMap;

use lockstep_protocol::ids::Hash32;

/// Linked blocks that are remembered: some minutes at ten a second. Older ones are asked for again.
const BLOCKS_MAX: usize = 4_096;
/// Older blocks that are remembered: those of all heads that the log keeps of a rollup, and as many again.
const OLDER_MAX: usize = 2_048;

/// A block of a rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) number: u64,
    pub(crate) hash: Hash32,
    pub(crate) parent: Hash32,
    pub(crate) state_root: Hash32,
}

/// What is known of the node's chain.
#[derive(Default)]
pub(crate) struct Chain {
    /// By number, without gaps, each the parent of the next.
    linked: BTreeMap<u64, Block>,
    /// Below them. Of the same chain, as far as the node tells.
    older: BTreeMap<u64, Block>,
}

impl Chain {
    /// The newest block.
    pub(crate) fn tip(&self) -> Option<&Block> {
        self.linked.last_key_value().map(|(_, block)| block)
    }

    /// The block of a number, as far as it is known.
    pub(crate) fn at(&self, number: u64) -> Option<&Block> {
        self.linked.get(&number).or_else(|| self.older.get(&number))
    }

    /// The lowest linked number.
    pub(crate) fn lowest(&self) -> u64 {
        self.linked.first_key_value().map_or(0, |(number, _)| *number)
    }

    /// Whether the parent of `child` is linked already.
    pub(crate) fn joins(&self, child: &Block) -> bool {
        let before = child.number.checked_sub(1).and_then(|number| self.linked.get(&number));
        before.is_some_and(|block| block.hash == child.parent)
    }

    /// Takes blocks from the newest down, each followed by its parent. Returns whether known blocks were replaced by others.
    pub(crate) fn extend(&mut self, fresh: &[Block]) -> bool {
        let Some(lowest) = fresh.last() else { return false };
        let joins = self.joins(lowest);
        let gone = self.linked.split_off(&lowest.number);
        let mut replaced = false;
        if !joins {
            // What is below cannot be told to be of the same chain.
            replaced = lowest.number > 0 && self.linked.contains_key(&(lowest.number - 1));
            self.linked.clear();
            self.older.clear();
        }
        self.linked.extend(fresh.iter().map(|block| (block.number, *block)));
        replaced |= gone.iter().any(|(number, block)| self.linked.get(number).is_some_and(|now| now != block));
        while self.linked.len() > BLOCKS_MAX {
            let (number, block) = self.linked.pop_first().expect("there are many");
            self.older.insert(number, block);
        }
        while self.older.len() > OLDER_MAX {
            self.older.pop_first();
        }
        replaced
    }

    /// Notes a block below the linked ones.
    pub(crate) fn note(&mut self, block: Block) {
        if block.number < self.lowest() {
            self.older.insert(block.number, block);
        }
    }
}
