// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Checks that a block of the ordering log is final, with one static BLS12-381 key.
/// @notice A certificate is a MinSig signature (public key in G2, signature in G1) over the digest of a block's header, under the
/// ciphersuite BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_ (RFC 9380), checked through the precompiles of EIP-2537.
/// The header's bytes and the signed message are those of docs/protocol.md. This contract holds no funds and no state.
contract FinalityVerifier {
    /// A finalization. The signature is the uncompressed G1 point, 128 bytes as EIP-2537 encodes it.
    struct Certificate {
        uint64 epoch;
        uint64 view_;
        uint64 parentView;
        bytes signature;
    }

    error HeaderLength(uint256 found);
    error HeaderVersion(bytes4 found);
    error WrongNetwork(bytes32 found);
    error TooManyDescendants(uint256 found);
    error BrokenChain(uint64 height);
    error SignatureLength(uint256 found);
    error InfinitySignature();
    error ForgedCertificate();
    error GroupKeyLength(uint256 found);
    error InvalidGroupKey();
    error PrecompileFailed(address precompile);

    uint256 public constant HEADER_BYTES = 332;
    uint256 public constant MAX_DESCENDANTS = 64;

    address private constant MODEXP = address(0x05);
    address private constant G1_ADD = address(0x0b);
    address private constant PAIRING = address(0x0f);
    address private constant MAP_FP_TO_G1 = address(0x10);

    bytes private constant DST = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
    bytes private constant P =
        hex"1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab";
    /// The negated generator of G2 (EIP-2537's encoding: x.c0, x.c1, y.c0, y.c1, each padded to 64 bytes).
    bytes private constant NEGATED_G2 = hex"00000000000000000000000000000000024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
        hex"0000000000000000000000000000000013e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
        hex"000000000000000000000000000000000d1b3cc2c7027888be51d9ef691d77bcb679afda66c73f17f9ee3837a55024f78c71363275a75d75d86bab79f74782aa"
        hex"0000000000000000000000000000000013fa4d4a0ad8b1ce186ed5061789213d993923066dddaf1040bc3ff59f825c78df74f2d75467e25e0f55f8a00fa030ed";

    /// Hash of the network's name.
    bytes32 public immutable network;
    // The key in code instead of storage: eight cold reads less a certificate.
    bytes32 private immutable K0;
    bytes32 private immutable K1;
    bytes32 private immutable K2;
    bytes32 private immutable K3;
    bytes32 private immutable K4;
    bytes32 private immutable K5;
    bytes32 private immutable K6;
    bytes32 private immutable K7;

    /// @param network_ keccak256 of the network's name.
    /// @param key The group's public key: a point of G2, 256 bytes in EIP-2537's encoding, not infinity.
    constructor(
        bytes32 network_,
        bytes memory key
    ) {
        if (key.length != 256) revert GroupKeyLength(key.length);
        // The pairing precompile checks curve and subgroup: pair the key with infinity, whose pairing is one.
        bytes memory infinity = new bytes(128);
        (bool ok,) = PAIRING.staticcall(bytes.concat(infinity, key));
        if (!ok || keccak256(key) == keccak256(new bytes(256))) revert InvalidGroupKey();
        network = network_;
        (K0, K1, K2, K3, K4, K5, K6, K7) =
            abi.decode(key, (bytes32, bytes32, bytes32, bytes32, bytes32, bytes32, bytes32, bytes32));
    }

    /// The group's public key, 256 bytes in EIP-2537's encoding.
    function groupKey() public view returns (bytes memory) {
        return abi.encodePacked(K0, K1, K2, K3, K4, K5, K6, K7);
    }

    /// @notice Reverts unless the block is final.
    /// @param header The block's header, 332 bytes.
    /// @param descendants The headers after it, up to the one that the certificate signs; mostly none.
    /// @return digest keccak256 of the header.
    function verify(
        bytes calldata header,
        bytes[] calldata descendants,
        Certificate calldata certificate
    ) public view returns (bytes32 digest) {
        digest = checkHeader(header);
        if (descendants.length > MAX_DESCENDANTS) revert TooManyDescendants(descendants.length);
        bytes32 last = digest;
        uint64 height = heightOf(header);
        for (uint256 i = 0; i < descendants.length; i++) {
            bytes32 childDigest = checkHeader(descendants[i]);
            uint64 childHeight = heightOf(descendants[i]);
            if (bytes32(descendants[i][100:132]) != last || childHeight != height + 1) revert BrokenChain(childHeight);
            (last, height) = (childDigest, childHeight);
        }
        verifyCertificate(last, certificate);
    }

    /// The block's height.
    function heightOf(
        bytes calldata header
    ) public pure returns (uint64) {
        return uint64(bytes8(header[92:100]));
    }

    /// The root of the lane tree after the block.
    function lanesOf(
        bytes calldata header
    ) public pure returns (bytes32) {
        return bytes32(header[220:252]);
    }

    function checkHeader(
        bytes calldata header
    ) private view returns (bytes32) {
        if (header.length != HEADER_BYTES) revert HeaderLength(header.length);
        if (bytes4(header[0:4]) != "LSH1") revert HeaderVersion(bytes4(header[0:4]));
        if (bytes32(header[4:36]) != network) revert WrongNetwork(bytes32(header[4:36]));
        return keccak256(header);
    }

    function verifyCertificate(
        bytes32 digest,
        Certificate calldata certificate
    ) private view {
        if (certificate.signature.length != 128) revert SignatureLength(certificate.signature.length);
        if (keccak256(certificate.signature) == keccak256(new bytes(128))) revert InfinitySignature();
        bytes memory message = certificateMessage(certificate, digest);
        // e(signature, -g2) * e(hash(message), key) == 1. The precompile refuses points off the curve or the subgroup.
        bytes memory input = bytes.concat(certificate.signature, NEGATED_G2, hashToG1(message), groupKey());
        (bool ok, bytes memory output) = PAIRING.staticcall(input);
        if (!ok || output.length != 32 || abi.decode(output, (uint256)) != 1) revert ForgedCertificate();
    }

    /// What the group signs: docs/protocol.md, finalization certificate.
    function certificateMessage(
        Certificate memory certificate,
        bytes32 digest
    ) internal view returns (bytes memory) {
        // namespace = "lockstep" || network || "_FINALIZE", 49 bytes.
        return abi.encodePacked(
            uint8(49),
            "lockstep",
            network,
            "_FINALIZE",
            varint(certificate.epoch),
            varint(certificate.view_),
            varint(certificate.parentView),
            digest
        );
    }

    /// RFC 9380, hash_to_curve for BLS12381G1_XMD:SHA-256_SSWU_RO_.
    function hashToG1(
        bytes memory message
    ) internal view returns (bytes memory) {
        bytes memory uniform = expand(message);
        bytes memory first = call(MAP_FP_TO_G1, toField(uniform, 0), 128);
        bytes memory second = call(MAP_FP_TO_G1, toField(uniform, 64), 128);
        return call(G1_ADD, bytes.concat(first, second), 128);
    }

    /// RFC 9380, expand_message_xmd to 128 bytes with SHA-256.
    function expand(
        bytes memory message
    ) private pure returns (bytes memory) {
        bytes memory suffix = abi.encodePacked(DST, uint8(DST.length));
        bytes32 b0 = sha256(abi.encodePacked(new bytes(64), message, uint16(128), uint8(0), suffix));
        bytes32 b1 = sha256(abi.encodePacked(b0, uint8(1), suffix));
        bytes32 b2 = sha256(abi.encodePacked(b0 ^ b1, uint8(2), suffix));
        bytes32 b3 = sha256(abi.encodePacked(b0 ^ b2, uint8(3), suffix));
        bytes32 b4 = sha256(abi.encodePacked(b0 ^ b3, uint8(4), suffix));
        return abi.encodePacked(b1, b2, b3, b4);
    }

    /// 64 uniform bytes modulo the field's prime, padded to 64 bytes.
    function toField(
        bytes memory uniform,
        uint256 offset
    ) private view returns (bytes memory) {
        bytes32 high;
        bytes32 low;
        assembly ("memory-safe") {
            high := mload(add(add(uniform, 32), offset))
            low := mload(add(add(uniform, 64), offset))
        }
        bytes memory reduced =
            call(MODEXP, abi.encodePacked(uint256(64), uint256(1), uint256(48), high, low, uint8(1), P), 48);
        return bytes.concat(new bytes(16), reduced);
    }

    function call(
        address precompile,
        bytes memory input,
        uint256 length
    ) private view returns (bytes memory) {
        (bool ok, bytes memory output) = precompile.staticcall(input);
        if (!ok || output.length != length) revert PrecompileFailed(precompile);
        return output;
    }

    /// A varint of Protocol Buffers.
    function varint(
        uint64 value
    ) private pure returns (bytes memory out) {
        while (value >= 0x80) {
            out = abi.encodePacked(out, uint8(value & 0x7f) | 0x80);
            value >>= 7;
        }
        out = abi.encodePacked(out, uint8(value));
    }
}
