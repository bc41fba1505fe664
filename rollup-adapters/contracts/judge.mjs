// What do other people's libraries say that the contracts must accept? Writes out/judged.json for test/Judged.t.sol:
// certificates by noble's curves under random keys, lane trees by OpenZeppelin's merkle-tree, ids and keys by ethers.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { bls12_381 as bls } from "@noble/curves/bls12-381.js";
import { StandardMerkleTree } from "@openzeppelin/merkle-tree";
import { AbiCoder, concat, getBytes, hexlify, id, keccak256, randomBytes, solidityPacked, toBeHex } from "ethers";

const golden = JSON.parse(readFileSync(new URL("../../sequencer/protocol/vectors/certificate.json", import.meta.url)));
const abi = AbiCoder.defaultAbiCoder();
const alice = toBeHex(0xa11ce, 20);
const network = golden.network;
assert.equal(network, id("lockstep-test-1"));
assert.equal(golden.dst, "BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_");

const field = (value) => toBeHex(value, 64);
const g1 = ({ x, y }) => concat([field(x), field(y)]);
const g2 = ({ x, y }) => concat([field(x.c0), field(x.c1), field(y.c0), field(y.c1)]);

function varint(value) {
  const out = [];
  for (; value >= 0x80n; value >>= 7n) out.push(Number(value & 0x7fn) | 0x80);
  return hexlify(Uint8Array.from([...out, Number(value)]));
}

function message({ epoch, view, parentView }, digest) {
  const namespace = concat([hexlify(Buffer.from("lockstep")), network, hexlify(Buffer.from("_FINALIZE"))]);
  return concat([varint(49n), namespace, varint(epoch), varint(view), varint(parentView), digest]);
}

function sign(secret, proposal, header) {
  const point = bls.shortSignatures.hash(getBytes(message(proposal, keccak256(header))), golden.dst);
  return g1(bls.shortSignatures.sign(point, secret).toAffine());
}

function header(lanes) {
  return concat(["0x4c534831", network, randomBytes(88 - 36), toBeHex(9n, 12), randomBytes(120), lanes, randomBytes(80)]);
}

// Lanes of different number and of random place in the tree; proposals with varints of every length.
function block(lanes, bits) {
  const secret = bls.utils.randomSecretKey();
  const sid = hexlify(randomBytes(32));
  const decisions = keccak256(solidityPacked(["bytes32", "bytes32", "uint8"], [`0x${"00".repeat(32)}`, sid, 2]));
  const word = () => hexlify(randomBytes(32));
  const leaves = Array.from({ length: lanes }, (_, i) => [i === 0 ? 10 : 1000 + i, i * 3, word(), 0, word()]);
  leaves[0][3] = 1;
  leaves[0][4] = decisions;
  const tree = StandardMerkleTree.of(leaves, ["uint64", "uint64", "bytes32", "uint64", "bytes32"]);
  const bytes = header(tree.root);
  assert.equal(getBytes(bytes).length, 332);
  const random = () => BigInt(hexlify(randomBytes(8))) >> BigInt(64 - bits);
  const proposal = { epoch: random(), view: random(), parentView: random() };
  return {
    key: g2(bls.shortSignatures.getPublicKey(secret).toAffine()),
    header: bytes,
    ...Object.fromEntries(Object.entries(proposal).map(([name, value]) => [name, toBeHex(value)])),
    signature: sign(secret, proposal, bytes),
    sequence: leaves[0][1],
    feed: leaves[0][2],
    decisions,
    sid,
    path: tree.getProof(0),
  };
}

// A point of the twist outside of the prime-order subgroup.
function offSubgroup() {
  const { Fp2 } = bls.fields;
  for (let c0 = 1n; ; c0++) {
    const x = Fp2.create({ c0, c1: 0n });
    const square = Fp2.add(Fp2.mul(Fp2.mul(x, x), x), bls.G2.Point.CURVE().b);
    try {
      const point = bls.G2.Point.fromAffine({ x, y: Fp2.sqrt(square) });
      if (!point.isTorsionFree()) return g2(point.toAffine());
    } catch (error) {
      if (!/square root/i.test(error.message)) throw error;
    }
  }
}

function settlement() {
  const leg = "tuple(uint64,address,address,bytes32,uint8,uint128,uint8)[]";
  const account = keccak256(abi.encode(["string", "address"], ["account", alice]));
  const legs = [
    [10, toBeHex(0x1111, 20), alice, id("USDC"), 0, 5, 0],
    [901, toBeHex(0x2222, 20), alice, id("USDC"), 1, 5, 0],
  ];
  const types = ["bytes32", "bytes32", "bytes32", "uint64", "uint64", leg];
  const sid = keccak256(abi.encode(types, [id("lockstep settlement v1"), network, account, 7, 100, legs]));
  return { sid, legKey: keccak256(abi.encode(["bytes32", "uint8"], [sid, 1])) };
}


mkdirSync(new URL("out/gas", import.meta.url), { recursive: true });
writeFileSync(
  new URL("out/judged.json", import.meta.url),
  JSON.stringify({
    golden: golden.certificates.map(({ epoch, view, parentView, signature }) => ({
      header: golden.header,
      epoch,
      view,
      parentView,
      signature: g1(bls.G1.Point.fromHex(signature.slice(2)).toAffine()),
    })),
    offSubgroup: offSubgroup(),
    blocks: [block(1, 4), block(2, 7), block(3, 14), block(7, 21), block(33, 40), block(64, 64)],
    settlement: settlement(),
  }),
);
