//! Which bundles and cancels are to be passed on to the other validators?
//!
//! What goes because the queue is full stays in this node's pool, is remembered for a later reminder, and is proposed when this
//! node leads.

use std::sync::Arc;

use lockstep_protocol::{body::CheckedBundle, bundle::SignedCancel};

use crate::outbox::{self, Outbox};

/// Something to pass on.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Bundle(Arc<CheckedBundle>),
    Cancel(SignedCancel),
}

/// Some items that fit one message.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) cancels: Vec<SignedCancel>,
    pub(crate) bundles: Vec<Arc<CheckedBundle>>,
}

impl outbox::Item for Item {
    fn bytes(&self) -> usize {
        match self {
            Self::Bundle(bundle) => borsh::object_length(bundle.signed()),
            Self::Cancel(signed) => borsh::object_length(signed),
        }
        .expect("measuring does not fail")
    }
}

impl Load {
    /// The oldest items, up to `most` encoded bytes; `None` if there are none.
    pub(crate) fn take(outbox: &Outbox<Item>, most: usize) -> Option<Self> {
        let items = outbox.take(most);
        if items.is_empty() {
            return None;
        }
        let mut load = Self::default();
        for item in items {
            match item {
                Item::Bundle(bundle) => load.bundles.push(bundle),
                Item::Cancel(cancel) => load.cancels.push(cancel),
            }
        }
        Some(load)
    }

    /// Puts it back in front, because it could not be sent now.
    pub(crate) fn put_back(self, outbox: &Outbox<Item>) {
        let cancels = self.cancels.into_iter().map(Item::Cancel);
        outbox.put_back(cancels.chain(self.bundles.into_iter().map(Item::Bundle)));
    }
}
