// Contracts small enough to be written by hand, so that no compiler is needed.

import { id } from "ethers";

const hex = (value, bytes) => value.toString(16).padStart(2 * bytes, "0");

/** Init code that deploys `runtime`, given in hexadecimal without 0x. */
export const deploy = (runtime) => {
  const length = hex(runtime.length / 2, 2);
  return `0x61${length}61000f60003961${length}6000f3${runtime}`;
};

/** Counts its calls in slot 0, logs `Counted(uint256)` and returns the count. */
export const counter = `600054600101806000556000527f${id("Counted(uint256)").slice(2)}60206000a160206000f3`;

/** Reverts with Solidity's Error("not today"). */
export const refuser = (() => {
  const data =
    "08c379a0" + hex(32, 32) + hex(9, 32) + Buffer.from("not today").toString("hex").padEnd(64, "0");
  const length = hex(data.length / 2, 1);
  return `60${length}600c60003960${length}6000fd${data}`;
})();

/** Stores what it sees of the chain: number, timestamp, base fee, chain id, coinbase, gas limit,
 * origin, gas price, its own balance and code size. */
export const witness = ["43", "42", "48", "46", "41", "45", "32", "3a", "47", "38"]
  .map((code, slot) => `${code}60${hex(slot, 1)}55`)
  .join("");

/** Runs until its gas is gone. */
export const burner = "5b600056";

/** Clears slot 0 if it is set, and sets it otherwise, so that refunds are seen. */
export const toggler = "60005415600055";

/** Calls the precompile whose number is its input's first word with the rest of it, and stores the hash of the answer. */
export const caller = "602036038060206000376000600082600060006000355af13d600060003e3d60002060005560015500";
