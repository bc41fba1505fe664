// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {FinalityVerifier} from "../src/FinalityVerifier.sol";
import {publicKeyOf} from "./Signer.sol";
import {World} from "./World.sol";

/// What is a final block, and what is refused as one.
contract FinalityVerifierTest is World {
    string private constant VECTORS = "../../sequencer/protocol/vectors/certificate.json";

    function test_golden_certificates_of_the_protocol_are_accepted() public view {
        string memory json = vm.readFile(VECTORS);
        vm.assertEq(vm.parseJsonBytes32(json, ".network"), NETWORK, "the vectors are of this network");
        vm.assertEq(uint256(vm.parseJsonBytes32(json, ".secret")), SECRET, "and of this group");
        assertCompressed(vm.parseJsonBytes(json, ".groupKey"), signer.groupKey(), 96);
        bytes memory header = vm.parseJsonBytes(json, ".header");
        for (uint256 i = 0; i < 2; i++) {
            string memory place = string.concat(".certificates[", vm.toString(i), "]");
            FinalityVerifier.Certificate memory c = signer.sign(
                header,
                uint64(vm.parseJsonUint(json, string.concat(place, ".epoch"))),
                uint64(vm.parseJsonUint(json, string.concat(place, ".view"))),
                uint64(vm.parseJsonUint(json, string.concat(place, ".parentView")))
            );
            // Ours has the golden signature's x; the golden signature itself, y and all, is verified in Judged.t.sol.
            assertCompressed(vm.parseJsonBytes(json, string.concat(place, ".signature")), c.signature, 48);
            bytes32 digest = alpha.hub.verify(header, new bytes[](0), c);
            vm.assertEq(digest, vm.parseJsonBytes32(json, ".digest"), "digest of the header");
        }
    }

    function test_a_certificate_of_another_key_is_refused() public {
        FinalityVerifier other = new FinalityVerifier(NETWORK, publicKeyOf(SECRET + 1));
        bytes memory header = headerOf(1, 0, 0);
        FinalityVerifier.Certificate memory c = signer.sign(header, 0, 1, 0);
        alpha.hub.verify(header, new bytes[](0), c);
        vm.expectRevert(FinalityVerifier.ForgedCertificate.selector);
        other.verify(header, new bytes[](0), c);
    }

    function testFuzz_a_changed_header_or_proposal_is_refused(
        uint256 index,
        uint8 bit,
        uint64 epoch,
        uint64 view_,
        uint64 parentView
    ) public {
        bytes memory header = headerOf(7, keccak256("parent"), keccak256("lanes"));
        FinalityVerifier.Certificate memory c = signer.sign(header, epoch, view_, parentView);
        alpha.hub.verify(header, new bytes[](0), c);
        index = 36 + index % (332 - 36);
        header[index] ^= bytes1(uint8(1) << (bit % 8));
        vm.expectRevert(FinalityVerifier.ForgedCertificate.selector);
        alpha.hub.verify(header, new bytes[](0), c);
        header[index] ^= bytes1(uint8(1) << (bit % 8));
        c.view_ ^= 1;
        vm.expectRevert(FinalityVerifier.ForgedCertificate.selector);
        alpha.hub.verify(header, new bytes[](0), c);
    }

    function testFuzz_a_changed_signature_is_refused(
        uint256 index,
        uint8 bit
    ) public {
        bytes memory header = headerOf(1, 0, 0);
        FinalityVerifier.Certificate memory c = signer.sign(header, 0, 1, 0);
        c.signature[index % 128] ^= bytes1(uint8(1) << (bit % 8));
        vm.expectRevert(FinalityVerifier.ForgedCertificate.selector);
        alpha.hub.verify(header, new bytes[](0), c);
    }

    function test_points_at_infinity_off_the_curve_and_off_the_subgroup_are_refused() public {
        bytes memory header = headerOf(1, 0, 0);
        FinalityVerifier.Certificate memory c = signer.sign(header, 0, 1, 0);
        c.signature = new bytes(128);
        vm.expectRevert(FinalityVerifier.InfinitySignature.selector);
        alpha.hub.verify(header, new bytes[](0), c);
        // (0, 1) is not on y^2 = x^3 + 4.
        c.signature[127] = 0x01;
        vm.expectRevert(FinalityVerifier.ForgedCertificate.selector);
        alpha.hub.verify(header, new bytes[](0), c);
        // (0, 2) is, but has order 3.
        c.signature[127] = 0x02;
        vm.expectRevert(FinalityVerifier.ForgedCertificate.selector);
        alpha.hub.verify(header, new bytes[](0), c);
        c.signature = new bytes(127);
        vm.expectRevert(abi.encodeWithSelector(FinalityVerifier.SignatureLength.selector, 127));
        alpha.hub.verify(header, new bytes[](0), c);
    }

    function test_a_bad_group_key_is_refused_at_deployment() public {
        vm.expectRevert(abi.encodeWithSelector(FinalityVerifier.GroupKeyLength.selector, 96));
        new FinalityVerifier(NETWORK, new bytes(96));
        vm.expectRevert(FinalityVerifier.InvalidGroupKey.selector);
        new FinalityVerifier(NETWORK, new bytes(256));
        bytes memory off = publicKeyOf(SECRET);
        off[255] ^= 0x01;
        vm.expectRevert(FinalityVerifier.InvalidGroupKey.selector);
        new FinalityVerifier(NETWORK, off);
    }

    function test_other_headers_are_refused() public {
        bytes memory header = headerOf(1, 0, 0);
        FinalityVerifier.Certificate memory c = signer.sign(header, 0, 1, 0);
        vm.expectRevert(abi.encodeWithSelector(FinalityVerifier.HeaderLength.selector, 333));
        alpha.hub.verify(bytes.concat(header, hex"00"), new bytes[](0), c);
        header[3] = "2";
        vm.expectRevert(abi.encodeWithSelector(FinalityVerifier.HeaderVersion.selector, bytes4("LSH2")));
        alpha.hub.verify(header, new bytes[](0), c);
        header[3] = "1";
        header[4] ^= 0x01;
        vm.expectPartialRevert(FinalityVerifier.WrongNetwork.selector);
        alpha.hub.verify(header, new bytes[](0), c);
    }

    function test_a_block_is_final_by_its_descendant() public {
        (bytes memory header, bytes[] memory all, FinalityVerifier.Certificate memory c) = chain(64);
        vm.assertEq(alpha.hub.verify(header, all, c), keccak256(header), "digest");
        (header, all, c) = chain(1);
        alpha.hub.verify(header, all, c);
        // The certificate signs the last one alone.
        vm.expectRevert(FinalityVerifier.ForgedCertificate.selector);
        alpha.hub.verify(header, new bytes[](0), c);
    }

    function test_a_broken_chain_of_descendants_is_refused() public {
        (bytes memory header, bytes[] memory all, FinalityVerifier.Certificate memory c) = chain(65);
        vm.expectRevert(abi.encodeWithSelector(FinalityVerifier.TooManyDescendants.selector, 65));
        alpha.hub.verify(header, all, c);
        (header, all, c) = chain(3);
        (all[0], all[1]) = (all[1], all[0]);
        vm.expectRevert(abi.encodeWithSelector(FinalityVerifier.BrokenChain.selector, uint64(3)));
        alpha.hub.verify(header, all, c);
        // The right parent, but two heights up.
        all = new bytes[](1);
        all[0] = headerOf(3, keccak256(header), 0);
        c = signer.sign(all[0], 0, 3, 2);
        vm.expectRevert(abi.encodeWithSelector(FinalityVerifier.BrokenChain.selector, uint64(3)));
        alpha.hub.verify(header, all, c);
    }

    function chain(
        uint256 length
    ) private view returns (bytes memory header, bytes[] memory all, FinalityVerifier.Certificate memory) {
        header = headerOf(1, 0, keccak256("lanes"));
        all = new bytes[](length);
        bytes memory last = header;
        for (uint256 i = 0; i < length; i++) {
            last = all[i] = headerOf(uint64(i) + 2, keccak256(last), 0);
        }
        return (header, all, signer.sign(last, 0, uint64(length), 0));
    }

    /// Whether the first coordinate of an uncompressed point is that of a compressed one (Zcash's flags are the first three bits;
    /// in G2, the compressed form has the second half of x first).
    function assertCompressed(
        bytes memory compressed,
        bytes memory point,
        uint256 length
    ) private pure {
        vm.assertEq(compressed.length, length, "length of the compressed point");
        compressed[0] &= 0x1f;
        bytes memory x = length == 48 ? slice(point, 16, 48) : bytes.concat(slice(point, 80, 48), slice(point, 16, 48));
        vm.assertEq(keccak256(compressed), keccak256(x), "coordinate x");
    }

    function slice(
        bytes memory data,
        uint256 from,
        uint256 length
    ) private pure returns (bytes memory out) {
        out = new bytes(length);
        for (uint256 i = 0; i < length; i++) {
            out[i] = data[from + i];
        }
    }
}
