//! Fetches an account's reports and checks that they are its reports: numbered, chained, none hidden.
//!
//! The stream for sessions stands on the same checks as the outcome of a bundle: everything ends in a proven record.

use std::{sync::Arc, time::Duration};

use lockstep_protocol::{
    account::AccountRecord,
    evidence::{EvidenceError, Reports},
    ids::{Account, Hash32, Height},
    report::{self, Report},
    rpc::StateQuery,
};
use std::collections::VecDeque;

use crate::{
    client::Client,
    error::{CheckError, Error, Fault},
    node::Node,
    nodes::pause,
    rpc,
};

/// Reports asked for at once.
pub const REPORTS_PER_PAGE: u64 = 256;
/// Reports that are held until they are verified. An account with more since the last look is read from a later number.
pub const MAX_REPORTS: u64 = 65_536;

/// An account's reports from a number on, each verified before it is given out.
pub struct ReportStream {
    client: Client,
    account: Account,
    /// The last report that was read from a node and verified.
    sequence: u64,
    /// The chain up to it, if it is known.
    chain: Option<Hash32>,
    ready: VecDeque<Report>,
    /// The height at which `sequence` was the last.
    height: Height,
}

/// Reports cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum ReportError {
    #[error(transparent)]
    Ask(#[from] Error),
    #[error("{behind} reports since number {after}, at most {max} are read at once: start later")]
    TooFarBehind { after: u64, behind: u64, max: u64 },
}

impl Client {
    /// The account's reports after number `after`; 0 for all of them. To resume, keep the number of the last one handled.
    pub fn reports(&self, account: Account, after: u64) -> ReportStream {
        let chain = (after == 0).then(|| AccountRecord::new(self.trust().network(), account).reports);
        ReportStream {
            client: self.clone(),
            account,
            sequence: after,
            chain,
            ready: VecDeque::new(),
            height: Height(0),
        }
    }
}

impl ReportStream {
    /// The next report. Waits until there is one. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Report, ReportError> {
        let mut round = 0;
        loop {
            if let Some(report) = self.ready.pop_front() {
                return Ok(report);
            }
            if self.fetch().await? {
                continue;
            }
            // Pauses grow up to a heartbeat of an idle network.
            pause(round, self.client.deadline()).await;
            round = round.saturating_add(1);
        }
    }

    /// The next report, if one is there already.
    pub async fn try_next(&mut self) -> Result<Option<Report>, ReportError> {
        if self.ready.is_empty() {
            self.fetch().await?;
        }
        Ok(self.ready.pop_front())
    }

    /// The final height up to which every report was read from nodes.
    pub fn height(&self) -> Height {
        self.height
    }

    async fn fetch(&mut self) -> Result<bool, ReportError> {
        let (account, after, chain) = (self.account, self.sequence, self.chain);
        let client = &self.client;
        let ask = |node: Arc<Node>, timeout| async move {
            let answer = rpc::get_state(&node, StateQuery::Account(account), timeout).await?;
            let record = client.trust().check_account(account, &answer).map_err(Fault::Lie)?;
            client.note_height(&answer.header)?;
            let height = answer.header.height;
            let Some(record) = record.filter(|record| record.report_sequence > after) else {
                return Ok((height, None));
            };
            if record.report_sequence - after > MAX_REPORTS {
                return Ok((height, Some(Err(record.report_sequence))));
            }
            let reports = fetch(&node, &record, after + 1, timeout).await?;
            // What the node calls the chain before is bound by the record, unless the stream knows better.
            if chain.is_some_and(|chain| chain != reports.before) {
                return Err(CheckError::Evidence(EvidenceError::BrokenChain).into());
            }
            Ok((height, Some(Ok((record, reports)))))
        };
        let (height, news) = client.inner.nodes.ask(client.deadline(), ask).await?;
        self.height = self.height.max(height);
        match news {
            None => Ok(false),
            Some(Err(last)) => Err(ReportError::TooFarBehind { after, behind: last - after, max: MAX_REPORTS }),
            Some(Ok((record, reports))) => {
                self.sequence = record.report_sequence;
                self.chain = Some(record.reports);
                self.ready.extend(reports.reports);
                Ok(true)
            }
        }
    }
}

/// Reports `first..` of the account up to its record, verified to end in it.
pub(crate) async fn fetch(
    node: &Node,
    record: &AccountRecord,
    first: u64,
    timeout: Duration,
) -> Result<Reports, Fault> {
    let reports = fetch_range(node, record.account, first, record.report_sequence, timeout).await?;
    reports.verify(record).map_err(CheckError::Evidence)?;
    Ok(reports)
}

/// Reports `first..=last`, checked to be consecutive and chained among each other. What they lead to is not checked.
pub(crate) async fn fetch_range(
    node: &Node,
    account: Account,
    first: u64,
    last: u64,
    timeout: Duration,
) -> Result<Reports, Fault> {
    let mut all: Option<Reports> = None;
    let mut next = first;
    let mut chain = None;
    while next <= last {
        let count = REPORTS_PER_PAGE.min(last - next + 1);
        let mut page = rpc::get_reports(node, account, next, count, timeout).await?;
        // The log moves on between the record and its reports: later ones are another record's matter.
        page.reports.retain(|report| report.sequence <= last);
        if page.reports.is_empty() {
            return Err(CheckError::Withheld { first, last, missing: next }.into());
        }
        if chain.is_some_and(|chain| chain != page.before) {
            return Err(CheckError::Evidence(EvidenceError::BrokenChain).into());
        }
        let mut end = page.before;
        for report in &page.reports {
            if report.sequence != next {
                return Err(CheckError::Evidence(EvidenceError::NotConsecutive {
                    first,
                    last,
                    found: report.sequence,
                })
                .into());
            }
            end = report::chain(end, report);
            next += 1;
        }
        chain = Some(end);
        match &mut all {
            None => all = Some(page),
            Some(all) => all.reports.append(&mut page.reports),
        }
    }
    all.ok_or(Fault::Lie(CheckError::Withheld { first, last, missing: first }))
}
