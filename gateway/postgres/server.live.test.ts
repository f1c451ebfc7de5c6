/**
 * The server between real clients (psql, the postgres driver) and a real PostgreSQL, with a real identity provider.
 * Two layers have stand-ins here: the analyser knows the texts of this file only, and the recording is a list.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import postgres from "postgres";
import { startIdentityProvider } from "../../scripts/demo/identity-provider.ts";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { hasPsql } from "../../scripts/postgres/installed.ts";
import { runPsql } from "../../scripts/postgres/psql.ts";
import { type RunningPostgres, startPostgres } from "../../scripts/postgres/server.ts";
import { startServerUnderTest } from "../../scripts/postgres/server-under-test.ts";
import { bind, connectWire, execute, parse, query, sync } from "../../scripts/postgres/wire-client.ts";
import type { Decision } from "../policy/decision.ts";
import type { CommandAnalysis } from "../policy/input.ts";
import type { RecordedEvent } from "../recording/events.ts";
import type { SessionDependencies } from "../session/dependencies.ts";
import type { AnalysedCommand, SessionAnalyser } from "./analysed.ts";
import type { FrontendMessage } from "./messages.ts";
import type { PostgresServer } from "./server.ts";

let target: RunningPostgres;
let provider: Awaited<ReturnType<typeof startIdentityProvider>>;
let server: PostgresServer;
let port: number;
let token: string;
let people: { oid: number };
const events: RecordedEvent[] = [];
let commits = 0;
/** What does not answer until the test says so. */
const slow: { store?: Promise<void>; disk?: Promise<void>; names?: Promise<void> } = {};
const approvals = new Map<string, { state: string; digest: string }>();

/** Reads the verdict out of the text: what these tests are about is the wire, not the policy. */
function decide(analysis: CommandAnalysis): Decision {
  const base = { rules: [{ id: "test.rule", message: "as the text says" }], masks: [], diagnostics: "full" as const };
  const text = analysis.incomplete[0] ?? "";
  if (text.includes("denied")) return { ...base, verdict: "deny" };
  if (text.includes("held")) return { ...base, verdict: "approve", approval: { from: ["dba"], count: 1, ttl: "10s" } };
  if (text.includes("masked")) {
    return {
      ...base,
      verdict: "mask",
      diagnostics: "canonical",
      masks: [{ column: "public.people.ssn", with: "redact" }],
    };
  }
  if (text.includes("timed")) {
    return { ...base, verdict: "allow", obligations: { timeout: { rule: "test.rule", ms: 5_000 } } };
  }
  return { ...base, verdict: "allow" };
}

function analyse(text: string): AnalysedCommand {
  const command: CommandAnalysis = {
    kind: "sql",
    fingerprint: text,
    complete: true,
    incomplete: [text],
    statements: [],
  };
  const masked = text.includes("masked");
  const outputColumns = masked
    ? [
        { oid: people.oid, attnum: 2, column: "public.people.name" },
        { oid: people.oid, attnum: 3, column: "public.people.ssn" },
      ]
    : null;
  const copy = /^copy .* from stdin/i.test(text) ? { copy: { direction: "in" as const } } : {};
  return {
    command,
    plain: false,
    nameless: false,
    statements: [{ outputColumns, changesCatalog: false, changesSession: false, ...copy }],
  };
}

const analyser: SessionAnalyser = {
  context: {},
  analyse,
  labelsOf: (oid, attnum) => (oid === people.oid && attnum === 3 ? ["secret"] : undefined),
  isDerived: () => false,
  changed: false,
  get stale() {
    return slow.names !== undefined;
  },
  labelsOutdated: false,
  labels: new Map(),
  redefinitions: 0,
  isRedefined: () => false,
  noteForwarded: () => undefined,
  noteSettled: () => undefined,
  invalidate: () => undefined,
  refresh: async (ask) => {
    await ask("select 'names'");
    await slow.names;
    delete slow.names;
  },
  relabel: async () => undefined,
};

beforeAll(async () => {
  target = await startPostgres({ settings: { log_statement: "all" } });
  const direct = postgres({
    host: target.host,
    port: target.port,
    username: target.user,
    password: target.password,
    database: target.database,
  });
  await direct`create table people (id int, name text, ssn text)`;
  await direct`insert into people values (1, 'Ann', '123-45-6789'), (2, 'Bob', null)`;
  people = (await direct<{ oid: number }[]>`select 'people'::regclass::oid::int as oid`)[0] ?? { oid: 0 };
  await direct.end();
  provider = await startIdentityProvider({ users: [{ id: "ann", email: "ann@example.com", groups: ["analysts"] }] });
  token = await provider.mint("ann");
  const store: SessionDependencies["store"] = {
    fingerprintSeen: async () => {
      await slow.store;
      return true;
    },
    recordFingerprint: () => undefined,
    createApproval: async (row) => approvals.set(row.id, { state: "pending", digest: row.digest }),
    getApproval: async (id) => ({ state: approvals.get(id)?.state ?? "", decisions: [] }),
    consumeApproval: async (use) => {
      const row = approvals.get(use.id);
      if (row?.state !== "approved" || row.digest !== use.digest) return false;
      row.state = "used";
      return true;
    },
    expireApproval: async (id, state) => void approvals.set(id, { state, digest: "" }),
  };
  const policy = {
    revision: { digest: "sha256:test" },
    labelsOf: () => new Map<string, string[]>(),
    judgeSession: () => ({ verdict: "allow" as const, rules: [], masks: [], diagnostics: "full" as const }),
    forSession: () => ({ judge: (analysis: CommandAnalysis) => ({ decision: decide(analysis) }) }),
  };
  const recording: SessionDependencies["recording"] = {
    session: (opened) => {
      events.push(opened);
      return {
        append: (event) => void events.push(event),
        committed: () => (slow.disk ?? Bun.sleep(1)).then(() => void commits++),
        close: async (event) => void events.push(event),
      };
    },
  };
  ({ server, port } = await startServerUnderTest({
    target,
    configuration: {
      identity: { issuers: [{ issuer: provider.issuer, audience: ["sallyport-cli", "agent-reporter"] }] },
    },
    ...{ policy, recording, store, analyser },
  }));
}, 60_000);

afterAll(async () => {
  await server.drain(0);
  await provider.stop();
  await target.stop();
});

function client(options: Record<string, unknown> = {}) {
  return postgres({
    host: "127.0.0.1",
    port,
    username: "ann@example.com",
    password: token,
    database: "app",
    max: 1,
    onnotice: () => undefined,
    ...options,
  });
}

/** The events since the latest session began. */
function lastSession(): RecordedEvent[] {
  return events.slice(events.findLastIndex(({ type }) => type === "session.opened"));
}
const outcomesOf = (of: readonly RecordedEvent[]) =>
  of.flatMap((event) => (event.type === "outcome" ? [event.status] : []));

/** A whole that only psql can be seen to work with. */
const withPsql = test.skipIf(!hasPsql);

const psql = (input: string, password = token, user = "ann@example.com") =>
  runPsql(`host=127.0.0.1 port=${port} dbname=app user=${user} sslmode=disable`, password, input);

withPsql("psql runs queries, describes tables, copies both ways and sees errors as PostgreSQL words them", async () => {
  const { out, err } = await psql(
    "select 40 + 2 as answer;\n\\d people\nbegin;\ncreate temp table t (x int);\n\\copy t from stdin\n7\n8\n\\.\ncopy t to stdout;\nselect sum(x) from t;\nrollback;\nselect nosuch;\n",
  );
  expect(out).toContain("42");
  expect(out).toContain('Table "public.people"');
  expect(out).toContain("7\n8\n");
  expect(out).toContain(" 15");
  expect(err).toContain("42703");
});

withPsql("a wrong token and another user's name are refused without saying more", async () => {
  expect((await psql("select 1;", `${token.slice(0, -6)}AAAAAA`)).err).toContain("FATAL");
  expect((await psql("select 1;", token, "eve@example.com")).err).toContain("FATAL");
});

withPsql("a denial is 42501, the connection lives on, and a transaction block fails as by any error", async () => {
  const { out, err } = await psql("begin;\nselect 1;\nselect 'denied';\nselect 2;\ncommit;\nselect 3 as alive;\n");
  expect(err).toContain("42501");
  expect(err).toContain("test.rule");
  expect(err).toContain("25P02");
  expect(out).toContain("ROLLBACK");
  expect(out).toContain("alive");
});

withPsql("a masked column is masked in simple, extended and binary reads, and so recorded", async () => {
  const { out } = await psql("select name, ssn from people /* masked */ order by id;\n");
  expect(out).toContain("Ann");
  expect(out).not.toContain("123-45");
  const sql = client();
  const rows = await sql.unsafe("select name, ssn from people /* masked */ where id > $1 order by id", [0]);
  expect(rows.map((row) => row.name)).toEqual(["Ann", "Bob"]);
  expect(rows[0]?.ssn).not.toContain("123");
  expect(rows[1]?.ssn).toBeNull();
  await sql.end();
  expect(JSON.stringify(events)).not.toContain("123-45-6789");
});

withPsql("a labelled column that was not foreseen ends the session before a row of it", async () => {
  const { out, err } = await psql("select ssn, name from people /* masked */;\n");
  expect(out).not.toContain("123-45");
  expect(err).toContain("does not match what was judged");
});

test("a held command runs once it is approved, and can be cancelled while it waits", async () => {
  const sql = client();
  const running = sql.unsafe("select 'held' as word").execute();
  while (![...approvals.values()].some((row) => row.state === "pending")) await Bun.sleep(10);
  for (const row of approvals.values()) if (row.state === "pending") row.state = "approved";
  expect((await running)[0]?.word).toBe("held");
  const cancelled = sql.unsafe("select 'held' as again").execute();
  while (![...approvals.values()].some((row) => row.state === "pending")) await Bun.sleep(10);
  cancelled.cancel();
  expect(await cancelled.catch((error: { code: string }) => error.code)).toBe("57014");
  expect((await sql.unsafe("select 1 as one"))[0]?.one).toBe(1);
  await sql.end();
});

test("a cancel is for what runs before a held command, and only then for that", async () => {
  const wire = await connectWire({ port, user: "ann@example.com", password: token, database: "app" });
  wire.send(query("select pg_sleep(20)"), query("select 'held' as behind"));
  const pending = () => [...approvals.values()].filter((row) => row.state === "pending");
  while (pending().length === 0) await Bun.sleep(10);
  await wire.cancel();
  expect(await wire.until("ReadyForQuery")).toContain("ERROR 57014");
  expect(pending()).toHaveLength(1);
  await wire.cancel();
  expect(await wire.until("ReadyForQuery")).toContain("ERROR 57014");
  expect(pending()).toEqual([]);
  wire.end();
});

test.each<[string, FrontendMessage[]]>([
  ["in silence", []],
  ["with Terminate", [{ type: "Terminate" }]],
  ["with more to say", [query("select 1"), query("select 2"), { type: "Terminate" }]],
])("a held command is given up when its client leaves %s", async (_, last) => {
  const wire = await connectWire({ port, user: "ann@example.com", password: token, database: "app" });
  wire.send(query("select 'held' as gone"));
  const pending = () => [...approvals.values()].filter((row) => row.state === "pending");
  while (pending().length === 0) await Bun.sleep(10);
  if (last.length > 0) wire.send(...last);
  wire.end();
  while (pending().length > 0) await Bun.sleep(10);
});

test("a command that waited while its batch failed is passed over, and its client may leave", async () => {
  const wire = await connectWire({ port, user: "ann@example.com", password: token, database: "app" });
  wire.send(parse("select 1/0"), bind(), execute(), parse("select 'held' as late", "n"), bind("n"), execute());
  const pending = () => [...approvals.values()].filter((row) => row.state === "pending");
  while (pending().length === 0) await Bun.sleep(10);
  await wire.until("ERROR 22012");
  for (const row of pending()) row.state = "approved";
  while (outcomesOf(lastSession()).length < 2) await Bun.sleep(10);
  wire.end();
  while (server.sessions > 0) await Bun.sleep(10);
  expect(outcomesOf(lastSession())).toEqual(["error", "skipped"]);
});

test("a portal that runs already is not judged anew, whatever time went by", async () => {
  using _ = loweredLimits({ portalJudgementMsMax: 0 });
  const wire = await connectWire({ port, user: "ann@example.com", password: token, database: "app" });
  wire.send(parse("select pg_sleep(0.3)"), bind("", "p"));
  await Bun.sleep(20);
  wire.send(execute("p"), { type: "Flush" });
  await Bun.sleep(50);
  expect(await wire.exchange(execute("p"), sync)).toContain("SELECT 0");
  wire.end();
  while (server.sessions > 0) await Bun.sleep(10);
  expect(outcomesOf(lastSession())).toEqual(["skipped", "ok"]);
});

test("a running query is cancelled at the target", async () => {
  const sql = client();
  const sleeping = sql.unsafe("select pg_sleep(20)").execute();
  await Bun.sleep(300);
  sleeping.cancel();
  expect(await sleeping.catch((error: { code: string }) => error.code)).toBe("57014");
  await sql.end();
});

const ways = {
  simple: (text: string) => [query(text)],
  extended: (text: string) => [parse(text), bind(), execute(), sync],
};
const places = ["store", "disk", "names"] as const;
const cases = places.flatMap((place) => (["simple", "extended"] as const).map((way) => [place, way] as const));

test.each(cases)("a cancel that comes while the %s is waited for refuses the command (%s)", async (place, way) => {
  const wire = await connectWire({ port, user: "ann@example.com", password: token, database: "app" });
  const answered = Promise.withResolvers<void>();
  slow[place] = answered.promise;
  wire.send(...ways[way](`select pg_sleep(3), '${place} ${way}'`), ...ways[way](`select '${place} ${way}, behind'`));
  await Bun.sleep(100);
  await wire.cancel();
  delete slow[place];
  answered.resolve();
  const answers = [...(await wire.until("ReadyForQuery"))];
  while (answers.filter((answer) => answer === "ReadyForQuery").length < 2)
    answers.push(...(await wire.until("ReadyForQuery")));
  expect(answers.filter((answer) => /^(?:ERROR|SELECT|ReadyForQuery)/.test(answer))).toEqual([
    ...["ERROR 57014", "ReadyForQuery", "SELECT 1", "ReadyForQuery"],
  ]);
  wire.end();
  while (server.sessions > 0) await Bun.sleep(10);
  expect(target.log().includes(`pg_sleep(3), '${place} ${way}'`)).toBe(false);
  // What waited for names was not judged yet.
  expect(outcomesOf(lastSession())).toEqual(place === "names" ? ["ok"] : ["cancelled", "ok"]);
});

test.each(["simple", "extended"] as const)(
  "a cancel while nothing runs is not for the next command (%s)",
  async (way) => {
    const wire = await connectWire({ port, user: "ann@example.com", password: token, database: "app" });
    for (const text of ["select 1", "select 2", "begin", "select 3", "commit"]) {
      await wire.cancel();
      expect((await wire.exchange(...ways[way](text))).filter((answer) => answer.startsWith("ERROR"))).toEqual([]);
    }
    wire.end();
  },
);

test("a cancel fails the transaction that its command would have run in, and what behind it is of its batch", async () => {
  const wire = await connectWire({ port, user: "ann@example.com", password: token, database: "app" });
  await wire.exchange(query("begin"));
  const answered = Promise.withResolvers<void>();
  slow.disk = answered.promise;
  wire.send(parse("select 'first'"), bind(), execute(), parse("select 'second'"), bind(), execute(), sync);
  await Bun.sleep(50);
  await wire.cancel();
  delete slow.disk;
  answered.resolve();
  expect(await wire.until("ReadyForQuery")).toEqual(["ERROR 57014", "ReadyForQuery"]);
  expect(await wire.exchange(query("select 'third'"))).toContain("ERROR 25P02");
  expect(await wire.exchange(query("rollback"))).toContain("ROLLBACK");
  wire.end();
  while (server.sessions > 0) await Bun.sleep(10);
  expect(outcomesOf(lastSession())).toEqual(["ok", "cancelled", "skipped", "error", "ok"]);
});

test("a cancel that comes before a command is held, or while what it is obliged to is set, is for that command", async () => {
  for (const [place, text] of [
    ["store", "select 'held' as never"],
    ["disk", "select 'timed' as never"],
  ] as const) {
    const wire = await connectWire({ port, user: "ann@example.com", password: token, database: "app" });
    const answered = Promise.withResolvers<void>();
    slow[place] = answered.promise;
    wire.send(query(text));
    await Bun.sleep(50);
    await wire.cancel();
    delete slow[place];
    answered.resolve();
    const answers = await wire.until("ReadyForQuery");
    expect(answers.filter((answer) => answer !== "NoticeResponse")).toEqual(["ERROR 57014", "ReadyForQuery"]);
    expect(await wire.exchange(query("select 'timed' as then"))).toContain("SELECT 1");
    wire.end();
    while (server.sessions > 0) await Bun.sleep(10);
    expect(target.log().includes(text)).toBe(false);
    expect(outcomesOf(lastSession())).toEqual(["cancelled", "ok"]);
  }
});

test("a COPY that is cancelled before it is sent takes no data", async () => {
  const wire = await connectWire({ port, user: "ann@example.com", password: token, database: "app" });
  const answered = Promise.withResolvers<void>();
  slow.disk = answered.promise;
  wire.send(query("copy people from stdin"));
  await Bun.sleep(50);
  await wire.cancel();
  delete slow.disk;
  answered.resolve();
  expect(await wire.until("ReadyForQuery")).toEqual(["ERROR 57014", "ReadyForQuery"]);
  expect(await wire.exchange(query("select 'behind the copy'"))).toContain("SELECT 1");
  wire.end();
});

test("named prepared statements, several rows at a time and pipelined queries work", async () => {
  const sql = client({ max_pipeline: 50 });
  const results = await Promise.all(Array.from({ length: 100 }, (_, index) => sql`select ${index}::int as n`));
  expect(results.map((rows) => rows[0]?.n)).toEqual(Array.from({ length: 100 }, (_, index) => index));
  let count = 0;
  await sql`select generate_series(1, 1000) as n`.cursor(100, (rows) => {
    count += rows.length;
  });
  expect(count).toBe(1_000);
  await sql.end();
});

withPsql("a large result arrives whole", async () => {
  const { out } = await psql(
    "\\pset format unaligned\n\\pset tuples_only on\nselect repeat('x', 1000) from generate_series(1, 20000);\n",
  );
  expect(out.split("\n").filter((line) => line.length === 1_000)).toHaveLength(20_000);
});

withPsql("each session's recording opens, has intent before outcome, and closes", async () => {
  await Bun.sleep(50);
  expect(commits).toBeGreaterThan(0);
  expect(events.filter((event) => event.type === "session.opened").length).toBe(
    events.filter((event) => event.type === "session.closed").length,
  );
  const statuses = new Set(events.flatMap((event) => (event.type === "outcome" ? [event.status] : [])));
  expect([...statuses].sort()).toEqual(expect.arrayContaining(["cancelled", "denied", "error", "ok"]));
});
