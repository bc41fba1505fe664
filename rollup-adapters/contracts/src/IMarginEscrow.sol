// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Leg} from "./Settlement.sol";

/// @title What the hub and a venue need of an escrow.
interface IMarginEscrow {
    /// @notice Applies a certified decision to one leg. Idempotent: a leg that was decided stays as it is. Only the hub calls it.
    /// @return this function's selector, so that a hub can tell it from a contract that ignores unknown calls.
    function applyDecision(
        bytes32 sid,
        Leg[] calldata legs,
        uint8 legIndex,
        uint8 outcome
    ) external returns (bytes4);

    /// @notice An account's margin as a venue may count it: free, less what is owed to the pool. Never what is in flight.
    function marginOf(
        address account,
        bytes32 asset
    ) external view returns (int256);

    /// @notice An account's free margin: all that a venue can move.
    function freeOf(
        address account,
        bytes32 asset
    ) external view returns (uint256);

    /// @notice Moves free margin between two accounts of the venue (profit, loss, liquidation). Only the venue calls it.
    function settle(
        bytes32 asset,
        address from,
        address to,
        uint256 amount
    ) external;

    /// @notice Pays free margin out in tokens to `to`. Asks the venue first.
    function withdraw(
        bytes32 asset,
        uint256 amount,
        address to
    ) external;
}
