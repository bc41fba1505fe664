// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {IMarginEscrow} from "./IMarginEscrow.sol";
import {IMarginVenue} from "./IMarginVenue.sol";

/// @title The smallest venue with real margin rules: one perpetual market, one collateral asset, the house on the other side.
/// @notice Collateral is the escrow's ledger alone, so margin in flight counts for nothing here, and no liquidation can reach
/// it. The owner is the price feed. No funding, no order book: it shows how a venue holds an escrow's hook, not how to trade.
contract ReferenceVenue is IMarginVenue, Ownable2Step {
    struct Position {
        /// Units of the underlying, 1e18 each; negative is short.
        int128 size;
        /// What the position was worth when it was last settled, in collateral.
        int128 cost;
    }

    uint256 public constant INITIAL_BPS = 1_000;
    uint256 public constant MAINTENANCE_BPS = 500;
    /// What must remain above initial margin when margin leaves: prices move before the leg is decided.
    uint256 public constant BUFFER_BPS = 100;
    /// Of the notional, from the liquidated account to the liquidator.
    uint256 public constant PENALTY_BPS = 50;

    uint256 private constant BPS = 10_000;
    int256 private constant UNIT = 1e18;
    /// Bounds size and price, so that no product here can overflow.
    uint256 public constant MAX_PRICE = type(uint96).max;
    int256 public constant MAX_SIZE = type(int96).max;

    IMarginEscrow public immutable escrow;
    bytes32 public immutable collateral;

    /// Collateral for one unit of the underlying.
    uint256 public price;
    mapping(address account => Position) public positions;

    event PriceSet(uint256 price);
    event Traded(address indexed account, int256 change, int256 size, uint256 price, int256 profit);
    event Liquidated(
        address indexed account,
        address indexed liquidator,
        int256 size,
        uint256 price,
        uint256 penalty,
        uint256 badDebt
    );

    error PriceRange(uint256 price);
    error SizeRange(int256 size);
    error HouseInsolvent(uint256 free, uint256 needed);
    error BelowInitialMargin(address account, int256 equity, uint256 needed);
    error NotLiquidatable(address account, int256 equity, uint256 maintenance);
    error HouseCannotTrade();

    constructor(
        IMarginEscrow escrow_,
        bytes32 collateral_,
        uint256 price_,
        address owner_
    ) Ownable(owner_) {
        (escrow, collateral) = (escrow_, collateral_);
        setMark(price_);
    }

    function setPrice(
        uint256 price_
    ) external onlyOwner {
        setMark(price_);
    }

    /// @notice Buys (positive) or sells at the mark price, against the house. Settles the profit or loss so far.
    function trade(
        int256 change
    ) external {
        if (msg.sender == address(this)) revert HouseCannotTrade();
        Position storage position = positions[msg.sender];
        int256 before = position.size;
        int256 size = before + change;
        if (size > MAX_SIZE || size < -MAX_SIZE) revert SizeRange(size);
        int256 profit = profitOf(msg.sender);
        if (profit < 0) escrow.settle(collateral, msg.sender, address(this), uint256(-profit));
        else if (profit > 0) payFromHouse(msg.sender, uint256(profit));
        (position.size, position.cost) = (int128(size), int128(worth(size)));
        // Whoever only reduces a position lowers the risk, and may.
        bool reduces = magnitude(size) <= magnitude(before) && (size == 0 || (size > 0) == (before > 0));
        int256 equity = equityOf(msg.sender);
        uint256 needed = requirement(size, INITIAL_BPS);
        if (!reduces && equity < int256(needed)) revert BelowInitialMargin(msg.sender, equity, needed);
        emit Traded(msg.sender, change, size, price, profit);
    }

    /// @notice Closes a position below maintenance margin at the mark price. Open to anyone, who earns the penalty.
    function liquidate(
        address account
    ) external {
        Position storage position = positions[account];
        int256 size = position.size;
        int256 equity = equityOf(account);
        uint256 maintenance = requirement(size, MAINTENANCE_BPS);
        if (size == 0 || equity >= int256(maintenance)) revert NotLiquidatable(account, equity, maintenance);
        int256 profit = profitOf(account);
        (position.size, position.cost) = (0, 0);
        uint256 badDebt;
        if (profit > 0) {
            payFromHouse(account, uint256(profit));
        } else {
            uint256 paid = least(uint256(-profit), escrow.freeOf(account, collateral));
            badDebt = uint256(-profit) - paid;
            escrow.settle(collateral, account, address(this), paid);
        }
        uint256 penalty = least(requirement(size, PENALTY_BPS), escrow.freeOf(account, collateral));
        escrow.settle(collateral, account, msg.sender, penalty);
        emit Liquidated(account, msg.sender, size, price, penalty, badDebt);
    }

    /// @notice Pays the house's margin out.
    function withdrawHouse(
        uint256 amount,
        address to
    ) external onlyOwner {
        escrow.withdraw(collateral, amount, to);
    }

    /// @inheritdoc IMarginVenue
    function mayDebit(
        address account,
        bytes32 asset,
        uint256 amount
    ) external view returns (bool) {
        int256 size = positions[account].size;
        // Without a position, and in an asset that is no collateral here, nothing stands against the margin.
        if (asset != collateral || size == 0) return true;
        uint256 needed = requirement(size, INITIAL_BPS) + requirement(size, BUFFER_BPS);
        return equityOf(account) >= int256(needed + amount);
    }

    /// @inheritdoc IMarginVenue
    function mayCredit(
        address,
        bytes32,
        uint256
    ) external pure returns (bool) {
        return true;
    }

    /// @notice Margin and unrealised profit, in collateral. Margin in flight is no part of it.
    function equityOf(
        address account
    ) public view returns (int256) {
        return escrow.marginOf(account, collateral) + profitOf(account);
    }

    /// @notice Unrealised profit at the mark price.
    function profitOf(
        address account
    ) public view returns (int256) {
        Position storage position = positions[account];
        return worth(position.size) - position.cost;
    }

    function payFromHouse(
        address account,
        uint256 amount
    ) private {
        uint256 free = escrow.freeOf(address(this), collateral);
        if (free < amount) revert HouseInsolvent(free, amount);
        escrow.settle(collateral, address(this), account, amount);
    }

    function setMark(
        uint256 price_
    ) private {
        if (price_ == 0 || price_ > MAX_PRICE) revert PriceRange(price_);
        price = price_;
        emit PriceSet(price_);
    }

    function worth(
        int256 size
    ) private view returns (int256) {
        return size * int256(price) / UNIT;
    }

    function requirement(
        int256 size,
        uint256 bps
    ) private view returns (uint256) {
        return magnitude(worth(size)) * bps / BPS;
    }

    function magnitude(
        int256 value
    ) private pure returns (uint256) {
        return uint256(value < 0 ? -value : value);
    }

    function least(
        uint256 a,
        uint256 b
    ) private pure returns (uint256) {
        return a < b ? a : b;
    }
}
