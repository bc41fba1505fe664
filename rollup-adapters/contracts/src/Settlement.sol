// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

// What a settlement is, and which bytes its id has. Does not decide, store or move anything.

// Margin leaves the account here.
uint8 constant DEBIT = 0;
// Margin arrives at the account here.
uint8 constant CREDIT = 1;

// A decision's outcome: every leg moves.
uint8 constant COMMIT = 1;
// A decision's outcome: no leg moves.
uint8 constant ABORT = 2;

// Legs of a settlement: as many as a bundle may have.
uint256 constant MAX_LEGS = 8;

bytes32 constant SETTLEMENT_DOMAIN = keccak256("lockstep settlement v1");

/// One movement of margin on one rollup.
struct Leg {
    /// EIP-155 chain id.
    uint64 rollup;
    address escrow;
    /// Whose margin moves there; the sender of `prepare`.
    address account;
    /// The same on every rollup, for instance keccak256("USDC").
    bytes32 asset;
    /// DEBIT or CREDIT.
    uint8 side;
    /// In the token's smallest unit.
    uint128 amount;
    /// How settled a head must be to count as evidence: 0 executed, 1 safe, 2 final. The log's matter, not a contract's.
    uint8 level;
}

error NoSuchLeg(uint256 index, uint256 legs);
error TooManyLegs(uint256 legs);

/// @param network keccak256 of the network's name.
/// @param account Who ordered the settlement, as the log names it: 32 bytes.
function settlementId(
    bytes32 network,
    bytes32 account,
    uint64 nonce,
    uint64 deadline,
    Leg[] calldata legs
) pure returns (bytes32) {
    if (legs.length > MAX_LEGS) revert TooManyLegs(legs.length);
    return keccak256(abi.encode(SETTLEMENT_DOMAIN, network, account, nonce, deadline, legs));
}
