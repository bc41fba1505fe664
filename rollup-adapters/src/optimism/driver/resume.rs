//! Where does a driver go on: after a start, and after L1 took back what its head stands on?
//!
//! At the client's head, or at the last block before it whose L1 origin is still there. Where that is in the lane, the file of places
//! says (`places.rs`), or the lane is counted through the client's blocks from the last place that is known, at worst from where the
//! chain joined. Only blocks that can hold something of the lane are looked at: counting takes the time in which the lane is read.

use std::collections::HashSet;

use alloy_primitives::{B256, keccak256};

use super::{Driver, DriverError, Forkchoice, L1_BEFORE_HEAD, State, place_of};
use crate::{LaneCursor, NativeBlock, optimism::chain::L2Block, poster::L1Chain};

impl Driver {
    /// Finds the client's head, and its place in the lane.
    pub(super) async fn resume(&mut self) -> Result<(), DriverError> {
        let head = self.chain.head().await?;
        self.lost |= head.number < self.told;
        let cursor = self.find(&head).await?;
        self.begin_l1(head.info.origin.number);
        self.service.update(|status| status.resumed += 1);
        tracing::info!(number = head.number, hash = %head.hash, lane_ms = cursor.ms, "driving on from the client's head");
        self.told(&head, self.feed.height().0);
        self.state = Some(State { head, cursor, told: Forkchoice::default() });
        Ok(())
    }

    fn begin_l1(&mut self, origin: u64) {
        let first = origin.saturating_sub(L1_BEFORE_HEAD).max(self.rollup.genesis.l1.number);
        if self.l1_chain.last().is_none() || self.l1_chain.get(origin).is_none() {
            self.l1_chain = L1Chain::new(first);
        }
    }

    /// If L1 took back the head's origin, goes back to the last block whose origin is still there.
    pub(super) async fn rewind(&mut self) -> Result<(), DriverError> {
        let Some(state) = &self.state else { return Ok(()) };
        if self.l1_chain.holds(&state.head.info.origin) != Some(false) {
            return Ok(());
        }
        let from = state.head.number;
        let mut block = state.head.clone();
        while self.l1_chain.holds(&block.info.origin) != Some(true) {
            if block.number <= self.rollup.genesis.l2.number || block.info.origin.number < self.l1_chain.first() {
                return Err(DriverError::TooDeep(from));
            }
            block = self.chain.number(block.number - 1).await?;
        }
        tracing::warn!(from, to = block.number, "L1 was reorganised, building the same lane on the new blocks of L1");
        self.service.update(|status| status.reorganised += 1);
        let cursor = self.find(&block).await?;
        self.places.forget_from(block.number + 1);
        self.told = block.number;
        self.state = Some(State { head: block, cursor, told: Forkchoice::default() });
        Ok(())
    }

    /// The place of a block of the client. The lane is read from there on.
    async fn find(&mut self, block: &L2Block) -> Result<LaneCursor, DriverError> {
        let joined = self.config.joined_after.unwrap_or(self.rollup.genesis.l2.number);
        let (known, cursor) = loop {
            let Some(place) = self.places.at_or_below(block.number) else {
                let joined = self.chain.number(joined).await?;
                let cursor = LaneCursor { ms: joined.timestamp.saturating_mul(1_000), taken: 0 };
                break (joined, cursor);
            };
            let found = match place.number == block.number {
                true => block.clone(),
                false => self.chain.number(place.number).await?,
            };
            if found.hash == place.hash {
                break (found, place.cursor());
            }
            // Of a chain that is no longer the client's.
            self.places.forget_from(place.number);
        };
        self.feed.seek(cursor.ms).await?;
        if known.number < block.number {
            tracing::info!(from = known.number, to = block.number, "counting the lane up to the client's block");
        }
        self.count(known, cursor, block.number).await
    }

    /// Counts the lane from the block `known`, which ends at `cursor`, through the client's blocks up to number `to`. What was counted
    /// stays known if this fails.
    async fn count(&mut self, mut known: L2Block, mut cursor: LaneCursor, to: u64) -> Result<LaneCursor, DriverError> {
        while known.number < to {
            let time = self.rollup.block_time;
            let end = known.timestamp.saturating_add((to - known.number).saturating_mul(time));
            let filled = self.feed.next_transactions(cursor.ms, end.saturating_mul(1_000)).await?;
            // The next block holds what earlier ones left over; otherwise the first one that is not before the transactions does.
            let holds = filled.map_or(u64::MAX, |ms| {
                let after = ms.saturating_sub(known.timestamp.saturating_mul(1_000));
                known.number.saturating_add(after.div_ceil(time.saturating_mul(1_000)).max(1))
            });
            if holds > known.number + 1 {
                known = self.chain.number(to.min(holds - 1)).await?;
                cursor = LaneCursor { ms: cursor.ms.max(known.timestamp.saturating_mul(1_000)), taken: 0 };
            } else {
                let next = self.chain.number(known.number + 1).await?;
                self.feed.read(next.timestamp.saturating_mul(1_000)).await?;
                let tip = State { head: known, cursor, told: Forkchoice::default() }.tip();
                let gas = self.gas(next.system.gas_limit);
                let place = NativeBlock { timestamp: next.timestamp, l1: next.info.origin, ..NativeBlock::default() };
                let held: HashSet<B256> = next.transactions.iter().map(keccak256).collect();
                let is_invalid = |hash: &B256| !held.contains(hash);
                cursor = self.adapter.fill(self.feed.blocks(), &tip, place, &gas, is_invalid).0.lane;
                known = next;
            }
            self.feed.forget_before(cursor.ms);
            self.places.push(place_of(&known, cursor));
            let height = self.feed.height().0;
            self.service.update(|status| status.lane_height = height);
        }
        Ok(cursor)
    }
}
