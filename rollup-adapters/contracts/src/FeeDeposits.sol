// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title How much was ever paid in for each fee account of the log.
/// @notice The log observes the counters by storage proof and credits what they grew by. A counter never falls: what is paid
/// in belongs to the treasury, and the log alone knows what is left of it.
abstract contract FeeDeposits {
    using SafeERC20 for IERC20;

    /// Slot 0, where observers prove it: keccak256(abi.encode(account, uint256(0))). The account as the log names it: 32 bytes.
    mapping(bytes32 account => uint256 credits) public feeDeposits;

    IERC20 public immutable feeToken;
    address public immutable treasury;

    event FeesDeposited(bytes32 indexed account, uint256 amount, uint256 cumulative);

    error NoFeeToken();
    error FeeOnTransfer(address token, uint256 expected, uint256 received);

    /// @param feeToken_ One unit buys one credit; zero if this rollup takes no deposits.
    constructor(
        address feeToken_,
        address treasury_
    ) {
        (feeToken, treasury) = (IERC20(feeToken_), treasury_);
    }

    /// @notice Pays for an account's bundles, from any sender. There is no way back.
    function depositFees(
        bytes32 account,
        uint256 amount
    ) external {
        if (address(feeToken) == address(0)) revert NoFeeToken();
        uint256 before = feeToken.balanceOf(treasury);
        feeToken.safeTransferFrom(msg.sender, treasury, amount);
        uint256 received = feeToken.balanceOf(treasury) - before;
        if (received != amount) revert FeeOnTransfer(address(feeToken), amount, received);
        uint256 cumulative = feeDeposits[account] + amount;
        feeDeposits[account] = cumulative;
        emit FeesDeposited(account, amount, cumulative);
    }
}
