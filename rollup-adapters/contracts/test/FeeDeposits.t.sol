// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {FeeDeposits} from "../src/FeeDeposits.sol";
import {SettlementHub} from "../src/SettlementHub.sol";
import {FeeToken, ReentrantToken} from "./Bad.sol";
import {World} from "./World.sol";

/// Deposits are counted exactly, for ever, and where observers prove them.
contract FeeDepositsTest is World {
    address private constant TREASURY = address(0x7EA);
    bytes32 private constant ACCOUNT = keccak256("account");

    function test_the_counter_grows_by_what_was_paid_at_slot_zero() public {
        pay(700);
        pay(300);
        vm.assertEq(alpha.hub.feeDeposits(ACCOUNT), 1_000, "cumulative");
        bytes32 slot = keccak256(abi.encode(ACCOUNT, uint256(0)));
        vm.assertEq(uint256(vm.load(address(alpha.hub), slot)), 1_000, "the slot that observers prove");
        vm.assertEq(alpha.token.balanceOf(TREASURY), 1_000, "the treasury");
    }

    function test_a_token_with_a_fee_is_refused() public {
        FeeToken token = new FeeToken();
        SettlementHub hub = hubWith(address(token));
        token.mint(address(this), 1_000);
        token.approve(address(hub), 1_000);
        vm.expectRevert(abi.encodeWithSelector(FeeDeposits.FeeOnTransfer.selector, address(token), 1_000, 990));
        hub.depositFees(ACCOUNT, 1_000);
        vm.assertEq(hub.feeDeposits(ACCOUNT), 0, "nothing counted");
    }

    function test_a_treasury_cannot_pay_itself() public {
        alpha.token.mint(TREASURY, 50);
        vm.prank(TREASURY);
        alpha.token.approve(address(alpha.hub), 50);
        vm.prank(TREASURY);
        vm.expectRevert(abi.encodeWithSelector(FeeDeposits.FeeOnTransfer.selector, address(alpha.token), 50, 0));
        alpha.hub.depositFees(ACCOUNT, 50);
    }

    function test_a_reentrant_token_counts_nothing_twice() public {
        ReentrantToken token = new ReentrantToken();
        SettlementHub hub = hubWith(address(token));
        token.mint(address(this), 100);
        token.mint(address(token), 100);
        token.approve(address(hub), 100);
        token.approveFor(address(hub));
        token.arm(address(hub), abi.encodeCall(FeeDeposits.depositFees, (ACCOUNT, 100)));
        vm.expectRevert(abi.encodeWithSelector(FeeDeposits.FeeOnTransfer.selector, address(token), 100, 200));
        hub.depositFees(ACCOUNT, 100);
    }

    function test_without_a_fee_token_there_are_no_deposits() public {
        SettlementHub hub = hubWith(address(0));
        vm.expectRevert(FeeDeposits.NoFeeToken.selector);
        hub.depositFees(ACCOUNT, 1);
    }

    function hubWith(
        address token
    ) private returns (SettlementHub) {
        return new SettlementHub(NETWORK, signer.groupKey(), token, TREASURY);
    }

    function pay(
        uint256 amount
    ) private {
        alpha.token.mint(address(this), amount);
        alpha.token.approve(address(alpha.hub), amount);
        alpha.hub.depositFees(ACCOUNT, amount);
    }
}
