/**
 * `bun run bench postgres`: pgbench, a bulk select and a bulk COPY through each way to one server, interleaved in one
 * run, as a table of medians and ratios to direct and to PgBouncer; then the memory of an idle session.
 * `--rounds 3 --seconds 2 --warmup 5 --lead 1 --rows 1000000 --sessions 200 --only direct,relay --clients 1,8,32`
 * Each way is used for `warmup` seconds a protocol before anything counts, and for `lead` before each rate: a gateway
 * runs for weeks, its first seconds are the compiler's, and what rests while the others have their turn is thrown away.
 * `relay+sync` only has on disk what it forwards: what is left of `strict` is the disk's.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { startIdentityProvider } from "../demo/identity-provider.ts";
import { type RunningPostgres, startPostgres } from "../postgres/server.ts";
import { idleSessionKb } from "./postgres-idle.ts";
import {
  type Endpoint,
  libpqEnvironment,
  type RunningProcess,
  startGateway,
  startPgBouncer,
  startRelayProcess,
  targetName,
  tokenAudience,
} from "./postgres-processes.ts";

const { values: flags } = parseArgs({
  args: process.argv.slice(2).filter((argument) => argument !== "postgres"),
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "2" },
    warmup: { type: "string", default: "5" },
    lead: { type: "string", default: "1" },
    rows: { type: "string", default: "1000000" },
    sessions: { type: "string", default: "200" },
    clients: { type: "string", default: "1,8,32" },
    only: { type: "string" },
  },
});
const rounds = count("rounds");
const seconds = count("seconds");
const warmup = count("warmup");
const lead = count("lead");
const rows = count("rows");
const sessions = count("sessions");
const clientCounts = flags.clients.split(",").map(Number);
const variants = [
  "direct",
  "relay",
  "relay+sync",
  "pgbouncer",
  "group",
  "strict",
  "group+mask",
  "strict+mask",
] as const;
type Variant = (typeof variants)[number];
const protocols = ["simple", "extended", "prepared"] as const;
const gatewayVariants: readonly Variant[] = ["group", "strict", "group+mask", "strict+mask"];
const wanted = flags.only?.split(",") ?? variants;
const unknown = wanted.filter((name) => !(variants as readonly string[]).includes(name));
if (unknown.length > 0) throw new Error(`--only has no "${unknown.join(", ")}": ${variants.join(", ")}`);
const chosen = variants.filter((variant) => wanted.includes(variant));

/** One measurement; higher is better. */
interface Cell {
  readonly name: string;
  readonly unit: string;
  measure(endpoint: Endpoint): Promise<number>;
}

/** What a variant is measured by: a running process (absent for direct), or the reason that there is none. */
type Way = { readonly endpoint: Endpoint; readonly process: RunningProcess | undefined } | { readonly absent: string };

const folder = mkdtempSync(join(tmpdir(), "sallyport-bench-"));
const server = await startPostgres({ settings: { max_connections: "800", shared_buffers: "512MB" } });
const provider = await startIdentityProvider({
  users: [{ id: "bench", email: "bench@example.com", groups: ["bench"] }],
});
const ways = new Map<Variant, Way>();
try {
  await load(server);
  for (const variant of chosen) ways.set(variant, await open(variant));
  await warmUp();
  const results = await measureAll(cells());
  report(results);
  await reportMemory();
} finally {
  for (const way of ways.values()) if ("process" in way) await way.process?.stop();
  await provider.stop();
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
}

function count(name: "rounds" | "seconds" | "warmup" | "lead" | "rows" | "sessions"): number {
  const value = Number(flags[name]);
  if (!Number.isInteger(value) || value < 1) throw new Error(`--${name} is a whole number from 1`);
  return value;
}

async function load(target: RunningPostgres): Promise<void> {
  const environment = libpqEnvironment(target);
  await run(["pgbench", "--initialize", "--quiet", "--scale", "10"], environment);
  const create = `CREATE TABLE bulk AS SELECT n AS id, md5(n::text) AS token, 'person' || n || '@example.com' AS email,
    n * 1.5::float8 AS amount, timestamptz '2025-01-01' + n * interval '1 s' AS made FROM generate_series(1, ${rows}) AS n`;
  await run(["psql", "--quiet", "--command", create, "--command", "VACUUM ANALYZE bulk"], environment);
}

async function open(variant: Variant): Promise<Way> {
  try {
    switch (variant) {
      case "direct":
        return { endpoint: server, process: undefined };
      case "relay":
        return way(await startRelayProcess(server));
      case "relay+sync":
        return way(await startRelayProcess(server, true));
      case "pgbouncer": {
        const bouncer = await startPgBouncer(server);
        return bouncer === undefined ? { absent: "not installed (Debian: apt-get install pgbouncer)" } : way(bouncer);
      }
      default:
        return way(await openGateway(variant));
    }
  } catch (error) {
    return { absent: (error as Error).message };
  }
}

function way(process: RunningProcess): Way {
  return { endpoint: process.endpoint, process };
}

async function openGateway(variant: Variant): Promise<RunningProcess> {
  const labels = variant.endsWith("+mask")
    ? { "public.pgbench_accounts.abalance": ["secret"], "public.bulk.email": ["secret"] }
    : {};
  return startGateway({
    server,
    issuer: provider.issuer,
    caller: { email: "bench@example.com", token: await provider.mint("bench", { client: tokenAudience }) },
    durability: variant.startsWith("strict") ? "strict" : "group",
    bundle: resolve(import.meta.dir, "../../policies/dist/bundle.tar.gz"),
    data: {
      targets: { [targetName]: { access: { bench: ["read", "write", "transaction", "session"] }, labels } },
      labels: { secret: { mask: "redact" } },
    },
  });
}

async function warmUp(): Promise<void> {
  for (const [variant, opened] of ways) {
    if ("absent" in opened) continue;
    process.stderr.write(`warming up: ${variant}\n`);
    for (const mode of protocols) {
      await pgbenchRate(opened.endpoint, ["-S", "-M", mode, "-c", "8", "-T", String(warmup)]);
    }
  }
}

function cells(): readonly Cell[] {
  const bulkSelect = join(folder, "select.sql");
  writeFileSync(bulkSelect, "SELECT * FROM bulk;\n");
  const rates = protocols.flatMap((mode) =>
    clientCounts.map((clients) => ({
      name: `pgbench -S ${mode}, ${clients} client${clients === 1 ? "" : "s"}`,
      unit: "tps",
      measure: async (endpoint: Endpoint) => {
        const rate = (over: number) =>
          pgbenchRate(endpoint, ["-S", "-M", mode, "-c", String(clients), "-T", String(over)]);
        await rate(lead);
        return rate(seconds);
      },
    })),
  );
  return [
    ...rates,
    {
      name: `select ${rows} rows`,
      unit: "rows/s",
      measure: async (endpoint) => rows * (await pgbenchRate(endpoint, ["-f", bulkSelect, "-t", "1"])),
    },
    {
      name: `COPY ${rows} rows out`,
      unit: "rows/s",
      measure: async (endpoint) => {
        const startedNs = Bun.nanoseconds();
        await run(["psql", "-X", "-c", "\\copy bulk to /dev/null"], libpqEnvironment(endpoint));
        return rows / ((Bun.nanoseconds() - startedNs) / 1e9);
      },
    },
  ];
}

async function pgbenchRate(endpoint: Endpoint, options: readonly string[]): Promise<number> {
  const output = await run(["pgbench", "--no-vacuum", ...options], libpqEnvironment(endpoint));
  const match = /^tps = ([0-9.]+) /m.exec(output);
  if (match === null) throw new Error(`pgbench said no rate: ${output}`);
  return Number(match[1]);
}

async function run(command: string[], env: Record<string, string>): Promise<string> {
  const child = Bun.spawn(command, { env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [output, errors, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (status !== 0) throw new Error(`${command[0]} failed (${status}): ${errors.trim()}`);
  return output;
}

type Results = Map<string, Map<Variant, { values: number[]; failure: string | undefined }>>;

/** Every variant takes its turn in each round, so that drift of the machine falls on all alike. */
async function measureAll(measured: readonly Cell[]): Promise<Results> {
  const results: Results = new Map();
  for (let round = 1; round <= rounds; round++) {
    for (const cell of measured) {
      process.stderr.write(`round ${round} of ${rounds}: ${cell.name}\n`);
      const byVariant = results.get(cell.name) ?? new Map();
      results.set(cell.name, byVariant);
      for (const [variant, opened] of ways) {
        const entry = byVariant.get(variant) ?? { values: [], failure: undefined };
        byVariant.set(variant, entry);
        if ("absent" in opened || entry.failure !== undefined) continue;
        try {
          entry.values.push(await cell.measure(opened.endpoint));
        } catch (error) {
          entry.failure = (error as Error).message.split("\n")[0];
        }
      }
    }
  }
  return results;
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

function report(results: Results): void {
  const load1 = loadavg()[0]?.toFixed(1);
  console.log(`${cpus().length} cores (${cpus()[0]?.model}), load ${load1}, Bun ${Bun.version}, median of ${rounds}\n`);
  console.log("| measurement | way | median | spread | of direct | of PgBouncer |");
  console.log("| --- | --- | ---: | ---: | ---: | ---: |");
  const failures = new Set<string>();
  for (const [name, byVariant] of results) {
    const base = (variant: Variant) => median(byVariant.get(variant)?.values ?? []);
    for (const [variant, { values, failure }] of byVariant) {
      if (failure !== undefined) failures.add(`${variant}, ${name}: ${failure}`);
      if (values.length === 0) continue;
      const value = median(values);
      const spread = ((Math.max(...values) - Math.min(...values)) / value) * 100;
      const ratio = (to: number) => (Number.isNaN(to) ? "" : (value / to).toFixed(2));
      const shown = [name, variant, Math.round(value).toLocaleString("en"), `${spread.toFixed(0)} %`];
      console.log(`| ${[...shown, ratio(base("direct")), ratio(base("pgbouncer"))].join(" | ")} |`);
    }
  }
  for (const [variant, opened] of ways) {
    if ("absent" in opened) console.log(`\nNot measured: ${variant}: ${opened.absent}`);
  }
  for (const failure of failures) console.log(`\nFailed: ${failure}`);
}

async function reportMemory(): Promise<void> {
  for (const [variant, opened] of ways) {
    if ("absent" in opened || opened.process === undefined || !gatewayVariants.includes(variant)) continue;
    const kb = await idleSessionKb(opened.process, sessions).catch((error: Error) => error.message);
    console.log(`\nIdle session, ${variant}: ${typeof kb === "number" ? `${kb.toFixed(1)} kB` : `failed: ${kb}`}`);
  }
}
