// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Where an escrow keeps what became of each leg, so that the log can prove it.
/// @notice One word a leg. Its lowest byte is the status; of a Refused leg the next byte is the reason, of a Shortfall the next
/// fourteen bytes are what is missing. Must be the first base of its escrow: the mapping stands at slot 0.
abstract contract LegRecords {
    uint8 public constant NONE = 0;
    uint8 public constant PREPARED = 1;
    uint8 public constant REFUSED = 2;
    uint8 public constant COMMITTED = 3;
    uint8 public constant RELEASED = 4;
    uint8 public constant SHORTFALL = 5;

    /// By `legKey`; so a leg's storage slot is keccak256(abi.encode(legKey, uint256(0))).
    mapping(bytes32 legKey => uint256 word) private words;

    /// A leg's key.
    function legKey(
        bytes32 sid,
        uint8 legIndex
    ) public pure returns (bytes32) {
        return keccak256(abi.encode(sid, legIndex));
    }

    /// A leg's word.
    function legWord(
        bytes32 sid,
        uint8 legIndex
    ) public view returns (uint256) {
        return words[legKey(sid, legIndex)];
    }

    /// A leg's status.
    function legStatus(
        bytes32 sid,
        uint8 legIndex
    ) public view returns (uint8) {
        return uint8(legWord(sid, legIndex));
    }

    function setLeg(
        bytes32 sid,
        uint8 legIndex,
        uint256 word
    ) internal {
        words[legKey(sid, legIndex)] = word;
    }
}
