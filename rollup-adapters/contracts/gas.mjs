// What does settling cost on a chain? Deploys the committed artifacts on anvil, settles with real certificates, reads the
// receipts and writes GAS.md. Fails if a leg does not end where it should. Takes the path of anvil.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { bls12_381 as bls } from "@noble/curves/bls12-381.js";
import { StandardMerkleTree } from "@openzeppelin/merkle-tree";
import { AbiCoder, Contract, ContractFactory, JsonRpcProvider, NonceManager } from "ethers";
import { concat, getBytes, hexlify, id, keccak256, randomBytes, toBeHex } from "ethers";

const DST = "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_";
const ALPHA = 10;
const BETA = 901;
const USDC = id("USDC");
const network = id("lockstep-test-1");
const abi = AbiCoder.defaultAbiCoder();
const artifact = (name) => JSON.parse(readFileSync(new URL(`artifacts/${name}.json`, import.meta.url)));

// Anvil picks a free port and prints it.
const options = { port: 0, "chain-id": ALPHA, hardfork: "prague", "gas-limit": 60_000_000 };
const anvil = spawn(process.argv[2], Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]));
const port = await new Promise((resolve, reject) => {
  let text = "";
  anvil.stdout.on("data", (data) => {
    text += data;
    const found = /Listening on .*:(\d+)/.exec(text);
    if (found) resolve(found[1]);
  });
  anvil.on("exit", () => reject(new Error(`anvil ended: ${text}`)));
});

try {
  const provider = new JsonRpcProvider(`http://127.0.0.1:${port}`, ALPHA, { staticNetwork: true, cacheTimeout: -1 });
  const owner = new NonceManager(await provider.getSigner(0));
  // Several, because one account may only have so many credits open.
  const users = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(async (i) => new NonceManager(await provider.getSigner(i))));
  const addresses = await Promise.all(users.map((user) => user.getAddress()));
  const deploy = async (name, ...args) => {
    const { abi: interface_, bytecode } = artifact(name);
    const contract = await new ContractFactory(interface_, bytecode, owner).deploy(...args);
    await contract.waitForDeployment();
    return new Contract(await contract.getAddress(), interface_, owner);
  };

  // ---- A rollup with everything ----

  const field = (value) => toBeHex(value, 64);
  const secret = bls.utils.randomSecretKey();
  const { x, y } = bls.shortSignatures.getPublicKey(secret).toAffine();
  const token = await deploy("TestToken", "USD Coin", "USDC", 6);
  const key = concat([x.c0, x.c1, y.c0, y.c1].map(field));
  const hub = await deploy("SettlementHub", network, key, token.target, toBeHex(1, 20));
  const escrow = await deploy("MarginEscrow", hub.target, await owner.getAddress());
  const venue = await deploy("ReferenceVenue", escrow.target, USDC, 2_000_000_000n, await owner.getAddress());
  const send = async (promise) => {
    const receipt = await (await promise).wait();
    assert.equal(receipt.status, 1);
    return receipt;
  };
  await send(escrow.setVenue(venue.target));
  await send(escrow.listAsset(USDC, token.target));
  await send(escrow.setLimits(USDC, 10n ** 12n, 10n ** 12n));
  await send(escrow.setCorridor(BETA, USDC, 10n ** 12n));
  await send(token.mint(await owner.getAddress(), 10n ** 12n));
  await send(token.approve(escrow.target, 10n ** 12n));
  await send(escrow.provide(USDC, 10n ** 11n));
  for (const [i, user] of users.entries()) {
    await send(escrow.deposit(USDC, addresses[i], 10n ** 10n));
    // As a trader has one: the venue then has something to compute.
    await send(venue.connect(user).trade(10n ** 15n));
  }

  // ---- The log ----

  let [sequence, decisions, height] = [0, `0x${"00".repeat(32)}`, 0];
  const account = id("account");
  const legType = "tuple(uint64,address,address,bytes32,uint8,uint128,uint8)[]";
  const settlementTypes = ["bytes32", "bytes32", "bytes32", "uint64", "uint64", legType];
  let nonce = 0;
  function settlement(debitHere, who = 0, amount = 1_000_000n) {
    const here = [ALPHA, escrow.target, addresses[who], USDC, debitHere ? 0 : 1, amount, 0];
    const there = [BETA, toBeHex(0xbeef, 20), addresses[who], USDC, debitHere ? 1 : 0, amount, 0];
    const legs = debitHere ? [here, there] : [there, here];
    const s = { who, nonce: nonce++, deadline: 100, legs, index: debitHere ? 0 : 1 };
    const values = [id("lockstep settlement v1"), network, account, s.nonce, s.deadline, legs];
    s.sid = keccak256(abi.encode(settlementTypes, values));
    return s;
  }
  const prepare = (s) =>
    send(escrow.connect(users[s.who]).prepare(account, s.nonce, s.deadline, s.legs, s.index, { gasLimit: 500_000 }));
  const varint = (value) => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...varint(value >> 7)]);

  // A block with that many decisions for this lane, among eight lanes, and the call that brings them.
  async function relay(entries, withSettlement) {
    for (const { sid, outcome } of entries) decisions = keccak256(concat([decisions, sid, toBeHex(outcome, 1)]));
    sequence += entries.length;
    height += 1;
    const leaf = [ALPHA, height, hexlify(randomBytes(32)), sequence, decisions];
    const random = () => hexlify(randomBytes(32));
    const others = Array.from({ length: 7 }, (_, i) => [1000 + i, 1, random(), 1, random()]);
    const tree = StandardMerkleTree.of([leaf, ...others], ["uint64", "uint64", "bytes32", "uint64", "bytes32"]);
    const u64 = (value) => toBeHex(value, 8);
    const origin = [u64(25_000_000), random(), u64(1_790_000_000)];
    const header = concat([
      ...["0x4c534831", network, u64(0), u64(height), u64(height - 1), random(), u64(height), random()],
      ...[u64(1_790_000_000_000 + height), ...origin, random(), tree.root, random(), random(), u64(1), u64(1_000)],
    ]);
    assert.equal(getBytes(header).length, 332);
    const views = Uint8Array.from([...varint(0), ...varint(height), ...varint(height - 1)]);
    const namespace = [Uint8Array.from([49]), Buffer.from("lockstep"), network, Buffer.from("_FINALIZE")];
    const message = concat([...namespace, views, keccak256(header)]);
    const point = bls.shortSignatures.sign(bls.shortSignatures.hash(getBytes(message), DST), secret).toAffine();
    const certificate = [0, height, height - 1, concat([field(point.x), field(point.y)])];
    const taken = entries.map(({ sid, outcome, s }) =>
      withSettlement
        ? [sid, outcome, account, s.nonce, s.deadline, s.legs]
        : [sid, outcome, `0x${"00".repeat(32)}`, 0, 0, []],
    );
    const receipt = await send(hub.applyDecisions(header, [], certificate, leaf, tree.getProof(0), taken, "0x"));
    const { data } = await provider.getTransaction(receipt.hash);
    return { gas: Number(receipt.gasUsed), bytes: getBytes(data).length };
  }

  const entries = (list, outcome) => list.map((s) => ({ sid: s.sid, outcome, s }));
  // Debits and credits by turns.
  async function prepared(count) {
    const list = [];
    for (let i = 0; i < count; i++) {
      const s = settlement(i % 2 === 0, (i >> 1) % users.length);
      await prepare(s);
      assert.equal(await escrow.legStatus(s.sid, s.index), 1n);
      list.push(s);
    }
    return list;
  }
  const expectStatus = async (list, status) => {
    for (const s of list) assert.equal(await escrow.legStatus(s.sid, s.index), BigInt(status));
  };

  const rows = [];
  const row = (what, gas, remark) => rows.push([what, Math.round(gas).toLocaleString("en-US"), remark]);
  const transactionBytes = async (receipt) => getBytes((await provider.getTransaction(receipt.hash)).data).length;

  // The first of everything writes fresh slots of the accounts, the corridor and the pool; what follows is measured.
  const first = await prepared(2 * users.length);
  await relay(entries(first, 1), true);
  await expectStatus(first, 3);

  const debit = settlement(true);
  const debitReceipt = await prepare(debit);
  const credit = settlement(false);
  const creditReceipt = await prepare(credit);
  const refusedOne = settlement(true, 0, 10n ** 12n - 1n);
  const refusedReceipt = await prepare(refusedOne);
  await expectStatus([debit, credit], 1);
  await expectStatus([refusedOne], 2);
  const prepareBytes = await transactionBytes(debitReceipt);
  row("`prepare`, debit, with a position at the venue", Number(debitReceipt.gasUsed), `${prepareBytes} bytes of calldata`);
  row("`prepare`, credit", Number(creditReceipt.gasUsed), "");
  row("`prepare`, refused", Number(refusedReceipt.gasUsed), "the vote is recorded");

  const commitDebit = await relay(entries([debit], 1), true);
  row("hub call, 1 decision, a debit leg committed", commitDebit.gas, `${commitDebit.bytes} bytes`);
  const commitCredit = await relay(entries([credit], 1), true);
  row("hub call, 1 decision, a credit leg committed", commitCredit.gas, "");
  const abort = await relay(entries([refusedOne], 2), true);
  row("hub call, 1 decision, a refused leg released", abort.gas, "");
  await expectStatus([debit, credit], 3);
  await expectStatus([refusedOne], 4);

  const calls = {};
  for (const count of [1, 10, 100]) {
    const list = await prepared(count);
    calls[count] = await relay(entries(list, 1), false);
    await expectStatus(list, 1);
    row(`hub call, ${count} decision${count > 1 ? "s" : ""}, recorded only`, calls[count].gas, `${calls[count].bytes} bytes`);
    if (count === 1) {
      const [s] = list;
      const receipt = await send(hub.applyRecorded(account, s.nonce, s.deadline, s.legs, s.index));
      row("`applyRecorded`, one leg in a transaction of its own", Number(receipt.gasUsed), "");
      await expectStatus(list, 3);
    }
  }
  for (const count of [10, 100]) {
    const list = await prepared(count);
    calls[`${count} applied`] = await relay(entries(list, 1), true);
    await expectStatus(list, 3);
    row(`hub call, ${count} decisions, every leg committed`, calls[`${count} applied`].gas, `${calls[`${count} applied`].bytes} bytes`);
  }
  const applied = (calls["100 applied"].gas - calls["10 applied"].gas) / 90;
  row("each further decision with its leg committed", applied, "(100 - 10 decisions) / 90");
  row("each further decision, recorded only", (calls[100].gas - calls[10].gas) / 90, "");
  const asset = await escrow.assetOf(USDC);
  assert.equal(asset.held, BigInt(await token.balanceOf(escrow.target)));

  const perDecision = Math.round((calls["100 applied"].bytes - calls["10 applied"].bytes) / 90);
  const fixed = calls["10 applied"].bytes - 10 * perDecision;
  const text = `# Gas of settlement

Written by \`gas.mjs\` from receipts on anvil (hardfork Prague), whole transactions as paid, refunds deducted. The contracts are
the committed artifacts, the certificates are real, the lane tree has eight lanes, a settlement two legs, one of them here. The slots
of accounts, corridor and pool have been written before; a leg's own slot is new.

| what | gas | |
| --- | --- | --- |
${rows.map((cells) => `| ${cells.join(" | ")} |`).join("\n")}

Calldata, not compressed: \`prepare\` ${prepareBytes} bytes; a hub call ${fixed} bytes and ${perDecision} for each decision with its settlement. A transfer, which is a
\`prepare\` and an application on each of two rollups, has ${2 * (prepareBytes + perDecision)} bytes of calldata and its share of two hub calls.
`;
  writeFileSync(new URL("GAS.md", import.meta.url), text);
  console.log(rows.map((cells) => cells.join(": ")).join("\n"));
} finally {
  anvil.kill();
}
