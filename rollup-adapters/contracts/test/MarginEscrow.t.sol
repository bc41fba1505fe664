// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {EscrowBooks} from "../src/EscrowBooks.sol";
import {MarginEscrow} from "../src/MarginEscrow.sol";
import {ABORT, COMMIT, CREDIT, DEBIT, Leg} from "../src/Settlement.sol";
import {SettlementHub} from "../src/SettlementHub.sol";
import {World} from "./World.sol";

/// The leg machine: every transition there is, and that there is no other.
contract MarginEscrowTest is World {
    uint8 private constant NONE = 0;
    uint8 private constant PREPARED = 1;
    uint8 private constant REFUSED = 2;
    uint8 private constant COMMITTED = 3;
    uint8 private constant RELEASED = 4;
    uint8 private constant SHORTFALL = 5;

    function setUp() public override {
        super.setUp();
        fund(alpha, alice, 1_000_000);
        fund(beta, bob, 1_000_000);
    }

    // ---- Prepared ----

    function test_a_prepared_debit_commits_into_the_pool() public {
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        vm.assertEq(uint256(prepare(alpha, s, 0)), PREPARED, "vote");
        expectBooks(alpha, alice, 700_000, 300_000, 3_000_000, 0);
        conclude(s, COMMIT);
        expectBooks(alpha, alice, 700_000, 0, 3_300_000, 0);
        assertStatus(alpha, s, 0, COMMITTED);
        vm.assertEq(int256(alpha.escrow.corridorOf(BETA, USDC).net), -300_000, "the corridor is ahead");
    }

    function test_a_prepared_debit_is_released_to_its_account() public {
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        prepare(alpha, s, 0);
        conclude(s, ABORT);
        expectBooks(alpha, alice, 1_000_000, 0, 3_000_000, 0);
        assertStatus(alpha, s, 0, RELEASED);
    }

    function test_a_prepared_credit_commits_out_of_the_reserve() public {
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        vm.assertEq(uint256(prepare(beta, s, 1)), PREPARED, "vote");
        expectBooks(beta, alice, 0, 0, 2_700_000, 300_000);
        vm.assertEq(int256(beta.escrow.corridorOf(ALPHA, USDC).net), 300_000, "exposure from the vote on");
        conclude(s, COMMIT);
        expectBooks(beta, alice, 300_000, 0, 2_700_000, 0);
        vm.assertEq(int256(beta.escrow.corridorOf(ALPHA, USDC).net), 300_000, "exposure");
    }

    function test_a_prepared_credit_is_released_to_the_pool() public {
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        prepare(beta, s, 1);
        conclude(s, ABORT);
        expectBooks(beta, alice, 0, 0, 3_000_000, 0);
        vm.assertEq(int256(beta.escrow.corridorOf(ALPHA, USDC).net), 0, "no exposure");
        vm.assertEq(uint256(beta.escrow.accountOf(alice, USDC).openCredits), 0, "none open");
    }

    // ---- Refused ----

    function test_each_refusal_is_recorded_with_its_reason_and_moves_nothing() public {
        Settlement memory s = transfer(alpha, beta, alice, 1_000_001, 1);
        refuses(alpha, s, 0, MarginEscrow.Refusal.Amount);
        refuses(beta, s, 1, MarginEscrow.Refusal.Amount);
        s = transfer(alpha, beta, alice, 0, 2);
        refuses(alpha, s, 0, MarginEscrow.Refusal.Amount);
        refuses(beta, s, 1, MarginEscrow.Refusal.Amount);
        s = transfer(alpha, beta, bob, 1, 3);
        refuses(alpha, s, 0, MarginEscrow.Refusal.InsufficientMargin);
        s.legs[0].asset = s.legs[1].asset = keccak256("DOGE");
        refuses(alpha, s, 0, MarginEscrow.Refusal.UnknownAsset);
        s.nonce += 1;
        refuses(beta, s, 1, MarginEscrow.Refusal.UnknownAsset);
        s = transfer(beta, alpha, bob, 500_000, 4);
        alpha.escrow.setCorridor(BETA, USDC, 499_999);
        refuses(alpha, s, 1, MarginEscrow.Refusal.CorridorCap);
        alpha.escrow.setCorridor(BETA, USDC, 500_000);
        s.nonce = 5;
        vm.assertEq(uint256(prepare(alpha, s, 1)), PREPARED, "at the cap");
        vm.prank(provider);
        alpha.escrow.reclaim(USDC, 2_500_000, provider);
        s = transfer(beta, alpha, bob, 1, 6);
        refuses(alpha, s, 1, MarginEscrow.Refusal.Inventory);
        // Paid by two rollups: whose debit it is that the credit trusts cannot be said.
        s = transfer(alpha, beta, alice, 10, 7);
        Leg[] memory legs = new Leg[](3);
        (legs[0], legs[1], legs[2]) = (s.legs[0], s.legs[1], s.legs[0]);
        (legs[0].amount, legs[2]) = (5, Leg(77, address(1), alice, USDC, DEBIT, 5, 0));
        s.legs = legs;
        refuses(beta, s, 1, MarginEscrow.Refusal.AmbiguousCorridor);
        s.legs = new Leg[](1);
        s.legs[0] = legs[1];
        refuses(beta, s, 0, MarginEscrow.Refusal.AmbiguousCorridor);
    }

    function test_one_account_cannot_hold_more_than_its_share_of_the_inventory() public {
        for (uint64 i = 0; i < 16; i++) {
            vm.assertEq(uint256(prepare(beta, transfer(alpha, beta, alice, 1, i), 1)), PREPARED, "within");
        }
        refuses(beta, transfer(alpha, beta, alice, 1, 16), 1, MarginEscrow.Refusal.OpenCredits);
        conclude(transfer(alpha, beta, alice, 1, 3), ABORT);
        vm.assertEq(uint256(prepare(beta, transfer(alpha, beta, alice, 1, 17), 1)), PREPARED, "one was released");
    }

    function test_margin_behind_a_position_is_refused() public {
        openPosition(alpha, alice, 1e15); // worth 2_000_000, initial margin 200_000, buffer 20_000
        refuses(alpha, transfer(alpha, beta, alice, 780_001, 1), 0, MarginEscrow.Refusal.Venue);
        vm.assertEq(uint256(prepare(alpha, transfer(alpha, beta, alice, 780_000, 2), 0)), PREPARED, "just covered");
        refuses(alpha, transfer(alpha, beta, alice, 1, 3), 0, MarginEscrow.Refusal.Venue);
    }

    function test_a_refused_leg_is_released_by_an_abort() public {
        Settlement memory s = transfer(alpha, beta, bob, 1, 1);
        refuses(alpha, s, 0, MarginEscrow.Refusal.InsufficientMargin);
        conclude(s, ABORT);
        assertStatus(alpha, s, 0, RELEASED);
    }

    // ---- Tombstones ----

    function test_S10_after_an_abort_a_late_prepare_fails() public {
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        conclude(s, ABORT);
        assertStatus(alpha, s, 0, RELEASED);
        for (uint8 i = 0; i < 2; i++) {
            Rollup memory r = i == 0 ? alpha : beta;
            bytes32 before = books(r);
            prepareFails(r, s, i, RELEASED);
            vm.assertEq(books(r), before, "nothing moved");
        }
    }

    function test_a_prepare_between_record_and_application_is_released() public {
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        decide(sidOf(s), ABORT);
        relay(alpha, seal(), one(bare(entry(s, ABORT))), "");
        prepare(alpha, s, 0);
        alpha.hub.applyRecorded(s.account, s.nonce, s.deadline, s.legs, 0);
        assertStatus(alpha, s, 0, RELEASED);
        expectBooks(alpha, alice, 1_000_000, 0, 3_000_000, 0);
    }

    // ---- Redo ----

    function test_a_commit_without_a_prepare_is_redone_on_both_sides() public {
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        conclude(s, COMMIT);
        assertStatus(alpha, s, 0, COMMITTED);
        assertStatus(beta, s, 1, COMMITTED);
        expectBooks(alpha, alice, 700_000, 0, 3_300_000, 0);
        expectBooks(beta, alice, 300_000, 0, 2_700_000, 0);
        vm.assertEq(int256(alpha.escrow.corridorOf(BETA, USDC).net), 0, "an unproven debit frees no corridor");
        vm.assertEq(int256(beta.escrow.corridorOf(ALPHA, USDC).net), 300_000, "a redone credit is exposure");
        prepareFails(alpha, s, 0, COMMITTED);
        prepareFails(beta, s, 1, COMMITTED);
    }

    function test_a_commit_stands_although_a_reorganization_made_the_prepare_a_refusal() public {
        Settlement memory s = transfer(alpha, beta, bob, 300_000, 1);
        refuses(alpha, s, 0, MarginEscrow.Refusal.InsufficientMargin);
        fund(alpha, bob, 300_000);
        conclude(s, COMMIT);
        assertStatus(alpha, s, 0, COMMITTED);
        expectBooks(alpha, bob, 0, 0, 3_300_000, 0);
    }

    function test_a_redone_debit_that_finds_too_little_is_a_shortfall_until_covered() public {
        Settlement memory s = transfer(alpha, beta, alice, 800_000, 1);
        vm.prank(alice);
        alpha.escrow.withdraw(USDC, 500_000, alice);
        conclude(s, COMMIT);
        assertStatus(alpha, s, 0, SHORTFALL);
        vm.assertEq(alpha.escrow.legWord(sidOf(s), 0) >> 8, 300_000, "what is missing stands in the word");
        EscrowBooks.Asset memory a = alpha.escrow.assetOf(USDC);
        vm.assertEq(uint256(a.owed), 300_000, "owed to the pool");
        vm.assertEq(uint256(a.inventory), 3_500_000, "what can be promised grew by what came");
        vm.assertEq(alpha.escrow.marginOf(alice, USDC), -300_000, "a venue counts the debt");
        balanced(alpha);
        // No way out while in debt.
        fund(alpha, alice, 100_000);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(EscrowBooks.Indebted.selector, alice, 300_000));
        alpha.escrow.withdraw(USDC, 1, alice);
        refuses(alpha, transfer(alpha, beta, alice, 1, 2), 0, MarginEscrow.Refusal.Indebted);
        // Part of it, then the rest; then nothing more.
        cover(alpha, s, 0);
        vm.assertEq(alpha.escrow.legWord(sidOf(s), 0), SHORTFALL | uint256(200_000) << 8, "two thirds are missing");
        balanced(alpha);
        fund(alpha, alice, 250_000);
        cover(alpha, s, 0);
        assertStatus(alpha, s, 0, COMMITTED);
        vm.assertEq(alpha.escrow.legWord(sidOf(s), 0), COMMITTED, "the word is clean");
        expectBooks(alpha, alice, 50_000, 0, 3_800_000, 0);
        balanced(alpha);
        vm.expectRevert(abi.encodeWithSelector(MarginEscrow.NotShort.selector, sidOf(s), 0, COMMITTED));
        alpha.escrow.cover(s.account, s.nonce, s.deadline, s.legs, 0);
        vm.prank(alice);
        alpha.escrow.withdraw(USDC, 50_000, alice);
    }

    function test_a_redone_credit_waits_for_inventory() public {
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        vm.prank(provider);
        beta.escrow.reclaim(USDC, 2_900_000, provider);
        conclude(s, COMMIT);
        assertStatus(beta, s, 1, SHORTFALL);
        vm.assertEq(free(beta, alice), 0, "no claim without a token behind it");
        vm.expectRevert(abi.encodeWithSelector(EscrowBooks.InsufficientInventory.selector, 100_000, 300_000));
        beta.escrow.cover(s.account, s.nonce, s.deadline, s.legs, 1);
        vm.prank(provider);
        beta.token.approve(address(beta.escrow), 200_000);
        vm.prank(provider);
        beta.escrow.provide(USDC, 200_000);
        cover(beta, s, 1);
        assertStatus(beta, s, 1, COMMITTED);
        expectBooks(beta, alice, 300_000, 0, 0, 0);
        balanced(beta);
    }

    function test_S9_certificates_alone_move_no_more_than_the_redo_budget() public {
        alpha.escrow.setLimits(USDC, MAX_LEG, 500_000);
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        conclude(s, COMMIT);
        Settlement memory more = transfer(alpha, beta, alice, 200_001, 2);
        decide(sidOf(more), COMMIT);
        relay(alpha, seal(), one(entry(more, COMMIT)), "");
        assertStatus(alpha, more, 0, NONE);
        expectBooks(alpha, alice, 700_000, 0, 3_300_000, 0);
        vm.assertEq(uint256(alpha.hub.outcomeOf(sidOf(more))), COMMIT, "the decision waits");
        vm.expectRevert(abi.encodeWithSelector(MarginEscrow.RedoBudgetExceeded.selector, 200_000, 200_001));
        alpha.hub.applyRecorded(more.account, more.nonce, more.deadline, more.legs, 0);
        alpha.escrow.setLimits(USDC, MAX_LEG, 200_001);
        alpha.hub.applyRecorded(more.account, more.nonce, more.deadline, more.legs, 0);
        assertStatus(alpha, more, 0, COMMITTED);
    }

    // ---- Absorbing states ----

    function testFuzz_S4_a_decided_leg_moves_no_more(
        uint8 begin,
        uint8 first,
        uint8[6] calldata later
    ) public {
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        if (begin % 2 == 1) prepare(alpha, s, 0);
        conclude(s, first % 2 == 0 ? COMMIT : ABORT);
        bytes32 before = books(alpha);
        uint8 decided = status(alpha, s, 0);
        bytes32 sid = sidOf(s);
        for (uint256 i = 0; i < later.length; i++) {
            vm.chainId(ALPHA);
            if (later[i] % 3 == 2) {
                prepareFails(alpha, s, 0, decided);
                continue;
            }
            // As if the hub erred: the escrow holds by itself.
            vm.prank(address(alpha.hub));
            alpha.escrow.applyDecision(sid, s.legs, 0, later[i] % 3 == 0 ? COMMIT : ABORT);
            assertStatus(alpha, s, 0, decided);
        }
        vm.assertEq(books(alpha), before, "nothing moved again");
    }

    // ---- Layout ----

    function test_the_log_finds_a_leg_at_slot_zero() public {
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        prepare(alpha, s, 0);
        bytes32 key = keccak256(abi.encode(sidOf(s), uint8(0)));
        bytes32 slot = keccak256(abi.encode(key, uint256(0)));
        vm.assertEq(uint256(vm.load(address(alpha.escrow), slot)), PREPARED, "status in the lowest byte");
        refuses(alpha, transfer(alpha, beta, bob, 7, 2), 0, MarginEscrow.Refusal.InsufficientMargin);
        key = keccak256(abi.encode(sidOf(transfer(alpha, beta, bob, 7, 2)), uint8(0)));
        slot = keccak256(abi.encode(key, uint256(0)));
        vm.assertEq(uint256(vm.load(address(alpha.escrow), slot)), REFUSED | uint256(3) << 8, "reason in the next byte");
    }

    // ---- Liquidity ----

    function test_a_provider_reclaims_what_it_provided_as_far_as_the_inventory_goes() public {
        Settlement memory s = transfer(alpha, beta, alice, 300_000, 1);
        prepare(alpha, s, 0);
        prepare(beta, s, 1);
        vm.prank(provider);
        vm.expectRevert(abi.encodeWithSelector(EscrowBooks.InsufficientInventory.selector, 2_700_000, 3_000_000));
        beta.escrow.reclaim(USDC, 3_000_000, provider);
        conclude(s, COMMIT);
        vm.prank(provider);
        vm.expectRevert(abi.encodeWithSelector(EscrowBooks.NotProvided.selector, provider, 3_000_000, 3_300_000));
        alpha.escrow.reclaim(USDC, 3_300_000, provider);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(EscrowBooks.NotProvided.selector, alice, 0, 1));
        alpha.escrow.reclaim(USDC, 1, alice);
        vm.prank(provider);
        beta.escrow.reclaim(USDC, 2_700_000, provider);
        vm.assertEq(beta.token.balanceOf(provider), 2_700_000, "paid out");
        balanced(alpha);
        balanced(beta);
    }

    // ---- Inner ----

    function openPosition(
        Rollup memory r,
        address account,
        int256 size
    ) private {
        vm.chainId(r.id);
        vm.prank(account);
        r.venue.trade(size);
    }

    function cover(
        Rollup memory r,
        Settlement memory s,
        uint8 index
    ) private {
        vm.chainId(r.id);
        vm.prank(relayer);
        r.escrow.cover(s.account, s.nonce, s.deadline, s.legs, index);
    }

    function refuses(
        Rollup memory r,
        Settlement memory s,
        uint8 index,
        MarginEscrow.Refusal reason
    ) private {
        bytes32 before = books(r);
        vm.assertEq(uint256(prepare(r, s, index)), REFUSED, "a refusal is a vote");
        vm.assertEq(r.escrow.legWord(sidOf(s), index), REFUSED | uint256(reason) << 8, "reason");
        vm.assertEq(books(r), before, "nothing moved");
    }

    function prepareFails(
        Rollup memory r,
        Settlement memory s,
        uint8 index,
        uint8 found
    ) private {
        bytes32 sid = sidOf(s);
        vm.chainId(r.id);
        vm.prank(s.legs[index].account);
        vm.expectRevert(abi.encodeWithSelector(MarginEscrow.LegExists.selector, sid, index, found));
        r.escrow.prepare(s.account, s.nonce, s.deadline, s.legs, index);
    }

    function expectBooks(
        Rollup memory r,
        address account,
        uint256 free_,
        uint256 inFlight_,
        uint256 inventory,
        uint256 reserved
    ) private view {
        vm.assertEq(free(r, account), free_, "free");
        vm.assertEq(inFlight(r, account), inFlight_, "in flight");
        vm.assertEq(uint256(r.escrow.assetOf(USDC).inventory), inventory, "inventory");
        vm.assertEq(uint256(r.escrow.assetOf(USDC).reserved), reserved, "reserved");
        balanced(r);
    }

    function balanced(
        Rollup memory r
    ) private view {
        address[] memory all = new address[](3);
        (all[0], all[1], all[2]) = (alice, bob, address(r.venue));
        assertBalanced(r, all);
    }
}
