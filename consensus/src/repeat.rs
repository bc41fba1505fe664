//! What does a validator say again while the log stands still?
//!
//! Consensus says every vote and certificate once and forgets its votes' way when it restarts, and the transport drops
//! what it cannot deliver at once. So a validator that comes back would stay behind, and votes from before a power cut
//! would be lost, until the timeouts of a view. This notes the newest words and repeats them to everybody. It decides
//! nothing: the words are those that consensus has made durable, so saying them again is no second vote.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use commonware_actor::Feedback;
use commonware_codec::Encode;
use commonware_consensus::{
    Epochable, Relay, Reporter, Viewable,
    simplex::{
        Plan,
        types::{self as simplex, Attributable},
    },
    types::{Participant, Round, View},
};
use commonware_p2p::{Recipients, Sender};
use commonware_runtime::Clock;
use commonware_utils::sync::Mutex;
use tracing::debug;

use crate::types::{Digest, Finalization, PublicKey, Scheme};

/// Words that are this old, and still the newest, are said again: longer than a busy network takes for a view, and far
/// shorter than any timeout of a view.
const REPEAT_INTERVAL: Duration = Duration::from_millis(250);

/// Certificates above the newest finalization that are kept: both kinds for two views, more than consensus can be ahead
/// of its finalizations while nothing is lost. Peers ask for older ones themselves.
const CERTIFICATES_MAX: usize = 4;

/// Own votes above the newest finalization that are kept: two of a view, for the view, the one before, and the one voted
/// for early.
const VOTES_MAX: usize = 6;

pub(crate) type Activity = simplex::Activity<Scheme, Digest>;
type Certificate = simplex::Certificate<Scheme, Digest>;
type Vote = simplex::Vote<Scheme, Digest>;

/// Kinds of words about one view, so that one does not take another's place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Nullify,
    Notarize,
    Finalize,
}

/// The newest words: what takes a peer to where this validator is, and what this validator said there.
struct Words {
    me: Participant,
    finalization: Option<Finalization>,
    certificates: BTreeMap<(View, Kind), Certificate>,
    votes: BTreeMap<(View, Kind), Vote>,
    /// How often there was something new.
    news: u64,
}

impl Words {
    fn note(&mut self, activity: &Activity) {
        let floor = self.finalization.as_ref().map_or(View::zero(), Viewable::view);
        let view = activity.view();
        if view <= floor {
            return;
        }
        match activity {
            Activity::Notarization(certificate) => {
                self.certificates.insert((view, Kind::Notarize), Certificate::Notarization(certificate.clone()));
            }
            Activity::Nullification(certificate) => {
                self.certificates.insert((view, Kind::Nullify), Certificate::Nullification(certificate.clone()));
            }
            Activity::Finalization(certificate) => {
                self.finalization = Some(certificate.clone());
                self.certificates.retain(|(at, _), _| *at > view);
                self.votes.retain(|(at, _), _| *at > view);
            }
            Activity::Notarize(vote) if vote.signer() == self.me => {
                self.votes.insert((view, Kind::Notarize), Vote::Notarize(vote.clone()));
            }
            Activity::Nullify(vote) if vote.signer() == self.me => {
                self.votes.insert((view, Kind::Nullify), Vote::Nullify(vote.clone()));
            }
            Activity::Finalize(vote) if vote.signer() == self.me => {
                self.votes.insert((view, Kind::Finalize), Vote::Finalize(vote.clone()));
            }
            _ => return,
        }
        while self.certificates.len() > CERTIFICATES_MAX {
            self.certificates.pop_first();
        }
        while self.votes.len() > VOTES_MAX {
            self.votes.pop_first();
        }
        self.news = self.news.wrapping_add(1);
    }

    /// What to say, in the order in which a peer can use it.
    fn all(&self) -> (Vec<Certificate>, Vec<Vote>) {
        let finalization = self.finalization.clone().map(Certificate::Finalization);
        let certificates = finalization.into_iter().chain(self.certificates.values().cloned()).collect();
        (certificates, self.votes.values().cloned().collect())
    }
}

/// Notes what consensus reports on its way to `R`.
#[derive(Clone)]
pub(crate) struct Noted<R> {
    reporter: R,
    words: Arc<Mutex<Words>>,
}

impl<R: Reporter<Activity = Activity>> Noted<R> {
    pub(crate) fn new(reporter: R, me: Participant) -> Self {
        let words = Words { me, finalization: None, certificates: BTreeMap::new(), votes: BTreeMap::new(), news: 0 };
        Self { reporter, words: Arc::new(Mutex::new(words)) }
    }
}

impl<R: Reporter<Activity = Activity>> Reporter for Noted<R> {
    type Activity = Activity;

    fn report(&mut self, activity: Activity) -> Feedback {
        self.words.lock().note(&activity);
        self.reporter.report(activity)
    }
}

impl<R: Relay<Digest = Digest, PublicKey = PublicKey, Plan = Plan<PublicKey>>> Noted<R> {
    /// Says the newest words again whenever there were no newer ones for a while. Does not return.
    ///
    /// `leads` tells whether this validator leads a round. What it proposed there before it was started is sent once
    /// more with its vote, because nobody else can have the block.
    pub(crate) async fn repeat(
        mut self,
        clock: impl Clock,
        mut votes: impl Sender<PublicKey = PublicKey>,
        mut certificates: impl Sender<PublicKey = PublicKey>,
        leads: impl Fn(Round) -> bool,
    ) {
        let (mut heard, mut started) = (0, false);
        loop {
            clock.sleep(REPEAT_INTERVAL).await;
            let (old_certificates, own_votes) = {
                let words = self.words.lock();
                if words.news != heard {
                    heard = words.news;
                    continue;
                }
                words.all()
            };
            if !started {
                started = true;
                self.send_own_block(&own_votes, &leads);
            }
            if let Some(vote) = own_votes.last() {
                debug!(view = vote.view().get(), "the log stands still: saying the newest words again");
            }
            for certificate in old_certificates {
                certificates.send(Recipients::All, certificate.encode(), true);
            }
            for vote in own_votes {
                votes.send(Recipients::All, vote.encode(), true);
            }
        }
    }

    fn send_own_block(&mut self, own_votes: &[Vote], leads: &impl Fn(Round) -> bool) {
        for vote in own_votes {
            let Vote::Notarize(notarize) = vote else { continue };
            let round = Round::new(notarize.epoch(), notarize.view());
            if leads(round) {
                let plan = Plan::Forward { round, recipients: Recipients::All };
                // A block that was never stored cannot have been voted for by anybody else.
                let _ = self.reporter.broadcast(notarize.proposal.payload, plan);
            }
        }
    }
}
