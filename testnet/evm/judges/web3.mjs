// ethers and viem use the node unchanged: read, send, deploy, call, watch, prove, and understand its refusals.

import assert from "node:assert/strict";
import { Contract, ContractFactory, JsonRpcProvider, NonceManager, Wallet, WebSocketProvider, parseEther } from "ethers";
import { createPublicClient, createWalletClient, defineChain, getContract, http, parseAbi, webSocket } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { counter, deploy, refuser } from "./contracts.mjs";
import { startNode, stopAll } from "./processes.mjs";

const CHAIN = 31_337;
const KEYS = [
  "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
  "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
];
const ABI = ["event Counted(uint256 count)", "function count() returns (uint256)", "function refuse() view"];
const TO = "0x00000000000000000000000000000000000000aa";

/** The next value that `register` hands to its callback, or an error after `seconds`. */
const next = (register, seconds = 20) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("nothing was heard")), seconds * 1000);
    register((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });

const judgeEthers = async (url) => {
  const provider = new JsonRpcProvider(url, undefined, { pollingInterval: 50 });
  const socket = new WebSocketProvider(url.replace("http", "ws"));
  assert.equal((await provider.getNetwork()).chainId, BigInt(CHAIN));
  assert.equal((await provider.getBlock("earliest")).number, 0);
  const signer = new NonceManager(new Wallet(KEYS[0], provider));

  const head = next((heard) => socket.on("block", heard));
  const sent = await signer.sendTransaction({ to: TO, value: parseEther("1") });
  const receipt = await sent.wait();
  assert.equal(receipt.status, 1);
  assert.equal(receipt.gasUsed, 21_000n);
  assert.ok((await head) >= receipt.blockNumber);
  assert.equal(await provider.getBalance(TO), parseEther("1"));
  assert.equal((await provider.getTransaction(sent.hash)).blockHash, receipt.blockHash);
  const block = await provider.getBlock(receipt.blockNumber, true);
  assert.equal(block.prefetchedTransactions[0].hash, sent.hash);
  const fees = await provider.getFeeData();
  assert.ok(fees.maxFeePerGas > 0n && fees.gasPrice > 0n);

  const contract = await new ContractFactory(ABI, deploy(counter), signer).deploy();
  await contract.waitForDeployment();
  const address = await contract.getAddress();
  assert.equal(await provider.getCode(address), `0x${counter}`);
  const live = next((heard) => new Contract(address, ABI, socket).on("Counted", (count) => heard(count)));
  // Its subscription has to stand before the event happens.
  await socket.getBlockNumber();
  const polled = next((heard) => contract.on("Counted", (count) => heard(count)));
  await new Promise((resolve) => setTimeout(resolve, 200));
  await (await contract.count()).wait();
  assert.equal(await live, 1n);
  assert.equal(await polled, 1n);
  await (await contract.count()).wait();
  assert.equal(await contract.count.staticCall(), 3n);
  const events = await contract.queryFilter("Counted", 0, "latest");
  assert.deepEqual(events.map((event) => event.args.count), [1n, 2n]);
  assert.equal(await provider.getStorage(address, 0), `0x${"0".repeat(63)}2`);

  const wall = await new ContractFactory(ABI, deploy(refuser), signer).deploy();
  await wall.waitForDeployment();
  await assert.rejects(wall.refuse(), (error) => error.code === "CALL_EXCEPTION" && error.reason === "not today");
  await assert.rejects(
    new Wallet(KEYS[0], provider).sendTransaction({ to: TO, nonce: 0 }),
    (error) => error.code === "NONCE_EXPIRED",
  );
  const poor = Wallet.createRandom(provider);
  await assert.rejects(poor.sendTransaction({ to: TO, value: 1n, gasLimit: 21_000n }), (error) => error.code === "INSUFFICIENT_FUNDS");
  await socket.destroy();
  provider.destroy();
  console.log("agreed: ethers reads, sends, deploys, calls, watches over HTTP and WebSocket, and understands refusals");
};

const judgeViem = async (url) => {
  const chain = defineChain({
    id: CHAIN,
    name: "judged",
    nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
    rpcUrls: { default: { http: [url] } },
  });
  const account = privateKeyToAccount(KEYS[1]);
  const reader = createPublicClient({ chain, transport: http(url, { batch: true }), pollingInterval: 50 });
  const socket = createPublicClient({ chain, transport: webSocket(url.replace("http", "ws")) });
  const wallet = createWalletClient({ account, chain, transport: http(url) });
  assert.equal(await reader.getChainId(), CHAIN);

  const abi = parseAbi(["event Counted(uint256 count)", "function count() returns (uint256)", "function refuse() view"]);
  const created = await wallet.deployContract({ abi, bytecode: deploy(counter) });
  const { contractAddress: address } = await reader.waitForTransactionReceipt({ hash: created });
  const head = next((heard) => socket.watchBlocks({ onBlock: heard }));
  const live = next((heard) => socket.watchContractEvent({ address, abi, eventName: "Counted", onLogs: heard }));
  await socket.getBlockNumber();
  await new Promise((resolve) => setTimeout(resolve, 200));
  const contract = getContract({ address, abi, client: { public: reader, wallet } });
  const receipt = await reader.waitForTransactionReceipt({ hash: await contract.write.count() });
  assert.equal(receipt.status, "success");
  assert.equal((await live)[0].args.count, 1n);
  assert.ok((await head).number >= receipt.blockNumber);
  assert.equal((await reader.simulateContract({ address, abi, functionName: "count", account })).result, 2n);
  const logs = await reader.getContractEvents({ address, abi, eventName: "Counted", fromBlock: 0n });
  assert.equal(logs.length, 1);

  const proof = await reader.getProof({ address, storageKeys: [`0x${"0".repeat(64)}`], blockNumber: receipt.blockNumber });
  assert.equal(proof.storageProof[0].value, 1n);
  const history = await reader.getFeeHistory({ blockCount: 2, rewardPercentiles: [10, 50] });
  assert.equal(history.baseFeePerGas.length, 3);
  assert.equal(history.reward.length, 2);
  assert.ok((await reader.estimateFeesPerGas()).maxFeePerGas > 0n);
  for (const blockTag of ["latest", "safe", "finalized", "pending", "earliest"]) await reader.getBlock({ blockTag });

  const wall = await wallet.deployContract({ abi, bytecode: deploy(refuser) });
  const { contractAddress: refusing } = await reader.waitForTransactionReceipt({ hash: wall });
  await assert.rejects(reader.readContract({ address: refusing, abi, functionName: "refuse" }), /not today/);
  await assert.rejects(wallet.sendTransaction({ to: TO, nonce: 0 }), /[Nn]once/);
  // EIP-7702: the account's code becomes the counter's.
  const authorization = await wallet.signAuthorization({ contractAddress: address, executor: "self" });
  const delegated = await wallet.sendTransaction({ authorizationList: [authorization], to: account.address });
  assert.equal((await reader.waitForTransactionReceipt({ hash: delegated })).status, "success");
  assert.equal(await reader.getCode({ address: account.address }), `0xef0100${address.slice(2)}`);
  (await socket.transport.getRpcClient()).close();
  console.log("agreed: viem reads in batches, sends, deploys, calls, watches, proves and delegates (EIP-7702)");
};

const url = await startNode("--interval-ms", "0");
await judgeEthers(url);
await judgeViem(url);
stopAll();
process.exit(0);
