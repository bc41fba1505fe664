// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {FinalityVerifier} from "../src/FinalityVerifier.sol";
import {SettlementHub} from "../src/SettlementHub.sol";
import {ABORT, Leg} from "../src/Settlement.sol";
import {World} from "./World.sol";

/// What other people's libraries made, accepted by our contracts: certificates by noble's curves, lane trees by OpenZeppelin's
/// merkle-tree, settlement ids and storage slots by ethers. `judge.mjs` writes the file, with new keys each time.
contract JudgedTest is World {
    string private json;

    function setUp() public override {
        super.setUp();
        json = vm.readFile("out/judged.json");
    }

    function test_noble_decompressed_golden_signatures_are_accepted() public view {
        for (uint256 i = 0; i < 2; i++) {
            string memory place = string.concat(".golden[", vm.toString(i), "]");
            alpha.hub
                .verify(vm.parseJsonBytes(json, string.concat(place, ".header")), new bytes[](0), certificate(place));
        }
    }

    function test_a_key_off_the_subgroup_is_refused() public {
        bytes memory key = vm.parseJsonBytes(json, ".offSubgroup");
        vm.expectRevert(FinalityVerifier.InvalidGroupKey.selector);
        new FinalityVerifier(NETWORK, key);
    }

    function test_decisions_with_noble_certificates_and_openzeppelin_trees_are_taken() public {
        for (uint256 i = 0; i < 6; i++) {
            string memory place = string.concat(".blocks[", vm.toString(i), "]");
            vm.chainId(ALPHA);
            SettlementHub hub = new SettlementHub(
                NETWORK, vm.parseJsonBytes(json, string.concat(place, ".key")), address(0), address(0)
            );
            SettlementHub.LaneLeaf memory leaf = SettlementHub.LaneLeaf({
                rollup: ALPHA,
                sequence: uint64(vm.parseJsonUint(json, string.concat(place, ".sequence"))),
                feed: vm.parseJsonBytes32(json, string.concat(place, ".feed")),
                decisionSequence: 1,
                decisions: vm.parseJsonBytes32(json, string.concat(place, ".decisions"))
            });
            bytes32 sid = vm.parseJsonBytes32(json, string.concat(place, ".sid"));
            SettlementHub.Decision memory decision = SettlementHub.Decision(sid, ABORT, 0, 0, 0, new Leg[](0));
            bytes32[] memory path = vm.parseJsonBytes32Array(json, string.concat(place, ".path"));
            hub.applyDecisions(
                vm.parseJsonBytes(json, string.concat(place, ".header")),
                new bytes[](0),
                certificate(place),
                leaf,
                path,
                one(decision),
                ""
            );
            vm.assertEq(uint256(hub.outcomeOf(sid)), ABORT, "outcome");
        }
    }

    function test_settlement_ids_and_leg_slots_are_those_of_ethers() public view {
        Settlement memory s = transfer(alpha, beta, alice, 5, 7);
        s.legs[0].escrow = address(0x1111);
        s.legs[1].escrow = address(0x2222);
        vm.assertEq(sidOf(s), vm.parseJsonBytes32(json, ".settlement.sid"), "sid");
        vm.assertEq(alpha.escrow.legKey(sidOf(s), 1), vm.parseJsonBytes32(json, ".settlement.legKey"), "leg key");
    }

    function certificate(
        string memory place
    ) private view returns (FinalityVerifier.Certificate memory) {
        return FinalityVerifier.Certificate(
            uint64(vm.parseJsonUint(json, string.concat(place, ".epoch"))),
            uint64(vm.parseJsonUint(json, string.concat(place, ".view"))),
            uint64(vm.parseJsonUint(json, string.concat(place, ".parentView"))),
            vm.parseJsonBytes(json, string.concat(place, ".signature"))
        );
    }
}
