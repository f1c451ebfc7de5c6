/**
 * The processes that a PostgreSQL benchmark puts between client and server: the raw relay, PgBouncer and Sallyport.
 * Each is a process of its own, as it would be in use. Ended by `stop()`; their files are temporary.
 */
import { chownSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { stringify } from "yaml";
import { freePort, type RunningPostgres } from "../postgres/server.ts";

/** Where a libpq client connects, and as whom. */
export interface Endpoint {
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

export interface RunningProcess {
  readonly endpoint: Endpoint;
  readonly pid: number;
  stop(): Promise<void>;
}

export interface RunningGateway extends RunningProcess {
  /** Of its API. */
  readonly api: string;
  /** Of the store, which a killed gateway leaves until `stop()`. */
  readonly storeUrl: string;
  /** Its exit code, once it has ended. */
  readonly exited: Promise<number>;
  /** SIGKILL: nothing is closed or sealed. */
  kill(): Promise<void>;
}

export interface GatewayOptions {
  readonly server: RunningPostgres;
  /** Of the identity provider that issued the caller's token. */
  readonly issuer: string;
  /** Clients whose tokens are accepted; one, `tokenAudience`, when not given. */
  readonly audience?: readonly string[];
  /** By what claim a caller is an agent; none is when not given. */
  readonly agents?: { readonly claim: string; readonly values: readonly string[] };
  /** The target's name; `targetName` when not given. */
  readonly target?: string;
  readonly caller: { readonly email: string; readonly token: string };
  readonly durability: "group" | "strict";
  readonly bundle: string;
  /** The deployment's policy data; the bundle's own when not given. */
  readonly data?: unknown;
  /** More keys of `policies`. */
  readonly policies?: Readonly<Record<string, unknown>>;
}

const repository = resolve(import.meta.dir, "../..");
const readyTimeoutMs = 30_000;
export const targetName = "bench";
export const tokenAudience = "sallyport-cli";

export function libpqEnvironment(endpoint: Endpoint): Record<string, string> {
  return {
    PATH: process.env.PATH ?? "/usr/bin:/bin",
    ...{ HOME: process.env.HOME ?? "/", PGHOST: "127.0.0.1", PGPORT: String(endpoint.port), PGUSER: endpoint.user },
    ...{ PGPASSWORD: endpoint.password, PGDATABASE: endpoint.database, PGSSLMODE: "disable" },
  };
}

/** @param synced the relay has on disk what clients send before it forwards it */
export async function startRelayProcess(server: RunningPostgres, synced = false): Promise<RunningProcess> {
  const folder = mkdtempSync(join(tmpdir(), "sallyport-relay-"));
  const options = synced ? ["--sync", join(folder, "journal")] : [];
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "relay.ts"), String(server.port), ...options], {
    ...{ stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  });
  const { value } = await child.stdout.getReader().read();
  return {
    endpoint: { port: Number(new TextDecoder().decode(value)), ...identityOf(server) },
    pid: child.pid,
    stop: async () => {
      await end(child);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** @returns undefined where PgBouncer is not installed. */
export async function startPgBouncer(server: RunningPostgres): Promise<RunningProcess | undefined> {
  const program = Bun.which("pgbouncer") ?? (existsSync("/usr/sbin/pgbouncer") ? "/usr/sbin/pgbouncer" : undefined);
  if (program === undefined) return undefined;
  const folder = mkdtempSync(join(tmpdir(), "sallyport-pgbouncer-"));
  const port = await freePort();
  const file = join(folder, "pgbouncer.ini");
  writeFileSync(
    file,
    [
      "[databases]",
      `${server.database} = host=127.0.0.1 port=${server.port} user=${server.user} password=${server.password}`,
      "[pgbouncer]",
      ...["listen_addr = 127.0.0.1", `listen_port = ${port}`, "unix_socket_dir =", "auth_type = any"],
      ...["pool_mode = session", "default_pool_size = 100", "max_client_conn = 500", "server_tls_sslmode = disable"],
      ...["ignore_startup_parameters = extra_float_digits", "log_connections = 0", "log_disconnections = 0", ""],
    ].join("\n"),
    { mode: 0o600 },
  );
  // PgBouncer, as PostgreSQL, refuses to run as root.
  const account = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : undefined;
  if (account !== undefined) for (const path of [folder, file]) chownSync(path, account.uid, account.gid);
  const child = Bun.spawn([program, "--quiet", file], {
    ...{ stdin: "ignore", stdout: "ignore", stderr: "inherit", cwd: folder },
    ...account,
  });
  const stop = async () => {
    await end(child);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await untilReady("PgBouncer", child, () => accepts(port));
  } catch (error) {
    await stop();
    throw error;
  }
  return { endpoint: { port, ...identityOf(server) }, pid: child.pid, stop };
}

/** What `bun run gateway` sets for the runtime. */
function gatewayEnvironment(): Record<string, string> {
  const { scripts } = JSON.parse(readFileSync(join(repository, "package.json"), "utf8"));
  return Object.fromEntries([...scripts.gateway.matchAll(/(\w+)=(\S+)/g)].map(([, name, value]) => [name, value]));
}

export async function startGateway(options: GatewayOptions): Promise<RunningGateway> {
  const { server, caller, audience = tokenAudience, agents, target = targetName } = options;
  const folder = mkdtempSync(join(tmpdir(), "sallyport-gateway-"));
  const [port, httpPort] = [await freePort(), await freePort()];
  writeFileSync(join(folder, "password"), server.password, { mode: 0o600 });
  if (options.data !== undefined) writeFileSync(join(folder, "data.yaml"), stringify(options.data));
  const config = {
    listen: { postgres: `127.0.0.1:${port}`, http: `127.0.0.1:${httpPort}` },
    identity: { issuers: [{ issuer: options.issuer, audience, agents, groups_claim: "groups" }] },
    store: { url: "file:./data/store.db", recording: { durability: options.durability } },
    policies: {
      ...{ bundle: options.bundle, ...(options.data === undefined ? {} : { data: "./data.yaml" }) },
      ...options.policies,
    },
    targets: [
      {
        ...{ name: target, kind: "postgres", address: `127.0.0.1:${server.port}`, database: server.database },
        ...{ tls: "disable", credential: { user: server.user, password: { file: "./password" } } },
      },
    ],
  };
  const file = join(folder, "gateway.yaml");
  writeFileSync(file, stringify(config));
  const log = join(folder, "log");
  const child = Bun.spawn([process.execPath, join(repository, "gateway/main.ts"), "--config", file], {
    ...{ stdin: "ignore", stdout: Bun.file(log), stderr: Bun.file(`${log}.err`), cwd: folder },
    env: { ...process.env, ...gatewayEnvironment() },
  });
  const stop = async () => {
    await end(child);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await untilReady("the gateway", child, async () => {
      const answer = await fetch(`http://127.0.0.1:${httpPort}/readyz`).catch(() => undefined);
      return answer?.ok === true;
    });
  } catch (error) {
    const tail = [log, `${log}.err`].map((path) => (existsSync(path) ? readFileSync(path, "utf8").slice(-4_000) : ""));
    await stop();
    throw new Error(`${(error as Error).message}\n${tail.join("")}`);
  }
  const endpoint = { port, user: caller.email, password: caller.token, database: target };
  const kill = async () => {
    child.kill("SIGKILL");
    await child.exited;
  };
  const storeUrl = `file:${join(folder, "data", "store.db")}`;
  return { endpoint, pid: child.pid, api: `http://127.0.0.1:${httpPort}`, storeUrl, exited: child.exited, kill, stop };
}

function identityOf({ user, password, database }: RunningPostgres): Omit<Endpoint, "port"> {
  return { user, password, database };
}

async function end(child: Bun.Subprocess): Promise<void> {
  child.kill("SIGTERM");
  if ((await Promise.race([child.exited, Bun.sleep(5_000).then(() => "late")])) === "late") child.kill("SIGKILL");
  await child.exited;
}

async function untilReady(what: string, child: Bun.Subprocess, isReady: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + readyTimeoutMs;
  while (Date.now() < deadline) {
    if (await isReady()) return;
    if (child.exitCode !== null) throw new Error(`${what} ended with status ${child.exitCode}`);
    await Bun.sleep(25);
  }
  throw new Error(`${what} was not ready within ${readyTimeoutMs} ms`);
}

function accepts(port: number): Promise<boolean> {
  return new Promise((answer) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      answer(true);
    });
    socket.once("error", () => answer(false));
  });
}
