// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {EscrowBooks} from "./EscrowBooks.sol";
import {IMarginEscrow} from "./IMarginEscrow.sol";
import {IMarginVenue} from "./IMarginVenue.sol";
import {ABORT, COMMIT, CREDIT, DEBIT, Leg, NoSuchLeg, settlementId} from "./Settlement.sol";
import {SettlementHub} from "./SettlementHub.sol";

/// @title A participant of atomic settlements: votes with `prepare`, and obeys the hub's decisions.
/// @notice None -> Prepared -> Committed | Released; None -> Refused -> Released; None -> Released, after which prepare fails;
/// None | Refused -> Committed | Shortfall, where a reorganization took the prepare or made it a refusal after the decision;
/// Shortfall -> Committed. Nothing else. No clock and no owner releases anything.
contract MarginEscrow is EscrowBooks {
    /// Why a leg was refused. The leg's word holds it above the status; the values are part of the interface.
    enum Refusal {
        None,
        UnknownAsset,
        Amount,
        InsufficientMargin,
        Indebted,
        Venue,
        Inventory,
        CorridorCap,
        AmbiguousCorridor,
        OpenCredits
    }

    /// Credit legs of one account that may stand Prepared at once: with the asset's `maxLeg`, what it can hold of the inventory.
    uint256 public constant MAX_OPEN_CREDITS = 16;

    /// A gas limit with which `prepare` never meets the floor, for eight legs and cold storage.
    uint256 public constant PREPARE_GAS = 500_000;

    SettlementHub public immutable hub;
    /// keccak256 of the network's name.
    bytes32 public immutable network;

    event LegPrepared(
        bytes32 indexed sid, uint8 legIndex, address indexed account, bytes32 indexed asset, uint8 side, uint256 amount
    );
    event LegRefused(bytes32 indexed sid, uint8 legIndex, address indexed account, Refusal reason);
    event LegCommitted(bytes32 indexed sid, uint8 legIndex);
    event LegReleased(bytes32 indexed sid, uint8 legIndex);
    event LegShort(bytes32 indexed sid, uint8 legIndex, uint256 missing);

    error NotHub(address caller);
    error NotThisRollup(uint64 found);
    error NotThisEscrow(address found);
    error NotLegAccount(address caller, address account);
    error UnknownSide(uint8 found);
    error UnknownOutcome(uint8 found);
    error LegExists(bytes32 sid, uint8 legIndex, uint8 status);
    error NotShort(bytes32 sid, uint8 legIndex, uint8 status);
    error RedoBudgetExceeded(uint256 budget, uint256 needed);

    /// @param hub_ Whose decisions hold, and whose network the settlements are of.
    /// @param owner_ Who lists assets and sets limits.
    constructor(
        SettlementHub hub_,
        address owner_
    ) EscrowBooks(owner_) {
        (hub, network) = (hub_, hub_.network());
    }

    /// @notice Locks one leg, or records why not: both are votes that the log can prove. The account itself must send it.
    /// @param account, nonce, deadline, legs The settlement, from which its id is computed.
    /// @return status PREPARED or REFUSED.
    function prepare(
        bytes32 account,
        uint64 nonce,
        uint64 deadline,
        Leg[] calldata legs,
        uint8 legIndex
    ) external returns (uint8 status) {
        Leg calldata leg = ownLeg(legs, legIndex);
        if (msg.sender != leg.account) revert NotLegAccount(msg.sender, leg.account);
        bytes32 sid = settlementId(network, account, nonce, deadline, legs);
        status = legStatus(sid, legIndex);
        if (status != NONE) revert LegExists(sid, legIndex, status);
        Refusal refusal = leg.side == DEBIT ? lockDebit(leg) : reserveCredit(leg, legs);
        if (refusal == Refusal.None) {
            setLeg(sid, legIndex, PREPARED);
            emit LegPrepared(sid, legIndex, leg.account, leg.asset, leg.side, leg.amount);
            return PREPARED;
        }
        setLeg(sid, legIndex, REFUSED | uint256(refusal) << 8);
        emit LegRefused(sid, legIndex, leg.account, refusal);
        return REFUSED;
    }

    /// @inheritdoc IMarginEscrow
    function applyDecision(
        bytes32 sid,
        Leg[] calldata legs,
        uint8 legIndex,
        uint8 outcome
    ) external returns (bytes4) {
        if (msg.sender != address(hub)) revert NotHub(msg.sender);
        if (outcome != COMMIT && outcome != ABORT) revert UnknownOutcome(outcome);
        Leg calldata leg = ownLeg(legs, legIndex);
        uint8 status = legStatus(sid, legIndex);
        if (status == PREPARED) {
            if (outcome == COMMIT) commit(leg, legs);
            else release(leg, legs);
            conclude(sid, legIndex, outcome == COMMIT ? COMMITTED : RELEASED);
        } else if (status == NONE || status == REFUSED) {
            if (outcome == COMMIT) conclude(sid, legIndex, redo(leg, legs));
            else conclude(sid, legIndex, RELEASED);
        }
        return IMarginEscrow.applyDecision.selector;
    }

    /// @notice Covers a leg's shortfall: a debit's from the account's free margin, as far as it goes; a credit's from the
    /// inventory, once it suffices. Open to anyone, who may deposit or provide first.
    function cover(
        bytes32 account,
        uint64 nonce,
        uint64 deadline,
        Leg[] calldata legs,
        uint8 legIndex
    ) external {
        Leg calldata leg = ownLeg(legs, legIndex);
        bytes32 sid = settlementId(network, account, nonce, deadline, legs);
        uint256 word = legWord(sid, legIndex);
        if (uint8(word) != SHORTFALL) revert NotShort(sid, legIndex, uint8(word));
        uint112 missing = uint112(word >> 8);
        Asset storage asset = assets[leg.asset];
        Account storage margin = accounts[leg.account][leg.asset];
        if (leg.side == CREDIT) {
            if (asset.inventory < missing) revert InsufficientInventory(asset.inventory, missing);
            creditFromInventory(leg, legs);
            conclude(sid, legIndex, COMMITTED);
            return;
        }
        uint112 paid = margin.free < missing ? margin.free : missing;
        margin.free -= paid;
        margin.debt -= paid;
        margin.indebted = margin.debt > 0;
        asset.owed -= paid;
        asset.inventory += paid;
        conclude(sid, legIndex, paid == missing ? COMMITTED : short(missing - paid));
    }

    function lockDebit(
        Leg calldata leg
    ) private returns (Refusal) {
        Asset storage asset = assets[leg.asset];
        if (asset.token == address(0)) return Refusal.UnknownAsset;
        if (leg.amount == 0 || leg.amount > asset.maxLeg) return Refusal.Amount;
        Account storage margin = accounts[leg.account][leg.asset];
        if (margin.indebted) return Refusal.Indebted;
        if (margin.free < leg.amount) return Refusal.InsufficientMargin;
        if (!ask(abi.encodeCall(IMarginVenue.mayDebit, (leg.account, leg.asset, leg.amount)))) return Refusal.Venue;
        margin.free -= uint112(leg.amount);
        margin.inFlight += uint112(leg.amount);
        return Refusal.None;
    }

    function reserveCredit(
        Leg calldata leg,
        Leg[] calldata legs
    ) private returns (Refusal) {
        Asset storage asset = assets[leg.asset];
        if (asset.token == address(0)) return Refusal.UnknownAsset;
        if (leg.amount == 0 || leg.amount > asset.maxLeg) return Refusal.Amount;
        (uint64 rollup, bool single) = counterpart(leg, legs);
        if (!single) return Refusal.AmbiguousCorridor;
        Account storage margin = accounts[leg.account][leg.asset];
        if (margin.openCredits >= MAX_OPEN_CREDITS) return Refusal.OpenCredits;
        if (asset.inventory < leg.amount) return Refusal.Inventory;
        Corridor storage corridor = corridors[rollup][leg.asset];
        int128 net = corridor.net + int128(leg.amount);
        if (net > 0 && uint128(net) > corridor.cap) return Refusal.CorridorCap;
        if (!ask(abi.encodeCall(IMarginVenue.mayCredit, (leg.account, leg.asset, leg.amount)))) return Refusal.Venue;
        corridor.net = net;
        margin.openCredits += 1;
        asset.inventory -= leg.amount;
        asset.reserved += leg.amount;
        return Refusal.None;
    }

    function commit(
        Leg calldata leg,
        Leg[] calldata legs
    ) private {
        Asset storage asset = assets[leg.asset];
        Account storage margin = accounts[leg.account][leg.asset];
        if (leg.side == CREDIT) {
            margin.openCredits -= 1;
            asset.reserved -= leg.amount;
            margin.free += uint112(leg.amount);
            return;
        }
        margin.inFlight -= uint112(leg.amount);
        asset.inventory += leg.amount;
        // A debit that pays several rollups frees no corridor: what each of them took from it is not known here.
        (uint64 rollup, bool single) = counterpart(leg, legs);
        if (single) corridors[rollup][leg.asset].net -= int128(leg.amount);
    }

    function release(
        Leg calldata leg,
        Leg[] calldata legs
    ) private {
        Asset storage asset = assets[leg.asset];
        Account storage margin = accounts[leg.account][leg.asset];
        if (leg.side == DEBIT) {
            margin.inFlight -= uint112(leg.amount);
            margin.free += uint112(leg.amount);
            return;
        }
        (uint64 rollup,) = counterpart(leg, legs);
        corridors[rollup][leg.asset].net -= int128(leg.amount);
        margin.openCredits -= 1;
        asset.reserved -= leg.amount;
        asset.inventory += leg.amount;
    }

    /// Commits a leg that is not prepared here. The other rollup has moved already, so this asks neither venue nor corridor. But it
    /// moves margin on the certificate's word alone, so a budget bounds what a rogue certificate could do with it.
    function redo(
        Leg calldata leg,
        Leg[] calldata legs
    ) private returns (uint256) {
        Asset storage asset = listed(leg.asset);
        if (asset.redoBudget < leg.amount) revert RedoBudgetExceeded(asset.redoBudget, leg.amount);
        asset.redoBudget -= uint112(leg.amount);
        if (leg.side == CREDIT) {
            if (asset.inventory < leg.amount) return short(leg.amount);
            creditFromInventory(leg, legs);
            return COMMITTED;
        }
        Account storage margin = accounts[leg.account][leg.asset];
        uint112 paid = margin.free < leg.amount ? margin.free : uint112(leg.amount);
        margin.free -= paid;
        asset.inventory += paid;
        if (paid == leg.amount) return COMMITTED;
        uint112 missing = uint112(leg.amount) - paid;
        (margin.indebted, margin.debt) = (true, margin.debt + missing);
        asset.owed += missing;
        return short(missing);
    }

    function creditFromInventory(
        Leg calldata leg,
        Leg[] calldata legs
    ) private {
        (uint64 rollup,) = counterpart(leg, legs);
        corridors[rollup][leg.asset].net += int128(leg.amount);
        assets[leg.asset].inventory -= leg.amount;
        accounts[leg.account][leg.asset].free += uint112(leg.amount);
    }

    function conclude(
        bytes32 sid,
        uint8 legIndex,
        uint256 word
    ) private {
        setLeg(sid, legIndex, word);
        if (word == COMMITTED) emit LegCommitted(sid, legIndex);
        else if (word == RELEASED) emit LegReleased(sid, legIndex);
        else emit LegShort(sid, legIndex, word >> 8);
    }

    function short(
        uint256 missing
    ) private pure returns (uint256) {
        return SHORTFALL | missing << 8;
    }

    function ownLeg(
        Leg[] calldata legs,
        uint8 legIndex
    ) private view returns (Leg calldata leg) {
        if (legIndex >= legs.length) revert NoSuchLeg(legIndex, legs.length);
        leg = legs[legIndex];
        if (leg.rollup != block.chainid) revert NotThisRollup(leg.rollup);
        if (leg.escrow != address(this)) revert NotThisEscrow(leg.escrow);
        if (leg.side != DEBIT && leg.side != CREDIT) revert UnknownSide(leg.side);
    }

    /// The rollup of the legs that balance `leg`; not single if they are on several, or if there are none.
    function counterpart(
        Leg calldata leg,
        Leg[] calldata legs
    ) private pure returns (uint64 rollup, bool single) {
        for (uint256 i = 0; i < legs.length; i++) {
            if (legs[i].asset != leg.asset || legs[i].side == leg.side) continue;
            if (single && legs[i].rollup != rollup) return (rollup, false);
            (rollup, single) = (legs[i].rollup, true);
        }
    }
}
