// Do the real contracts do what NitroInbox does? Sends the same call to both in the same block of one anvil, so that clocks, base
// fee and senders are the same, and compares what a call returns or reverts with, what it emits, and every count and
// accumulator after it. What is expected is said besides, so that both do not fail for a reason that was not meant.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { HDNodeWallet, Interface, JsonRpcProvider, Transaction, concat, hexlify, toBeHex, toQuantity, zeroPadValue } from "ethers";

const SEED = Number(process.env.SEED ?? 20_261_123);
const RANDOM_CALLS = 90;
const CHAIN = 412_346n;
const CONFIG = '{"chainId":412346,"arbitrum":{"InitialArbOSVersion":40}}';
const VARIATION = [5760n, 12n, 86_400n, 3600n];
const DATA_MAX = 117_964;
const GAS = 20_000_000n;
const ANY = 2n ** 256n - 1n;
const ZERO = toBeHex(0, 20);

// ---- Chain ----

const read = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url)));
const nitro = (path) => read(`node_modules/@arbitrum/nitro-contracts/build/contracts/${path}.json`);
const ours = read("artifacts/NitroInbox.json");
const real = {
  sequencerInbox: nitro("src/bridge/SequencerInbox.sol/SequencerInbox"),
  bridge: nitro("src/bridge/Bridge.sol/Bridge"),
  inbox: nitro("src/bridge/Inbox.sol/Inbox"),
  eventInbox: nitro("src/rollup/RollupEventInbox.sol/RollupEventInbox"),
};
const proxy = nitro("@openzeppelin/contracts/proxy/transparent/TransparentUpgradeableProxy.sol/TransparentUpgradeableProxy");
const blobReader = read("node_modules/@arbitrum/nitro-contracts/out/yul/Reader4844.yul/Reader4844.json");

// Anvil picks a free port and prints it.
const binary = new URL("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil", import.meta.url).pathname;
const anvil = spawn(binary, ["--port", "0", "--no-mining", "--order", "fifo", "--hardfork", "prague", "--gas-limit", "120000000"]);
process.on("exit", () => anvil.kill());
const port = await new Promise((resolve, reject) => {
  let text = "";
  anvil.stdout.on("data", (data) => {
    text += data;
    const found = /Listening on .*:(\d+)/.exec(text);
    if (found) resolve(found[1]);
  });
  anvil.on("error", reject);
  anvil.on("exit", () => reject(new Error(`anvil ended: ${text}`)));
});
const provider = new JsonRpcProvider(`http://127.0.0.1:${port}`, undefined, { staticNetwork: true, cacheTimeout: -1 });
const rpc = (method, ...params) => provider.send(method, params);
const [owner, poster, other, stranger, delegated] = await rpc("eth_accounts");
const impersonated = async (address, code) => {
  if (code !== undefined) await rpc("anvil_setCode", address, code);
  await rpc("anvil_setBalance", address, toQuantity(10n ** 24n));
  await rpc("anvil_impersonateAccount", address);
};

// A blob of the same number everywhere commits to so many times the generator, and its proof is the point at infinity: two blobs
// that take no KZG library.
const INFINITY = `0xc0${"00".repeat(47)}`;
const GENERATOR = "0x97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb";
const [NOUGHTS, ONES] = [[0, INFINITY], [1, GENERATOR]].map(([number, commitment]) => {
  return { data: concat(Array(4_096).fill(toBeHex(number, 32))), commitment, proof: INFINITY };
});
// Anvil signs no blobs for its accounts. Their keys are public.
const PHRASE = "test test test test test test test test test test test junk";
const signers = [0, 1, 2, 3, 4].map((index) => HDNodeWallet.fromPhrase(PHRASE, "", `m/44'/60'/0'/0/${index}`));

const PRICE = { maxFeePerGas: 10n ** 11n, maxPriorityFeePerGas: 1n };
const send = async ({ from, to, data, value = 0n, blobs }) => {
  if (!blobs) {
    const price = Object.fromEntries(Object.entries(PRICE).map(([name, wei]) => [name, toQuantity(wei)]));
    return rpc("eth_sendTransaction", { from, to, data, value: toQuantity(value), gas: toQuantity(GAS), ...price });
  }
  const [chainId, nonce] = await Promise.all([rpc("eth_chainId"), rpc("eth_getTransactionCount", from, "pending")]);
  const transaction = Transaction.from({
    type: 3, chainId, nonce: Number(nonce), to, data, value, gasLimit: GAS, ...PRICE, maxFeePerBlobGas: 10n ** 10n, blobs,
  });
  transaction.signature = signers.find(({ address }) => address.toLowerCase() === from).signingKey.sign(transaction.unsignedHash);
  return rpc("eth_sendRawTransaction", transaction.serialized);
};
const named = (blobs) => (blobs ? { blobVersionedHashes: Transaction.from({ type: 3, to: ZERO, blobs }).blobVersionedHashes, maxFeePerBlobGas: toQuantity(10n ** 10n) } : {});
const revertData = (error) => error.data ?? error.info?.error?.data ?? error.shortMessage ?? error.message;
/** Sends all in one block. */
const inOneBlock = async (calls) => {
  const hashes = [];
  for (const call of calls) hashes.push(await send(call));
  await rpc("evm_mine");
  const receipts = await Promise.all(hashes.map((hash) => rpc("eth_getTransactionReceipt", hash)));
  assert.equal(new Set(receipts.map(({ blockNumber }) => blockNumber)).size, 1, "not in one block");
  return receipts;
};
const create = async (code, abi = [], args = []) => {
  const [receipt] = await inOneBlock([{ from: owner, data: concat([code, new Interface(abi).encodeDeploy(args)]) }]);
  assert.equal(receipt.status, "0x1");
  return receipt.contractAddress;
};

// Calls what its first word says with the rest, and gives back what that gives. It is a batch poster.
const forwarder = toBeHex(0xf0a7d, 20);
await rpc("anvil_setCode", forwarder, "0x60203603806020" + "5f375f5f825f345f355af13d5f5f3e601c573d5ffd5b3d5ff3");

// ---- The real contracts, as a rollup's creation leaves them ----

const abis = Object.fromEntries(Object.entries(real).map(([name, { abi }]) => [name, new Interface(abi)]));
// In the rollup's place: answers its owner, whatever it is asked (PUSH20 owner, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN).
const rollup = toBeHex(0x70110, 20);
await impersonated(rollup, concat(["0x73", owner, "0x5f5260205ff3"]));
const at = {};
for (const [name, args] of [
  ["sequencerInbox", [DATA_MAX, await create(blobReader.bytecode.object), false, false]],
  ["bridge", []],
  ["inbox", [DATA_MAX]],
  ["eventInbox", []],
]) {
  const logic = await create(real[name].bytecode, real[name].abi, args);
  at[name] = await create(proxy.bytecode, proxy.abi, [logic, toBeHex(0xad, 20), "0x"]);
}
const prepare = (name, method, ...args) => ({ from: owner, to: at[name], data: abis[name].encodeFunctionData(method, args) });
for (const call of [
  prepare("bridge", "initialize", rollup),
  prepare("sequencerInbox", "initialize", at.bridge, VARIATION, [0, 0, 0], ZERO),
  prepare("inbox", "initialize", at.bridge, at.sequencerInbox),
  prepare("eventInbox", "initialize", at.bridge),
  prepare("bridge", "setSequencerInbox", at.sequencerInbox),
  prepare("bridge", "setDelayedInbox", at.inbox, true),
  prepare("bridge", "setDelayedInbox", at.eventInbox, true),
  ...[poster, other, delegated, forwarder].map((address) => prepare("sequencerInbox", "setIsBatchPoster", address, true)),
]) {
  const [{ status }] = await inOneBlock([call]);
  assert.equal(status, "0x1");
}

// ---- What both say ----

const mine = new Interface(ours.abi);
let ourAddress;

/** Events of both with the delivering contract's address left out: theirs are several. That it is whose event has the content
 * is what a reader needs, and checked instead. */
const events = (receipts) => {
  const delivered = mine.getEvent("MessageDelivered").topicHash;
  const contents = ["InboxMessageDelivered", "InboxMessageDeliveredFromOrigin"].map((name) => mine.getEvent(name).topicHash);
  const logs = receipts.flatMap(({ logs }) => logs);
  return logs.map(({ topics, data }) => {
    if (topics[0] === delivered) {
      const inbox = `0x${data.slice(26, 66)}`;
      const content = logs.find((log) => contents.includes(log.topics[0]) && log.topics[1] === topics[1]);
      assert.equal(content?.address, inbox, "the content is not where the Bridge says");
      return { topics, data: `0x${data.slice(66)}` };
    }
    return { topics, data };
  });
};
const names = (list) => list.map(({ topics }) => mine.getEvent(topics[0])?.name ?? topics[0]);

const ask = async (to, abi, method, ...args) => {
  const data = abi.encodeFunctionData(method, args);
  try {
    return await rpc("eth_call", { to, data }, "latest");
  } catch (error) {
    return { reverted: revertData(error) };
  }
};
const VIEWS = [
  ["bridge", "sequencerMessageCount"], ["bridge", "delayedMessageCount"], ["bridge", "sequencerReportedSubMessageCount"],
  ["sequencerInbox", "totalDelayedMessagesRead"], ["sequencerInbox", "batchCount"], ["sequencerInbox", "maxTimeVariation"],
  ["sequencerInbox", "isDelayBufferable"], ["sequencerInbox", "maxDataSize"], ["sequencerInbox", "HEADER_LENGTH"],
  ...[poster, other, stranger, delegated, forwarder].map((address) => ["sequencerInbox", "isBatchPoster", address]),
];
let compared = 0;
const compareViews = async (label) => {
  const views = [...VIEWS];
  const [batches, delayed] = await Promise.all(
    ["sequencerMessageCount", "delayedMessageCount"].map(async (view) => Number(await ask(at.bridge, abis.bridge, view))),
  );
  // The last accumulators, and the one that is not there.
  for (const index of [batches - 1, batches]) views.push(["bridge", "sequencerInboxAccs", index], ["sequencerInbox", "inboxAccs", index]);
  for (const index of [delayed - 2, delayed - 1, delayed]) if (index >= 0) views.push(["bridge", "delayedInboxAccs", index]);
  await Promise.all(
    views.map(async ([contract, method, ...args]) => {
      const answers = [await ask(ourAddress, mine, method, ...args), await ask(at[contract], abis[contract], method, ...args)];
      assert.deepEqual(answers[0], answers[1], `${label}: ${method}(${args})`);
    }),
  );
  compared += views.length;
};

/** The same call to both; `expected` is the error's name, or the names of the events. */
const counts = { accepted: 0, refused: 0 };
const gas = {};
const step = async (label, from, contract, method, args, expected, { value = 0n, via, blobs } = {}) => {
  const both = [[ourAddress, mine], [at[contract], abis[contract]]].map(([to, abi]) => {
    const data = abi.encodeFunctionData(method, args);
    // The forwarder takes the target before the data.
    return via ? { from, to: via, data: concat([zeroPadValue(to, 32), data]), value, blobs } : { from, to, data, value, blobs };
  });
  const answers = await Promise.all(
    both.map(async ({ from, to, data, value }) => {
      try {
        return { returned: await rpc("eth_call", { from, to, data, value: toQuantity(value), gas: toQuantity(GAS), ...named(blobs) }, "latest") };
      } catch (error) {
        return { reverted: revertData(error) };
      }
    }),
  );
  assert.deepEqual(answers[0], answers[1], `${label}: answer`);
  const receipts = await inOneBlock(both);
  assert.equal(receipts[0].status, receipts[1].status, `${label}: status`);
  const emitted = receipts.map((receipt) => events([receipt]));
  assert.deepEqual(emitted[0], emitted[1], `${label}: events`);
  if (Array.isArray(expected)) {
    assert.equal(receipts[0].status, "0x1", `${label}: ${answers[0].reverted}`);
    assert.deepEqual(names(emitted[0]), expected, label);
    (gas[method] ??= []).push(receipts.map(({ gasUsed }) => Number(gasUsed)));
    counts.accepted += 1;
  } else {
    assert.equal(receipts[0].status, "0x0", `${label}: accepted`);
    assert.equal(abis[contract].parseError(answers[1].reverted)?.name ?? abis.bridge.parseError(answers[1].reverted)?.name, expected, label);
    counts.refused += 1;
  }
  await compareViews(label);
};

// ---- Same names ----

// What a reader of ours uses is written as the real ones write it, but for what is said to be ours.
const theirs = new Set(
  Object.values(abis).flatMap((abi) => abi.fragments.filter(({ type }) => type !== "constructor").map((fragment) => signature(fragment))),
);
function signature(fragment) {
  const types = (list) => list.map(({ type, baseType, components, indexed }) => (baseType === "tuple" ? `(${components.map(({ type }) => type)})` : type) + (indexed ? " indexed" : ""));
  return `${fragment.type} ${fragment.name}(${types(fragment.inputs)}) ${fragment.stateMutability ?? ""} ${fragment.outputs ? types(fragment.outputs) : ""}`;
}
const OWN = ["GasRefunderNotSupported"];
for (const fragment of mine.fragments) {
  if (fragment.type === "constructor" || OWN.includes(fragment.name)) continue;
  assert.ok(theirs.has(signature(fragment)), `the real contracts have no ${signature(fragment)}`);
}

// ---- Creation ----

const initialise = async (estimate) => {
  const deploy = concat([ours.bytecode, mine.encodeDeploy([CHAIN, CONFIG, estimate, VARIATION, [poster, other, delegated, forwarder]])]);
  const receipts = await inOneBlock([
    { from: rollup, to: at.eventInbox, data: abis.eventInbox.encodeFunctionData("rollupInitialized", [CHAIN, CONFIG, estimate]) },
    {
      from: rollup,
      to: at.sequencerInbox,
      data: abis.sequencerInbox.encodeFunctionData("addSequencerL2Batch", [0, "0x", 1, ZERO, 0, 1]),
    },
    { from: owner, data: deploy },
  ]);
  for (const { status } of receipts) assert.equal(status, "0x1");
  ourAddress = receipts[2].contractAddress;
  const emitted = [events(receipts.slice(2)), events(receipts.slice(0, 2))];
  assert.deepEqual(emitted[0], emitted[1], "creation: events");
  assert.deepEqual(names(emitted[0]), ["MessageDelivered", "InboxMessageDelivered", "SequencerBatchDelivered", "SequencerBatchData"]);
  await compareViews("creation");
  return Number(receipts[2].gasUsed);
};
// Once with L1's base fee for the estimate, and once with another; the second is the one that is called.
const snapshot = await rpc("evm_snapshot");
await initialise(0n);
await rpc("evm_revert", snapshot);
const deploymentGas = await initialise(123_456_789n);
assert.equal(await ask(ourAddress, mine, "bridge"), zeroPadValue(ourAddress, 32));

// ---- Calls with a known end ----

const BATCH = ["MessageDelivered", "InboxMessageDelivered", "SequencerBatchDelivered"];
const DELAYED = ["MessageDelivered", "InboxMessageDelivered"];
const state = async () => {
  const views = ["sequencerMessageCount", "sequencerReportedSubMessageCount", "delayedMessageCount"];
  const [batches, messages, delayed] = await Promise.all(views.map(async (view) => BigInt(await ask(at.bridge, abis.bridge, view))));
  return { batches, messages, delayed, read: BigInt(await ask(at.sequencerInbox, abis.sequencerInbox, "totalDelayedMessagesRead")) };
};
/** A batch that would be taken, but for `change`. */
const post = async (label, from, data, change, expected, via) => {
  const { batches, messages, read } = await state();
  const call = { sequence: batches, read, refunder: ZERO, before: messages, after: messages + 1n, ...change };
  const args = [call.sequence, data, call.read, call.refunder, call.before, call.after];
  await step(label, from, "sequencerInbox", "addSequencerL2BatchFromOrigin(uint256,bytes,uint256,address,uint256,uint256)", args, expected, { via });
};
/** The same with the batch in blobs. */
const blobs = async (label, from, blobs, change, expected, via) => {
  const { batches, messages, read } = await state();
  const call = { sequence: batches, read, refunder: ZERO, before: messages, after: messages + 1n, ...change };
  const args = [call.sequence, call.read, call.refunder, call.before, call.after];
  await step(label, from, "sequencerInbox", "addSequencerL2BatchFromBlobs", args, expected, { via, blobs });
};
const inbox = (label, from, method, args, expected, value, via) => step(label, from, "inbox", method, args, expected, { value, via });

await post("a batch", poster, "0x00abcdef", {}, BATCH);
await post("a batch of another poster", other, "0x20aa", { after: 9n }, BATCH);
await post("an empty batch: no report", poster, "0x", {}, ["SequencerBatchDelivered"]);
await post("a batch with reports", poster, "0x00", { read: 3n }, BATCH);
await post("reports read again", poster, "0x00", { read: 2n }, "DelayedBackwards");
await post("messages that are not there", poster, "0x00", { read: 5n }, "DelayedTooFar");
await post("all that are there", poster, "0x00", { read: 4n }, BATCH);
await post("a number too small", poster, "0x00", { sequence: 0n }, "BadSequencerNumber");
await post("a number too great", poster, "0x00", { sequence: 99n }, "BadSequencerNumber");
await post("whatever number is next", poster, "0x00", { sequence: ANY }, BATCH);
await post("another count of messages", poster, "0x00", { before: 3n }, "BadSequencerMessageNumber");
await post("any count of messages", poster, "0x00", { before: 0n, after: 0n }, BATCH);
await post("any count after none", poster, "0x00", { before: 77n, after: 80n }, BATCH);
await post("fewer messages than before", poster, "0x00", { after: 5n }, BATCH);
await post("both counts and number wrong", poster, "0x00", { sequence: 0n, before: 3n }, "BadSequencerMessageNumber");
await post("a stranger", stranger, "0x00", {}, "NotBatchPoster");
await post("a poster through a contract", poster, "0x00", {}, "NotCodelessOrigin", forwarder);
await rpc("anvil_setCode", delegated, concat(["0xef0100", forwarder]));
await post("a poster with code", delegated, "0x00", {}, "NotCodelessOrigin");
const BLOB_BATCH = ["SequencerBatchDelivered", "MessageDelivered", "InboxMessageDelivered"];
await blobs("a batch in a blob", poster, [ONES], {}, BLOB_BATCH);
await blobs("in several, twice the same", other, [ONES, NOUGHTS, ONES], { after: 20n }, BLOB_BATCH);
// So cheap that what the blobs cost is more than nothing in units of it, for the poster to be paid back.
await rpc("anvil_setNextBlockBaseFeePerGas", toQuantity(1_000));
await blobs("while gas is cheap", poster, [NOUGHTS, ONES], { read: (await state()).delayed }, BLOB_BATCH);
await blobs("whatever number is next, in a blob", poster, [ONES], { sequence: ANY }, BLOB_BATCH);
await blobs("through a poster that is a contract: no report", stranger, [ONES], {}, ["SequencerBatchDelivered"], forwarder);
await blobs("of a poster with code: no report", delegated, [ONES], {}, ["SequencerBatchDelivered"]);
await blobs("no blobs", poster, undefined, {}, "MissingDataHashes");
await blobs("no blobs and another count of messages", poster, undefined, { before: 3n }, "MissingDataHashes");
await blobs("a stranger's blobs", stranger, [ONES], {}, "NotBatchPoster");
await blobs("a stranger without blobs", stranger, undefined, {}, "NotBatchPoster");
await blobs("in a blob, a number too small", poster, [ONES], { sequence: 0n }, "BadSequencerNumber");
await blobs("in a blob, a number too great", poster, [ONES], { sequence: 99n }, "BadSequencerNumber");
await blobs("in a blob, another count of messages", poster, [ONES], { before: 3n }, "BadSequencerMessageNumber");
await blobs("in a blob, both wrong", poster, [ONES], { sequence: 0n, before: 3n }, "BadSequencerMessageNumber");
await blobs("in a blob, reports read again", poster, [ONES], { read: 2n }, "DelayedBackwards");
await blobs("in a blob, messages that are not there", poster, [ONES], { read: 99n }, "DelayedTooFar");
await post("a batch said to be in blobs", poster, "0x50", {}, "InvalidHeaderFlag");
await post("a batch said to be authenticated", poster, "0x40", {}, "InvalidHeaderFlag");
await post("a flag of a certificate's tree alone", poster, "0x08", {}, "InvalidHeaderFlag");
await post("an unknown flag", poster, "0xff", {}, "InvalidHeaderFlag");
const large = hexlify(new Uint8Array(DATA_MAX - 39).fill(7).fill(0, 0, 1));
await post("a byte too much", poster, large, {}, "DataTooLarge");
await post("as large as can be", poster, large.slice(0, -2), {}, BATCH);

await inbox("a delayed message", stranger, "sendL2Message", ["0x04f86b"], DELAYED);
await inbox("an empty delayed message", stranger, "sendL2Message", ["0x"], DELAYED);
await inbox("a delayed message of a contract", stranger, "sendL2Message", ["0x04f86b"], DELAYED, 0n, forwarder);
await inbox("a delayed message in calldata", stranger, "sendL2MessageFromOrigin", ["0x0411"], ["MessageDelivered", "InboxMessageDeliveredFromOrigin"]);
await inbox("one in calldata through a contract", stranger, "sendL2MessageFromOrigin", ["0x0411"], "NotCodelessOrigin", 0n, forwarder);
await inbox("one in calldata of an account with code", delegated, "sendL2MessageFromOrigin", ["0x0411"], "NotCodelessOrigin");
const message = hexlify(new Uint8Array(DATA_MAX + 1).fill(4));
await inbox("a message a byte too large", stranger, "sendL2Message", [message], "DataTooLarge");
await inbox("one in calldata a byte too large", stranger, "sendL2MessageFromOrigin", [message], "DataTooLarge");
await inbox("a message as large as can be", stranger, "sendL2Message", [message.slice(0, -2)], DELAYED);
await inbox("a deposit", stranger, "depositEth()", [], DELAYED, 10n ** 18n);
await inbox("a deposit of nothing", stranger, "depositEth()", [], DELAYED);
await inbox("a deposit of a contract", stranger, "depositEth()", [], DELAYED, 5n, forwarder);
await inbox("a deposit of an account with code", delegated, "depositEth()", [], DELAYED, 7n);
await post("a batch with all of these", poster, "0x00ff", { read: (await state()).delayed }, BATCH);

// ---- Random calls ----

/** xorshift32: the same calls for the same seed. */
let word = SEED >>> 0 || 1;
const random = (bound) => {
  word ^= word << 13;
  word ^= word >>> 17;
  word ^= word << 5;
  return (word >>> 0) % bound;
};
const bytes = (length) => hexlify(Uint8Array.from({ length }, () => random(256)));
for (let index = 0; index < RANDOM_CALLS; index += 1) {
  const label = `random call ${index} of seed ${SEED}`;
  await rpc("evm_increaseTime", 1 + random(random(8) === 0 ? 100_000 : 30));
  const from = [poster, other, stranger][random(3)];
  const kind = random(6);
  if (kind === 0) await inbox(label, from, "sendL2Message", [bytes(random(300))], DELAYED, 0n, random(3) === 0 ? forwarder : undefined);
  else if (kind === 1) await inbox(label, from, "depositEth()", [], DELAYED, BigInt(random(1_000_000)), random(3) === 0 ? forwarder : undefined);
  else {
    const { batches, messages, delayed, read } = await state();
    const change = { read: read + BigInt(random(Number(delayed - read) + 1)), after: messages + BigInt(random(50)) };
    let expected = BATCH;
    if (from === stranger) expected = "NotBatchPoster";
    else if (random(5) === 0) [change.read, expected] = [delayed + 1n + BigInt(random(3)), "DelayedTooFar"];
    else if (random(5) === 0) [change.before, expected] = [messages + 1n + BigInt(random(3)), "BadSequencerMessageNumber"];
    else if (random(5) === 0) [change.sequence, expected] = [batches + 1n + BigInt(random(3)), "BadSequencerNumber"];
    if (random(3) === 0) {
      const some = Array.from({ length: 1 + random(4) }, () => (random(2) ? ONES : NOUGHTS));
      await blobs(label, from, some, change, expected === BATCH ? BLOB_BATCH : expected);
    } else await post(label, from, concat([random(2) ? "0x00" : "0x20", bytes(random(2_000))]), change, expected);
  }
}

// Every accumulator there is, not only the last ones.
const { batches, delayed } = await state();
for (const [count, method] of [[batches, "sequencerInboxAccs"], [delayed, "delayedInboxAccs"]]) {
  for (let index = 0n; index < count; index += 1n) {
    assert.equal(await ask(ourAddress, mine, method, index), await ask(at.bridge, abis.bridge, method, index), `${method}(${index})`);
  }
}

// ---- What is said to differ ----

const refuses = async (method, data, refunder, expected) => {
  const { batches, messages, read } = await state();
  const args = [batches, ...data, read, refunder, messages, messages];
  const answer = await rpc("eth_call", { from: poster, to: ourAddress, data: mine.encodeFunctionData(method, args) }, "latest").then(
    () => assert.fail(`${expected} was not refused`),
    revertData,
  );
  assert.equal(mine.parseError(answer)?.name, expected);
};
await refuses("addSequencerL2BatchFromOrigin", ["0x00"], stranger, "GasRefunderNotSupported");
await refuses("addSequencerL2BatchFromBlobs", [], stranger, "GasRefunderNotSupported");
for (const flag of ["0x80", "0x88", "0x01"]) {
  await refuses("addSequencerL2BatchFromOrigin", [concat([flag, bytes(40)])], ZERO, "InvalidHeaderFlag");
}

const mean = (list, place) => Math.round(list.reduce((sum, pair) => sum + pair[place], 0) / list.length);
console.log(`seed ${SEED}: ${counts.accepted} calls taken and ${counts.refused} refused alike, ${compared} answers compared,`);
console.log(`${batches} batches and ${delayed} delayed messages with the same accumulators`);
console.log(`gas: deployment ${deploymentGas}`);
for (const [method, list] of Object.entries(gas)) console.log(`gas: ${method.split("(")[0]} ${mean(list, 0)}, the real one ${mean(list, 1)}`);
anvil.kill();
process.exit(0);
