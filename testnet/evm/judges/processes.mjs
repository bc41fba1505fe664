// Starts nodes as child processes on free ports, and stops them whatever happens.

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

const running = new Set();

// npm starts anvil through a script of its own: the whole group has to end, or anvil stays.
export const stopAll = () => {
  for (const child of running) {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  }
};
process.on("exit", stopAll);
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

/** Resolves with the first match of `pattern` in what the process prints. */
const start = (program, args, pattern) =>
  new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], detached: true });
    running.add(child);
    let errors = "";
    child.stderr.on("data", (data) => (errors = (errors + data).slice(-4000)));
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}: ${errors}`)));
    createInterface({ input: child.stdout }).on("line", (line) => {
      const found = line.match(pattern);
      if (found) resolve(found);
    });
  });

const freePort = () =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

/** The URL of an embedded node. */
export const startNode = async (...args) => {
  const [, url] = await start(process.env.LOCKSTEP_EVM_NODE, ["--rpc", "127.0.0.1:0", ...args], /^rpc (\S+)/);
  return url;
};

/** The URL of an anvil. */
export const startAnvil = async (...args) => {
  const port = await freePort();
  await start("node_modules/.bin/anvil", ["--port", String(port), ...args], /Listening on/);
  return `http://127.0.0.1:${port}`;
};

/** A JSON-RPC client of a few lines. */
export const client = (url) => {
  let id = 0;
  return async (method, ...params) => {
    const body = JSON.stringify({ jsonrpc: "2.0", id: ++id, method, params });
    const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
    const { result, error } = await response.json();
    if (error) throw new Error(`${method}: ${error.code} ${error.message}`);
    return result;
  };
};
