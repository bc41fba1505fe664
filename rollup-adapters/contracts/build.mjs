// Which bytecode do the sources have? Compiles src/ with the pinned compiler and libraries and writes artifacts/, or with
// `--check` fails if the artifacts are not what the sources compile to. Needs `npm ci --ignore-scripts` first.

import { readFileSync, readdirSync, writeFileSync, existsSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { keccak256 } from "ethers";

const require = createRequire(import.meta.url);
const solc = require("solc");
const at = (path) => new URL(path, import.meta.url);
const json = (value) => `${JSON.stringify(value, null, 1)}\n`;

const settings = JSON.parse(readFileSync(at("settings.json")));
const sources = Object.fromEntries(
  readdirSync(at("src"))
    .filter((name) => name.endsWith(".sol"))
    .sort()
    .map((name) => [`src/${name}`, { content: readFileSync(at(`src/${name}`), "utf8") }]),
);

const output = JSON.parse(
  solc.compile(
    JSON.stringify({
      language: "Solidity",
      sources,
      settings: {
        ...settings,
        outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "storageLayout"] } },
      },
    }),
    { import: (path) => ({ contents: readFileSync(at(`node_modules/${path}`), "utf8") }) },
  ),
);
// 2394 says of OpenZeppelin's transient guard that transient storage is safe in reentrancy guards.
const complaints = (output.errors ?? []).filter(({ errorCode }) => errorCode !== "2394");
for (const { formattedMessage } of complaints) console.error(formattedMessage);
if (complaints.length > 0) process.exit(1);

const compiler = solc.version();
const openzeppelin = JSON.parse(readFileSync(at("node_modules/@openzeppelin/contracts/package.json"))).version;

const artifacts = {};
for (const [source, contracts] of Object.entries(output.contracts)) {
  if (!source.startsWith("src/")) continue;
  for (const [name, { abi, evm, storageLayout }] of Object.entries(contracts)) {
    const bytecode = `0x${evm.bytecode.object}`;
    const slots = storageLayout.storage.map(({ label, slot, offset, type }) => ({
      label,
      slot: Number(slot),
      offset,
      type: storageLayout.types[type].label,
    }));
    artifacts[`${name}.json`] = json({
      contract: name,
      source,
      compiler,
      openzeppelin,
      settings,
      abi,
      storageLayout: slots,
      bytecode,
      deployedBytecode: `0x${evm.deployedBytecode.object}`,
    });
    if (bytecode !== "0x") console.log(`${name}: ${evm.deployedBytecode.object.length / 2} bytes`);
  }
}
// What the artifacts were made from, and they themselves: tests hold the files against these hashes where there is no compiler.
const inputs = [...Object.keys(sources), "build.mjs", "package-lock.json", "settings.json"];
artifacts["hashes.json"] = json({
  ...Object.fromEntries(inputs.map((path) => [path, keccak256(readFileSync(at(path)))])),
  ...Object.fromEntries(Object.entries(artifacts).map(([name, text]) => [`artifacts/${name}`, keccak256(Buffer.from(text))])),
});

const present = existsSync(at("artifacts")) ? readdirSync(at("artifacts")) : [];
if (process.argv.includes("--check")) {
  const wrong = [...new Set([...present, ...Object.keys(artifacts)])].filter(
    (name) => !(name in artifacts) || !present.includes(name) || readFileSync(at(`artifacts/${name}`), "utf8") !== artifacts[name],
  );
  if (wrong.length > 0) {
    console.error(`artifacts that the sources do not compile to: ${wrong.join(", ")}; run node build.mjs`);
    process.exit(1);
  }
  console.log(`artifacts agree with the sources: ${Object.keys(artifacts).length - 1}`);
} else {
  for (const name of present) if (!(name in artifacts)) rmSync(at(`artifacts/${name}`));
  for (const [name, content] of Object.entries(artifacts)) writeFileSync(at(`artifacts/${name}`), content);
}
