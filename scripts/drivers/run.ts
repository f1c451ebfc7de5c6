/**
 * `bun run drivers`: drivers' own test suites against PostgreSQL direct and through the gateway under an allow-all
 * policy. A test that passes direct must pass through the gateway, or stand in exceptions.yaml with a reason.
 * `--only lib/pq|pgx|psycopg2|asyncpg`, `--direct` (to see what the suite does by itself), `--output <folder>` (keeps what the suites print)
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { parse } from "yaml";
import { z } from "zod";
import { libpqEnvironment, startGateway, tokenAudience } from "../bench/postgres-processes.ts";
import { startIdentityProvider } from "../demo/identity-provider.ts";
import { startPostgres } from "../postgres/server.ts";
import { type Outcomes, type Suite, suites } from "./suites.ts";

const exceptionSchema = z.strictObject({ suite: z.string(), test: z.string(), reason: z.string().min(10) });

/** An exception names one test, or with a last * all that begin so. */
function covers({ test: named }: z.infer<typeof exceptionSchema>, test: string): boolean {
  return named.endsWith("*") ? test.startsWith(named.slice(0, -1)) : test === named;
}

const { values: flags } = parseArgs({
  args: process.argv.slice(2),
  options: { only: { type: "string" }, direct: { type: "boolean", default: false }, output: { type: "string" } },
});
const exceptions = z
  .array(exceptionSchema)
  .parse(parse(readFileSync(join(import.meta.dir, "exceptions.yaml"), "utf8")));
if (flags.output !== undefined) mkdirSync(flags.output, { recursive: true });
const folder = mkdtempSync(join(tmpdir(), "sallyport-drivers-"));
let failed = false;
try {
  const chosen = suites.filter(({ name }) => flags.only === undefined || flags.only === name);
  if (chosen.length === 0) throw new Error(`--only is one of ${suites.map(({ name }) => name).join(", ")}`);
  for (const suite of chosen) if (!(await compare(suite))) failed = true;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = failed ? 1 : 0;

/** @returns whether nothing that passes direct fails through the gateway without a reason on file. */
async function compare(suite: Suite): Promise<boolean> {
  const fileName = suite.name.replaceAll("/", "-");
  const place = join(folder, fileName);
  mkdirSync(place);
  const logFile = (way: string) => join(flags.output ?? place, `${fileName}-${way}.jsonl`);
  console.log(`${suite.name}: fetching`);
  await suite.prepare(place);
  console.log(`${suite.name}: direct`);
  const direct = await runDirect(suite, place, logFile("direct"));
  console.log(`${suite.name}: direct: ${summary(direct)}`);
  const passing = [...direct].filter(([, outcome]) => outcome === "pass").map(([test]) => test);
  if (passing.length === 0) throw new Error(`${suite.name}: no test passes direct, so there is nothing to compare`);
  if (flags.direct) return true;
  const through = await runThroughGateway(suite, place, logFile("through"));
  console.log(`${suite.name}: through the gateway: ${summary(through)}`);
  const differing = passing.filter((test) => through.get(test) !== "pass");
  let unexplained = 0;
  for (const test of differing) {
    const exception = exceptions.find((entry) => entry.suite === suite.name && covers(entry, test));
    if (exception === undefined) unexplained++;
    console.log(`  ${through.get(test) ?? "gone"}  ${test}${exception === undefined ? "" : `  (${exception.reason})`}`);
  }
  const stale = exceptions.filter(
    (entry) => entry.suite === suite.name && !differing.some((test) => covers(entry, test)),
  );
  for (const { test } of stale) console.log(`  an exception no longer needed: ${test}`);
  console.log(`${suite.name}: ${unexplained} of ${passing.length} differ without a reason on file`);
  return unexplained === 0;
}

function summary(outcomes: Outcomes): string {
  const count = (wanted: string) => [...outcomes.values()].filter((outcome) => outcome === wanted).length;
  return `${count("pass")} pass, ${count("fail")} fail, ${count("skip")} are skipped`;
}

/** Each way has a server of its own, so that what one run leaves behind does not change the other. */
async function runDirect(suite: Suite, place: string, log: string): Promise<Outcomes> {
  const server = await startPostgres({ settings: { max_prepared_transactions: "10" } });
  try {
    return await suite.run(place, libpqEnvironment(server), log);
  } finally {
    await server.stop();
  }
}

async function runThroughGateway(suite: Suite, place: string, log: string): Promise<Outcomes> {
  const server = await startPostgres({ settings: { max_prepared_transactions: "10" } });
  const email = "drivers@example.com";
  const provider = await startIdentityProvider({ users: [{ id: "drivers", email, groups: ["drivers"] }] });
  try {
    const gateway = await startGateway({
      // Two-phase transactions are found by their database's name, which clients take from the connection.
      ...{ server, target: server.database, issuer: provider.issuer, durability: "group" },
      caller: { email, token: await provider.mint("drivers", { client: tokenAudience }) },
      bundle: join(import.meta.dir, "allow-all/bundle.tar.gz"),
    });
    try {
      return await suite.run(place, libpqEnvironment(gateway.endpoint), log);
    } finally {
      await gateway.stop();
    }
  } finally {
    await provider.stop();
    await server.stop();
  }
}
