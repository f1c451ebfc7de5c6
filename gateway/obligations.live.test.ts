/**
 * What policy obliges commands to, on the whole gateway with the default policies and a real PostgreSQL: rows behind a
 * limit do not reach the client, a rate holds over all sessions, and the target itself times out and refuses writes,
 * whatever a caller does to its settings.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { join, resolve } from "node:path";
import postgres from "postgres";
import { type RunningGateway, startGateway } from "../scripts/bench/postgres-processes.ts";
import { type DemoTarget, startDemoTarget } from "../scripts/demo/demo-target.ts";
import { bind, connectWire, execute, parse, query, sync } from "../scripts/postgres/wire-client.ts";
import { openStore } from "./cli/store-source.ts";
import type { RecordedEvent } from "./recording/events.ts";

const root = resolve(import.meta.dir, "..");
const users = ["limited", "timed", "reader", "rated", "free"] as const;
type User = (typeof users)[number];
let target: DemoTarget;
let direct: postgres.Sql;
let tokens: DemoTarget["tokens"];
let gateway: RunningGateway;

beforeAll(async () => {
  target = await startDemoTarget(users.map((id) => ({ id, email: `${id}@example.com`, groups: ["dba"] })));
  ({ direct, tokens } = target);
  await direct.unsafe(`
    create function lift() returns text language sql volatile as
      $$ select set_config('statement_timeout', '0', false) || set_config('default_transaction_read_only', 'off', false) $$;
    create function writes(n int) returns int language sql volatile as
      $$ insert into orders values (n, 1, 'x', 1, 'new', now()) returning id $$;
    create table big as select n from generate_series(1, 100000) n;
    create table notes (note text)`);
  const on = (user: User) => ({ for: { identities: [`${user}@example.com`] } });
  gateway = await startGateway({
    ...{ server: target.server, issuer: target.issuer, target: "demo", durability: "group" },
    bundle: join(root, "policies/dist/bundle.tar.gz"),
    caller: { email: "free@example.com", token: tokens.free ?? "" },
    data: {
      functions: { allow: ["public.*"] },
      dangerous: { functions: [], features: [], settings_allowed: ["*"] },
      rules: {
        limit: { ...on("limited"), on: { classes: ["read", "write", "utility"] }, limit: 10 },
        timeout: { ...on("timed"), on: { classes: ["read", "write", "utility", "ddl"] }, timeout: "400ms" },
        reader: { ...on("reader"), on: { classes: ["read", "write", "utility", "ddl"] }, read_only: true },
        rate: { ...on("rated"), on: { classes: ["read"] }, rate: { commands: 5, per: "1h" } },
      },
    },
  });
}, 60_000);

afterAll(async () => {
  await gateway?.stop();
  await target?.stop();
});

function as(user: User, options: Record<string, unknown> = {}) {
  return postgres({
    ...{ host: "127.0.0.1", port: gateway.endpoint.port, database: "demo" },
    ...{ username: `${user}@example.com`, password: tokens[user] ?? "" },
    ...{ max: 1, fetch_types: false, onnotice: () => undefined },
    ...options,
  });
}

const wire = (user: User) =>
  connectWire({ ...gateway.endpoint, user: `${user}@example.com`, password: tokens[user] ?? "" });

/** Answers without what every one of its kind has; rows in a row counted. */
function brief(answers: readonly string[]): string[] {
  const kept: string[] = [];
  let rows = 0;
  for (const answer of answers) {
    if (answer === "DataRow" || answer === "CopyData") {
      rows += 1;
      continue;
    }
    if (rows > 0) kept.push(`${rows} rows`);
    rows = 0;
    if (!/^(?:RowDescription|ParseComplete|BindComplete|ReadyForQuery|ParameterStatus)$/.test(answer))
      kept.push(answer);
  }
  return kept;
}

const cut = ["10 rows", "NoticeResponse", "SELECT 10"];

test("a result is cut behind the limit, with a notice, in every way to run a query", async () => {
  const ours = await wire("limited");
  const all = "select id from orders";
  expect(brief(await ours.exchange(query(all)))).toEqual(cut);
  expect(brief(await ours.exchange(parse(all), bind(), execute(), sync))).toEqual(cut);
  expect(brief(await ours.exchange(parse(all), bind(), execute("", 4), execute("", 4), execute("", 4), sync))).toEqual([
    ...["4 rows", "PortalSuspended", "4 rows", "PortalSuspended", "2 rows", "NoticeResponse", "SELECT 2"],
  ]);
  expect(brief(await ours.exchange(query("prepare p as select id from orders; execute p")))).toEqual([
    ...["PREPARE", ...cut],
  ]);
  await ours.exchange(query("begin; declare c cursor for select id from orders"));
  expect(brief(await ours.exchange(query("fetch 15 from c")))).toEqual(["10 rows", "NoticeResponse", "FETCH 10"]);
  expect(brief(await ours.exchange(query("commit")))).toEqual(["COMMIT"]);
  expect(brief(await ours.exchange(query("select 1 from orders limit 6; select 2 from orders limit 6")))).toEqual([
    ...["6 rows", "SELECT 6", "4 rows", "NoticeResponse", "SELECT 4"],
  ]);
  ours.end();
});

test("a result within the limit is whole, and says nothing of it", async () => {
  const ours = await wire("limited");
  for (const count of [0, 1, 10]) {
    expect(brief(await ours.exchange(query(`select id from orders limit ${count}`)))).toEqual([
      ...(count > 0 ? [`${count} rows`] : []),
      `SELECT ${count}`,
    ]);
  }
  ours.end();
});

test("COPY is cut too, in text, with a header and in the binary format, and stays readable", async () => {
  const ours = await wire("limited");
  const answers = ["CopyOutResponse", "10 rows", "CopyDone", "NoticeResponse", "COPY 10"];
  expect(brief(await ours.exchange(query("copy (select id from orders) to stdout")))).toEqual(answers);
  const headed = answers.with(1, "11 rows");
  expect(brief(await ours.exchange(query("copy orders (id) to stdout with (format csv, header)")))).toEqual(headed);
  // Its trailer is a message of its own.
  expect(brief(await ours.exchange(query("copy orders (id) to stdout (format binary)")))).toEqual(headed);
  expect(brief(await ours.exchange(query("copy big (n) to stdout (format binary)")))).toEqual(headed);
  expect(brief(await ours.exchange(query("select 1")))).toEqual(["1 rows", "SELECT 1"]);
  ours.end();
});

test("what a write returns is cut, and what it did is not", async () => {
  const ours = await wire("limited");
  const returning = "insert into notes select n::text from generate_series(1, 30) n returning note";
  expect(brief(await ours.exchange(query(returning)))).toEqual(["10 rows", "NoticeResponse", "INSERT 0 30"]);
  expect(await direct`select count(*)::int as n from notes`).toEqual([{ n: 30 }] as never);
  ours.end();
});

test("the target is told to stop what only reads, and nothing behind it is hit", async () => {
  const ours = await wire("limited");
  // Ten thousand million rows: only a target that stops ever answers.
  const endless = "select one.n from big one, big two";
  for (let round = 0; round < 5; round++) {
    expect(brief(await ours.exchange(query(endless)))).toEqual(cut);
    expect(brief(await ours.exchange(parse(endless), bind(), execute(), sync))).toEqual(cut);
    expect(brief(await ours.exchange(query(`copy (${endless}) to stdout (format binary)`)))).toEqual([
      ...["CopyOutResponse", "11 rows", "CopyDone", "NoticeResponse", "COPY 10"],
    ]);
    // Where others are in flight already it is not asked to.
    expect(brief(await ours.exchange(query("select n from big"), query("select 7"), query("select 8")))).toEqual([
      ...[...cut, "1 rows", "SELECT 1", "1 rows", "SELECT 1"],
    ]);
  }
  ours.end();
}, 20_000);

test("in a transaction the rest is passed over, and the transaction goes on", async () => {
  const sql = as("limited");
  const notes = await sql.begin(async (tx) => {
    expect((await tx`select n from big`).length).toBe(10);
    await tx`insert into notes values ('kept')`;
    return tx`select note from notes where note = 'kept'`;
  });
  expect(notes.length).toBe(1);
  await sql.end();
});

test("the recording has the rows that the client got, and says that there were more", async () => {
  const ours = await wire("limited");
  await ours.exchange(query("select id as recorded from orders"));
  ours.end();
  const events = await recorded("recorded");
  expect(events.flatMap((event) => (event.type === "rows" ? event.rows : [])).length).toBe(10);
  const [result] = events.filter((event) => event.type === "result");
  expect(result).toMatchObject({ tag: "SELECT 10", rows: 10 });
  const [notice] = events.filter((event) => event.type === "notice");
  expect(notice?.fields.M).toBe("the result was cut after 10 rows by policy: rules.limit");
  const [intent] = events.filter((event) => event.type === "intent");
  expect(intent?.obligations).toEqual({ limit: { rows: 10, rule: "rules.limit" } });
});

test("behind a ROLLBACK in the batch of a failed transaction the rest is obliged too", async () => {
  const ours = await wire("reader");
  await ours.exchange(query("begin"), query("select 1 / 0"));
  const write = [parse("insert into notes values ('behind')"), bind(), execute()];
  const answers = await ours.exchange(parse("rollback"), bind(), execute(), ...write, sync);
  expect(answers).toContain("ROLLBACK");
  expect(answers).toContain("ERROR 25006");
  ours.end();
});

test("a rate holds over all sessions of an identity, and says when to come again", async () => {
  const [one, two] = [as("rated"), as("rated")];
  for (let index = 0; index < 3; index++) await one`select 1`;
  for (let index = 0; index < 2; index++) await two`select 2`;
  for (const sql of [one, two, as("rated")]) {
    const fault = await sql`select 3 as refused`.catch((error: postgres.PostgresError) => error);
    expect(fault).toMatchObject({
      ...{ code: "53400", message: "too many commands: rules.rate" },
      detail: 'rules.rate: at most 5 commands in 1 h on "demo"',
    });
    expect(String("hint" in fault && fault.hint)).toMatch(/^Run it again in (?:1 h|\d+ (?:s|min))\.$/);
    // What the rule does not bound still runs.
    await sql`show timezone`;
    await sql.end();
  }
  const events = await recorded("refused");
  expect(events.find((event) => event.type === "intent")).toMatchObject({ verdict: "allow", forwarded: false });
  expect(events.find((event) => event.type === "outcome")).toMatchObject({
    ...{ status: "denied", refused: { id: "rules.rate" } },
  });
});

/** What the last of some commands is answered with, by query messages, then as one batch on another connection. */
async function lastAnswers(user: User, before: readonly string[], last: string) {
  const ours = await wire(user);
  for (const text of before) await ours.exchange(query(text));
  const simple = brief(await ours.exchange(query(last)));
  ours.end();
  const other = await wire(user);
  const steps = before.flatMap((text) => [parse(text), bind(), execute()]);
  // Nothing of it is read in between; what changes names must not be followed in one.
  const batch = brief(await other.exchange(...steps, parse(last), bind(), execute(), sync)).at(-1);
  other.end();
  return { simple, batch };
}

const slow = "select pg_sleep(3)";

test.each([
  ["at once", []],
  ["after SET", ["set statement_timeout = 0"]],
  ["after SET to something longer", ["set statement_timeout = '1h'"]],
  ["after SET LOCAL", ["begin", "set local statement_timeout = 0"]],
  ["after set_config", ["select set_config('statement_timeout', '0', false)"]],
  ["after a function that sets it", ["select lift()"]],
  ["after RESET ALL", ["reset all"]],
  ["after DISCARD ALL", ["discard all"]],
  ["after DO", ["do $$ begin perform set_config('statement_timeout', '0', false); end $$"]],
  ["after a transaction that was rolled back", ["begin", "select 1", "rollback"]],
  ["after a rollback to a savepoint", ["begin", "savepoint a", "select 1", "rollback to a"]],
  ["after an error", ["select 1 / 0"]],
])(
  "a statement is timed out by the target %s",
  async (_, before) => {
    const { simple, batch } = await lastAnswers("timed", before, slow);
    expect(simple).toEqual(["ERROR 57014"]);
    expect(batch).toMatch(/^(?:ERROR (?:57014|22012|42501)|FATAL 0A000)$/);
  },
  20_000,
);

test("a statement is timed out by the target after a batch whose error took the setting back", async () => {
  const ours = await wire("timed");
  const run = (text: string) => [parse(text), bind(), execute()];
  // What obliges comes in the middle of the batch's one transaction.
  const batch = [...run("show timezone"), ...run("select 1"), ...run("select 1 / 0"), sync];
  expect(brief(await ours.exchange(...batch)).at(-1)).toBe("ERROR 22012");
  expect(brief(await ours.exchange(query(slow)))).toEqual(["ERROR 57014"]);
  ours.end();
}, 20_000);

test("a caller's own stricter timeout stays, and its own comes back where nothing obliges", async () => {
  const ours = await wire("timed");
  await ours.exchange(query("set statement_timeout = '50ms'"));
  const started = performance.now();
  expect(brief(await ours.exchange(query(slow)))).toEqual(["ERROR 57014"]);
  expect(performance.now() - started).toBeLessThan(380);
  ours.end();
  const sql = as("timed");
  await sql`set statement_timeout = '77s'`;
  await sql`select 1`;
  // SHOW is of no class that the rule is on.
  expect(await sql`show statement_timeout`).toMatchObject([{ statement_timeout: "77s" }]);
  await sql`select 1`;
  expect(await sql`show statement_timeout`).toMatchObject([{ statement_timeout: "77s" }]);
  await sql.end();
});

const write = "select writes(900001)";

test.each([
  ["at once", []],
  ["after SET", ["set default_transaction_read_only = off"]],
  ["in a read-write transaction", ["begin read write"]],
  ["after SET TRANSACTION", ["begin", "set transaction read write"]],
  ["after SET LOCAL", ["begin", "set local transaction_read_only = off"]],
  ["after SET SESSION CHARACTERISTICS", ["set session characteristics as transaction read write"]],
  ["after a function that sets it", ["select lift()"]],
  ["after DISCARD ALL", ["discard all"]],
  ["after RESET", ["reset default_transaction_read_only"]],
  ["after a rollback to a savepoint", ["begin", "savepoint a", "select 1", "rollback to a"]],
])("a read-only obligation is the target's to keep %s", async (_, before) => {
  const { simple, batch } = await lastAnswers("reader", before, write);
  expect(simple).toEqual(["ERROR 25006"]);
  expect(batch).toMatch(/^(?:ERROR (?:25006|25001)|FATAL 0A000)$/);
  expect(await direct`select id from orders where id = 900001`).toEqual([] as never);
});

test.each([
  "set default_transaction_read_only = off; select writes(900001)",
  "begin read write; select writes(900001); commit",
  "begin; set transaction read write; select writes(900001); commit",
  "rollback; select writes(900001)",
  "select lift(); select 1",
  "discard all; select 1",
  "do $$ begin end $$; select 1",
  "prepare l as select lift(); execute l; select 1",
])("%s is refused: it could lift what it is obliged to", async (text) => {
  const ours = await wire("reader");
  // The default policies refuse some of them for themselves.
  expect(brief(await ours.exchange(query(text))).join()).toMatch(/^ERROR (?:0A000|42501)$/);
  expect(brief(await ours.exchange(query("begin; select 1; commit")))).toEqual([
    ...["BEGIN", "1 rows", "SELECT 1", "COMMIT"],
  ]);
  ours.end();
  expect(await direct`select id from orders where id = 900001`).toEqual([] as never);
});

test("a caller whom nothing obliges is left alone", async () => {
  const ours = await wire("free");
  expect(brief(await ours.exchange(query("set statement_timeout = '9s'; show statement_timeout")))).toEqual([
    ...["SET", "1 rows", "SHOW"],
  ]);
  expect(brief(await ours.exchange(query("select id from orders limit 50")))).toEqual(["50 rows", "SELECT 50"]);
  ours.end();
});

/** Events of the one session that ran a text with this word in it, once they are committed. */
async function recorded(word: string): Promise<RecordedEvent[]> {
  const store = await openStore({ store: gateway.storeUrl, environment: {} });
  await using _ = { [Symbol.asyncDispose]: () => store.close() };
  for (let tries = 0; tries < 200; tries++) {
    for (const { id } of (await store.list({ limit: 1_000 })).sessions) {
      const events = (await Array.fromAsync(store.lines(id))).map((line) => JSON.parse(line) as RecordedEvent);
      const ran = events.find((event) => event.type === "intent" && event.text.includes(` ${word}`));
      if (ran?.type !== "intent") continue;
      const own = events.filter((event) => "command" in event && event.command === ran.command);
      if (own.some(({ type }) => type === "outcome")) return own;
    }
    await Bun.sleep(25);
  }
  throw new Error(`no session with ${word}`);
}

test("a simple query behind a batch without its Sync is refused where it has to be limited, and the batch is taken back", async () => {
  const ours = await wire("timed");
  const insert = [parse("insert into notes values ('unsynced')"), bind(), execute()];
  expect(brief(await ours.exchange(...insert, query("select 1/count(*) from notes where note is null")))).toEqual([
    ...["INSERT 0 1", "ERROR 0A000"],
  ]);
  ours.end();
  expect(await direct`select from notes where note = 'unsynced'`).toHaveLength(0);
});

test("a query whose client left while its limits were being set has its outcome", async () => {
  for (let n = 0; n < 40; n++) {
    const ours = await wire("timed");
    ours.send(query("select 1"), query(`select 'left' as left${n}_it from notes`));
    await Bun.sleep((n % 12) / 3 + 0.5);
    ours.destroy();
  }
  const store = await openStore({ store: gateway.storeUrl, environment: {} });
  await using _ = { [Symbol.asyncDispose]: () => store.close() };
  const sessions = async () => (await store.list({ limit: 1_000 })).sessions;
  for (let open = true; open; await Bun.sleep(25)) open = (await sessions()).some(({ closedAt }) => closedAt === null);
  for (const { id } of await sessions()) {
    const events = (await Array.fromAsync(store.lines(id))).map((line) => JSON.parse(line) as RecordedEvent);
    const intents = events.flatMap((event) =>
      event.type === "intent" && event.text.includes("_it from notes") ? [event.command] : [],
    );
    const ended = events.flatMap((event) => (event.type === "outcome" ? [event.command] : []));
    for (const command of intents) expect(ended).toContain(command);
  }
});
