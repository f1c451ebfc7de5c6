/**
 * `bun run dev [--config gateway.yaml] [--policies folder]`: a gateway that takes up what is saved. A change of a policy's
 * source is compiled and live within 2 s, and how long it took is printed; what does not compile, or does not prove
 * itself, is shown, and the revision before it stays. A change of the gateway's own sources starts it again. Without a
 * configuration it is the demo's: its database, its identity provider and its people.
 */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { escapeControls, paint, processTerminal } from "../../gateway/cli/terminal.ts";
import { loadConfig } from "../../gateway/config.ts";
import { people, root, startDemo, targetName } from "../demo/environment.ts";
import { policiesFolder } from "../policy/sources.ts";
import { watchFolders } from "../policy/test/watch.ts";
import { compile, savedAt } from "./compile.ts";
import { followLog, type LogLine } from "./gateway-log.ts";

interface Running {
  /** The gateway's log. */
  readonly log: string;
  /** The deployment's policy data. */
  readonly data: string | undefined;
  /** Resolves to the gateway's exit status. */
  readonly ended: Promise<number>;
  stop(): Promise<unknown>;
}

const { values: flags } = parseArgs({
  options: { config: { type: "string" }, policies: { type: "string", default: policiesFolder } },
});
const terminal = processTerminal();
const sources = resolve(flags.policies);
const folder = mkdtempSync(join(tmpdir(), "sallyport-dev-"));
const bundle = join(folder, "bundle.tar.gz");
const short = (digest: string) => digest.slice(0, "sha256:".length + 12);
const say = (text: string) => terminal.out(`${text}\n`);

async function runDemo(): Promise<Running> {
  const demo = await startDemo(() => undefined, { bundle, watch: true });
  const token = join(demo.folder, "ada.token");
  say(`PGPASSWORD=$(cat '${token}') \\
  psql "host=127.0.0.1 port=${demo.postgresPort} dbname=${targetName} user=${people.ada}"
Tokens of reporter (agent), ada, dora (approves) and iris (audits) are in ${demo.folder}; API ${demo.api}`);
  const { folder: own, gatewayEnded, stop } = demo;
  return { log: join(own, "gateway.log"), data: join(own, "policies.yaml"), ended: gatewayEnded, stop };
}

async function runConfigured(config: string): Promise<Running> {
  const { policies } = loadConfig(config);
  const log = join(folder, "gateway.log");
  writeFileSync(log, "");
  const main = join(root, "gateway/main.ts");
  const command = [process.execPath, "--watch", "--no-clear-screen", main, "--config", config, "--bundle", bundle];
  const child = Bun.spawn(command, { stdin: "ignore", stdout: Bun.file(log), stderr: Bun.file(log) });
  const stop = () => {
    child.kill("SIGTERM");
    return child.exited;
  };
  return { log, data: policies.data, ended: child.exited, stop };
}

let running: Running | undefined;
let stopping = false;
async function end(status: number): Promise<never> {
  if (!stopping) {
    stopping = true;
    await running?.stop();
    rmSync(folder, { recursive: true, force: true });
  }
  process.exit(status);
}
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void end(0));

/** What is in force, and what was saved and is on its way. */
let inForce: string | undefined;
let awaited: { readonly digest: string; readonly savedAtMs: number; readonly tookMs: number } | undefined;

function reportLine({ message, level, digest, error }: LogLine): void {
  if (digest !== undefined && /in force$/.test(message)) {
    inForce = digest;
    const since =
      awaited?.digest === digest
        ? ` ${Math.round(Date.now() - awaited.savedAtMs)} ms after the save (compiled in ${Math.round(awaited.tookMs)} ms)`
        : "";
    awaited = undefined;
    say(`${paint(terminal, "green", "live")} ${short(digest)}${since}`);
  } else if (level === "error" || level === "warn") {
    say(`${paint(terminal, "red", message)}${error === undefined ? "" : `: ${escapeControls(error)}`}`);
  } else if (message === "listening" || message === "shutting down") say(paint(terminal, "dim", message));
}

async function take(changed: string): Promise<void> {
  const savedAtMs = Math.min(savedAt(sources), Date.now());
  const compiled = await compile(sources, `${bundle}.new`, running?.data);
  if (!compiled.ok) {
    say(`${paint(terminal, "red", `${changed} does not compile`)}; ${short(inForce ?? "")} stays\n${compiled.message}`);
  } else if (compiled.digest !== inForce) {
    awaited = { ...compiled, savedAtMs };
    renameSync(`${bundle}.new`, bundle);
  } else {
    say(paint(terminal, "dim", `${changed}: nothing that changes ${short(compiled.digest)}`));
  }
}

try {
  const compiled = await compile(sources, bundle, undefined);
  if (!compiled.ok) throw new Error(compiled.message);
  running = await (flags.config === undefined ? runDemo() : runConfigured(flags.config));
  followLog(running.log, reportLine);
  void running.ended.then((status) => {
    if (stopping) return;
    terminal.err(`the gateway ended with status ${status}\n`);
    void end(1);
  });
  say(`Watching ${sources} and the gateway's own sources. Ctrl-C stops everything.`);
  await watchFolders([sources], take);
} catch (error) {
  terminal.err(`${(error as Error).message}\n`);
  await end(1);
}
