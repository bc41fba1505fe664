// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

import {IMarginEscrow} from "../src/IMarginEscrow.sol";
import {IMarginVenue} from "../src/IMarginVenue.sol";
import {MarginEscrow} from "../src/MarginEscrow.sol";
import {Leg} from "../src/Settlement.sol";
import {SettlementHub} from "../src/SettlementHub.sol";

// Escrows, venues and tokens that misbehave.

/// An escrow that does to the hub whatever it can.
contract BadEscrow {
    enum Mood {
        Revert,
        BurnGas,
        ReturnBomb,
        SaySomethingElse,
        SayNothing,
        Reenter,
        Obey
    }

    Mood public mood;
    SettlementHub private immutable hub;
    uint256 public obeyed;

    constructor(
        SettlementHub hub_,
        Mood mood_
    ) {
        (hub, mood) = (hub_, mood_);
    }

    function setMood(
        Mood mood_
    ) external {
        mood = mood_;
    }

    function applyDecision(
        bytes32,
        Leg[] calldata legs,
        uint8 legIndex,
        uint8
    ) external returns (bytes4) {
        if (mood == Mood.BurnGas) while (true) {}
        if (mood == Mood.Revert) revert("never");
        if (mood == Mood.ReturnBomb) {
            assembly {
                return(0, 60000)
            }
        }
        if (mood == Mood.SaySomethingElse) return 0xdeadbeef;
        if (mood == Mood.SayNothing) {
            assembly {
                return(0, 0)
            }
        }
        if (mood == Mood.Reenter) hub.applyRecorded(0, 0, 0, legs, legIndex);
        obeyed += 1;
        return IMarginEscrow.applyDecision.selector;
    }
}

/// A venue that answers in every way but an honest no.
contract BadVenue is IMarginVenue {
    enum Mood {
        Yes,
        Revert,
        BurnGas,
        ReturnBomb,
        SayTwo,
        SayNothing,
        Reenter,
        Thrifty
    }

    Mood public mood;
    MarginEscrow private escrow;
    bytes private call_;
    /// Gas that a thrifty venue needs for its yes.
    uint256 public appetite;

    function set(
        Mood mood_,
        MarginEscrow escrow_,
        bytes calldata reentry,
        uint256 appetite_
    ) external {
        (mood, escrow, call_, appetite) = (mood_, escrow_, reentry, appetite_);
    }

    function mayDebit(
        address,
        bytes32,
        uint256
    ) external view returns (bool) {
        return answer();
    }

    function mayCredit(
        address,
        bytes32,
        uint256
    ) external view returns (bool) {
        return answer();
    }

    function answer() private view returns (bool) {
        if (mood == Mood.BurnGas) while (true) {}
        if (mood == Mood.Revert) revert("never");
        if (mood == Mood.ReturnBomb) {
            assembly {
                mstore(0, 2)
                return(0, 60000)
            }
        }
        if (mood == Mood.SayTwo) {
            assembly {
                mstore(0, 2)
                return(0, 32)
            }
        }
        if (mood == Mood.SayNothing) {
            assembly {
                return(0, 0)
            }
        }
        if (mood == Mood.Reenter) reenter();
        if (mood == Mood.Thrifty) {
            // A venue that is asked too cheaply cannot finish its sum.
            uint256 enough = gasleft();
            if (enough < appetite) while (true) {}
        }
        return true;
    }

    function reenter() private view {
        // A static call cannot be escaped: whatever it calls may not write.
        (bool ok,) = address(escrow).staticcall(call_);
        require(!ok, "a venue wrote during its question");
    }
}

/// A token that keeps a hundredth of what is moved.
contract FeeToken is ERC20("Fee", "FEE") {
    function mint(
        address to,
        uint256 amount
    ) external {
        _mint(to, amount);
    }

    function _update(
        address from,
        address to,
        uint256 value
    ) internal override {
        if (from == address(0)) return super._update(from, to, value);
        super._update(from, to, value - value / 100);
        super._update(from, address(0xdead), value / 100);
    }
}

/// A token that calls back while it moves.
contract ReentrantToken is ERC20("Again", "AGN") {
    address private target;
    bytes private call_;
    bool public lastOk;
    bytes public lastError;

    function mint(
        address to,
        uint256 amount
    ) external {
        _mint(to, amount);
    }

    function arm(
        address target_,
        bytes calldata input
    ) external {
        (target, call_) = (target_, input);
    }

    function approveFor(
        address spender
    ) external {
        _approve(address(this), spender, type(uint256).max);
    }

    function _update(
        address from,
        address to,
        uint256 value
    ) internal override {
        super._update(from, to, value);
        if (target == address(0)) return;
        (address t, bytes memory input) = (target, call_);
        target = address(0);
        (lastOk, lastError) = t.call(input);
    }
}
