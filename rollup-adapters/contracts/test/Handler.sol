// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {EscrowBooks} from "../src/EscrowBooks.sol";
import {ABORT, COMMIT} from "../src/Settlement.sol";
import {SettlementHub} from "../src/SettlementHub.sol";
import {World} from "./World.sol";

/// Everything that can happen to two rollups, in any order, and a model of what it must do to the books: a leg's balances move
/// with its status and at no other time. Decisions are real certificates. A COMMIT may also come for legs that are not
/// prepared, as after a reorganization.
contract Handler is World {
    struct Deal {
        bool fromAlpha;
        address account;
        uint128 amount;
        uint64 nonce;
        uint8 outcome;
        /// The legs' words as last seen: the debit's, the credit's.
        uint256[2] words;
    }

    struct Model {
        uint256 free;
        uint256 inFlight;
        uint256 debt;
    }

    struct PoolModel {
        uint256 inventory;
        uint256 reserved;
        uint256 owed;
    }

    uint256 private constant DEALS_MAX = 60;

    Deal[] internal deals;
    /// The order in which deals were decided.
    uint256[] internal decided;
    address[] internal actors;
    mapping(uint64 rollup => mapping(address account => Model)) internal model;
    mapping(uint64 rollup => PoolModel) internal pools;
    /// Paid in less paid out, by accounts, on both rollups.
    int256 public netDeposits;
    /// How often each status was entered.
    uint256[6] public entered;
    /// What went wrong, if anything did.
    string public violation;

    constructor() {
        super.setUp();
        actors.push(alice);
        actors.push(bob);
        actors.push(address(0xCA401));
        for (uint256 i = 0; i < 2; i++) {
            Rollup memory r = rollup(i);
            pools[r.id].inventory = 3_000_000;
            pay(r, address(r.venue), 5_000_000);
            for (uint256 j = 0; j < actors.length; j++) {
                pay(r, actors[j], 1_000_000);
            }
        }
        // The venue's own account, as the house.
        actors.push(address(alpha.venue));
        actors.push(address(beta.venue));
    }

    // ---- Actions ----

    function order(
        uint256 who,
        bool fromAlpha,
        uint128 amount
    ) external {
        if (deals.length == DEALS_MAX) return;
        deals.push(Deal(fromAlpha, actor(who), uint128(amount % 600_000) + 1, uint64(deals.length), 0, [uint256(0), 0]));
    }

    function vote(
        uint256 which,
        bool credit
    ) external {
        if (deals.length == 0) return;
        Deal storage deal = deals[which % deals.length];
        Settlement memory s = settlementOf(deal);
        uint8 index = credit ? 1 : 0;
        Rollup memory r = side(deal, index);
        vm.chainId(r.id);
        vm.prank(deal.account);
        try r.escrow.prepare(s.account, s.nonce, s.deadline, s.legs, index) {
            if (deal.words[index] != 0) violation = "a leg was prepared a second time, or after its decision";
        } catch {
            if (deal.words[index] == 0) violation = "a first prepare failed";
        }
        observe();
    }

    function decideOne(
        uint256 which,
        uint256 coin
    ) external {
        if (deals.length == 0) return;
        Deal storage deal = deals[which % deals.length];
        if (deal.outcome != 0) return;
        bool prepared = uint8(deal.words[0]) == 1 && uint8(deal.words[1]) == 1;
        // Of those not prepared, one in eight was, on a chain that is no more.
        deal.outcome = prepared ? (coin % 4 == 0 ? ABORT : COMMIT) : (coin % 8 == 0 ? COMMIT : ABORT);
        decided.push(deal.nonce);
        decide(sidOf(settlementOf(deal)), deal.outcome);
    }

    function relayTo(
        uint256 where,
        uint256 count,
        uint256 withSettlement,
        uint256 overlap
    ) external {
        Rollup memory r = rollup(where);
        uint256 have = r.hub.decisionSequence();
        if (decided.length == have) return;
        uint256 first = have - overlap % (have < 3 ? have + 1 : 3);
        uint256 last = have + 1 + count % (decided.length - have);
        SettlementHub.Decision[] memory taken = new SettlementHub.Decision[](last - first);
        for (uint256 i = first; i < last; i++) {
            Deal storage deal = deals[decided[i]];
            SettlementHub.Decision memory d = entry(settlementOf(deal), deal.outcome);
            taken[i - first] = (withSettlement >> i % 256) & 1 == 1 ? d : bare(d);
        }
        bytes memory rest;
        for (uint256 i = last; i < decided.length; i++) {
            Deal storage deal = deals[decided[i]];
            rest = abi.encodePacked(rest, sidOf(settlementOf(deal)), deal.outcome);
        }
        relay(r, seal(), taken, rest);
        if (r.hub.decisionSequence() != last) violation = "the hub is not where it was brought";
        observe();
    }

    function applyOne(
        uint256 which,
        uint256 where
    ) external {
        (Settlement memory s, Rollup memory r, uint8 index) = leg(which, where);
        if (s.legs.length == 0) return;
        vm.chainId(r.id);
        try r.hub.applyRecorded(s.account, s.nonce, s.deadline, s.legs, index) {} catch {}
        observe();
    }

    /// The hub's word once more, as if the hub were at fault.
    function applyAgain(
        uint256 which,
        uint256 where
    ) external {
        (Settlement memory s, Rollup memory r, uint8 index) = leg(which, where);
        if (s.legs.length == 0) return;
        Deal storage deal = deals[which % deals.length];
        if (uint8(deal.words[index]) < 3) return;
        bytes32 sid = sidOf(s);
        vm.chainId(r.id);
        vm.prank(address(r.hub));
        r.escrow.applyDecision(sid, s.legs, index, deal.outcome);
        observe();
    }

    function coverOne(
        uint256 which,
        uint256 where
    ) external {
        (Settlement memory s, Rollup memory r, uint8 index) = leg(which, where);
        if (s.legs.length == 0) return;
        vm.chainId(r.id);
        try r.escrow.cover(s.account, s.nonce, s.deadline, s.legs, index) {} catch {}
        observe();
    }

    function deposit(
        uint256 who,
        uint256 where,
        uint256 amount
    ) external {
        pay(rollup(where), actor(who), amount % 500_000);
    }

    function withdraw(
        uint256 who,
        uint256 where,
        uint256 amount
    ) external {
        (Rollup memory r, address account) = (rollup(where), actor(who));
        amount = amount % 1_000_000;
        vm.chainId(r.id);
        vm.prank(account);
        try r.escrow.withdraw(USDC, amount, account) {
            model[r.id][account].free -= amount;
            netDeposits -= int256(amount);
        } catch {}
    }

    function provide(
        uint256 where,
        uint256 amount
    ) external {
        Rollup memory r = rollup(where);
        amount = amount % 500_000;
        r.token.mint(provider, amount);
        vm.prank(provider);
        r.token.approve(address(r.escrow), amount);
        vm.prank(provider);
        r.escrow.provide(USDC, amount);
        pools[r.id].inventory += amount;
    }

    function reclaim(
        uint256 where,
        uint256 amount
    ) external {
        Rollup memory r = rollup(where);
        amount = amount % 3_000_000;
        vm.prank(provider);
        try r.escrow.reclaim(USDC, amount, provider) {
            pools[r.id].inventory -= amount;
        } catch {}
    }

    function trade(
        uint256 who,
        uint256 where,
        int64 change
    ) external {
        (Rollup memory r, address account) = (rollup(where), actor(who));
        vm.chainId(r.id);
        uint256[2] memory before = frees(r, account);
        vm.prank(account);
        try r.venue.trade(int256(change) / 1_000) {} catch {}
        moved(r, account, address(r.venue), before);
    }

    function setPrice(
        uint256 where,
        uint256 price
    ) external {
        rollup(where).venue.setPrice(1_500e6 + price % 1_000e6);
    }

    function liquidate(
        uint256 who,
        uint256 where
    ) external {
        (Rollup memory r, address account) = (rollup(where), actor(who));
        vm.chainId(r.id);
        uint256[2] memory before = frees(r, account);
        // The house itself liquidates, so that two accounts are all that moves.
        vm.prank(address(r.venue));
        try r.venue.liquidate(account) {} catch {}
        moved(r, account, address(r.venue), before);
    }

    // ---- The model ----

    /// Follows every leg to its present status and moves the model's balances with it.
    function observe() private {
        for (uint256 i = 0; i < deals.length; i++) {
            Deal storage deal = deals[i];
            bytes32 sid = sidOf(settlementOf(deal));
            for (uint8 index = 0; index < 2; index++) {
                uint256 word = side(deal, index).escrow.legWord(sid, index);
                if (word == deal.words[index]) continue;
                if (index == 0) followDebit(deal, deal.words[0], word);
                else followCredit(deal, deal.words[1], word);
                deal.words[index] = word;
                entered[uint8(word)] += 1;
            }
        }
    }

    function followDebit(
        Deal storage deal,
        uint256 from,
        uint256 to
    ) private {
        uint64 id = side(deal, 0).id;
        Model storage m = model[id][deal.account];
        PoolModel storage p = pools[id];
        (uint8 a, uint8 b) = (uint8(from), uint8(to));
        if (a == 0 && b == 2) return;
        if ((a == 0 || a == 2) && b == 4) return;
        if (a == 0 && b == 1) {
            m.free -= deal.amount;
            m.inFlight += deal.amount;
        } else if (a == 1 && b == 3) {
            m.inFlight -= deal.amount;
            p.inventory += deal.amount;
        } else if (a == 1 && b == 4) {
            m.inFlight -= deal.amount;
            m.free += deal.amount;
        } else if ((a == 0 || a == 2 || a == 5) && (b == 3 || b == 5)) {
            uint256 missing = b == 5 ? to >> 8 : 0;
            if (a == 5) {
                (m.debt, p.owed) = (m.debt - (from >> 8) + missing, p.owed - (from >> 8) + missing);
            } else {
                (m.debt, p.owed) = (m.debt + missing, p.owed + missing);
            }
            uint256 paid = (a == 5 ? from >> 8 : deal.amount) - missing;
            m.free -= paid;
            p.inventory += paid;
        } else {
            violation = "a debit took a step that does not exist";
        }
    }

    function followCredit(
        Deal storage deal,
        uint256 from,
        uint256 to
    ) private {
        uint64 id = side(deal, 1).id;
        Model storage m = model[id][deal.account];
        PoolModel storage p = pools[id];
        (uint8 a, uint8 b) = (uint8(from), uint8(to));
        if (a == 0 && b == 2) return;
        if ((a == 0 || a == 2) && (b == 4 || b == 5)) return;
        if (a == 0 && b == 1) {
            p.inventory -= deal.amount;
            p.reserved += deal.amount;
        } else if (a == 1 && b == 3) {
            p.reserved -= deal.amount;
            m.free += deal.amount;
        } else if (a == 1 && b == 4) {
            p.reserved -= deal.amount;
            p.inventory += deal.amount;
        } else if ((a == 0 || a == 2 || a == 5) && b == 3) {
            p.inventory -= deal.amount;
            m.free += deal.amount;
        } else {
            violation = "a credit took a step that does not exist";
        }
    }

    function frees(
        Rollup memory r,
        address account
    ) private view returns (uint256[2] memory) {
        return [free(r, account), free(r, address(r.venue))];
    }

    /// What a venue moves between an account and its house is its own matter, but nothing else may move, nor may anything be made.
    function moved(
        Rollup memory r,
        address account,
        address house,
        uint256[2] memory before
    ) private {
        uint256[2] memory later = frees(r, account);
        if (before[0] + before[1] != later[0] + later[1]) violation = "a venue made or lost margin";
        model[r.id][account].free = model[r.id][account].free + later[0] - before[0];
        model[r.id][house].free = model[r.id][house].free + later[1] - before[1];
    }

    // ---- What the invariants ask ----

    /// S4: the books are what each leg's status, counted once, makes them.
    function booksAreTheModels() external view returns (bool) {
        for (uint256 i = 0; i < 2; i++) {
            Rollup memory r = rollup(i);
            for (uint256 j = 0; j < actors.length; j++) {
                EscrowBooks.Account memory a = r.escrow.accountOf(actors[j], USDC);
                Model storage m = model[r.id][actors[j]];
                if (a.free != m.free || a.inFlight != m.inFlight || a.debt != m.debt || a.indebted != (m.debt > 0)) {
                    return false;
                }
            }
            EscrowBooks.Asset memory asset = r.escrow.assetOf(USDC);
            PoolModel storage p = pools[r.id];
            if (asset.inventory != p.inventory || asset.reserved != p.reserved || asset.owed != p.owed) return false;
        }
        return true;
    }

    /// S5.
    function assertBothBalanced() external view {
        assertBalanced(alpha, actors);
        assertBalanced(beta, actors);
    }

    /// S3: no settlement is committed on one side and released on the other.
    function noneIsHalfDone() external view returns (bool) {
        for (uint256 i = 0; i < deals.length; i++) {
            (uint8 a, uint8 b) = (uint8(deals[i].words[0]), uint8(deals[i].words[1]));
            if ((a == 3 || a == 5) && b == 4) return false;
            if (a == 4 && (b == 3 || b == 5)) return false;
        }
        return true;
    }

    /// S6: what accounts have on both rollups and on the way is what they paid in.
    function claims() external view returns (int256 sum) {
        for (uint256 i = 0; i < 2; i++) {
            Rollup memory r = rollup(i);
            for (uint256 j = 0; j < actors.length; j++) {
                EscrowBooks.Account memory a = r.escrow.accountOf(actors[j], USDC);
                sum += int256(uint256(a.free) + a.inFlight) - int256(uint256(a.debt));
            }
        }
        for (uint256 i = 0; i < deals.length; i++) {
            (uint8 a, uint8 b) = (uint8(deals[i].words[0]), uint8(deals[i].words[1]));
            bool left = a == 3 || a == 5;
            bool arrived = b == 3;
            if (left && !arrived) sum += int256(uint256(deals[i].amount));
            if (arrived && !left) sum -= int256(uint256(deals[i].amount));
        }
    }

    /// S10: tries to prepare every released leg again. The caller must be able to take it back: on success this reverts.
    function nothingReleasedCanBePrepared() external returns (bool) {
        for (uint256 i = 0; i < deals.length; i++) {
            for (uint8 index = 0; index < 2; index++) {
                if (uint8(deals[i].words[index]) != 4) continue;
                Settlement memory s = settlementOf(deals[i]);
                Rollup memory r = side(deals[i], index);
                vm.chainId(r.id);
                vm.prank(deals[i].account);
                try r.escrow.prepare(s.account, s.nonce, s.deadline, s.legs, index) {
                    return false;
                } catch {}
            }
        }
        return true;
    }

    // ---- Inner ----

    function pay(
        Rollup memory r,
        address account,
        uint256 amount
    ) private {
        r.token.mint(address(this), amount);
        r.token.approve(address(r.escrow), amount);
        r.escrow.deposit(USDC, account, amount);
        model[r.id][account].free += amount;
        netDeposits += int256(amount);
    }

    function rollup(
        uint256 where
    ) private view returns (Rollup memory) {
        return where % 2 == 0 ? alpha : beta;
    }

    function actor(
        uint256 who
    ) private view returns (address) {
        return actors[who % 3];
    }

    function side(
        Deal storage deal,
        uint8 index
    ) private view returns (Rollup memory) {
        return deal.fromAlpha == (index == 0) ? alpha : beta;
    }

    function settlementOf(
        Deal storage deal
    ) private view returns (Settlement memory) {
        return deal.fromAlpha
            ? transfer(alpha, beta, deal.account, deal.amount, deal.nonce)
            : transfer(beta, alpha, deal.account, deal.amount, deal.nonce);
    }

    function leg(
        uint256 which,
        uint256 where
    ) private view returns (Settlement memory s, Rollup memory r, uint8 index) {
        if (deals.length == 0) return (s, r, 0);
        Deal storage deal = deals[which % deals.length];
        index = uint8(where % 2);
        return (settlementOf(deal), side(deal, index), index);
    }
}
