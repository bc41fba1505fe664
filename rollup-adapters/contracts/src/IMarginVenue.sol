// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title What a trading venue answers to the escrow that holds its accounts' margin.
/// @notice The escrow's ledger is the margin: a venue reads `marginOf` and keeps no copy. So a lock and a credit need no call that
/// could fail: locked margin has left `marginOf`, credited margin appears in it. Both questions are static calls with a fixed
/// amount of gas. Anything but a clear yes (a revert, no code, short or other data, all gas burnt) is a no.
interface IMarginVenue {
    /// May the account's margin fall by `amount`, so that what remains still covers its positions?
    function mayDebit(
        address account,
        bytes32 asset,
        uint256 amount
    ) external view returns (bool);

    /// May the account receive margin?
    function mayCredit(
        address account,
        bytes32 asset,
        uint256 amount
    ) external view returns (bool);
}
