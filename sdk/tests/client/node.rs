//! A node that serves a prepared chain over real sockets, up to a tip that the test moves, and lies as the test says.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use jsonrpsee::{
    PendingSubscriptionSink, RpcModule,
    server::{Server, ServerHandle, SubscriptionMessage},
    types::{ErrorObjectOwned, Params},
};
use lockstep_sdk::{
    Client,
    client::Config,
    protocol::{
        bundle::{SignedBundle, SignedCancel},
        evidence::{BundleState, Reports},
        ids::{Account, BundleId, Hash32, Height, RollupId, SettlementId},
        lane::LaneItem,
        limits::LIMITS,
        refusal::Refusal,
        rpc::{
            BundleStatus, CancelSent, DecisionPage, Fact, FactRefused, FactSent, FinalHeader, HexBytes, LaneFee,
            LanePage, Network, QueryError, Sent, SettlementStatus, StateProof, StateQuery, UnsettledPage, codes,
        },
        wire::Wire,
    },
};
use serde_json::value::to_raw_value;
use tokio::sync::watch;

use crate::world::{ROLLUPS, World};

type Change<T> = Box<dyn Fn(T) -> T + Send + Sync>;
type TakeFact = Box<dyn Fn(&Fact) -> Result<(), FactRefused> + Send + Sync>;
type Take = Box<dyn Fn(&SignedBundle, u64) -> Result<(), Refusal> + Send + Sync>;

/// What a node makes of the truth.
pub(crate) struct Script {
    pub(crate) network: Change<Network>,
    pub(crate) header: Change<FinalHeader>,
    pub(crate) state: Change<StateProof>,
    pub(crate) reports: Change<Reports>,
    pub(crate) page: Change<LanePage>,
    pub(crate) settlement: Change<SettlementStatus>,
    pub(crate) unsettled: Change<UnsettledPage>,
    pub(crate) decisions: Change<DecisionPage>,
    /// Whether a fact is taken.
    pub(crate) fact: TakeFact,
    /// An item that is pushed to subscribers; `None` leaves it out.
    pub(crate) push: Box<dyn Fn(LaneItem) -> Vec<LaneItem> + Send + Sync>,
    /// Whether a bundle is taken. With the number of the attempt at this node, from 1.
    pub(crate) send: Take,
    /// Serves no subscriptions.
    pub(crate) no_push: bool,
    /// Nothing below is served.
    pub(crate) oldest: u64,
    /// Never sees more than this, whatever the tip.
    pub(crate) stuck_at: u64,
    /// Answers take this long.
    pub(crate) delay: Duration,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            network: Box::new(|truth| truth),
            header: Box::new(|truth| truth),
            state: Box::new(|truth| truth),
            reports: Box::new(|truth| truth),
            page: Box::new(|truth| truth),
            settlement: Box::new(|truth| truth),
            unsettled: Box::new(|truth| truth),
            decisions: Box::new(|truth| truth),
            fact: Box::new(|_| Ok(())),
            push: Box::new(|truth| vec![truth]),
            send: Box::new(|_, _| Ok(())),
            no_push: false,
            oldest: 0,
            stuck_at: u64::MAX,
            delay: Duration::ZERO,
        }
    }
}

/// The tip that all nodes of a test see.
pub(crate) type Tip = Arc<watch::Sender<u64>>;

pub(crate) fn tip(height: u64) -> Tip {
    Arc::new(watch::Sender::new(height))
}

pub(crate) struct ScriptedNode {
    pub(crate) url: String,
    handle: ServerHandle,
    served: Arc<Served>,
}

struct Served {
    world: Arc<World>,
    script: Script,
    tip: Tip,
    calls: Mutex<BTreeMap<&'static str, u64>>,
}

impl ScriptedNode {
    pub(crate) async fn start(world: &Arc<World>, tip: &Tip, script: Script) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let server = Server::builder().build(any).await.expect("a free port");
        let url = format!("http://{}", server.local_addr().expect("bound"));
        let served =
            Arc::new(Served { world: world.clone(), script, tip: tip.clone(), calls: Mutex::new(BTreeMap::new()) });
        let handle = server.start(module(served.clone()));
        Self { url, handle, served }
    }

    pub(crate) async fn honest(world: &Arc<World>, tip: &Tip) -> Self {
        Self::start(world, tip, Script::default()).await
    }

    /// How often `method` was called.
    pub(crate) fn calls(&self, method: &str) -> u64 {
        self.served.calls.lock().expect("not poisoned").get(method).copied().unwrap_or(0)
    }

    pub(crate) fn kill(&self) {
        let _ = self.handle.stop();
    }
}

/// A client of `nodes`, in this order, quick to give up.
pub(crate) fn client(world: &World, nodes: &[&ScriptedNode]) -> Client {
    client_with(world, nodes, |_| ())
}

pub(crate) fn client_with(world: &World, nodes: &[&ScriptedNode], change: impl FnOnce(&mut Config)) -> Client {
    let mut config = Config {
        nodes: nodes.iter().map(|node| node.url.clone()).collect(),
        call_timeout: Duration::from_millis(800),
        deadline: Duration::from_secs(5),
        rounds: 2,
        wait_slice: Duration::from_millis(200),
        ..Config::default()
    };
    config.follow.poll = Duration::from_millis(20);
    config.follow.silence = Duration::from_millis(400);
    change(&mut config);
    Client::new(world.trust(), config).expect("a client")
}

impl Served {
    fn count(&self, method: &'static str) -> u64 {
        let mut calls = self.calls.lock().expect("not poisoned");
        let count = calls.entry(method).or_default();
        *count += 1;
        *count
    }

    fn tip(&self) -> Height {
        Height((*self.tip.borrow()).min(self.script.stuck_at))
    }

    fn check_from(&self, from: Height) -> Result<(), ErrorObjectOwned> {
        if from.0 < self.script.oldest {
            let oldest = Height(self.script.oldest);
            return Err(query(codes::NOT_FOUND, QueryError::Pruned { height: from, oldest }));
        }
        if from > self.tip() {
            return Err(query(codes::NOT_FOUND, QueryError::AheadOfTip { height: from, tip: self.tip() }));
        }
        Ok(())
    }

    fn state_of(&self, id: BundleId) -> Option<BundleState> {
        let tip = self.tip();
        for account in [crate::world::alice(), crate::world::bob()].map(|key| key.account()) {
            for report in self.world.reports(account, 1, u64::MAX, tip).reports {
                use lockstep_sdk::protocol::report::Event;
                if let Event::Ordered { bundle, fee, .. } = report.event
                    && bundle == id
                {
                    return Some(BundleState::Ordered { height: report.height, fee });
                }
            }
        }
        None
    }

    fn settlement(&self, settlement: SettlementId) -> Result<SettlementStatus, ErrorObjectOwned> {
        let status = self.world.settlement(settlement, self.tip());
        let status = status.ok_or_else(|| query(codes::NOT_FOUND, QueryError::UnknownSettlement { settlement }))?;
        Ok((self.script.settlement)(status))
    }

    fn status(&self, bundle_id: BundleId) -> BundleStatus {
        let state = self.state_of(bundle_id).unwrap_or(BundleState::Pending);
        BundleStatus { bundle_id, state, legs: Vec::new(), tip: self.tip() }
    }
}

fn query(code: i32, query: QueryError) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(code, query.to_string(), Some(query))
}

fn refused(refusal: Refusal) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(codes::REFUSED, refusal.to_string(), Some(refusal))
}

fn module(served: Arc<Served>) -> RpcModule<Arc<Served>> {
    let no_push = served.script.no_push;
    let mut module = RpcModule::new(served);
    macro_rules! method {
        ($name:literal, |$served:ident, $params:ident| $body:block) => {
            module
                .register_async_method(concat!("lockstep_", $name), |$params, served, _| async move {
                    let $served: &Served = &served;
                    $served.count($name);
                    tokio::time::sleep($served.script.delay).await;
                    let answer: Result<_, ErrorObjectOwned> = $body;
                    answer
                })
                .expect("a fresh name");
        };
    }
    method!("getNetwork", |served, _params| {
        let genesis = &served.world.genesis;
        Ok((served.script.network)(Network {
            name: genesis.network.clone(),
            id: genesis.network_id(),
            group_key: genesis.group_key,
            genesis: genesis.hash(),
            rollups: genesis.rollups.clone(),
            limits: LIMITS,
        }))
    });
    method!("getLimits", |_served, _params| { Ok(LIMITS) });
    method!("getRollups", |served, _params| { Ok(served.world.genesis.rollups.clone()) });
    method!("getFees", |_served, _params| {
        Ok(ROLLUPS.map(|rollup| LaneFee { rollup, base_fee: 1, min_base_fee: 1 }).to_vec())
    });
    method!("getHeader", |served, params| {
        let height: Option<Height> = params.one()?;
        let height = height.unwrap_or(served.tip());
        served.check_from(height)?;
        let block = served.world.block(height);
        let (header, finality) = (block.header.clone(), block.finality.clone());
        Ok((served.script.header)(FinalHeader { digest: header.digest(), header, finality }))
    });
    method!("getState", |served, params| {
        let query: StateQuery = params.one()?;
        Ok((served.script.state)(served.world.state(query, served.tip())))
    });
    method!("getReports", |served, params| {
        let (account, first, count): (Account, u64, u64) = params.parse()?;
        Ok((served.script.reports)(served.world.reports(account, first, count, served.tip())))
    });
    method!("getLane", |served, params| {
        let (rollup, from): (RollupId, Height) = params.parse()?;
        served.check_from(from)?;
        Ok((served.script.page)(served.world.page(rollup, from, served.tip())))
    });
    method!("sendBundle", |served, params| {
        let bytes: HexBytes = params.one()?;
        let bundle = SignedBundle::from_wire(&bytes.0).expect("the client sends what it checked");
        let attempt = served.count("taken or refused");
        (served.script.send)(&bundle, attempt).map_err(refused)?;
        Ok(Sent { bundle_id: bundle.bundle.id(), height: served.tip() })
    });
    method!("cancelBundle", |served, params| {
        let bytes: HexBytes = params.one()?;
        let cancel = SignedCancel::from_wire(&bytes.0).expect("the client sends what it checked");
        Ok(CancelSent { digest: cancel.cancel.digest(), height: served.tip() })
    });
    method!("getBundle", |served, params| { Ok(served.status(params.one()?)) });
    method!("waitBundle", |served, params| {
        let (id, hold_ms): (BundleId, u64) = params.parse()?;
        let mut moves = served.tip.subscribe();
        let outcome = async { while served.state_of(id).is_none() && moves.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_millis(hold_ms), outcome).await;
        Ok(served.status(id))
    });
    method!("getSettlement", |served, params| {
        let settlement: SettlementId = params.one()?;
        served.settlement(settlement)
    });
    method!("waitSettlement", |served, params| {
        let (settlement, after, hold_ms): (SettlementId, Height, u64) = params.parse()?;
        let mut moves = served.tip.subscribe();
        let changed = async {
            let is_told = || served.settlement(settlement).is_ok_and(|status| status.changed > after);
            while !is_told() && moves.changed().await.is_ok() {}
        };
        let _ = tokio::time::timeout(Duration::from_millis(hold_ms), changed).await;
        served.settlement(settlement)
    });
    method!("getUnsettled", |served, params| {
        let (rollup, _, _): (RollupId, Option<SettlementId>, u64) = params.parse()?;
        Ok((served.script.unsettled)(served.world.unsettled(rollup, served.tip())))
    });
    method!("getDecisions", |served, params| {
        let (rollup, from, max): (RollupId, u64, usize) = params.parse()?;
        Ok((served.script.decisions)(served.world.decisions(rollup, from, max, served.tip())))
    });
    method!("getRollupStatus", |served, params| { Ok(served.world.rollup_status(params.one()?, served.tip())) });
    method!("getCorridors", |served, _params| { Ok(served.world.corridors(served.tip())) });
    method!("sendFact", |served, params| {
        let fact: Fact = params.one()?;
        (served.script.fact)(&fact)
            .map_err(|refused| ErrorObjectOwned::owned(codes::REFUSED, refused.to_string(), Some(refused)))?;
        Ok(FactSent { digest: Hash32([1; 32]), height: served.tip() })
    });
    if !no_push {
        module
            .register_subscription(
                "lockstep_subscribeLane",
                "lockstep_lane",
                "lockstep_unsubscribeLane",
                |params, pending, served, _| async move { push(params, pending, &served).await },
            )
            .expect("a fresh name");
    }
    module
}

async fn push(params: Params<'static>, pending: PendingSubscriptionSink, served: &Served) {
    served.count("subscribeLane");
    let Ok((rollup, from)) = params.parse::<(RollupId, Height)>() else { return };
    let Ok(sink) = pending.accept().await else { return };
    let mut moves = served.tip.subscribe();
    let mut next = from.0;
    loop {
        while next <= served.tip().0 {
            for item in (served.script.push)(served.world.item(rollup, Height(next))) {
                let message = to_raw_value(&item).expect("an item has a JSON form");
                if sink.send(SubscriptionMessage::from(message)).await.is_err() {
                    return;
                }
            }
            next += 1;
        }
        tokio::select! {
            moved = moves.changed() => if moved.is_err() { return },
            () = sink.closed() => return,
        }
    }
}
