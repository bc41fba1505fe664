// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

import {FeeDeposits} from "./FeeDeposits.sol";
import {FinalityVerifier} from "./FinalityVerifier.sol";
import {IMarginEscrow} from "./IMarginEscrow.sol";
import {ABORT, COMMIT, Leg, NoSuchLeg, settlementId} from "./Settlement.sol";

/// @title Takes the log's decisions for this rollup, strictly in sequence, and applies them to escrows.
/// @notice One final header, one certificate and one Merkle path prove a lane's leaf; the leaf commits to every decision so far.
/// The hub holds no margin, trusts no caller and no escrow, and has no owner. What an escrow does with a decision cannot keep
/// the hub from the next one.
contract SettlementHub is FeeDeposits, FinalityVerifier, ReentrancyGuardTransient {
    /// A rollup's lane after a block: docs/protocol.md, lanes.
    struct LaneLeaf {
        uint64 rollup;
        uint64 sequence;
        bytes32 feed;
        uint64 decisionSequence;
        bytes32 decisions;
    }

    /// A decision, with its settlement (apply it to every leg of this rollup now) or without legs (only record it).
    struct Decision {
        bytes32 sid;
        /// COMMIT or ABORT.
        uint8 outcome;
        bytes32 account;
        uint64 nonce;
        uint64 deadline;
        Leg[] legs;
    }

    /// Gas that an escrow gets for one leg; the costliest redo of MarginEscrow takes about half. A fixed amount, so that a caller
    /// cannot make an escrow fail by starving it, nor an escrow take a caller's gas.
    uint256 public constant APPLY_GAS = 200_000;

    /// Bytes of an entry of `rest`: a sid and an outcome.
    uint256 private constant ENTRY_BYTES = 33;

    // What a call costs its caller before the callee's gas: the cold account, and the instructions from the check to the call.
    uint256 private constant CALL_OVERHEAD = 5_000;

    /// Decisions taken so far.
    uint64 public decisionSequence;
    /// keccak256 chain over them.
    bytes32 public decisions;
    /// What was decided, where a leg of this rollup may still wait for it. Zero does not mean undecided: a decision that every
    /// leg here took at once is not kept.
    mapping(bytes32 sid => uint8 outcome) public outcomeOf;

    event DecisionsTaken(uint64 sequence, bytes32 decisions);
    event DecisionRecorded(bytes32 indexed sid, uint8 outcome);
    event LegFailed(bytes32 indexed sid, uint256 legIndex, address escrow);

    error WrongLane(uint64 found);
    error NotInLanes(uint64 height);
    error RestLength(uint256 found);
    error TooManyDecisions(uint256 given, uint64 decided);
    error DecisionsMissing(uint64 taken, uint256 firstGiven);
    error NothingNew(uint64 taken);
    error WrongDecisions(bytes32 expected, bytes32 found);
    error WrongSettlement(bytes32 sid, bytes32 found);
    error GasFloor(uint256 found, uint256 needed);
    error Undecided(bytes32 sid);
    error NotThisRollup(uint64 found);
    error NotApplied(bytes32 sid, uint256 legIndex);

    /// @param network_ keccak256 of the network's name.
    /// @param key The group's public key, 256 bytes in EIP-2537's encoding.
    /// @param feeToken_ What fees are deposited in; zero if this rollup takes no deposits.
    /// @param treasury_ Who receives them.
    constructor(
        bytes32 network_,
        bytes memory key,
        address feeToken_,
        address treasury_
    ) FinalityVerifier(network_, key) FeeDeposits(feeToken_, treasury_) {}

    /// @notice Takes the decisions between the hub's own place and a proven leaf. Open to anyone.
    /// @param header The header of a block, and `descendants` and `certificate` as `verify` wants them.
    /// @param leaf This rollup's lane after that block, and `path` from it to the header's lane root.
    /// @param taken The decisions to take, in sequence. Those that the hub has already are passed over.
    /// @param rest The decisions after them up to the leaf, 33 bytes each: sid, outcome. They prove the others and are not taken.
    function applyDecisions(
        bytes calldata header,
        bytes[] calldata descendants,
        Certificate calldata certificate,
        LaneLeaf calldata leaf,
        bytes32[] calldata path,
        Decision[] calldata taken,
        bytes calldata rest
    ) external nonReentrant {
        uint256 first = firstNew(leaf, taken.length, rest);
        checkLane(header, leaf, path);
        bytes32 head = decisions;
        for (uint256 i = first; i < taken.length; i++) {
            head = keccak256(abi.encodePacked(head, taken[i].sid, taken[i].outcome));
        }
        uint64 sequence = decisionSequence + uint64(taken.length - first);
        // The place moves before any escrow is called.
        (decisions, decisionSequence) = (head, sequence);
        emit DecisionsTaken(sequence, head);
        for (uint256 i = 0; i < rest.length; i += ENTRY_BYTES) {
            head = keccak256(abi.encodePacked(head, rest[i:i + ENTRY_BYTES]));
        }
        if (head != leaf.decisions) revert WrongDecisions(leaf.decisions, head);
        verify(header, descendants, certificate);
        for (uint256 i = first; i < taken.length; i++) {
            take(taken[i]);
        }
    }

    /// @notice Applies a recorded decision to one leg. Open to anyone, at any time, any number of times.
    function applyRecorded(
        bytes32 account,
        uint64 nonce,
        uint64 deadline,
        Leg[] calldata legs,
        uint8 legIndex
    ) external nonReentrant {
        bytes32 sid = settlementId(network, account, nonce, deadline, legs);
        uint8 outcome = outcomeOf[sid];
        if (outcome == 0) revert Undecided(sid);
        if (legIndex >= legs.length) revert NoSuchLeg(legIndex, legs.length);
        Leg calldata leg = legs[legIndex];
        if (leg.rollup != block.chainid) revert NotThisRollup(leg.rollup);
        bytes4 answer = IMarginEscrow(leg.escrow).applyDecision(sid, legs, legIndex, outcome);
        if (answer != IMarginEscrow.applyDecision.selector) revert NotApplied(sid, legIndex);
    }

    /// Which of the given decisions is the first that the hub does not have.
    function firstNew(
        LaneLeaf calldata leaf,
        uint256 given,
        bytes calldata rest
    ) private view returns (uint256) {
        if (rest.length % ENTRY_BYTES != 0) revert RestLength(rest.length);
        uint256 all = given + rest.length / ENTRY_BYTES;
        if (all > leaf.decisionSequence) revert TooManyDecisions(all, leaf.decisionSequence);
        uint256 before = leaf.decisionSequence - all;
        uint64 have = decisionSequence;
        if (before > have) revert DecisionsMissing(have, before + 1);
        if (have - before >= given) revert NothingNew(have);
        return have - before;
    }

    function checkLane(
        bytes calldata header,
        LaneLeaf calldata leaf,
        bytes32[] calldata path
    ) private view {
        if (leaf.rollup != block.chainid) revert WrongLane(leaf.rollup);
        if (header.length != HEADER_BYTES) revert HeaderLength(header.length);
        bytes32 hash = keccak256(bytes.concat(keccak256(abi.encode(leaf))));
        if (!MerkleProof.verifyCalldata(path, lanesOf(header), hash)) revert NotInLanes(heightOf(header));
    }

    function take(
        Decision calldata decision
    ) private {
        if (!deliver(decision) && outcomeOf[decision.sid] == 0) {
            // Once and for all: were a sid ever decided twice, the first decision stands.
            outcomeOf[decision.sid] = decision.outcome;
            emit DecisionRecorded(decision.sid, decision.outcome);
        }
    }

    /// Whether every leg of this rollup took the decision.
    function deliver(
        Decision calldata decision
    ) private returns (bool all) {
        Leg[] calldata legs = decision.legs;
        if (legs.length == 0 || (decision.outcome != COMMIT && decision.outcome != ABORT)) return false;
        bytes32 sid = settlementId(network, decision.account, decision.nonce, decision.deadline, legs);
        if (sid != decision.sid) revert WrongSettlement(decision.sid, sid);
        // A sid that was recorded before keeps the decision that was recorded.
        if (outcomeOf[sid] != 0) return false;
        all = true;
        for (uint256 i = 0; i < legs.length; i++) {
            if (legs[i].rollup != block.chainid) continue;
            if (tryApply(
                    legs[i].escrow, abi.encodeCall(IMarginEscrow.applyDecision, (sid, legs, uint8(i), decision.outcome))
                )) continue;
            all = false;
            emit LegFailed(sid, i, legs[i].escrow);
        }
    }

    /// A call that takes APPLY_GAS at most, copies one word of the answer at most, and fails without consequence.
    function tryApply(
        address escrow,
        bytes memory input
    ) private returns (bool ok) {
        // EIP-150 silently lowers a call's gas to 63/64 of what is left: insist on the whole.
        uint256 needed = APPLY_GAS + APPLY_GAS / 63 + CALL_OVERHEAD;
        if (gasleft() < needed) revert GasFloor(gasleft(), needed);
        uint256 gas_ = APPLY_GAS;
        bytes32 answer;
        assembly ("memory-safe") {
            ok := call(gas_, escrow, 0, add(input, 0x20), mload(input), 0, 0x20)
            ok := and(ok, gt(returndatasize(), 0x1f))
            answer := mload(0)
        }
        ok = ok && answer == bytes32(IMarginEscrow.applyDecision.selector);
    }
}
