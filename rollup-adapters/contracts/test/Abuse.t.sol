// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {EscrowBooks} from "../src/EscrowBooks.sol";
import {IMarginEscrow} from "../src/IMarginEscrow.sol";
import {IMarginVenue} from "../src/IMarginVenue.sol";
import {MarginEscrow} from "../src/MarginEscrow.sol";
import {ABORT, COMMIT, CREDIT, DEBIT, Leg, NoSuchLeg, TooManyLegs} from "../src/Settlement.sol";
import {SettlementHub} from "../src/SettlementHub.sol";
import {BadVenue, FeeToken, ReentrantToken} from "./Bad.sol";
import {World} from "./World.sol";

/// Callers, venues and tokens that do what they should not: each attempt reverts or is recorded by name, and no balance moves.
contract AbuseTest is World {
    function setUp() public override {
        super.setUp();
        fund(alpha, alice, 1_000_000);
        fund(alpha, bob, 1_000_000);
    }

    // ---- Callers ----

    function test_only_the_account_prepares_its_leg() public {
        Settlement memory s = transfer(alpha, beta, alice, 10, 1);
        bytes32 before = books(alpha);
        vm.chainId(ALPHA);
        vm.prank(bob);
        vm.expectRevert(abi.encodeWithSelector(MarginEscrow.NotLegAccount.selector, bob, alice));
        alpha.escrow.prepare(s.account, s.nonce, s.deadline, s.legs, 0);
        vm.assertEq(books(alpha), before, "nothing moved");
    }

    function test_a_second_prepare_fails() public {
        Settlement memory s = transfer(alpha, beta, alice, 10, 1);
        prepare(alpha, s, 0);
        bytes32 before = books(alpha);
        bytes32 sid = sidOf(s);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(MarginEscrow.LegExists.selector, sid, 0, 1));
        alpha.escrow.prepare(s.account, s.nonce, s.deadline, s.legs, 0);
        vm.assertEq(books(alpha), before, "nothing moved");
    }

    function test_a_refusal_cannot_be_prepared_away() public {
        Settlement memory s = transfer(alpha, beta, alice, 900_000, 1);
        vm.prank(alice);
        alpha.escrow.withdraw(USDC, 500_000, alice);
        vm.assertEq(uint256(prepare(alpha, s, 0)), 2, "refused");
        fund(alpha, alice, 500_000);
        bytes32 sid = sidOf(s);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(MarginEscrow.LegExists.selector, sid, 0, 2));
        alpha.escrow.prepare(s.account, s.nonce, s.deadline, s.legs, 0);
    }

    function test_a_leg_of_elsewhere_cannot_be_prepared_here() public {
        Settlement memory s = transfer(alpha, beta, alice, 10, 1);
        vm.chainId(ALPHA);
        failsToPrepare(s, 1, abi.encodeWithSelector(MarginEscrow.NotThisRollup.selector, BETA));
        failsToPrepare(s, 2, abi.encodeWithSelector(NoSuchLeg.selector, 2, 2));
        s.legs[0].escrow = address(0x77);
        failsToPrepare(s, 0, abi.encodeWithSelector(MarginEscrow.NotThisEscrow.selector, address(0x77)));
        s.legs[0].escrow = address(alpha.escrow);
        s.legs[0].side = 2;
        failsToPrepare(s, 0, abi.encodeWithSelector(MarginEscrow.UnknownSide.selector, 2));
        Leg[] memory legs = new Leg[](9);
        for (uint256 i = 0; i < 9; i++) {
            legs[i] = transfer(alpha, beta, alice, 10, 1).legs[0];
        }
        s.legs = legs;
        failsToPrepare(s, 0, abi.encodeWithSelector(TooManyLegs.selector, 9));
    }

    function test_only_the_hub_applies_and_only_to_this_escrows_legs() public {
        Settlement memory s = transfer(alpha, beta, alice, 10, 1);
        prepare(alpha, s, 0);
        bytes32 before = books(alpha);
        bytes32 sid = sidOf(s);
        vm.expectRevert(abi.encodeWithSelector(MarginEscrow.NotHub.selector, address(this)));
        alpha.escrow.applyDecision(sid, s.legs, 0, ABORT);
        vm.prank(address(alpha.hub));
        vm.expectRevert(abi.encodeWithSelector(MarginEscrow.NotThisRollup.selector, BETA));
        alpha.escrow.applyDecision(sid, s.legs, 1, ABORT);
        vm.prank(address(alpha.hub));
        vm.expectRevert(abi.encodeWithSelector(MarginEscrow.UnknownOutcome.selector, 3));
        alpha.escrow.applyDecision(sid, s.legs, 0, 3);
        vm.assertEq(books(alpha), before, "nothing moved");
    }

    function test_a_wrong_sid_covers_nothing() public {
        Settlement memory s = transfer(alpha, beta, alice, 2_000, 1);
        vm.prank(alice);
        alpha.escrow.withdraw(USDC, 999_000, alice);
        conclude(s, COMMIT);
        assertStatus(alpha, s, 0, 5);
        Settlement memory other = transfer(alpha, beta, alice, 2_000, 2);
        bytes32 sid = sidOf(other);
        vm.chainId(ALPHA);
        vm.expectRevert(abi.encodeWithSelector(MarginEscrow.NotShort.selector, sid, 0, 0));
        alpha.escrow.cover(other.account, other.nonce, other.deadline, other.legs, 0);
    }

    function test_a_decision_of_another_network_is_of_another_sid() public {
        // The same settlement under another network's name: its id differs, so no decision for it touches the leg here.
        Settlement memory s = transfer(alpha, beta, alice, 10, 1);
        prepare(alpha, s, 0);
        bytes32 other = keccak256(
            abi.encode(
                keccak256("lockstep settlement v1"), keccak256("another"), s.account, s.nonce, s.deadline, s.legs
            )
        );
        decide(other, COMMIT);
        Block memory b = seal();
        relay(alpha, b, one(bare(entryFor(other, COMMIT))), "");
        bytes32 sid = sidOf(s);
        vm.assertTrue(sid != other, "the network is in the id");
        assertStatus(alpha, s, 0, 1);
    }

    function test_what_is_the_owners_and_the_venues_is_theirs_alone() public {
        bytes memory notOwner = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, alice);
        vm.prank(alice);
        vm.expectRevert(notOwner);
        alpha.escrow.setVenue(IMarginVenue(alice));
        vm.prank(alice);
        vm.expectRevert(notOwner);
        alpha.escrow.listAsset(keccak256("X"), alice);
        vm.prank(alice);
        vm.expectRevert(notOwner);
        alpha.escrow.setLimits(USDC, 1, 1);
        vm.prank(alice);
        vm.expectRevert(notOwner);
        alpha.escrow.setCorridor(BETA, USDC, 1);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(EscrowBooks.NotVenue.selector, alice));
        alpha.escrow.settle(USDC, bob, alice, 1);
        vm.prank(alice);
        vm.expectRevert(notOwner);
        alpha.venue.setPrice(1);
        // Not even the owner changes these.
        vm.expectRevert(EscrowBooks.VenueAlreadySet.selector);
        alpha.escrow.setVenue(IMarginVenue(alice));
        vm.expectRevert(abi.encodeWithSelector(EscrowBooks.AssetAlreadyListed.selector, USDC));
        alpha.escrow.listAsset(USDC, alice);
    }

    function test_nothing_is_withdrawn_that_is_not_free() public {
        prepare(alpha, transfer(alpha, beta, alice, 400_000, 1), 0);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(EscrowBooks.InsufficientFree.selector, alice, 600_000, 600_001));
        alpha.escrow.withdraw(USDC, 600_001, alice);
        vm.prank(alice);
        alpha.venue.trade(1e15);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(EscrowBooks.VenueRefused.selector, alice, 600_000));
        alpha.escrow.withdraw(USDC, 600_000, alice);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(EscrowBooks.UnknownAsset.selector, keccak256("DOGE")));
        alpha.escrow.withdraw(keccak256("DOGE"), 0, alice);
    }

    // ---- Venues ----

    function test_a_venue_that_does_not_say_yes_has_said_no() public {
        (MarginEscrow escrow, BadVenue venue) = withBadVenue();
        for (uint256 mood = 1; mood <= uint256(BadVenue.Mood.SayNothing); mood++) {
            venue.set(BadVenue.Mood(mood), escrow, "", 0);
            votes(escrow, uint64(mood), 2);
        }
        venue.set(BadVenue.Mood.Yes, escrow, "", 0);
        votes(escrow, 100, 1);
    }

    function test_a_venue_without_code_has_said_no() public {
        vm.chainId(ALPHA);
        MarginEscrow escrow = bare(IMarginVenue(address(0x4040)));
        votes(escrow, 1, 2);
    }

    function test_a_venue_cannot_write_during_its_question() public {
        (MarginEscrow escrow, BadVenue venue) = withBadVenue();
        Settlement memory s = to(escrow, 1);
        bytes[5] memory calls = [
            abi.encodeCall(EscrowBooks.settle, (USDC, alice, address(venue), 1)),
            abi.encodeCall(EscrowBooks.withdraw, (USDC, 1, address(venue))),
            abi.encodeCall(EscrowBooks.deposit, (USDC, alice, 0)),
            abi.encodeCall(MarginEscrow.prepare, (s.account, s.nonce, s.deadline, s.legs, 0)),
            abi.encodeCall(EscrowBooks.provide, (USDC, 0))
        ];
        for (uint64 i = 0; i < calls.length; i++) {
            venue.set(BadVenue.Mood.Reenter, escrow, calls[i], 0);
            votes(escrow, 10 + i, 1);
            vm.assertEq(escrow.freeOf(alice, USDC), 1_000_000 - 10 * (uint256(i) + 1), "only the locks have moved");
        }
    }

    /// Whatever gas the account gives: either the call fails and there is no vote, or the venue had all the gas it is owed.
    function testFuzz_short_gas_forges_no_refusal(
        uint256 gas_
    ) public {
        (MarginEscrow escrow, BadVenue venue) = withBadVenue();
        // Some gas goes between the call and the venue's first look at what it has.
        venue.set(BadVenue.Mood.Thrifty, escrow, "", escrow.VENUE_GAS() - 5_000);
        Settlement memory s = to(escrow, 1);
        gas_ = 20_000 + gas_ % 600_000;
        vm.prank(alice);
        try escrow.prepare{gas: gas_}(s.account, s.nonce, s.deadline, s.legs, 0) returns (uint8 vote) {
            vm.assertEq(uint256(vote), 1, "a vote is the venue's");
        } catch {
            vm.assertEq(uint256(escrow.legStatus(sidOf(s), 0)), 0, "no vote");
        }
    }

    function test_short_gas_has_a_name_and_the_published_limit_suffices() public {
        (MarginEscrow escrow, BadVenue venue) = withBadVenue();
        venue.set(BadVenue.Mood.BurnGas, escrow, "", 0);
        Settlement memory s = to(escrow, 1);
        s.legs = eight(s.legs);
        vm.prank(alice);
        vm.expectPartialRevert(EscrowBooks.GasFloor.selector);
        escrow.prepare{gas: 300_000}(s.account, s.nonce, s.deadline, s.legs, 0);
        // Less what a transaction with eight legs pays before its first instruction.
        uint256 given = escrow.PREPARE_GAS() - 50_000;
        vm.prank(alice);
        vm.assertEq(uint256(escrow.prepare{gas: given}(s.account, s.nonce, s.deadline, s.legs, 0)), 2, "recorded");
    }

    // ---- Tokens ----

    function test_a_token_with_a_fee_is_refused() public {
        FeeToken token = new FeeToken();
        bytes32 asset = keccak256("FEE");
        alpha.escrow.listAsset(asset, address(token));
        token.mint(address(this), 1_000);
        token.approve(address(alpha.escrow), 1_000);
        bytes memory reason = abi.encodeWithSelector(EscrowBooks.FeeOnTransfer.selector, address(token), 1_000, 990);
        vm.expectRevert(reason);
        alpha.escrow.deposit(asset, alice, 1_000);
        vm.expectRevert(reason);
        alpha.escrow.provide(asset, 1_000);
        vm.assertEq(alpha.escrow.freeOf(alice, asset), 0, "nothing credited");
    }

    function test_a_token_that_calls_back_gets_nothing_twice() public {
        ReentrantToken token = new ReentrantToken();
        bytes32 asset = keccak256("AGN");
        alpha.escrow.listAsset(asset, address(token));
        token.mint(address(this), 1_000);
        token.approve(address(alpha.escrow), 1_000);
        bytes memory guarded = abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        bytes[4] memory calls = [
            abi.encodeCall(EscrowBooks.deposit, (asset, address(token), 0)),
            abi.encodeCall(EscrowBooks.withdraw, (asset, 0, address(token))),
            abi.encodeCall(EscrowBooks.provide, (asset, 0)),
            abi.encodeCall(EscrowBooks.reclaim, (asset, 0, address(token)))
        ];
        for (uint256 i = 0; i < calls.length; i++) {
            token.arm(address(alpha.escrow), calls[i]);
            alpha.escrow.deposit(asset, address(this), 100);
            vm.assertTrue(!token.lastOk() && keccak256(token.lastError()) == keccak256(guarded), "deposit is guarded");
            token.arm(address(alpha.escrow), calls[i]);
            alpha.escrow.withdraw(asset, 100, address(this));
            vm.assertTrue(!token.lastOk() && keccak256(token.lastError()) == keccak256(guarded), "withdraw is guarded");
        }
        vm.assertEq(uint256(alpha.escrow.assetOf(asset).held), 0, "as before");
        vm.assertEq(token.balanceOf(address(this)), 1_000, "as before");
    }

    function test_more_than_the_ledger_can_hold_is_refused() public {
        uint256 held = 4_000_000 + 1_000_000;
        alpha.token.mint(address(this), type(uint128).max);
        alpha.token.approve(address(alpha.escrow), type(uint256).max);
        uint256 most = type(uint112).max;
        vm.expectRevert(abi.encodeWithSelector(EscrowBooks.TooMuchHeld.selector, most + 1));
        alpha.escrow.deposit(USDC, alice, most + 1 - held);
        alpha.escrow.deposit(USDC, alice, most - held);
        vm.assertEq(uint256(alpha.escrow.assetOf(USDC).held), most, "full");
    }

    // ---- Inner ----

    function withBadVenue() private returns (MarginEscrow escrow, BadVenue venue) {
        vm.chainId(ALPHA);
        venue = new BadVenue();
        escrow = bare(venue);
    }

    /// An escrow on alpha with that venue, and a million of alice's margin.
    function bare(
        IMarginVenue venue
    ) private returns (MarginEscrow escrow) {
        escrow = new MarginEscrow(alpha.hub, address(this));
        escrow.setVenue(venue);
        escrow.listAsset(USDC, address(alpha.token));
        escrow.setLimits(USDC, MAX_LEG, REDO_BUDGET);
        alpha.token.mint(address(this), 1_000_000);
        alpha.token.approve(address(escrow), 1_000_000);
        escrow.deposit(USDC, alice, 1_000_000);
    }

    function to(
        MarginEscrow escrow,
        uint64 nonce
    ) private view returns (Settlement memory s) {
        s = transfer(alpha, beta, alice, 10, nonce);
        s.legs[0].escrow = address(escrow);
    }

    function votes(
        MarginEscrow escrow,
        uint64 nonce,
        uint8 vote
    ) private {
        Settlement memory s = to(escrow, nonce);
        uint256 before = escrow.freeOf(alice, USDC);
        vm.prank(alice);
        vm.assertEq(uint256(escrow.prepare(s.account, s.nonce, s.deadline, s.legs, 0)), vote, "vote");
        vm.assertEq(escrow.freeOf(alice, USDC), vote == 1 ? before - 10 : before, "free");
        if (vote == 2) {
            vm.assertEq(escrow.legWord(sidOf(s), 0), 2 | uint256(MarginEscrow.Refusal.Venue) << 8, "reason");
        }
    }

    function eight(
        Leg[] memory two
    ) private pure returns (Leg[] memory legs) {
        legs = new Leg[](8);
        for (uint256 i = 0; i < 8; i++) {
            legs[i] = two[i == 0 ? 0 : 1];
        }
    }

    function failsToPrepare(
        Settlement memory s,
        uint8 index,
        bytes memory reason
    ) private {
        bytes32 before = books(alpha);
        vm.prank(alice);
        vm.expectRevert(reason);
        alpha.escrow.prepare(s.account, s.nonce, s.deadline, s.legs, index);
        vm.assertEq(books(alpha), before, "nothing moved");
    }

    function entryFor(
        bytes32 sid,
        uint8 outcome
    ) private pure returns (SettlementHub.Decision memory) {
        return SettlementHub.Decision(sid, outcome, 0, 0, 0, new Leg[](0));
    }
}
