// Which bytecode do the sources have? Compiles src/ with the pinned compiler and writes artifacts/, or with `--check` fails if
// the artifacts are not what the sources compile to. `build.sh` installs what it needs.

import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { keccak256 } from "ethers";

const solc = createRequire(import.meta.url)("solc");
const at = (path) => new URL(path, import.meta.url);

const settings = JSON.parse(readFileSync(at("settings.json")));
const sources = Object.fromEntries(
  readdirSync(at("src"))
    .filter((name) => name.endsWith(".sol"))
    .sort()
    .map((name) => [`src/${name}`, { content: readFileSync(at(`src/${name}`), "utf8") }]),
);
const outputSelection = { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } };
const output = JSON.parse(
  solc.compile(JSON.stringify({ language: "Solidity", sources, settings: { ...settings, outputSelection } })),
);
for (const { formattedMessage } of output.errors ?? []) console.error(formattedMessage);
if (output.errors?.length > 0) process.exit(1);

const artifacts = {};
for (const [source, contracts] of Object.entries(output.contracts)) {
  for (const [contract, { abi, evm }] of Object.entries(contracts)) {
    const artifact = {
      contract,
      source,
      // What it was made from: holds the artifact against the source where there is no compiler.
      sourceHash: keccak256(readFileSync(at(source))),
      compiler: solc.version(),
      settings,
      abi,
      bytecode: `0x${evm.bytecode.object}`,
      deployedBytecode: `0x${evm.deployedBytecode.object}`,
    };
    artifacts[`${contract}.json`] = `${JSON.stringify(artifact, null, 1)}\n`;
    console.log(`${contract}: ${evm.deployedBytecode.object.length / 2} bytes`);
  }
}

const present = existsSync(at("artifacts")) ? readdirSync(at("artifacts")) : [];
if (process.argv.includes("--check")) {
  const wrong = [...new Set([...present, ...Object.keys(artifacts)])].filter(
    (name) => !(name in artifacts) || !present.includes(name) || readFileSync(at(`artifacts/${name}`), "utf8") !== artifacts[name],
  );
  if (wrong.length > 0) {
    console.error(`artifacts that the sources do not compile to: ${wrong.join(", ")}; run build.sh`);
    process.exit(1);
  }
  console.log(`artifacts agree with the sources: ${Object.keys(artifacts).length}`);
} else {
  mkdirSync(at("artifacts"), { recursive: true });
  for (const name of present) if (!(name in artifacts)) rmSync(at(`artifacts/${name}`));
  for (const [name, content] of Object.entries(artifacts)) writeFileSync(at(`artifacts/${name}`), content);
}
