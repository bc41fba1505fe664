//! What is killed while the city runs, and when does it come back?
//!
//! `kill -9` of one validator at a time, and beside it of one part of the rollups at a time: execution clients, drivers, posters,
//! relayers, and L1 if it is the embedded node. Each comes back after a moment on what its folder holds. The order follows from a seed.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::city::{City, Part};

/// How long each part is dead, milliseconds.
const DEAD_MS: std::ops::Range<u64> = 300..2_500;
/// How long nothing else of its kind is killed after it was started again: a part that is killed before it has done anything shows
/// nothing.
const ALIVE_MS: std::ops::Range<u64> = 1_500..4_000;
/// The first kill comes when there is something to lose.
const FIRST: Duration = Duration::from_secs(4);

/// The killer.
pub struct Chaos {
    random: StdRng,
    /// One for validators, one for all other parts.
    hands: [Hand; 2],
    kills: BTreeMap<String, u64>,
}

struct Hand {
    next: Instant,
    victim: Option<Part>,
}

impl Chaos {
    /// What follows from `seed`.
    pub fn new(seed: u64) -> Self {
        let hand = || Hand { next: Instant::now() + FIRST, victim: None };
        Self { random: StdRng::seed_from_u64(seed), hands: [hand(), hand()], kills: BTreeMap::new() }
    }

    /// Kills what is due, and starts again what was dead for long enough.
    pub fn step(&mut self, city: &mut City) -> Result<()> {
        for index in 0..self.hands.len() {
            if Instant::now() < self.hands[index].next {
                continue;
            }
            let wait = match self.hands[index].victim.take() {
                Some(part) => {
                    city.start_part(&part)?;
                    ALIVE_MS
                }
                None => {
                    let parts = if index == 0 { city.validators() } else { city.rollup_parts() };
                    if parts.is_empty() {
                        continue;
                    }
                    let part = parts[self.random.random_range(0..parts.len())].clone();
                    city.kill_part(&part)?;
                    *self.kills.entry(part.kind()).or_default() += 1;
                    self.hands[index].victim = Some(part);
                    DEAD_MS
                }
            };
            self.hands[index].next = Instant::now() + Duration::from_millis(self.random.random_range(wait));
        }
        Ok(())
    }

    /// Starts all that is dead. Nothing is killed any more.
    pub fn end(&mut self, city: &mut City) -> Result<()> {
        for hand in &mut self.hands {
            if let Some(part) = hand.victim.take() {
                city.start_part(&part)?;
            }
        }
        Ok(())
    }

    /// How often what was killed.
    pub fn kills(&self) -> &BTreeMap<String, u64> {
        &self.kills
    }
}
