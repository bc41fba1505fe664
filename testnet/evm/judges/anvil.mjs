// anvil executes the same transactions in the same blocks, and has to come to the same receipts, balances and roots.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { createMPT } from "@ethereumjs/mpt";
import { Wallet, encodeRlp, getBytes, getCreateAddress, hexlify, keccak256, parseEther, toBeHex } from "ethers";
import { privateKeyToAccount } from "viem/accounts";
import { burner, caller, counter, deploy, refuser, toggler, witness } from "./contracts.mjs";
import { client, startAnvil, startNode, stopAll } from "./processes.mjs";

const CHAIN = 31_337;
const START = 1_700_000_000;
const BLOCKS = 40;
const SEED = Number(process.env.SEED ?? 20_261_123);
console.log(`seed ${SEED}`);

/** xorshift32: the same traffic for the same seed. */
let state = SEED >>> 0 || 1;
const random = (bound) => {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % bound;
};

const wallets = Array.from({ length: 8 }, (_, index) => new Wallet(keccak256(toBeHex(SEED * 100 + index + 1, 32))));
// EIP-2935's contract keeps block hashes, and anvil's differ from ours: its genesis block has no state root. Here it does nothing.
const HISTORY = "0x0000F90827F1C53a10cb7A02335B175320002935";
const NOTHING = "0x00";
const alloc = Object.fromEntries(wallets.map((wallet) => [wallet.address, { balance: toBeHex(parseEther("1000")) }]));
alloc[HISTORY] = { balance: "0x0", code: NOTHING };
const genesis = {
  config: {
    chainId: CHAIN, homesteadBlock: 0, eip150Block: 0, eip155Block: 0, eip158Block: 0, byzantiumBlock: 0,
    constantinopleBlock: 0, petersburgBlock: 0, istanbulBlock: 0, berlinBlock: 0, londonBlock: 0,
    terminalTotalDifficulty: "0x0", shanghaiTime: 0, cancunTime: 0, pragueTime: 0,
  },
  nonce: "0x0", timestamp: toBeHex(START), extraData: "0x", gasLimit: toBeHex(30_000_000), difficulty: "0x0",
  mixHash: `0x${"0".repeat(64)}`, coinbase: `0x${"0".repeat(40)}`, baseFeePerGas: toBeHex(1_000_000_000), alloc,
};
const folder = mkdtempSync(join(tmpdir(), "judges-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, "genesis.json");
writeFileSync(file, JSON.stringify(genesis));

const ours = client(await startNode("--manual", "--genesis", file, "--chain-id", String(CHAIN)));
const theirs = client(
  await startAnvil(
    "--no-mining", "--hardfork", "prague", "--init", file, "--accounts", "0", "--chain-id", String(CHAIN),
    "--gas-limit", "30000000", "--timestamp", String(START), "--order", "fifo", "--disable-default-create2-deployer",
  ),
);

const nonces = new Map(wallets.map((wallet) => [wallet.address, 0]));
const contracts = { counter: [], refuser: [], witness: [], burner: [], toggler: [], caller: [] };
const codes = { counter, refuser, witness, burner, toggler, caller };
const word = (value) => toBeHex(value, 32).slice(2);
const pick = (list) => list[random(list.length)];

/** A transaction of the mix, without its fees. */
const traffic = async (wallet) => {
  const nonce = nonces.get(wallet.address);
  const kind = random(12);
  const known = Object.values(contracts).flat();
  if (kind === 3) {
    const name = pick(Object.keys(codes));
    contracts[name].push(getCreateAddress({ from: wallet.address, nonce }));
    return { data: deploy(codes[name]), gasLimit: 500_000n };
  }
  if (kind < 3 || known.length === 0) {
    return { to: pick(wallets).address, value: BigInt(random(1_000_000)), gasLimit: 21_000n };
  }
  if (kind === 4) {
    return { to: pick(known), gasLimit: 150_000n, accessList: [{ address: pick(known), storageKeys: [`0x${word(0)}`] }] };
  }
  if (kind === 5) {
    // Long input, most of it nought: the floor price of EIP-7623 decides.
    const data = `0x${"00".repeat(random(3_000))}${"ab".repeat(random(500))}`;
    return { to: pick(wallets).address, data, gasLimit: 200_000n };
  }
  if (kind === 6 && contracts.caller.length > 0) {
    // EIP-2537's addition of two points at infinity, identity, SHA-256, and a multiplication that is refused.
    const [number, input] = pick([[0x0b, "00".repeat(256)], [4, "1234"], [2, "1234"], [0x0c, "00".repeat(7)]]);
    return { to: pick(contracts.caller), data: `0x${word(number)}${input}`, gasLimit: 300_000n };
  }
  if (kind === 7) {
    // Another's account takes a contract's code; its nonce goes up, while this block has no transaction of its own.
    const other = pick(wallets.filter((one) => one !== wallet));
    const signed = await privateKeyToAccount(other.privateKey).signAuthorization({
      contractAddress: pick(known), chainId: CHAIN, nonce: nonces.get(other.address),
    });
    nonces.set(other.address, nonces.get(other.address) + 1);
    return { authorization: signed, to: other.address, gasLimit: 300_000n };
  }
  return { to: pick(known), gasLimit: 120_000n };
};

/** Signed bytes; the fee falls from place to place, so that every order by fee is the order of the list. */
const sign = async (wallet, place, tx) => {
  const nonce = nonces.get(wallet.address);
  const { authorization, ...rest } = tx;
  const tip = 5_000_000_000n - BigInt(place) * 10_000_000n;
  const fees = { maxFeePerGas: 100_000_000_000n + tip, maxPriorityFeePerGas: tip };
  nonces.set(wallet.address, nonce + 1);
  if (authorization) {
    return privateKeyToAccount(wallet.privateKey).signTransaction({
      chainId: CHAIN, nonce, to: rest.to, gas: rest.gasLimit, authorizationList: [authorization], type: "eip7702", ...fees,
    });
  }
  return wallet.signTransaction({ chainId: CHAIN, nonce, type: 2, ...fees, ...rest });
};

const HEADER = ["number", "timestamp", "gasUsed", "gasLimit", "baseFeePerGas", "receiptsRoot", "transactionsRoot", "logsBloom"];
const RECEIPT = ["type", "status", "gasUsed", "cumulativeGasUsed", "effectiveGasPrice", "contractAddress", "logsBloom", "from", "to", "transactionHash", "transactionIndex"];
const LOG = ["address", "topics", "data", "logIndex", "transactionHash"];
const part = (object, fields) => Object.fromEntries(fields.map((field) => [field, object[field] ?? null]));

/** The root of a trie of these entries, built by ethereumjs. */
const rootOf = async (entries) => {
  const trie = await createMPT({ useKeyHashing: true });
  for (const [key, value] of entries) await trie.put(getBytes(key), getBytes(value));
  return hexlify(trie.root());
};

/** The RLP of a number: no leading noughts, and nothing for nought. */
const rlp = (value) => (BigInt(value) === 0n ? "0x" : toBeHex(value));

/** The state root of all that anvil holds. Its own keeps slots of nought and empty accounts in the tries, which Ethereum's do
 * not: then `own` is false, and its header's root is none to compare with. */
const rootOfAnvil = async () => {
  const dump = JSON.parse(gunzipSync(Buffer.from((await theirs("anvil_dumpState")).slice(2), "hex")));
  const accounts = [];
  let own = true;
  for (const [address, { balance, nonce, code, storage }] of Object.entries(dump.accounts)) {
    const slots = Object.entries(storage).filter(([, value]) => BigInt(value) !== 0n);
    const empty = BigInt(balance) === 0n && Number(nonce) === 0 && code === "0x";
    own &&= !empty && slots.length === Object.keys(storage).length;
    if (empty) continue;
    const root = await rootOf(slots.map(([slot, value]) => [slot, encodeRlp(rlp(value))]));
    accounts.push([address, encodeRlp([rlp(nonce), rlp(balance), root, keccak256(code)])]);
  }
  return { root: await rootOf(accounts), own };
};

let [roots, ownRoots] = [0, 0];
const compare = async (number) => {
  const at = `0x${number.toString(16)}`;
  const [mine, other] = await Promise.all([ours, theirs].map((rpc) => rpc("eth_getBlockByNumber", at, false)));
  const [receipts, others] = await Promise.all([ours, theirs].map((rpc) => rpc("eth_getBlockReceipts", at)));
  assert.deepEqual(mine.transactions, other.transactions, `block ${number}: transactions`);
  receipts.forEach((receipt, index) => {
    assert.deepEqual(part(receipt, RECEIPT), part(others[index], RECEIPT), `block ${number}, receipt ${index}`);
    assert.deepEqual(
      receipt.logs.map((log) => part(log, LOG)), others[index].logs.map((log) => part(log, LOG)),
      `block ${number}, logs of ${index}`,
    );
  });
  assert.deepEqual(part(mine, HEADER), part(other, HEADER), `block ${number}`);
  // anvil's genesis block says that nobody holds anything; from the first block on it has a root.
  if (number > 0) {
    const { root, own } = await rootOfAnvil();
    assert.equal(mine.stateRoot, root, `block ${number}: the root of what anvil holds`);
    if (own) assert.equal(mine.stateRoot, other.stateRoot, `block ${number}: state root`);
    roots += 1;
    ownRoots += Number(own);
  }
  return receipts;
};

await compare(0);
await theirs("anvil_setCode", HISTORY, NOTHING);
// anvil starts with the genesis block's base fee instead of its successor's; from then on it computes its own.
const { baseFeePerGas } = await ours("eth_getBlockByNumber", "pending", false);
await theirs("anvil_setNextBlockBaseFeePerGas", baseFeePerGas);
let [count, gas, failed] = [0, 0n, 0];
for (let number = 1; number <= BLOCKS; number += 1) {
  const size = random(12);
  for (let place = 0; place < size; place += 1) {
    // One sender for all: nonces and fees then ask for the same order.
    const wallet = wallets[number % wallets.length];
    const raw = await sign(wallet, place, await traffic(wallet));
    const hashes = [await ours("eth_sendRawTransaction", raw), await theirs("eth_sendRawTransaction", raw)];
    assert.equal(hashes[0], hashes[1]);
  }
  const timestamp = START + 12 * number;
  for (const rpc of [ours, theirs]) {
    await rpc("evm_setNextBlockTimestamp", timestamp);
    await rpc("evm_mine");
  }
  const receipts = await compare(number);
  assert.equal(receipts.length, size, `block ${number} has all that was sent`);
  count += size;
  gas += receipts.reduce((sum, receipt) => sum + BigInt(receipt.gasUsed), 0n);
  failed += receipts.filter((receipt) => receipt.status === "0x0").length;
  for (const address of [...wallets.map((wallet) => wallet.address), ...Object.values(contracts).flat()]) {
    for (const method of ["eth_getBalance", "eth_getTransactionCount", "eth_getCode"]) {
      const [mine, other] = await Promise.all([ours, theirs].map((rpc) => rpc(method, address, "latest")));
      assert.equal(mine, other, `block ${number}: ${method} of ${address}`);
    }
  }
}
assert.ok(ownRoots > 0, "anvil's own roots were compared");
assert.ok(failed > 0 && count > 100, `the mix has what succeeds and what fails: ${failed} of ${count}`);
console.log(`agreed: anvil on ${BLOCKS} blocks of ${count} transactions, ${failed} of them failed, ${gas} gas: receipts, logs, balances, ${roots} state roots, ${ownRoots} of them anvil's own`);
stopAll();
process.exit(0);
