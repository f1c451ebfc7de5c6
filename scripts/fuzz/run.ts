/**
 * `bun run fuzz [--seconds 60] [--seed n] [--mask]`: the same random messages to one PostgreSQL directly and to another
 * through the gateway, under a policy that allows everything. What either answers must be the same, message by message.
 * With `--mask` it is the default policy, a column that is labelled, and nothing that comes through may show a value of
 * it. What is found is shown with its seed and the shortest sequence that still has it; the exit code is 1.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import postgres from "postgres";
import type { BackendMessage } from "../../gateway/postgres/messages.ts";
import { firstUsersOid } from "../../gateway/postgres/sql/catalog.ts";
import { type Endpoint, startGateway, tokenAudience } from "../bench/postgres-processes.ts";
import { startIdentityProvider } from "../demo/identity-provider.ts";
import { defaultBundle } from "../policy/build.ts";
import { type RunningPostgres, startPostgres } from "../postgres/server.ts";
import { connectWire } from "../postgres/wire-client.ts";
import { type Exchange, exchangeOf, randomOf, setUp } from "./messages.ts";

const { values: flags } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    seed: { type: "string" },
    mask: { type: "boolean", default: false },
  },
});
const exchangesMax = 12;
const answerMsMax = 10_000;
const email = "fuzz@example.com";

/** What the documents say is different, so that it says nothing here. */
const documented: readonly { readonly reason: string; readonly is: (direct: string, through: string) => boolean }[] = [
  {
    reason: "what the gateway cannot keep account of is refused (SECURITY.md, ARCHITECTURE.md)",
    is: (_, through) => /^ErrorResponse 0A000 /.test(through),
  },
  {
    reason: "a query or Bind that failed leaves its portal in an aborted transaction; the gateway knows of none",
    is: (direct, through) =>
      through.includes('34000 ERROR portal "" does not exist') ||
      (/^(EmptyQueryResponse|ErrorResponse 25P02)/.test(direct) &&
        /34000 ERROR portal ".*" does not exist/.test(through)),
  },
];

/** Of a type that was made here, whose number depends on how often it was set up: a lock may have it done again. */
function typeNamed(field: { readonly typeOid: number }): object {
  return field.typeOid < firstUsersOid ? field : { ...field, typeOid: "made here" };
}

function tell(message: BackendMessage): string {
  switch (message.type) {
    case "ErrorResponse":
    case "NoticeResponse": {
      const { V, C, M, P = "" } = message.fields;
      return `${message.type} ${C} ${V} ${M} ${P}`;
    }
    case "DataRow":
      return `DataRow ${message.fields.map((field) => field?.toString("hex") ?? "null").join(" ")}`;
    case "RowDescription":
      return `RowDescription ${JSON.stringify(message.fields.map(({ tableOid: _, ...field }) => typeNamed(field)))}`;
    case "CopyData":
      return `CopyData ${message.data.toString("hex")}`;
    case "NotificationResponse":
      return "NotificationResponse";
    default:
      return `${message.type} ${JSON.stringify(message)}`;
  }
}

interface Side {
  readonly admin: postgres.Sql;
  readonly endpoint: Endpoint;
}

/** The session before may still be ending, and hold locks. */
async function setUpAnew(admin: postgres.Sql, statements: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await admin.unsafe(statements).simple();
      return;
    } catch (error) {
      if (tries === 10) throw error;
      await Bun.sleep(50 * tries);
    }
  }
}

/** What one side answers to each exchange, on a connection that begins anew. @param more SQL to set up with */
async function answersOf({ admin, endpoint }: Side, exchanges: readonly Exchange[], more = ""): Promise<string[][]> {
  await setUpAnew(admin, `${setUp} ${more}`);
  const client = await connectWire({
    ...endpoint,
    parameters: { search_path: "fuzz", application_name: "fuzz" },
    tell,
  });
  try {
    const answers: string[][] = [];
    for (const exchange of exchanges) {
      const answer = await Promise.race([client.exchange(...exchange), Bun.sleep(answerMsMax)]);
      answers.push(answer ?? ["no answer in time"]);
      if (answer === undefined) break;
    }
    return answers;
  } finally {
    client.destroy();
  }
}

interface Difference {
  readonly direct: string;
  readonly through: string;
}

function differenceOf(
  direct: readonly string[][],
  through: readonly string[][],
): Difference | "documented" | undefined {
  for (const [exchange, expected] of direct.entries()) {
    const got = through[exchange] ?? [];
    for (let at = 0; at < Math.max(expected.length, got.length); at++) {
      const [one = "nothing", other = "nothing"] = [expected[at], got[at]];
      if (one === other) continue;
      if (documented.some(({ is }) => is(one, other))) return "documented";
      return { direct: one, through: other };
    }
  }
  return undefined;
}

/** What is in every value of the labelled column, as text and as `tell` tells bytes. */
const marker = "marker";
const shows = (answer: string) =>
  [marker, marker.toUpperCase()].some(
    (one) => answer.includes(one) || answer.includes(Buffer.from(one).toString("hex")),
  );

async function leakOf(side: Side, exchanges: readonly Exchange[]): Promise<Difference | undefined> {
  const answers = await answersOf(side, exchanges, `update fuzz.t set a = '${marker}' || id`);
  const through = answers.flat().find(shows);
  return through === undefined ? undefined : { direct: "a value that is masked", through };
}

async function compare(sides: readonly [Side, Side], exchanges: readonly Exchange[]) {
  if (flags.mask) return leakOf(sides[1], exchanges);
  const [direct, through] = await Promise.all(sides.map((side) => answersOf(side, exchanges)));
  return differenceOf(direct ?? [], through ?? []);
}

/** Without them a server waits for more. */
const needed: readonly string[] = ["Sync", "Query", "CopyDone", "CopyFail"];

/** Leaves out exchanges, then messages, for as long as a difference stays. */
async function shortest(sides: readonly [Side, Side], exchanges: readonly Exchange[]): Promise<readonly Exchange[]> {
  const differs = async (one: readonly Exchange[]) => typeof (await compare(sides, one)) === "object";
  let kept = exchanges;
  for (let at = kept.length - 1; at >= 0; at--) {
    const without = kept.toSpliced(at, 1);
    if (await differs(without)) kept = without;
  }
  for (let at = kept.length - 1; at >= 0; at--) {
    for (let message = (kept[at]?.length ?? 0) - 1; message >= 0; message--) {
      const exchange = kept[at] ?? [];
      if (needed.includes(exchange[message]?.type ?? "")) continue;
      const without = kept.with(at, exchange.toSpliced(message, 1));
      if (await differs(without)) kept = without;
    }
  }
  return kept;
}

const maskedData = (target: string) => ({
  targets: { [target]: { access: { fuzz: ["read", "write", "ddl"] }, labels: { "fuzz.t.a": ["secret"] } } },
  labels: { secret: { mask: "redact", show_to: [] } },
});

const connect = ({ host, port, user: username, password, database }: RunningPostgres) =>
  postgres({ host, port, username, password, database, max: 1, onnotice: () => undefined });

const servers = [await startPostgres(), await startPostgres()] as const;
const provider = await startIdentityProvider({ users: [{ id: "fuzz", email, groups: ["fuzz"] }] });
const gateway = await startGateway({
  ...{ server: servers[1], target: servers[1].database, issuer: provider.issuer, durability: "group" },
  caller: { email, token: await provider.mint("fuzz", { client: tokenAudience }) },
  ...(flags.mask
    ? { bundle: defaultBundle, data: maskedData(servers[1].database) }
    : { bundle: join(import.meta.dir, "../drivers/allow-all/bundle.tar.gz") }),
});
const sides = [
  { admin: connect(servers[0]), endpoint: servers[0] },
  { admin: connect(servers[1]), endpoint: gateway.endpoint },
] as const;

let failed = false;
try {
  const until = performance.now() + Number(flags.seconds) * 1_000;
  const counts = { sequences: 0, documented: 0 };
  for (let seed = Number(flags.seed ?? Date.now() % 1_000_000_000); performance.now() < until && !failed; seed++) {
    const random = randomOf(seed);
    const exchanges = Array.from({ length: 1 + Math.floor(random() * exchangesMax) }, () => exchangeOf(random));
    const found = await compare(sides, exchanges);
    counts.sequences += 1;
    if (found === "documented") counts.documented += 1;
    else if (found !== undefined) {
      failed = true;
      const short = await shortest(sides, exchanges);
      const still = await compare(sides, short);
      console.log(`a difference, --seed ${seed}:\n${short.map((one) => `  ${JSON.stringify(one)}`).join("\n")}`);
      const { direct, through } = typeof still === "object" ? still : found;
      console.log(`  direct   ${direct}\n  through  ${through}`);
    }
    if (flags.seed !== undefined) break;
  }
  console.log(`${counts.sequences} sequences, ${counts.documented} of them ended in a difference that is documented`);
} finally {
  for (const { admin } of sides) await admin.end();
  await gateway.stop();
  await provider.stop();
  for (const server of servers) await server.stop();
}
process.exit(failed ? 1 : 0);
