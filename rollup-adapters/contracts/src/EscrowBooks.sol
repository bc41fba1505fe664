// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IMarginEscrow} from "./IMarginEscrow.sol";
import {IMarginVenue} from "./IMarginVenue.sol";
import {LegRecords} from "./LegRecords.sol";

/// @title The money of an escrow: who has what, what the pool has, which limits hold, and how tokens come and go.
/// @notice Of every asset, the sum of all accounts' free and in-flight margin + inventory + reserved = tokens held. With
/// pool = inventory + owed that is S5: free + in flight + pool + reserved = tokens held + shortfall owed. Knows no settlement:
/// see MarginEscrow. Tokens must move exactly what is asked; a token whose balances change by themselves must not be listed.
abstract contract EscrowBooks is LegRecords, Ownable2Step, ReentrancyGuardTransient, IMarginEscrow {
    using SafeERC20 for IERC20;

    /// An account's margin in one asset.
    struct Account {
        uint112 free;
        uint112 inFlight;
        /// Credit legs that stand Prepared.
        uint16 openCredits;
        /// Whether `debt` is above zero: saves the cold read of it.
        bool indebted;
        /// What redone debits could not find.
        uint112 debt;
    }

    struct Asset {
        address token;
        /// Most that one leg may move; zero stops new legs.
        uint96 maxLeg;
        /// Pool that can be promised.
        uint128 inventory;
        /// Pool that stands promised to credit legs.
        uint128 reserved;
        /// Tokens that belong to this ledger.
        uint128 held;
        /// What accounts owe to the pool.
        uint128 owed;
        /// What redone legs may still move, until the owner allows more.
        uint112 redoBudget;
    }

    /// How far this escrow trusts what another rollup's legs pay for.
    struct Corridor {
        /// Most that may come in above what went out.
        uint128 cap;
        /// Credits (also reserved ones) less prepared debits that were committed.
        int128 net;
    }

    /// Gas for one question to the venue.
    uint256 public constant VENUE_GAS = 250_000;
    /// Margin of one account and asset fits 112 bits, so that a ledger entry can never overflow.
    uint256 public constant MAX_HELD = type(uint112).max;

    // From the floor's check to the static call: a cold account, and a few instructions.
    uint256 private constant CALL_OVERHEAD = 5_000;
    // What `prepare` still does after the venue has answered: writes the leg, the account, the books, an event.
    uint256 private constant RECORD_GAS = 90_000;

    IMarginVenue public venue;
    mapping(bytes32 asset => Asset) internal assets;
    mapping(address account => mapping(bytes32 asset => Account)) internal accounts;
    mapping(uint64 rollup => mapping(bytes32 asset => Corridor)) internal corridors;
    mapping(address provider => mapping(bytes32 asset => uint256)) public providedBy;

    event VenueSet(address venue);
    event AssetListed(bytes32 indexed asset, address token);
    event LimitsSet(bytes32 indexed asset, uint96 maxLeg, uint112 redoBudget);
    event CorridorSet(uint64 indexed rollup, bytes32 indexed asset, uint128 cap);
    event Deposited(address indexed account, bytes32 indexed asset, uint256 amount);
    event Withdrawn(address indexed account, bytes32 indexed asset, uint256 amount);
    event Provided(address indexed provider, bytes32 indexed asset, uint256 amount);
    event Reclaimed(address indexed provider, bytes32 indexed asset, uint256 amount);
    event Settled(bytes32 indexed asset, address indexed from, address indexed to, uint256 amount);

    error VenueAlreadySet();
    error NotVenue(address caller);
    error UnknownAsset(bytes32 asset);
    error AssetAlreadyListed(bytes32 asset);
    error FeeOnTransfer(address token, uint256 expected, uint256 received);
    error TooMuchHeld(uint256 held);
    error InsufficientFree(address account, uint256 free, uint256 needed);
    error InsufficientInventory(uint256 inventory, uint256 needed);
    error NotProvided(address provider, uint256 provided, uint256 needed);
    error Indebted(address account, uint256 debt);
    error VenueRefused(address account, uint256 amount);
    error GasFloor(uint256 found, uint256 needed);

    modifier onlyVenue() {
        if (msg.sender != address(venue)) revert NotVenue(msg.sender);
        _;
    }

    constructor(
        address owner_
    ) Ownable(owner_) {}

    // ---- The owner's: what is listed, and how much is at risk ----

    /// Once: who may move margin between accounts must not change under those who deposited it.
    function setVenue(
        IMarginVenue venue_
    ) external onlyOwner {
        if (address(venue) != address(0)) revert VenueAlreadySet();
        venue = venue_;
        emit VenueSet(address(venue_));
    }

    /// Once for each asset: the token of deposits must be that of withdrawals.
    function listAsset(
        bytes32 asset,
        address token
    ) external onlyOwner {
        if (assets[asset].token != address(0)) revert AssetAlreadyListed(asset);
        assets[asset].token = token;
        emit AssetListed(asset, token);
    }

    function setLimits(
        bytes32 asset,
        uint96 maxLeg,
        uint112 redoBudget
    ) external onlyOwner {
        Asset storage a = listed(asset);
        (a.maxLeg, a.redoBudget) = (maxLeg, redoBudget);
        emit LimitsSet(asset, maxLeg, redoBudget);
    }

    function setCorridor(
        uint64 rollup,
        bytes32 asset,
        uint128 cap
    ) external onlyOwner {
        corridors[rollup][asset].cap = cap;
        emit CorridorSet(rollup, asset, cap);
    }

    // ---- Tokens in and out ----

    /// @notice Pays tokens of the sender in, as free margin of `account`.
    function deposit(
        bytes32 asset,
        address account,
        uint256 amount
    ) external nonReentrant {
        pull(asset, amount);
        accounts[account][asset].free += uint112(amount);
        emit Deposited(account, asset, amount);
    }

    /// @inheritdoc IMarginEscrow
    function withdraw(
        bytes32 asset,
        uint256 amount,
        address to
    ) external nonReentrant {
        listed(asset);
        Account storage account = accounts[msg.sender][asset];
        if (account.indebted) revert Indebted(msg.sender, account.debt);
        if (account.free < amount) revert InsufficientFree(msg.sender, account.free, amount);
        if (!ask(abi.encodeCall(IMarginVenue.mayDebit, (msg.sender, asset, amount)))) {
            revert VenueRefused(msg.sender, amount);
        }
        account.free -= uint112(amount);
        emit Withdrawn(msg.sender, asset, amount);
        push(asset, amount, to);
    }

    /// @notice Adds to the pool from which credits are paid. Reclaimable out of the inventory there is then.
    function provide(
        bytes32 asset,
        uint256 amount
    ) external nonReentrant {
        pull(asset, amount);
        assets[asset].inventory += uint128(amount);
        providedBy[msg.sender][asset] += amount;
        emit Provided(msg.sender, asset, amount);
    }

    /// @notice Takes back what the sender provided, as far as the inventory goes: first come, first served.
    function reclaim(
        bytes32 asset,
        uint256 amount,
        address to
    ) external nonReentrant {
        Asset storage a = listed(asset);
        uint256 provided = providedBy[msg.sender][asset];
        if (provided < amount) revert NotProvided(msg.sender, provided, amount);
        if (a.inventory < amount) revert InsufficientInventory(a.inventory, amount);
        providedBy[msg.sender][asset] = provided - amount;
        a.inventory -= uint128(amount);
        emit Reclaimed(msg.sender, asset, amount);
        push(asset, amount, to);
    }

    // ---- The venue's ----

    /// @inheritdoc IMarginEscrow
    function settle(
        bytes32 asset,
        address from,
        address to,
        uint256 amount
    ) external onlyVenue {
        Account storage source = accounts[from][asset];
        if (source.free < amount) revert InsufficientFree(from, source.free, amount);
        source.free -= uint112(amount);
        accounts[to][asset].free += uint112(amount);
        emit Settled(asset, from, to, amount);
    }

    // ---- Views ----

    /// @inheritdoc IMarginEscrow
    function marginOf(
        address account,
        bytes32 asset
    ) external view returns (int256) {
        Account storage a = accounts[account][asset];
        return int256(uint256(a.free)) - (a.indebted ? int256(uint256(a.debt)) : int256(0));
    }

    /// @inheritdoc IMarginEscrow
    function freeOf(
        address account,
        bytes32 asset
    ) external view returns (uint256) {
        return accounts[account][asset].free;
    }

    function accountOf(
        address account,
        bytes32 asset
    ) external view returns (Account memory) {
        return accounts[account][asset];
    }

    function assetOf(
        bytes32 asset
    ) external view returns (Asset memory) {
        return assets[asset];
    }

    function corridorOf(
        uint64 rollup,
        bytes32 asset
    ) external view returns (Corridor memory) {
        return corridors[rollup][asset];
    }

    // ---- Inner ----

    function listed(
        bytes32 asset
    ) internal view returns (Asset storage a) {
        a = assets[asset];
        if (a.token == address(0)) revert UnknownAsset(asset);
    }

    /// Whether the venue says yes. Reverts only if the caller left too little gas for the venue to answer, because a no that
    /// a caller can provoke would be a forged vote.
    function ask(
        bytes memory question
    ) internal view returns (bool yes) {
        uint256 needed = VENUE_GAS + VENUE_GAS / 63 + CALL_OVERHEAD + RECORD_GAS;
        if (gasleft() < needed) revert GasFloor(gasleft(), needed);
        (address venue_, uint256 gas_) = (address(venue), VENUE_GAS);
        assembly ("memory-safe") {
            // At most one word of the answer is copied.
            yes := staticcall(gas_, venue_, add(question, 0x20), mload(question), 0, 0x20)
            yes := and(and(yes, gt(returndatasize(), 0x1f)), eq(mload(0), 1))
        }
    }

    function pull(
        bytes32 asset,
        uint256 amount
    ) private {
        Asset storage a = listed(asset);
        IERC20 token = IERC20(a.token);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert FeeOnTransfer(address(token), amount, received);
        uint256 held = a.held + amount;
        if (held > MAX_HELD) revert TooMuchHeld(held);
        a.held = uint128(held);
    }

    function push(
        bytes32 asset,
        uint256 amount,
        address to
    ) private {
        Asset storage a = assets[asset];
        a.held -= uint128(amount);
        IERC20(a.token).safeTransfer(to, amount);
    }
}
