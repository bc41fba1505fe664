//! Which header belongs to the state that a reader sees?
//!
//! The state moves under readers while a block is applied. A reader holds the state's lock, takes its root, and finds
//! here the header that commits to it.

use std::sync::Arc;

use commonware_utils::{channel::watch, sync::Mutex};
use lockstep_protocol::{header::Header, ids::Hash32};

/// The applied tip, and the block that is being applied on top of it.
#[derive(Clone)]
pub(crate) struct Tip {
    applied: Arc<watch::Sender<Header>>,
    applying: Arc<Mutex<Header>>,
}

impl Tip {
    pub(crate) fn new(genesis: &Header) -> Self {
        Self { applied: Arc::new(watch::Sender::new(genesis.clone())), applying: Arc::new(Mutex::new(genesis.clone())) }
    }

    /// The state is about to move to the one of `header`.
    pub(crate) fn applying(&self, header: &Header) {
        *self.applying.lock() = header.clone();
    }

    /// The state is the one of `header`. Never goes backwards.
    pub(crate) fn applied(&self, header: &Header) {
        self.applied.send_if_modified(|tip| {
            let moved = header.height > tip.height;
            if moved {
                *tip = header.clone();
            }
            moved
        });
    }

    pub(crate) fn get(&self) -> Header {
        self.applied.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Header> {
        self.applied.subscribe()
    }

    /// The header that commits to `root`: the applied tip's or that of the block being applied. `None` while the header of
    /// the state that was opened is not known.
    ///
    /// # Panics
    ///
    /// If it is neither, which no reader that holds the state's lock can see.
    pub(crate) fn with_root(&self, root: &Hash32) -> Option<Header> {
        let applied = self.get();
        if applied.state == *root {
            return Some(applied);
        }
        let applying = self.applying.lock().clone();
        if applying.state != *root && applied.height.0 == 0 {
            return None;
        }
        assert!(
            applying.state == *root,
            "the state's root {root} is neither that of {} ({}) nor that of {} ({})",
            applied.height,
            applied.state,
            applying.height,
            applying.state
        );
        Some(applying)
    }
}
