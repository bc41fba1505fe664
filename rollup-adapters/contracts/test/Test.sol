// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// The cheat codes that these tests use: https://getfoundry.sh/reference/cheatcodes/overview
interface Vm {
    struct Gas {
        uint64 gasLimit;
        uint64 gasTotalUsed;
        uint64 gasMemoryUsed;
        int64 gasRefunded;
        uint64 gasRemaining;
    }

    function chainId(
        uint256 id
    ) external;
    function prank(
        address sender
    ) external;
    function expectRevert(
        bytes calldata data
    ) external;
    function expectRevert(
        bytes4 selector
    ) external;
    function expectPartialRevert(
        bytes4 selector
    ) external;
    function assume(
        bool condition
    ) external;
    function load(
        address account,
        bytes32 slot
    ) external view returns (bytes32);
    function record() external;
    function accesses(
        address account
    ) external returns (bytes32[] memory reads, bytes32[] memory writes);
    function readFile(
        string calldata path
    ) external view returns (string memory);
    function parseJsonBytes(
        string calldata json,
        string calldata key
    ) external pure returns (bytes memory);
    function parseJsonBytes32(
        string calldata json,
        string calldata key
    ) external pure returns (bytes32);
    function parseJsonUint(
        string calldata json,
        string calldata key
    ) external pure returns (uint256);
    function parseJsonBytes32Array(
        string calldata json,
        string calldata key
    ) external pure returns (bytes32[] memory);
    function toString(
        uint256 value
    ) external pure returns (string memory);
    function lastCallGas() external view returns (Gas memory);
    function writeFile(
        string calldata path,
        string calldata data
    ) external;
    function getDeployedCode(
        string calldata artifact
    ) external view returns (bytes memory);
    function getCode(
        string calldata artifact
    ) external view returns (bytes memory);
    function assertTrue(
        bool condition,
        string calldata what
    ) external pure;
    function assertEq(
        uint256 left,
        uint256 right,
        string calldata what
    ) external pure;
    function assertEq(
        int256 left,
        int256 right,
        string calldata what
    ) external pure;
    function assertEq(
        bytes32 left,
        bytes32 right,
        string calldata what
    ) external pure;
}

/// What forge wants of a test contract, without a library of helpers.
abstract contract Test {
    bool public constant IS_TEST = true;
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
}
