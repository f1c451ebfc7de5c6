/**
 * What the demo runs against, each the real thing: an embedded PostgreSQL with the demo's schema, a development identity
 * provider, and the gateway as its own process with the committed default bundle. All of it ends with this process.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import postgres from "postgres";
import { stringify } from "yaml";
import { freePort, startPostgres } from "../postgres/server.ts";
import { startIdentityProvider } from "./identity-provider.ts";

export const root = resolve(import.meta.dir, "../..");
export const targetName = "demo";
export const people = {
  /** An AI agent: it may read and write, but what it writes is held. */
  reporter: "reporter@example.com",
  /** An analyst: reads, and sees labelled columns masked. */
  ada: "ada@example.com",
  /** A database administrator, who approves. */
  dora: "dora@example.com",
  /** An auditor, who sees every recording. */
  iris: "iris@example.com",
} as const;
export type Person = keyof typeof people;

export interface Demo {
  readonly postgresPort: number;
  readonly api: string;
  /** Of the identity provider. */
  readonly issuer: string;
  /** Holds `<person>.token`, kept fresh, readable by this user only. */
  readonly folder: string;
  /** The demo's database without the gateway: what is really there. */
  readonly direct: postgres.Sql;
  token(person: Person): Promise<string>;
  /** Resolves when the gateway ends by itself. */
  readonly gatewayEnded: Promise<number>;
  stop(): Promise<void>;
}

const usualPorts = { postgres: 6432, http: 8080 };
const tokenRefreshMs = 20 * 60_000;
const readyTimeoutMs = 30_000;

/**
 * Keeps a process no longer than its standard input, which closes when the demo ends in any way. A terminal that is closed
 * hangs up on both: to the gateway that means to look at its policies, so that the shell must stay to end it.
 */
const supervisor = `trap '' HUP INT; "$@" </dev/null & child=$!; { cat >/dev/null; kill -TERM "$child" 2>/dev/null; } <&3 & wait "$child"`;

export interface DemoOptions {
  /** The committed default bundle when not given. */
  readonly bundle?: string;
  /** The gateway starts again when a source of it changes. */
  readonly watch?: boolean;
}

export async function startDemo(progress: (what: string) => void, options: DemoOptions = {}): Promise<Demo> {
  const undo: (() => unknown)[] = [];
  const stop = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    progress("PostgreSQL");
    const server = await startPostgres();
    undo.push(() => server.stop());
    const direct = postgres({
      ...{ host: server.host, port: server.port, username: server.user, password: server.password },
      ...{ database: server.database, onnotice: () => undefined, max: 1 },
    });
    undo.push(() => direct.end());
    await direct.unsafe(readFileSync(join(root, "fixtures/demo/schema.sql"), "utf8"));

    progress("identity provider");
    const provider = await startIdentityProvider({
      users: [
        { id: "reporter", email: people.reporter, groups: ["oncall"], client: "agent-reporter" },
        { id: "ada", email: people.ada, groups: ["analysts"] },
        { id: "dora", email: people.dora, groups: ["dba"] },
        { id: "iris", email: people.iris, groups: ["auditors"] },
      ],
    });
    undo.push(() => provider.stop());

    progress("gateway");
    const postgresPort = await usualOrFree(usualPorts.postgres);
    const httpPort = await usualOrFree(usualPorts.http);
    const folder = join(root, ".demo", String(postgresPort));
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    undo.push(() => rmSync(folder, { recursive: true, force: true }));
    writeFileSync(join(folder, "password"), server.password, { mode: 0o600 });
    // What the demo's deployment says beside the default policies: what agents write is held; new patterns are not.
    writeFileSync(join(folder, "policies.yaml"), stringify({ agents: { hold: ["ddl", "write"], deny: ["dcl"] } }));
    writeFileSync(
      join(folder, "gateway.yaml"),
      stringify({
        listen: { postgres: `127.0.0.1:${postgresPort}`, http: `127.0.0.1:${httpPort}` },
        identity: {
          issuers: [
            {
              issuer: provider.issuer,
              audience: ["sallyport-cli", "agent-reporter"],
              groups_claim: "groups",
              agents: { claim: "azp", values: ["agent-*"] },
            },
          ],
        },
        store: { url: "file:./data/sallyport.db", recording: { durability: "strict" } },
        policies: { bundle: options.bundle ?? join(root, "policies/dist/bundle.tar.gz"), data: "./policies.yaml" },
        shutdown: { drain: "1s" },
        targets: [
          {
            ...{ name: targetName, kind: "postgres", address: `${server.host}:${server.port}` },
            ...{ database: server.database, tls: "disable", labels: { env: "demo" } },
            credential: { user: server.user, password: { file: "./password" } },
          },
        ],
      }),
    );
    const log = join(folder, "gateway.log");
    const gateway = Bun.spawn(
      // biome-ignore format: one command line
      ["sh", "-c", `exec 3<&0; ${supervisor}`, "demo", process.execPath, ...(options.watch ? ["--watch", "--no-clear-screen"] : []), join(root, "gateway/main.ts"), "--config", join(folder, "gateway.yaml")],
      { stdin: "pipe", stdout: Bun.file(log), stderr: Bun.file(log) },
    );
    undo.push(async () => {
      gateway.stdin.end();
      await gateway.exited;
    });
    const api = `http://127.0.0.1:${httpPort}`;
    await untilReady(api, gateway, log);

    const token = (person: Person) => provider.mint(person);
    const writeTokens = async () => {
      for (const person of Object.keys(people) as Person[]) {
        writeFileSync(join(folder, `${person}.token`), await token(person), { mode: 0o600 });
      }
    };
    await writeTokens();
    const refresh = setInterval(() => void writeTokens(), tokenRefreshMs);
    undo.push(() => clearInterval(refresh));
    return { postgresPort, api, issuer: provider.issuer, folder, direct, token, gatewayEnded: gateway.exited, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The port that the README names, so that its lines work as they stand; another one where that is taken. */
async function usualOrFree(port: number): Promise<number> {
  const taken = await new Promise<boolean>((answer) => {
    const probe = createServer();
    probe.once("error", () => answer(true));
    probe.listen(port, "127.0.0.1", () => probe.close(() => answer(false)));
  });
  return taken ? freePort() : port;
}

async function untilReady(api: string, gateway: Bun.Subprocess, log: string): Promise<void> {
  const deadline = Date.now() + readyTimeoutMs;
  for (;;) {
    const answer = await fetch(`${api}/readyz`).catch(() => undefined);
    if (answer?.ok === true) return;
    if (gateway.exitCode !== null || Date.now() > deadline) {
      throw new Error(`the gateway did not start; its log ends:\n${readFileSync(log, "utf8").slice(-2_000)}`);
    }
    await Bun.sleep(25);
  }
}
