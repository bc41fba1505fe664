// Do other people's implementations agree with the golden vectors?
// Each judge prints how much it checked; the first disagreement throws, and the process exits with 1.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { bls12_381 } from "@noble/curves/bls12-381.js";
import { ed25519 } from "@noble/curves/ed25519.js";
import { blake3 } from "@noble/hashes/blake3.js";
import { keccak_256 } from "@noble/hashes/sha3.js";
import { bytesToHex, concatBytes, hexToBytes, utf8ToBytes } from "@noble/hashes/utils.js";
import { SimpleMerkleTree, StandardMerkleTree } from "@openzeppelin/merkle-tree";
import { AbiCoder, Wallet, computeAddress, getBytes, id, keccak256, solidityPackedKeccak256, verifyMessage } from "ethers";

const load = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url)));
const bytes = (hex) => hexToBytes(hex.slice(2));
const hex = (value) => `0x${bytesToHex(value)}`;
const vectors = Object.fromEntries(
  ["header", "bundle", "cancel", "body", "lane", "tree", "state", "reports", "certificate", "settlement"].map((n) => [n, load(n)]),
);

function judge(name, check) {
  console.log(`agreed: ${name} (${check()} checks)`);
}

// Every object with a domain, the bytes after it and a hash, wherever it stands.
function hashed(value, found = []) {
  if (value && typeof value === "object") {
    if ("domain" in value && "borsh" in value) found.push(value);
    Object.values(value).forEach((inner) => hashed(inner, found));
  }
  return found;
}

judge("noble-hashes", () => {
  const all = hashed(vectors);
  assert.ok(all.length >= 16, "the vectors have lost hashes");
  for (const { domain, borsh, hash } of all) {
    assert.equal(hex(blake3(concatBytes(utf8ToBytes(domain), bytes(borsh)))), hash, domain);
  }
  assert.equal(hex(blake3(bytes(vectors.body.wire))), vectors.body.hash);
  assert.equal(hex(keccak_256(bytes(vectors.header.bytes))), vectors.header.digest);
  assert.equal(hex(keccak_256(bytes(vectors.certificate.header))), vectors.certificate.digest);
  assert.equal(hex(keccak_256(utf8ToBytes("lockstep-test-1"))), vectors.certificate.network);
  return all.length + 4;
});

judge("noble-curves", () => {
  const { groupKey, dst, certificates } = vectors.certificate;
  const short = bls12_381.shortSignatures;
  const key = short.getPublicKey(bytes(vectors.certificate.secret));
  assert.equal(hex(key.toBytes(true)), groupKey);
  let checks = 1;
  for (const { message, signature } of certificates) {
    const point = short.hash(bytes(message), dst);
    assert.equal(hex(short.Signature.toBytes(short.sign(point, bytes(vectors.certificate.secret)))), signature);
    assert.ok(short.verify(bytes(signature), point, bytes(groupKey)));
    const other = short.hash(concatBytes(bytes(message), new Uint8Array(1)), dst);
    assert.ok(!short.verify(bytes(signature), other, bytes(groupKey)));
    checks += 3;
  }
  const signed = [vectors.bundle[0], vectors.cancel[0]];
  for (const item of signed) {
    const id = bytes((item.id ?? item.digest).hash);
    const account = (item.json.bundle ?? item.json.cancel).account.ed25519;
    assert.equal(hex(ed25519.getPublicKey(bytes(item.secret))), account);
    assert.equal(hex(ed25519.sign(id, bytes(item.secret))), item.signature);
    assert.ok(ed25519.verify(bytes(item.signature), id, bytes(account), { zip215: true }));
    checks += 3;
  }
  return checks;
});

judge("merkle-tree", () => {
  let checks = 0;
  for (const { types, root, leaves } of vectors.tree) {
    const tree = StandardMerkleTree.of(leaves.map((leaf) => leaf.values), types);
    assert.equal(tree.root, root, `root of ${leaves.length} leaves`);
    leaves.forEach((leaf, index) => {
      assert.equal(tree.leafHash(leaf.values), leaf.hash);
      assert.deepEqual(tree.getProof(index), leaf.path);
      assert.ok(StandardMerkleTree.verify(root, types, leaf.values, leaf.path));
      checks += 3;
    });
    checks += 1;
  }
  const { item, leaves } = vectors.lane;
  assert.ok(SimpleMerkleTree.verify(item.json.header.lanes, leaves[1].hash, item.json.path));
  return checks + 1;
});

let signatures = 0;
for (const item of [vectors.bundle[1], vectors.cancel[1]]) {
  const id = getBytes((item.id ?? item.digest).hash);
  const account = (item.json.bundle ?? item.json.cancel).account.secp256k1;
  const wallet = new Wallet(item.secret);
  assert.equal(computeAddress(item.secret).toLowerCase(), account);
  assert.equal(await wallet.signMessage(id), item.signature);
  assert.equal(verifyMessage(id, item.signature).toLowerCase(), account);
  signatures += 3;
}
judge("ethers", () => signatures);

// What contracts recompute of a settlement: its id, the slots of its legs, accounts as words, the chain of decisions.
judge("ethers abi", () => {
  const coder = AbiCoder.defaultAbiCoder();
  const encoded = (types, values) => keccak256(coder.encode(types, values));
  const leg = "tuple(uint64,address,address,bytes32,uint8,uint128,uint8)";
  const word = (account) =>
    account.ed25519
      ? solidityPackedKeccak256(["uint8", "bytes32"], [0, account.ed25519])
      : solidityPackedKeccak256(["uint8", "address"], [1, account.secp256k1]);
  const { intents, deposits, decisions } = vectors.settlement;
  const side = { debit: 0, credit: 1 };
  const level = { executed: 0, safe: 1, final: 2 };
  let checks = 0;
  for (const { network, account, json, sid, slots } of intents) {
    assert.equal(word(json.account), account);
    const legs = json.transfer.legs.map((l) => [
      l.rollup, l.escrow, l.account, l.asset, side[l.side], BigInt(l.amount), level[l.level],
    ]);
    const types = ["bytes32", "bytes32", "bytes32", "uint64", "uint64", `${leg}[]`];
    const values = [id("lockstep settlement v1"), network, account, json.nonce, json.transfer.deadline, legs];
    assert.equal(encoded(types, values), sid);
    slots.forEach((slot, index) => {
      const key = encoded(["bytes32", "uint8"], [sid, index]);
      assert.equal(encoded(["bytes32", "uint256"], [key, 0]), slot);
    });
    for (const l of json.transfer.legs) assert.equal(id("USDC"), l.asset);
    checks += 2 + slots.length;
  }
  for (const { account, word: expected, slot } of deposits) {
    assert.equal(word(account), expected);
    assert.equal(encoded(["bytes32", "uint256"], [expected, 0]), slot);
    checks += 2;
  }
  let chain = `0x${"00".repeat(32)}`;
  decisions.settlements.forEach((sid, index) => {
    chain = solidityPackedKeccak256(["bytes32", "bytes32", "uint8"], [chain, sid, decisions.outcomes[index]]);
    assert.equal(chain, decisions.chain[index]);
    checks += 1;
  });
  return checks;
});
