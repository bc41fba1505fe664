// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {FinalityVerifier} from "../src/FinalityVerifier.sol";
import {MarginEscrow} from "../src/MarginEscrow.sol";
import {EscrowBooks} from "../src/EscrowBooks.sol";
import {ReferenceVenue} from "../src/ReferenceVenue.sol";
import {ABORT, COMMIT, CREDIT, DEBIT, Leg, settlementId} from "../src/Settlement.sol";
import {SettlementHub} from "../src/SettlementHub.sol";
import {TestToken} from "../src/TestToken.sol";
import {Signer, publicKeyOf} from "./Signer.sol";
import {Test} from "./Test.sol";

/// Two rollups with everything deployed, and a log that certifies blocks with real signatures. Both stand in one EVM: `on` says
/// which of them a call is made on.
abstract contract World is Test {
    bytes32 internal constant NETWORK = keccak256("lockstep-test-1");
    uint256 internal constant SECRET = 0x23c205e368093188a73311a45658e3d30e00741019b0eff05277ba2fd42bc422;
    bytes32 internal constant USDC = keccak256("USDC");
    uint64 internal constant ALPHA = 10;
    uint64 internal constant BETA = 901;
    uint96 internal constant MAX_LEG = 1_000_000;
    uint112 internal constant REDO_BUDGET = 10_000_000;
    uint128 internal constant CAP = 5_000_000;

    struct Rollup {
        uint64 id;
        SettlementHub hub;
        MarginEscrow escrow;
        ReferenceVenue venue;
        TestToken token;
    }

    struct Settlement {
        bytes32 account;
        uint64 nonce;
        uint64 deadline;
        Leg[] legs;
    }

    /// A certified block, and the lanes after it.
    struct Block {
        bytes header;
        bytes[] descendants;
        FinalityVerifier.Certificate certificate;
        SettlementHub.LaneLeaf alpha;
        SettlementHub.LaneLeaf beta;
    }

    Signer internal signer;
    Rollup internal alpha;
    Rollup internal beta;
    SettlementHub.LaneLeaf internal alphaLane;
    SettlementHub.LaneLeaf internal betaLane;
    uint64 internal height;

    address internal alice = address(0xA11CE);
    address internal bob = address(0xB0B);
    address internal provider = address(0x11);
    address internal relayer = address(0x22);

    function setUp() public virtual {
        signer = new Signer(NETWORK, SECRET);
        alpha = deploy(ALPHA);
        beta = deploy(BETA);
        alphaLane = SettlementHub.LaneLeaf(ALPHA, 0, keccak256("alpha's feed"), 0, 0);
        betaLane = SettlementHub.LaneLeaf(BETA, 0, keccak256("beta's feed"), 0, 0);
    }

    function deploy(
        uint64 id
    ) internal returns (Rollup memory r) {
        vm.chainId(id);
        r.id = id;
        r.token = new TestToken("USD Coin", "USDC", 6);
        r.hub = new SettlementHub(NETWORK, signer.groupKey(), address(r.token), address(0x7EA));
        r.escrow = new MarginEscrow(r.hub, address(this));
        r.venue = new ReferenceVenue(r.escrow, USDC, 2_000e6, address(this));
        r.escrow.setVenue(r.venue);
        r.escrow.listAsset(USDC, address(r.token));
        r.escrow.setLimits(USDC, MAX_LEG, REDO_BUDGET);
        r.escrow.setCorridor(ALPHA, USDC, CAP);
        r.escrow.setCorridor(BETA, USDC, CAP);
        fund(r, provider, 0);
        r.token.mint(provider, 3_000_000);
        vm.prank(provider);
        r.escrow.provide(USDC, 3_000_000);
    }

    /// Gives an account free margin.
    function fund(
        Rollup memory r,
        address account,
        uint256 amount
    ) internal {
        r.token.mint(account, amount);
        vm.prank(account);
        r.token.approve(address(r.escrow), type(uint256).max);
        vm.prank(account);
        r.escrow.deposit(USDC, account, amount);
    }

    // ---- Settlements ----

    /// From an account on one rollup to the same account on the other.
    function transfer(
        Rollup memory from,
        Rollup memory to,
        address account,
        uint128 amount,
        uint64 nonce
    ) internal pure returns (Settlement memory s) {
        s = Settlement(keccak256(abi.encode("account", account)), nonce, 100, new Leg[](2));
        s.legs[0] = Leg(from.id, address(from.escrow), account, USDC, DEBIT, amount, 0);
        s.legs[1] = Leg(to.id, address(to.escrow), account, USDC, CREDIT, amount, 0);
    }

    function sidOf(
        Settlement memory s
    ) internal view returns (bytes32) {
        return this.hash(s);
    }

    function hash(
        Settlement calldata s
    ) external pure returns (bytes32) {
        return settlementId(NETWORK, s.account, s.nonce, s.deadline, s.legs);
    }

    function prepare(
        Rollup memory r,
        Settlement memory s,
        uint8 index
    ) internal returns (uint8) {
        vm.chainId(r.id);
        vm.prank(s.legs[index].account);
        return r.escrow.prepare(s.account, s.nonce, s.deadline, s.legs, index);
    }

    function status(
        Rollup memory r,
        Settlement memory s,
        uint8 index
    ) internal view returns (uint8) {
        return r.escrow.legStatus(sidOf(s), index);
    }

    // ---- The log ----

    function entry(
        Settlement memory s,
        uint8 outcome
    ) internal view returns (SettlementHub.Decision memory) {
        return SettlementHub.Decision(sidOf(s), outcome, s.account, s.nonce, s.deadline, s.legs);
    }

    /// The same decision without its settlement.
    function bare(
        SettlementHub.Decision memory d
    ) internal pure returns (SettlementHub.Decision memory) {
        return SettlementHub.Decision(d.sid, d.outcome, 0, 0, 0, new Leg[](0));
    }

    function one(
        SettlementHub.Decision memory d
    ) internal pure returns (SettlementHub.Decision[] memory all) {
        all = new SettlementHub.Decision[](1);
        all[0] = d;
    }

    /// A decision enters both lanes.
    function decide(
        bytes32 sid,
        uint8 outcome
    ) internal {
        extend(alphaLane, sid, outcome);
        extend(betaLane, sid, outcome);
    }

    function extend(
        SettlementHub.LaneLeaf storage lane,
        bytes32 sid,
        uint8 outcome
    ) internal {
        lane.decisions = keccak256(abi.encodePacked(lane.decisions, sid, outcome));
        lane.decisionSequence += 1;
    }

    /// A final block with the lanes as they are.
    function seal() internal returns (Block memory b) {
        height += 1;
        (b.alpha, b.beta) = (alphaLane, betaLane);
        b.header = headerOf(height, keccak256("parent"), rootOf(b));
        b.descendants = new bytes[](0);
        b.certificate = signer.sign(b.header, 0, height, height - 1);
    }

    function headerOf(
        uint64 height_,
        bytes32 parent,
        bytes32 lanes
    ) internal pure returns (bytes memory) {
        return bytes.concat(
            abi.encodePacked(
                "LSH1", NETWORK, uint64(0), height_, height_ - 1, keccak256("leader"), height_, parent, height_ * 20
            ),
            abi.encodePacked(uint64(1), keccak256("origin"), uint64(1), keccak256("body"), lanes, keccak256("state")),
            abi.encodePacked(keccak256("operations"), uint64(0), uint64(1))
        );
    }

    function leafHash(
        SettlementHub.LaneLeaf memory leaf
    ) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(leaf))));
    }

    function rootOf(
        Block memory b
    ) internal pure returns (bytes32) {
        (bytes32 x, bytes32 y) = (leafHash(b.alpha), leafHash(b.beta));
        return x < y ? keccak256(bytes.concat(x, y)) : keccak256(bytes.concat(y, x));
    }

    function leafOf(
        Rollup memory r,
        Block memory b
    ) internal pure returns (SettlementHub.LaneLeaf memory) {
        return r.id == ALPHA ? b.alpha : b.beta;
    }

    function pathOf(
        Rollup memory r,
        Block memory b
    ) internal pure returns (bytes32[] memory path) {
        path = new bytes32[](1);
        path[0] = leafHash(r.id == ALPHA ? b.beta : b.alpha);
    }

    function relay(
        Rollup memory r,
        Block memory b,
        SettlementHub.Decision[] memory taken,
        bytes memory rest
    ) internal {
        vm.chainId(r.id);
        vm.prank(relayer);
        r.hub.applyDecisions(b.header, b.descendants, b.certificate, leafOf(r, b), pathOf(r, b), taken, rest);
    }

    /// Decides and applies on both rollups.
    function conclude(
        Settlement memory s,
        uint8 outcome
    ) internal {
        decide(sidOf(s), outcome);
        Block memory b = seal();
        relay(alpha, b, one(entry(s, outcome)), "");
        relay(beta, b, one(entry(s, outcome)), "");
    }

    // ---- Claims ----

    function free(
        Rollup memory r,
        address account
    ) internal view returns (uint256) {
        return r.escrow.freeOf(account, USDC);
    }

    function inFlight(
        Rollup memory r,
        address account
    ) internal view returns (uint256) {
        return r.escrow.accountOf(account, USDC).inFlight;
    }

    /// Every balance of a rollup that a test could move, as one value.
    function books(
        Rollup memory r
    ) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                r.escrow.accountOf(alice, USDC),
                r.escrow.accountOf(bob, USDC),
                r.escrow.accountOf(address(r.venue), USDC),
                r.escrow.assetOf(USDC),
                r.escrow.corridorOf(ALPHA, USDC),
                r.escrow.corridorOf(BETA, USDC),
                r.token.balanceOf(address(r.escrow)),
                r.token.balanceOf(alice)
            )
        );
    }

    function assertStatus(
        Rollup memory r,
        Settlement memory s,
        uint8 index,
        uint8 expected
    ) internal view {
        vm.assertEq(uint256(status(r, s, index)), expected, "status of the leg");
    }

    /// S5 over the accounts named: free + in flight + pool + reserved = tokens held + shortfall owed.
    function assertBalanced(
        Rollup memory r,
        address[] memory all
    ) internal view {
        EscrowBooks.Asset memory a = r.escrow.assetOf(USDC);
        uint256 claims;
        for (uint256 i = 0; i < all.length; i++) {
            EscrowBooks.Account memory account = r.escrow.accountOf(all[i], USDC);
            claims += uint256(account.free) + account.inFlight;
        }
        uint256 pool = uint256(a.inventory) + a.owed;
        vm.assertEq(claims + pool + a.reserved, uint256(a.held) + a.owed, "S5");
        vm.assertEq(r.token.balanceOf(address(r.escrow)), a.held, "tokens held");
    }
}
