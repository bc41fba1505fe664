//! The contracts' interfaces: functions, events and errors that somebody outside of a contract uses.
//!
//! A test holds every one of them against the compiled artifacts.

#![allow(
    missing_docs,
    clippy::too_many_arguments,
    reason = "written by the macro; the Solidity sources say what each means"
)]

use alloy_sol_types::sol;

sol! {
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Leg {
        uint64 rollup;
        address escrow;
        address account;
        bytes32 asset;
        uint8 side;
        uint128 amount;
        uint8 level;
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Certificate {
        uint64 epoch;
        uint64 view_;
        uint64 parentView;
        bytes signature;
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct LaneLeaf {
        uint64 rollup;
        uint64 sequence;
        bytes32 feed;
        uint64 decisionSequence;
        bytes32 decisions;
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Decision {
        bytes32 sid;
        uint8 outcome;
        bytes32 account;
        uint64 nonce;
        uint64 deadline;
        Leg[] legs;
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Account {
        uint112 free;
        uint112 inFlight;
        uint16 openCredits;
        bool indebted;
        uint112 debt;
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Asset {
        address token;
        uint96 maxLeg;
        uint128 inventory;
        uint128 reserved;
        uint128 held;
        uint128 owed;
        uint112 redoBudget;
    }

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Corridor {
        uint128 cap;
        int128 net;
    }

    #[derive(Debug, PartialEq, Eq)]
    interface SettlementHub {
        constructor(bytes32 network_, bytes key, address feeToken_, address treasury_);

        function network() external view returns (bytes32);
        function groupKey() external view returns (bytes);
        function decisionSequence() external view returns (uint64);
        function decisions() external view returns (bytes32);
        function outcomeOf(bytes32 sid) external view returns (uint8);
        function feeDeposits(bytes32 account) external view returns (uint256);
        function feeToken() external view returns (address);
        function depositFees(bytes32 account, uint256 amount) external;
        function applyDecisions(
            bytes header,
            bytes[] descendants,
            Certificate certificate,
            LaneLeaf leaf,
            bytes32[] path,
            Decision[] taken,
            bytes rest
        ) external;
        function applyRecorded(bytes32 account, uint64 nonce, uint64 deadline, Leg[] legs, uint8 legIndex) external;

        event DecisionsTaken(uint64 sequence, bytes32 decisions);
        event DecisionRecorded(bytes32 indexed sid, uint8 outcome);
        event LegFailed(bytes32 indexed sid, uint256 legIndex, address escrow);
        event FeesDeposited(bytes32 indexed account, uint256 amount, uint256 cumulative);

        error HeaderLength(uint256 found);
        error HeaderVersion(bytes4 found);
        error WrongNetwork(bytes32 found);
        error TooManyDescendants(uint256 found);
        error BrokenChain(uint64 height);
        error SignatureLength(uint256 found);
        error InfinitySignature();
        error ForgedCertificate();
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
    }

    #[derive(Debug, PartialEq, Eq)]
    interface MarginEscrow {
        constructor(address hub_, address owner_);

        function hub() external view returns (address);
        function venue() external view returns (address);
        function setVenue(address venue_) external;
        function listAsset(bytes32 asset, address token) external;
        function setLimits(bytes32 asset, uint96 maxLeg, uint112 redoBudget) external;
        function setCorridor(uint64 rollup, bytes32 asset, uint128 cap) external;
        function deposit(bytes32 asset, address account, uint256 amount) external;
        function withdraw(bytes32 asset, uint256 amount, address to) external;
        function provide(bytes32 asset, uint256 amount) external;
        function reclaim(bytes32 asset, uint256 amount, address to) external;
        function prepare(bytes32 account, uint64 nonce, uint64 deadline, Leg[] legs, uint8 legIndex)
            external
            returns (uint8 status);
        function cover(bytes32 account, uint64 nonce, uint64 deadline, Leg[] legs, uint8 legIndex) external;
        function marginOf(address account, bytes32 asset) external view returns (int256);
        function freeOf(address account, bytes32 asset) external view returns (uint256);
        function accountOf(address account, bytes32 asset) external view returns (Account);
        function assetOf(bytes32 asset) external view returns (Asset);
        function corridorOf(uint64 rollup, bytes32 asset) external view returns (Corridor);
        function legWord(bytes32 sid, uint8 legIndex) external view returns (uint256);
        function legStatus(bytes32 sid, uint8 legIndex) external view returns (uint8);

        event Deposited(address indexed account, bytes32 indexed asset, uint256 amount);
        event Withdrawn(address indexed account, bytes32 indexed asset, uint256 amount);
        event Provided(address indexed provider, bytes32 indexed asset, uint256 amount);
        event Settled(bytes32 indexed asset, address indexed from, address indexed to, uint256 amount);
        event LegPrepared(
            bytes32 indexed sid, uint8 legIndex, address indexed account, bytes32 indexed asset, uint8 side, uint256 amount
        );
        event LegRefused(bytes32 indexed sid, uint8 legIndex, address indexed account, uint8 reason);
        event LegCommitted(bytes32 indexed sid, uint8 legIndex);
        event LegReleased(bytes32 indexed sid, uint8 legIndex);
        event LegShort(bytes32 indexed sid, uint8 legIndex, uint256 missing);

        error NotHub(address caller);
        error NotThisRollup(uint64 found);
        error NotThisEscrow(address found);
        error NotLegAccount(address caller, address account);
        error NoSuchLeg(uint256 index, uint256 legs);
        error TooManyLegs(uint256 legs);
        error LegExists(bytes32 sid, uint8 legIndex, uint8 status);
        error NotShort(bytes32 sid, uint8 legIndex, uint8 status);
        error RedoBudgetExceeded(uint256 budget, uint256 needed);
        error InsufficientFree(address account, uint256 free, uint256 needed);
        error InsufficientInventory(uint256 inventory, uint256 needed);
        error GasFloor(uint256 found, uint256 needed);
    }

    #[derive(Debug, PartialEq, Eq)]
    interface ReferenceVenue {
        constructor(address escrow_, bytes32 collateral_, uint256 price_, address owner_);

        function price() external view returns (uint256);
        function setPrice(uint256 price_) external;
        function trade(int256 change) external;
        function liquidate(address account) external;
        function positions(address account) external view returns (int128 size, int128 cost);
        function equityOf(address account) external view returns (int256);
        function mayDebit(address account, bytes32 asset, uint256 amount) external view returns (bool);

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

        error HouseInsolvent(uint256 free, uint256 needed);
        error BelowInitialMargin(address account, int256 equity, uint256 needed);
        error NotLiquidatable(address account, int256 equity, uint256 maintenance);
    }

    #[derive(Debug, PartialEq, Eq)]
    interface TestToken {
        constructor(string name, string symbol, uint8 decimalPlaces);

        function mint(address to, uint256 amount) external;
        function approve(address spender, uint256 value) external returns (bool);
        function transfer(address to, uint256 value) external returns (bool);
        function balanceOf(address account) external view returns (uint256);
        function totalSupply() external view returns (uint256);
        function decimals() external view returns (uint8);

        event Transfer(address indexed from, address indexed to, uint256 value);
    }
}
