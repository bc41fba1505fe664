// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {FinalityVerifier} from "../src/FinalityVerifier.sol";

/// Signs as the whole group would: with the group's secret, through the precompiles that multiply points.
/// That it signs what the validators sign is checked against the protocol's golden vectors and against noble's curves.
contract Signer is FinalityVerifier {
    uint256 private immutable secret;

    constructor(
        bytes32 network_,
        uint256 secret_
    ) FinalityVerifier(network_, publicKeyOf(secret_)) {
        secret = secret_;
    }

    function sign(
        bytes calldata header,
        uint64 epoch,
        uint64 view_,
        uint64 parentView
    ) external view returns (Certificate memory certificate) {
        certificate = Certificate(epoch, view_, parentView, "");
        bytes memory point = hashToG1(certificateMessage(certificate, keccak256(header)));
        (bool ok, bytes memory signature) = address(0x0c).staticcall(bytes.concat(point, bytes32(secret)));
        require(ok && signature.length == 128, "the precompile multiplies points of G1");
        certificate.signature = signature;
    }
}

/// The public key of a secret: the generator of G2 times it.
function publicKeyOf(
    uint256 secret
) view returns (bytes memory) {
    bytes memory generator = hex"00000000000000000000000000000000024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
        hex"0000000000000000000000000000000013e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
        hex"000000000000000000000000000000000ce5d527727d6e118cc9cdc6da2e351aadfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801"
        hex"000000000000000000000000000000000606c4a02ea734cc32acd2b02bc28b99cb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79be";
    (bool ok, bytes memory key) = address(0x0e).staticcall(bytes.concat(generator, bytes32(secret)));
    require(ok && key.length == 256, "the precompile multiplies points of G2");
    return key;
}
