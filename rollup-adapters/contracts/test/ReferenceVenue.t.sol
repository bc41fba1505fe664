// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ReferenceVenue} from "../src/ReferenceVenue.sol";
import {ABORT, COMMIT} from "../src/Settlement.sol";
import {World} from "./World.sol";

/// Margin rules, liquidation, and what both mean for margin in flight.
contract ReferenceVenueTest is World {
    address private constant LIQUIDATOR = address(0x717);

    function setUp() public override {
        super.setUp();
        fund(alpha, alice, 1_000_000);
        alpha.token.mint(address(this), 5_000_000);
        alpha.token.approve(address(alpha.escrow), 5_000_000);
        alpha.escrow.deposit(USDC, address(alpha.venue), 5_000_000);
        vm.chainId(ALPHA);
    }

    function test_initial_margin_bounds_a_position() public {
        // Worth 10,000,000 at 2,000e6 a unit: needs 1,000,000.
        vm.prank(alice);
        vm.expectRevert(
            abi.encodeWithSelector(ReferenceVenue.BelowInitialMargin.selector, alice, int256(1_000_000), 1_000_200)
        );
        alpha.venue.trade(5001e12);
        vm.prank(alice);
        alpha.venue.trade(5e15);
        vm.assertEq(alpha.venue.equityOf(alice), 1_000_000, "no profit yet");
    }

    function test_profit_and_loss_come_from_and_go_to_the_house() public {
        trade(5e14);
        alpha.venue.setPrice(2_100e6);
        vm.assertEq(alpha.venue.profitOf(alice), 50_000, "long, and the price rose");
        trade(-5e14);
        vm.assertEq(free(alpha, alice), 1_050_000, "settled");
        trade(-5e14);
        alpha.venue.setPrice(2_300e6);
        vm.assertEq(alpha.venue.profitOf(alice), -100_000, "short, and the price rose");
        trade(5e14);
        vm.assertEq(free(alpha, alice), 950_000, "settled");
        vm.assertEq(free(alpha, address(alpha.venue)), 5_050_000, "the house has the rest");
    }

    function test_a_position_below_maintenance_is_liquidated_and_no_other() public {
        trade(5e15);
        vm.prank(LIQUIDATOR);
        vm.expectRevert(
            abi.encodeWithSelector(ReferenceVenue.NotLiquidatable.selector, alice, int256(1_000_000), 500_000)
        );
        alpha.venue.liquidate(alice);
        alpha.venue.setPrice(1_890e6); // loss 550,000; equity 450,000 below 472,500
        vm.prank(LIQUIDATOR);
        alpha.venue.liquidate(alice);
        vm.assertEq(free(alpha, LIQUIDATOR), 47_250, "half a percent of 9,450,000");
        vm.assertEq(free(alpha, alice), 450_000 - 47_250, "the rest is alice's");
        (int128 size,) = alpha.venue.positions(alice);
        vm.assertEq(int256(size), 0, "closed");
        vm.prank(LIQUIDATOR);
        vm.expectRevert(abi.encodeWithSelector(ReferenceVenue.NotLiquidatable.selector, alice, int256(402_750), 0));
        alpha.venue.liquidate(alice);
    }

    function test_S7_margin_in_flight_counts_at_neither_venue_and_no_liquidation_seizes_it() public {
        trade(1e15);
        Settlement memory s = transfer(alpha, beta, alice, 700_000, 1);
        vm.assertEq(uint256(prepare(alpha, s, 0)), 1, "prepared");
        vm.assertEq(uint256(prepare(beta, s, 1)), 1, "prepared");
        vm.assertEq(alpha.venue.equityOf(alice), 300_000, "not where it leaves");
        vm.assertEq(beta.venue.equityOf(alice), 0, "nor where it arrives");
        vm.chainId(ALPHA);
        alpha.venue.setPrice(1_600e6); // loss 400,000 of 300,000
        vm.prank(LIQUIDATOR);
        alpha.venue.liquidate(alice);
        vm.assertEq(free(alpha, alice), 0, "all that was free is gone");
        vm.assertEq(inFlight(alpha, alice), 700_000, "what was in flight is not");
        conclude(s, COMMIT);
        vm.assertEq(free(beta, alice), 700_000, "and it arrives whole");
        vm.assertEq(inFlight(alpha, alice), 0, "nothing left");
    }

    function test_a_liquidation_first_makes_the_transfer_refused() public {
        trade(1e15);
        alpha.venue.setPrice(1_050e6);
        vm.prank(LIQUIDATOR);
        alpha.venue.liquidate(alice); // loss 950,000, penalty 5,250
        vm.assertEq(free(alpha, alice), 44_750, "what is left");
        Settlement memory s = transfer(alpha, beta, alice, 700_000, 1);
        vm.assertEq(uint256(prepare(alpha, s, 0)), 2, "refused");
        conclude(s, ABORT);
        vm.assertEq(free(alpha, alice), 44_750, "untouched");
    }

    function test_released_margin_counts_again() public {
        trade(1e15);
        Settlement memory s = transfer(alpha, beta, alice, 700_000, 1);
        prepare(alpha, s, 0);
        conclude(s, ABORT);
        vm.assertEq(alpha.venue.equityOf(alice), 1_000_000, "all of it");
    }

    function test_a_debt_to_the_pool_lowers_equity() public {
        trade(1e15);
        Settlement memory s = transfer(alpha, beta, alice, 900_000, 1);
        vm.prank(alice);
        alpha.escrow.withdraw(USDC, 700_000, alice);
        conclude(s, COMMIT);
        vm.assertEq(alpha.venue.equityOf(alice), -600_000, "300,000 paid, 600,000 owed");
        vm.chainId(ALPHA);
        vm.prank(LIQUIDATOR);
        alpha.venue.liquidate(alice);
    }

    function test_a_reduction_is_allowed_below_initial_margin() public {
        trade(5e15);
        alpha.venue.setPrice(1_950e6);
        vm.prank(alice);
        vm.expectPartialRevert(ReferenceVenue.BelowInitialMargin.selector);
        alpha.venue.trade(1);
        trade(-1e15);
        vm.prank(alice);
        vm.expectPartialRevert(ReferenceVenue.BelowInitialMargin.selector);
        alpha.venue.trade(-9e15);
    }

    function test_an_insolvent_house_pays_nothing_out() public {
        alpha.venue.withdrawHouse(5_000_000, address(this));
        trade(5e14);
        alpha.venue.setPrice(2_100e6);
        vm.prank(alice);
        vm.expectRevert(abi.encodeWithSelector(ReferenceVenue.HouseInsolvent.selector, 0, 50_000));
        alpha.venue.trade(-5e14);
    }

    function test_prices_and_sizes_have_bounds() public {
        vm.expectRevert(abi.encodeWithSelector(ReferenceVenue.PriceRange.selector, 0));
        alpha.venue.setPrice(0);
        vm.expectRevert(abi.encodeWithSelector(ReferenceVenue.PriceRange.selector, 1 << 96));
        alpha.venue.setPrice(1 << 96);
        vm.prank(alice);
        vm.expectPartialRevert(ReferenceVenue.SizeRange.selector);
        alpha.venue.trade(1 << 96);
    }

    function trade(
        int256 change
    ) private {
        vm.prank(alice);
        alpha.venue.trade(change);
    }
}
