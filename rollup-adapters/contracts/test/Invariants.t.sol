// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Handler} from "./Handler.sol";
import {Test} from "./Test.sol";

/// The invariants of settlement that contracts can hold alone, after any sequence of the handler's actions.
contract InvariantsTest is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Handler private handler;

    function setUp() public {
        handler = new Handler();
    }

    function invariant_S3_no_settlement_is_committed_on_one_side_and_released_on_the_other() public view {
        vm.assertTrue(handler.noneIsHalfDone(), "S3");
    }

    function invariant_S4_each_leg_moves_a_balance_at_most_once() public view {
        vm.assertTrue(handler.booksAreTheModels(), "S4: the books are not what the legs' statuses make them");
        vm.assertTrue(bytes(handler.violation()).length == 0, handler.violation());
    }

    function invariant_S5_free_in_flight_pool_and_reserved_are_tokens_held_and_shortfall_owed() public view {
        handler.assertBothBalanced();
    }

    function invariant_S6_claims_of_accounts_are_conserved() public view {
        vm.assertEq(handler.claims(), handler.netDeposits(), "S6");
    }

    function invariant_S10_after_released_prepare_cannot_succeed() public {
        vm.assertTrue(handler.nothingReleasedCanBePrepared(), "S10");
    }

    /// One long walk, the same each time: that the invariants above are not held by a handler that does nothing.
    function test_the_actions_reach_every_status_and_keep_every_invariant() public {
        uint256 seed = 20261123;
        for (uint256 step = 0; step < 600; step++) {
            seed = uint256(keccak256(abi.encode(seed)));
            act(seed, seed >> 8, seed >> 72, seed >> 136);
            if (step % 50 == 49) invariantsHold();
        }
        invariantsHold();
        for (uint256 i = 1; i < 6; i++) {
            vm.assertTrue(handler.entered(i) > 0, string.concat("no leg entered status ", vm.toString(i)));
        }
    }

    function act(
        uint256 seed,
        uint256 x,
        uint256 y,
        uint256 z
    ) private {
        uint256 action = uint8(seed) % 20;
        if (action < 3) handler.order(x, y % 2 == 0, uint128(z));
        else if (action < 8) handler.vote(x, y % 2 == 0);
        else if (action < 10) handler.decideOne(x, y);
        else if (action < 12) handler.relayTo(x, y, z, seed >> 200);
        else if (action == 12) handler.applyOne(x, y);
        else if (action == 13) handler.applyAgain(x, y);
        else if (action == 14) handler.coverOne(x, y);
        else if (action == 15) handler.withdraw(x, y, z);
        else if (action == 16) handler.trade(x, y, int64(uint64(z)));
        else if (action == 17) handler.setPrice(x, y);
        else if (action == 18) handler.liquidate(x, y);
        else if (x % 3 == 0) handler.reclaim(y, z);
        else if (x % 3 == 1) handler.deposit(y, z, seed >> 200);
        else handler.provide(y, z);
    }

    function invariantsHold() private {
        invariant_S3_no_settlement_is_committed_on_one_side_and_released_on_the_other();
        invariant_S4_each_leg_moves_a_balance_at_most_once();
        invariant_S5_free_in_flight_pool_and_reserved_are_tokens_held_and_shortfall_owed();
        invariant_S6_claims_of_accounts_are_conserved();
        invariant_S10_after_released_prepare_cannot_succeed();
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[] memory actions = new bytes4[](18);
        // Those that lead somewhere more often.
        (actions[0], actions[1], actions[2]) = (Handler.order.selector, Handler.order.selector, Handler.vote.selector);
        (actions[3], actions[4], actions[5]) = (Handler.vote.selector, Handler.vote.selector, Handler.vote.selector);
        (actions[6], actions[7], actions[8]) =
        (Handler.decideOne.selector, Handler.relayTo.selector, Handler.relayTo.selector);
        (actions[9], actions[10], actions[11]) =
        (Handler.applyOne.selector, Handler.applyAgain.selector, Handler.coverOne.selector);
        (actions[12], actions[13], actions[14]) =
        (Handler.withdraw.selector, Handler.trade.selector, Handler.setPrice.selector);
        (actions[15], actions[16], actions[17]) =
        (Handler.liquidate.selector, Handler.deposit.selector, Handler.reclaim.selector);
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), actions);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }
}
