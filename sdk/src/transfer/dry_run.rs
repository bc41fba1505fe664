//! Would this transfer go through if it were sent now, and if not, why?
//!
//! Nothing is sent. What the log would say is computed by the protocol's own rules from proven records; corridors are a
//! node's word, the venues' answers the rollups'. All of it is of this moment: others use the same inventory and caps.

use alloy_primitives::U256;
use lockstep_protocol::{
    body::CheckedBundle,
    bundle::SignedBundle,
    genesis::Rules,
    ids::Height,
    limits::MAX_OPEN_SETTLEMENTS,
    refusal::Refusal,
    settlement::{Intent, LegStatus, Side, records::RollupRecord},
    signature::AccountKey,
};

use super::{
    BASE_FEE_FACTOR, MarginTransfer, PRIORITY_FEE, TransferError, TransferLeg,
    native::prepare_call,
    reason::{Reason, VenueReason},
};
use crate::client::Client;

/// What a dry run found.
#[derive(Clone, Debug)]
pub struct DryRun {
    /// What stands against it; nothing if it would go through.
    pub reasons: Vec<Reason>,
    /// The most that ordering it would cost. Credits.
    pub max_fee: u64,
    /// When it would be decided at the latest.
    pub deadline: Height,
}

impl DryRun {
    /// Whether nothing stands against it.
    pub fn is_good(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl Client {
    /// Says why a transfer would not go through, by the rules of the network's genesis.
    pub async fn dry_run(
        &self,
        transfer: &MarginTransfer,
        key: &AccountKey,
        rules: &Rules,
    ) -> Result<DryRun, TransferError> {
        let signed = self.prepare_transfer(transfer, key).await?;
        let mut reasons = self.against_by_log(&signed, rules).await?;
        let bundle = &signed.bundle;
        let settlement = bundle.transfer().ok_or(TransferError::NoSettlement)?;
        let intent = Intent { account: bundle.account, nonce: bundle.nonce, transfer: settlement.clone() };
        for (place, leg) in transfer.legs.iter().enumerate() {
            let index = u8::try_from(place).unwrap_or(u8::MAX);
            let input = prepare_call(&intent, index);
            reasons.extend(leg.against(transfer, place, input).await?);
        }
        Ok(DryRun { reasons, max_fee: bundle.max_fee, deadline: settlement.deadline })
    }

    /// What the log would say to it.
    async fn against_by_log(&self, signed: &SignedBundle, rules: &Rules) -> Result<Vec<Reason>, TransferError> {
        let bundle = &signed.bundle;
        let mut refusals = Vec::new();
        if let Err(refusal) = CheckedBundle::new(signed.clone(), rules) {
            // Nothing else can be said of what is not even well formed here.
            return Ok(vec![Reason::Log(refusal)]);
        }
        let account = self.account(bundle.account).await?;
        match account.value {
            None => refusals.push(Refusal::UnknownAccount),
            Some(record) if record.balance < bundle.max_fee => {
                let (needed, available) = (bundle.max_fee, record.balance);
                refusals.push(Refusal::InsufficientBalance { needed, available });
            }
            Some(_) => {}
        }
        for leg in &bundle.legs {
            let proven = self.rollup_record(leg.rollup).await?;
            let record: RollupRecord = proven.value.unwrap_or_default();
            refusals.extend(record.check_health(leg.rollup, proven.header.height.next()).err());
        }
        let flows = bundle.transfer().map(|transfer| transfer.flows()).transpose()?.unwrap_or_default();
        let corridors = self.corridors().await?;
        for flow in &flows {
            let (from, to, asset) = (flow.from, flow.to, flow.asset);
            let listed =
                rules.settlement.corridors.iter().find(|one| (one.from, one.to, one.asset) == (from, to, asset));
            let Some(listed) = listed else {
                refusals.push(Refusal::NoCorridor { from, to, asset });
                continue;
            };
            let told = corridors.iter().find(|one| (one.from, one.to, one.asset) == (from, to, asset));
            let available = listed.cap.saturating_sub(told.map_or(0, |told| told.under_way));
            if available < flow.amount {
                refusals.push(Refusal::CorridorFull { from, to, asset, available });
            }
        }
        let under_way = self.in_flight(bundle.account).await?.value.unwrap_or_default();
        if under_way.open >= MAX_OPEN_SETTLEMENTS {
            refusals.push(Refusal::TooManySettlements { max: MAX_OPEN_SETTLEMENTS, open: under_way.open });
        }
        for (asset, used) in rules.settlement.assets.iter().zip(under_way.amounts) {
            let wanted = flows.iter().filter(|flow| flow.asset == asset.asset).map(|flow| flow.amount);
            let wanted = wanted.fold(0_u128, u128::saturating_add);
            let available = asset.account_cap.saturating_sub(used);
            if wanted > available {
                refusals.push(Refusal::AccountCapReached { asset: asset.asset, available });
            }
        }
        Ok(refusals.into_iter().map(Reason::Log).collect())
    }
}

impl TransferLeg {
    /// What the leg's rollup would say to it.
    async fn against(
        &self,
        transfer: &MarginTransfer,
        leg: usize,
        input: Vec<u8>,
    ) -> Result<Vec<Reason>, TransferError> {
        let (venue, account, rollup) = (&self.venue, self.wallet.address(), self.venue.rollup());
        let mut reasons = Vec::new();
        let base_fee = venue.base_fee().await?;
        let price = base_fee.saturating_mul(BASE_FEE_FACTOR).saturating_add(PRIORITY_FEE);
        let needed = price.saturating_mul(transfer.gas_limit.into());
        let balance = venue.balance(account).await?;
        if balance < U256::from(needed) {
            let available = u128::try_from(balance).unwrap_or(u128::MAX);
            reasons.push(Reason::NoGas { rollup, needed, available });
        }
        match venue.would_prepare(account, input, transfer.gas_limit).await? {
            Ok(LegStatus::Prepared) => {}
            Ok(LegStatus::Refused) => {
                let (why, available) = self.explain(transfer).await?;
                reasons.push(Reason::Venue { rollup, leg, why, available });
            }
            Ok(status) => {
                let detail = format!("prepare would answer {status:?}: is there an escrow?");
                reasons.push(Reason::Reverts { rollup, leg, detail });
            }
            Err(detail) => reasons.push(Reason::Reverts { rollup, leg, detail }),
        }
        Ok(reasons)
    }

    /// Why the escrow would refuse: what it asks, in its order, with what there is of what is too little.
    async fn explain(&self, transfer: &MarginTransfer) -> Result<(Option<VenueReason>, Option<u128>), TransferError> {
        let (venue, account, asset, amount) = (&self.venue, self.wallet.address(), transfer.asset, self.amount);
        let inventory = venue.inventory(asset).await?;
        if inventory.token == Default::default() {
            return Ok((Some(VenueReason::UnknownAsset), None));
        }
        if amount == 0 || amount > inventory.max_leg {
            return Ok((Some(VenueReason::Amount), Some(inventory.max_leg)));
        }
        let margin = venue.margin(account, asset).await?;
        if self.side == Side::Debit {
            if margin.debt > 0 {
                return Ok((Some(VenueReason::Indebted), None));
            }
            if margin.free < amount {
                return Ok((Some(VenueReason::InsufficientMargin), Some(margin.free)));
            }
        } else {
            let debits = || transfer.legs.iter().filter(|leg| leg.side == Side::Debit);
            let Some(from) = debits().next().map(|leg| leg.venue.rollup()) else { return Ok((None, None)) };
            if debits().any(|leg| leg.venue.rollup() != from) {
                return Ok((Some(VenueReason::AmbiguousCorridor), None));
            }
            if margin.open_credits >= MAX_OPEN_CREDITS {
                return Ok((Some(VenueReason::OpenCredits), None));
            }
            if inventory.available < amount {
                return Ok((Some(VenueReason::InventoryEmpty), Some(inventory.available)));
            }
            let corridor = venue.corridor(from, asset).await?;
            let room = i128::try_from(corridor.cap).unwrap_or(i128::MAX).saturating_sub(corridor.net);
            let room = u128::try_from(room).unwrap_or(0);
            if amount > room {
                return Ok((Some(VenueReason::CorridorCap), Some(room)));
            }
        }
        if !venue.allows(account, asset, self.side, amount).await? {
            return Ok((Some(VenueReason::Venue), None));
        }
        Ok((None, None))
    }
}

/// `MarginEscrow.MAX_OPEN_CREDITS`.
const MAX_OPEN_CREDITS: u64 = 16;
