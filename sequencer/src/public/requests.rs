//! What is done with requests and answers, ours and others'?
//!
//! The part of the actor that calls peers and speaks the two request-response protocols.

use std::{sync::Arc, time::Instant};

use libp2p::{
    Multiaddr, PeerId,
    multiaddr::Protocol,
    request_response::{self, Message},
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use lockstep_protocol::{
    bundle::SignedBundle,
    ids::{BundleId, Height, RollupId},
    refusal::Refusal,
    rpc::QueryError,
    wire::Wire,
};
use tokio::{sync::oneshot, task::JoinError};

use super::{
    actor::{Actor, Channel, Done},
    backfill::Answer,
    error::SubmitError,
    handle::Command,
    names,
    peers::REQUESTS_PER_SECOND,
    serve,
    verifier::Input,
    wire::{BundleAnswer, MAX_RANGE_ITEMS, RangeAnswer, RangeRequest},
};

type Event = request_response::Event<Vec<u8>, Vec<u8>>;

impl Actor {
    pub(super) fn on_range(&mut self, event: Event) {
        match event {
            Event::Message { peer, message: Message::Request { request_id, request, channel }, .. } => {
                if !self.quotas.take(peer, Instant::now()) {
                    let error =
                        QueryError::TooMany { max: REQUESTS_PER_SECOND as u64, found: REQUESTS_PER_SECOND as u64 + 1 };
                    return self.refuse_range(channel, &error, "rate_limited");
                }
                let request = match RangeRequest::from_wire(&request) {
                    Ok(request) => request,
                    Err(error) => {
                        let error = QueryError::BadRequest { detail: error.to_string() };
                        return self.refuse_range(channel, &error, "malformed");
                    }
                };
                if !self.open_ranges.open(request_id, peer) {
                    let error = QueryError::NotReady { detail: "too many requests are being answered".into() };
                    return self.refuse_range(channel, &error, "busy");
                }
                self.parts.metrics.count_request("answered");
                let (source, metrics) = (Arc::clone(&self.parts.source), Arc::clone(&self.parts.metrics));
                self.work.spawn(async move { Done::Range(channel, serve::range(&*source, request, &metrics).await) });
            }
            Event::Message { peer, message: Message::Response { request_id, response }, .. } => {
                let Some((rollup, from)) = self.asked.remove(&request_id) else { return };
                let page = Input::Page { rollup, from, max_items: MAX_RANGE_ITEMS, peer, bytes: response };
                if !self.parts.queue.push(page) {
                    self.range_failed(rollup, peer);
                }
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                let Some((rollup, _)) = self.asked.remove(&request_id) else { return };
                tracing::debug!(%peer, %rollup, %error, "a peer did not answer for a range");
                self.range_failed(rollup, peer);
            }
            Event::InboundFailure { request_id, .. } | Event::ResponseSent { request_id, .. } => {
                self.open_ranges.close(request_id);
            }
        }
    }

    pub(super) fn on_bundle(&mut self, event: Event) {
        match event {
            Event::Message { peer, message: Message::Request { request_id, request, channel }, .. } => {
                if !self.quotas.take(peer, Instant::now()) {
                    let refusal =
                        Refusal::NotReady { detail: format!("at most {REQUESTS_PER_SECOND} requests a second") };
                    self.parts.metrics.count_request("rate_limited");
                    return self.answer_bundle(channel, &Err(refusal));
                }
                let Some(sink) = self.parts.sink.clone() else {
                    return self.parts.metrics.count_request("unknown");
                };
                let bundle = match SignedBundle::from_wire(&request) {
                    Ok(bundle) => bundle,
                    Err(error) => {
                        self.parts.metrics.count_request("malformed");
                        return self.answer_bundle(channel, &Err(Refusal::Malformed { detail: error.to_string() }));
                    }
                };
                if !self.open_bundles.open(request_id, peer) {
                    self.parts.metrics.count_request("busy");
                    let refusal = Refusal::NotReady { detail: "too many bundles are being judged".into() };
                    return self.answer_bundle(channel, &Err(refusal));
                }
                self.parts.metrics.count_request("answered");
                self.work.spawn(async move { Done::Bundle(channel, sink.submit(bundle).await) });
            }
            Event::Message { peer, message: Message::Response { request_id, response }, .. } => {
                let Some(reply) = self.submitted.remove(&request_id) else { return };
                let verdict = BundleAnswer::from_wire(&response).and_then(BundleAnswer::into_verdict);
                let _ = reply.send(match verdict {
                    Ok(verdict) => verdict.map_err(SubmitError::Refused),
                    Err(error) => {
                        let text = error.to_string();
                        self.block(peer, &error.into());
                        Err(SubmitError::NoAnswer(text))
                    }
                });
            }
            Event::OutboundFailure { request_id, error, .. } => {
                if let Some(reply) = self.submitted.remove(&request_id) {
                    let _ = reply.send(Err(SubmitError::NoAnswer(error.to_string())));
                }
            }
            Event::InboundFailure { request_id, .. } | Event::ResponseSent { request_id, .. } => {
                self.open_bundles.close(request_id);
            }
        }
    }

    pub(super) fn on_done(&mut self, done: Result<Done, JoinError>) {
        match done {
            // The peer may be gone; then the request's failure is an event of its own.
            Ok(Done::Range(channel, bytes)) => {
                let _ = self.swarm.behaviour_mut().ranges.send_response(channel, bytes);
            }
            Ok(Done::Bundle(channel, verdict)) => self.answer_bundle(channel, &verdict),
            Ok(Done::Resolved(addresses)) => addresses.into_iter().for_each(|address| self.dial_number(address)),
            Err(error) => tracing::error!(%error, "a request was not answered"),
        }
    }

    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial(address) => self.dial(address),
            Command::Submit(bundle, reply) => self.submit(&bundle, reply),
        }
    }

    /// Calls a peer; first looks up the name in its address, if there is one.
    pub(super) fn dial(&mut self, address: Multiaddr) {
        match names::name(&address) {
            Some(_) => {
                self.work.spawn(async { Done::Resolved(names::resolve(address).await) });
            }
            None => self.dial_number(address),
        }
    }

    fn dial_number(&mut self, address: Multiaddr) {
        let named = address.iter().find_map(|part| match part {
            Protocol::P2p(peer) => Some(peer),
            _ => None,
        });
        let call = match named {
            Some(peer) if peer == *self.swarm.local_peer_id() || self.swarm.is_connected(&peer) => return,
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(vec![address])
                .build(),
            // Nobody knows who will answer, so it is called only where nobody else is there.
            None if self.swarm.connected_peers().next().is_some() => return,
            None => DialOpts::unknown_peer_id().address(address).build(),
        };
        // The outcome comes as an event; what is refused here is connected or being called already.
        let _ = self.swarm.dial(call);
    }

    pub(super) fn ask(&mut self, peer: PeerId, rollup: RollupId, from_height: Height) {
        let request = RangeRequest { rollup, from_height, max_items: MAX_RANGE_ITEMS };
        let id = self.swarm.behaviour_mut().ranges.send_request(&peer, request.to_wire());
        self.asked.insert(id, (rollup, from_height));
    }

    fn submit(&mut self, bundle: &SignedBundle, reply: oneshot::Sender<Result<BundleId, SubmitError>>) {
        use rand::seq::IteratorRandom;
        let Some(peer) = self.takers.iter().copied().choose(&mut rand::rng()) else {
            let _ = reply.send(Err(SubmitError::NoPeer));
            return;
        };
        let id = self.swarm.behaviour_mut().bundles.send_request(&peer, bundle.to_wire());
        self.submitted.insert(id, reply);
    }

    fn refuse_range(&mut self, channel: Channel, error: &QueryError, outcome: &'static str) {
        self.parts.metrics.count_request(outcome);
        let answer = RangeAnswer::refused(error).to_wire();
        let _ = self.swarm.behaviour_mut().ranges.send_response(channel, answer);
    }

    fn answer_bundle(&mut self, channel: Channel, verdict: &Result<BundleId, Refusal>) {
        self.parts.metrics.count_bundle(verdict.as_ref().map_or_else(Refusal::reason, |_| "taken"));
        let answer = BundleAnswer::from_verdict(verdict).to_wire();
        let _ = self.swarm.behaviour_mut().bundles.send_response(channel, answer);
    }

    fn range_failed(&mut self, rollup: RollupId, peer: PeerId) {
        self.parts.metrics.count_range("failed");
        if let Some(backfill) = &mut self.backfill {
            backfill.answered(rollup, peer, Answer::Nothing, Instant::now());
        }
    }
}
