// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {FinalityVerifier} from "../src/FinalityVerifier.sol";
import {MarginEscrow} from "../src/MarginEscrow.sol";
import {ABORT, COMMIT, CREDIT, DEBIT, Leg, NoSuchLeg, TooManyLegs} from "../src/Settlement.sol";
import {SettlementHub} from "../src/SettlementHub.sol";
import {BadEscrow} from "./Bad.sol";
import {World} from "./World.sol";

/// Decisions are taken in sequence, none is skipped, none is taken twice, and no escrow can hold up the next one.
contract SettlementHubTest is World {
    SettlementHub.Decision[] private log;

    function setUp() public override {
        super.setUp();
        fund(alpha, alice, 1_000_000);
    }

    function test_one_certificate_commits_both_legs() public {
        Settlement memory s = transfer(alpha, beta, alice, 400_000, 1);
        prepare(alpha, s, 0);
        prepare(beta, s, 1);
        vm.assertEq(free(alpha, alice), 600_000, "free where it leaves");
        vm.assertEq(inFlight(alpha, alice), 400_000, "in flight");
        vm.assertEq(free(beta, alice), 0, "free where it arrives");
        conclude(s, COMMIT);
        assertStatus(alpha, s, 0, 3);
        assertStatus(beta, s, 1, 3);
        vm.assertEq(inFlight(alpha, alice), 0, "nothing in flight");
        vm.assertEq(free(beta, alice), 400_000, "arrived");
        vm.assertEq(uint256(alpha.hub.decisionSequence()), 1, "place of the hub");
        vm.assertEq(uint256(alpha.hub.outcomeOf(sidOf(s))), 0, "what every leg took is not kept");
    }

    function test_a_leg_of_another_rollup_is_not_this_hubs() public {
        Settlement memory s = transfer(alpha, beta, alice, 400_000, 1);
        prepare(alpha, s, 0);
        prepare(beta, s, 1);
        decide(sidOf(s), COMMIT);
        relay(alpha, seal(), one(entry(s, COMMIT)), "");
        assertStatus(alpha, s, 0, 3);
        assertStatus(beta, s, 1, 1);
    }

    function test_a_call_may_take_a_prefix_and_calls_may_overlap() public {
        Block memory b = many(10);
        SettlementHub.Decision[] memory all = log;
        relay(alpha, b, part(all, 0, 3), packed(all, 3, 10));
        vm.assertEq(uint256(alpha.hub.decisionSequence()), 3, "a prefix");
        relay(alpha, b, part(all, 1, 7), packed(all, 7, 10));
        vm.assertEq(uint256(alpha.hub.decisionSequence()), 7, "what the hub had is passed over");
        relay(alpha, b, all, "");
        vm.assertEq(uint256(alpha.hub.decisionSequence()), 10, "the rest");
        vm.assertEq(alpha.hub.decisions(), b.alpha.decisions, "the chain's end");
        for (uint256 i = 0; i < 10; i++) {
            vm.assertEq(uint256(alpha.hub.outcomeOf(all[i].sid)), all[i].outcome, "outcome");
        }
    }

    function test_nothing_is_taken_twice() public {
        Block memory b = many(4);
        SettlementHub.Decision[] memory all = log;
        relay(alpha, b, part(all, 0, 2), packed(all, 2, 4));
        refused(
            b, part(all, 0, 2), packed(all, 2, 4), abi.encodeWithSelector(SettlementHub.NothingNew.selector, uint64(2))
        );
        relay(alpha, b, all, "");
        refused(b, all, "", abi.encodeWithSelector(SettlementHub.NothingNew.selector, uint64(4)));
        refused(b, part(all, 0, 0), "", abi.encodeWithSelector(SettlementHub.NothingNew.selector, uint64(4)));
    }

    function test_decisions_out_of_order_left_out_or_changed_are_refused() public {
        Block memory b = many(4);
        SettlementHub.Decision[] memory all = log;
        refused(b, part(all, 1, 4), "", abi.encodeWithSelector(SettlementHub.DecisionsMissing.selector, uint64(0), 2));
        SettlementHub.Decision[] memory more = new SettlementHub.Decision[](5);
        for (uint256 i = 0; i < 5; i++) {
            more[i] = all[i % 4];
        }
        refused(b, more, "", abi.encodeWithSelector(SettlementHub.TooManyDecisions.selector, 5, uint64(4)));
        refused(b, all, new bytes(32), abi.encodeWithSelector(SettlementHub.RestLength.selector, 32));
        (all[1], all[2]) = (all[2], all[1]);
        refusedAs(b, all, "", SettlementHub.WrongDecisions.selector);
        (all[1], all[2]) = (all[2], all[1]);
        all[3].outcome = all[3].outcome == COMMIT ? ABORT : COMMIT;
        refusedAs(b, all, "", SettlementHub.WrongDecisions.selector);
        all[3].outcome = all[3].outcome == COMMIT ? ABORT : COMMIT;
        all[0].sid ^= bytes32(uint256(1));
        refusedAs(b, all, "", SettlementHub.WrongDecisions.selector);
        all[0].sid ^= bytes32(uint256(1));
        bytes memory rest = packed(all, 2, 4);
        rest[32] ^= 0x03;
        refusedAs(b, part(all, 0, 2), rest, SettlementHub.WrongDecisions.selector);
        relay(alpha, b, all, "");
    }

    function test_another_lanes_leaf_and_a_leaf_of_no_block_are_refused() public {
        Block memory b = many(1);
        vm.chainId(ALPHA);
        vm.expectRevert(abi.encodeWithSelector(SettlementHub.WrongLane.selector, BETA));
        alpha.hub.applyDecisions(b.header, b.descendants, b.certificate, b.beta, pathOf(beta, b), log, "");
        SettlementHub.LaneLeaf memory leaf = b.alpha;
        leaf.feed ^= bytes32(uint256(1));
        vm.expectRevert(abi.encodeWithSelector(SettlementHub.NotInLanes.selector, height));
        alpha.hub.applyDecisions(b.header, b.descendants, b.certificate, leaf, pathOf(alpha, b), log, "");
        leaf.feed ^= bytes32(uint256(1));
        vm.expectRevert(abi.encodeWithSelector(SettlementHub.NotInLanes.selector, height));
        alpha.hub.applyDecisions(b.header, b.descendants, b.certificate, leaf, new bytes32[](0), log, "");
        // The lane of a chain that forked off under another id.
        vm.chainId(ALPHA + 1);
        vm.expectRevert(abi.encodeWithSelector(SettlementHub.WrongLane.selector, ALPHA));
        alpha.hub.applyDecisions(b.header, b.descendants, b.certificate, leaf, pathOf(alpha, b), log, "");
    }

    function test_a_forged_certificate_moves_nothing() public {
        Settlement memory s = transfer(alpha, beta, alice, 400_000, 1);
        prepare(alpha, s, 0);
        decide(sidOf(s), COMMIT);
        Block memory b = seal();
        b.certificate.view_ += 1;
        bytes32 before = books(alpha);
        refused(b, one(entry(s, COMMIT)), "", abi.encodeWithSelector(FinalityVerifier.ForgedCertificate.selector));
        b.certificate.view_ -= 1;
        b.header[4] ^= 0x01;
        refusedAs(b, one(entry(s, COMMIT)), "", FinalityVerifier.WrongNetwork.selector);
        b.header[4] ^= 0x01;
        b.header = bytes.concat(b.header, hex"00");
        refused(b, one(entry(s, COMMIT)), "", abi.encodeWithSelector(FinalityVerifier.HeaderLength.selector, 333));
        vm.assertEq(books(alpha), before, "no balance moved");
        vm.assertEq(uint256(alpha.hub.decisionSequence()), 0, "no decision was taken");
    }

    function test_a_decision_with_another_settlement_is_refused() public {
        Settlement memory s = transfer(alpha, beta, alice, 400_000, 1);
        prepare(alpha, s, 0);
        decide(sidOf(s), COMMIT);
        Block memory b = seal();
        SettlementHub.Decision memory d = entry(s, COMMIT);
        d.legs = transfer(alpha, beta, alice, 399_999, 1).legs;
        refusedAs(b, one(d), "", SettlementHub.WrongSettlement.selector);
        d = entry(s, COMMIT);
        d.nonce += 1;
        refusedAs(b, one(d), "", SettlementHub.WrongSettlement.selector);
        d = entry(s, COMMIT);
        d.legs = new Leg[](9);
        refused(b, one(d), "", abi.encodeWithSelector(TooManyLegs.selector, 9));
    }

    function test_a_block_is_proven_by_its_descendant() public {
        Block memory b = many(2);
        b.descendants = new bytes[](1);
        b.descendants[0] = headerOf(height + 1, keccak256(b.header), keccak256("later"));
        b.certificate = signer.sign(b.descendants[0], 0, height + 1, height);
        relay(alpha, b, log, "");
        vm.assertEq(uint256(alpha.hub.decisionSequence()), 2, "taken");
    }

    function test_no_escrow_holds_up_the_hub() public {
        for (uint256 mood = 0; mood <= uint256(BadEscrow.Mood.Reenter); mood++) {
            heldUpBy(new BadEscrow(alpha.hub, BadEscrow.Mood(mood)), uint64(10 + mood));
        }
    }

    /// Two settlements in one call, the first with a leg at the bad escrow: the second is applied, the first is recorded, and its leg
    /// is applied by anyone once the escrow behaves.
    function heldUpBy(
        BadEscrow bad,
        uint64 nonce
    ) private {
        Settlement memory s = transfer(alpha, beta, alice, 1_000, nonce);
        s.legs[0].escrow = address(bad);
        Settlement memory next = transfer(alpha, beta, alice, 10_000, nonce + 100);
        prepare(alpha, next, 0);
        decide(sidOf(s), ABORT);
        decide(sidOf(next), COMMIT);
        SettlementHub.Decision[] memory both = new SettlementHub.Decision[](2);
        (both[0], both[1]) = (entry(s, ABORT), entry(next, COMMIT));
        relay(alpha, seal(), both, "");
        assertStatus(alpha, next, 0, 3);
        vm.assertEq(uint256(alpha.hub.outcomeOf(sidOf(s))), ABORT, "the decision waits");
        vm.assertEq(bad.obeyed(), 0, "the escrow failed");
        bad.setMood(BadEscrow.Mood.Obey);
        alpha.hub.applyRecorded(s.account, s.nonce, s.deadline, s.legs, 0);
        vm.assertEq(bad.obeyed(), 1, "the escrow was reached");
    }

    function test_an_escrow_without_code_is_recorded() public {
        Settlement memory s = transfer(alpha, beta, alice, 1_000, 1);
        s.legs[0].escrow = address(0x5050);
        decide(sidOf(s), COMMIT);
        relay(alpha, seal(), one(entry(s, COMMIT)), "");
        vm.assertEq(uint256(alpha.hub.outcomeOf(sidOf(s))), COMMIT, "recorded");
    }

    function test_a_recorded_decision_is_applied_by_anyone_later_and_again() public {
        Settlement memory s = transfer(alpha, beta, alice, 400_000, 1);
        prepare(alpha, s, 0);
        decide(sidOf(s), COMMIT);
        relay(alpha, seal(), one(bare(entry(s, COMMIT))), "");
        assertStatus(alpha, s, 0, 1);
        for (uint256 i = 0; i < 3; i++) {
            vm.prank(address(uint160(0x9999 + i)));
            alpha.hub.applyRecorded(s.account, s.nonce, s.deadline, s.legs, 0);
            assertStatus(alpha, s, 0, 3);
            vm.assertEq(inFlight(alpha, alice), 0, "moved once");
            vm.assertEq(free(alpha, alice), 600_000, "moved once");
        }
        vm.expectRevert(abi.encodeWithSelector(SettlementHub.NotThisRollup.selector, BETA));
        alpha.hub.applyRecorded(s.account, s.nonce, s.deadline, s.legs, 1);
        vm.expectRevert(abi.encodeWithSelector(NoSuchLeg.selector, 2, 2));
        alpha.hub.applyRecorded(s.account, s.nonce, s.deadline, s.legs, 2);
    }

    function test_what_was_not_decided_cannot_be_applied() public {
        Settlement memory s = transfer(alpha, beta, alice, 400_000, 1);
        prepare(alpha, s, 0);
        vm.chainId(ALPHA);
        vm.expectRevert(abi.encodeWithSelector(SettlementHub.Undecided.selector, sidOf(s)));
        alpha.hub.applyRecorded(s.account, s.nonce, s.deadline, s.legs, 0);
    }

    function test_of_two_decisions_for_one_sid_the_first_stands() public {
        Settlement memory s = transfer(alpha, beta, alice, 400_000, 1);
        prepare(alpha, s, 0);
        bytes32 sid = sidOf(s);
        decide(sid, COMMIT);
        decide(sid, ABORT);
        SettlementHub.Decision[] memory both = new SettlementHub.Decision[](2);
        (both[0], both[1]) = (bare(entry(s, COMMIT)), entry(s, ABORT));
        relay(alpha, seal(), both, "");
        vm.assertEq(uint256(alpha.hub.outcomeOf(sid)), COMMIT, "the first");
        assertStatus(alpha, s, 0, 1);
        alpha.hub.applyRecorded(s.account, s.nonce, s.deadline, s.legs, 0);
        assertStatus(alpha, s, 0, 3);
    }

    function test_an_unknown_outcome_is_recorded_and_applied_to_nothing() public {
        Settlement memory s = transfer(alpha, beta, alice, 400_000, 1);
        prepare(alpha, s, 0);
        decide(sidOf(s), 7);
        relay(alpha, seal(), one(entry(s, 7)), "");
        vm.expectRevert(abi.encodeWithSelector(MarginEscrow.UnknownOutcome.selector, uint8(7)));
        alpha.hub.applyRecorded(s.account, s.nonce, s.deadline, s.legs, 0);
        assertStatus(alpha, s, 0, 1);
    }

    /// Whatever gas a relayer gives: either the call fails as a whole, or the leg took the decision.
    function testFuzz_short_gas_never_starves_a_leg(
        uint256 gas_
    ) public {
        Settlement memory s = transfer(alpha, beta, alice, 400_000, 1);
        prepare(alpha, s, 0);
        decide(sidOf(s), COMMIT);
        Block memory b = seal();
        gas_ = 100_000 + gas_ % 600_000;
        vm.chainId(ALPHA);
        try alpha.hub.applyDecisions{gas: gas_}(
            b.header, b.descendants, b.certificate, b.alpha, pathOf(alpha, b), one(entry(s, COMMIT)), ""
        ) {
            assertStatus(alpha, s, 0, 3);
        } catch {
            assertStatus(alpha, s, 0, 1);
            vm.assertEq(uint256(alpha.hub.decisionSequence()), 0, "the place did not move");
        }
    }

    function test_short_gas_has_a_name() public {
        Settlement memory s = transfer(alpha, beta, alice, 400_000, 1);
        prepare(alpha, s, 0);
        decide(sidOf(s), COMMIT);
        Block memory b = seal();
        SettlementHub.Decision[] memory taken = one(entry(s, COMMIT));
        vm.chainId(ALPHA);
        vm.expectPartialRevert(SettlementHub.GasFloor.selector);
        alpha.hub.applyDecisions{gas: 280_000}(
            b.header, b.descendants, b.certificate, b.alpha, pathOf(alpha, b), taken, ""
        );
    }

    function testFuzz_any_split_into_calls_ends_in_the_same_place(
        uint8 first,
        uint8 second
    ) public {
        Block memory b = many(12);
        SettlementHub.Decision[] memory all = log;
        uint256 x = 1 + first % 11;
        uint256 y = x + 1 + second % (12 - x);
        relay(alpha, b, part(all, 0, x), packed(all, x, 12));
        relay(alpha, b, part(all, x, y), packed(all, y, 12));
        if (y < 12) relay(alpha, b, part(all, y, 12), "");
        vm.assertEq(alpha.hub.decisions(), b.alpha.decisions, "the chain's end");
    }

    // ---- Inner ----

    /// A block with that many decisions, which are `log`.
    function many(
        uint256 count
    ) private returns (Block memory) {
        for (uint256 i = 0; i < count; i++) {
            bytes32 sid = keccak256(abi.encode("settlement", i));
            uint8 outcome = i % 3 == 0 ? COMMIT : ABORT;
            log.push(SettlementHub.Decision(sid, outcome, 0, 0, 0, new Leg[](0)));
            decide(sid, outcome);
        }
        return seal();
    }

    function part(
        SettlementHub.Decision[] memory all,
        uint256 from,
        uint256 to
    ) private pure returns (SettlementHub.Decision[] memory out) {
        out = new SettlementHub.Decision[](to - from);
        for (uint256 i = from; i < to; i++) {
            out[i - from] = all[i];
        }
    }

    function packed(
        SettlementHub.Decision[] memory all,
        uint256 from,
        uint256 to
    ) private pure returns (bytes memory out) {
        for (uint256 i = from; i < to; i++) {
            out = abi.encodePacked(out, all[i].sid, all[i].outcome);
        }
    }

    function refused(
        Block memory b,
        SettlementHub.Decision[] memory taken,
        bytes memory rest,
        bytes memory reason
    ) private {
        bytes32[] memory path = pathOf(alpha, b);
        vm.chainId(ALPHA);
        vm.expectRevert(reason);
        alpha.hub.applyDecisions(b.header, b.descendants, b.certificate, b.alpha, path, taken, rest);
    }

    function refusedAs(
        Block memory b,
        SettlementHub.Decision[] memory taken,
        bytes memory rest,
        bytes4 selector
    ) private {
        bytes32[] memory path = pathOf(alpha, b);
        vm.chainId(ALPHA);
        vm.expectPartialRevert(selector);
        alpha.hub.applyDecisions(b.header, b.descendants, b.certificate, b.alpha, path, taken, rest);
    }
}
