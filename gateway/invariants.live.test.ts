/**
 * Invariants 5, 6 and 8 on the whole gateway as its own process, with the default policies and a real PostgreSQL: what was
 * recorded judges again the same, nobody meets another's upstream connection, and who does not read is not fed.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join, resolve } from "node:path";
import postgres from "postgres";
import { residentKb } from "../scripts/bench/postgres-idle.ts";
import { type RunningGateway, startGateway } from "../scripts/bench/postgres-processes.ts";
import { type DemoTarget, startDemoTarget } from "../scripts/demo/demo-target.ts";
import { recordedInputs } from "../scripts/policy/recorded-input.ts";
import type { RunningPostgres } from "../scripts/postgres/server.ts";
import {
  bind,
  connectWire,
  execute,
  parse,
  query,
  sync,
  tellBriefly,
  type WireClientOptions,
} from "../scripts/postgres/wire-client.ts";
import { limits } from "./limits.ts";
import { loadBundle } from "./policy/bundle.ts";
import { Policy } from "./policy/policy.ts";
import { encodeFrontendMessage } from "./postgres/frontend-encoder.ts";
import type { BackendMessage, FrontendMessage } from "./postgres/messages.ts";
import { connectUpstream } from "./postgres/upstream.ts";
import { MessageWriter } from "./postgres/writer.ts";
import { readEvents } from "./recording/reader.ts";
import { Recording } from "./recording/writer.ts";

const root = resolve(import.meta.dir, "..");
const bundle = join(root, "policies/dist/bundle.tar.gz");
const users = ["ann", "olga", "dora", "robot"] as const;
type User = (typeof users)[number];
let demo: DemoTarget;
let target: RunningPostgres;
let direct: postgres.Sql;
let tokens: DemoTarget["tokens"];
let gateway: RunningGateway;

beforeAll(async () => {
  const groups = { ann: ["analysts"], olga: ["oncall"], dora: ["dba"], robot: ["oncall"] };
  demo = await startDemoTarget(
    users.map((id) => ({
      ...{ id, email: `${id}@example.com`, groups: groups[id] },
      ...(id === "robot" && { client: "agent-reporter" }),
    })),
  );
  ({ server: target, direct, tokens } = demo);
  gateway = await startGateway({
    ...{ server: target, issuer: demo.issuer, target: "demo", bundle, durability: "strict" },
    audience: ["sallyport-cli", "agent-reporter"],
    agents: { claim: "azp", values: ["agent-*"] },
    caller: { email: "dora@example.com", token: tokens.dora ?? "" },
  });
}, 60_000);

afterAll(async () => {
  await gateway?.kill();
  await gateway?.stop();
  await demo?.stop();
});

/** Asks again until it is so. */
async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 400; tries++) {
    if (await isSo()) return;
    await Bun.sleep(25);
  }
  throw new Error(`waited in vain: ${what}`);
}

function as(user: User, options: Record<string, unknown> = {}) {
  return postgres({
    ...{ host: "127.0.0.1", port: gateway.endpoint.port, database: "demo" },
    ...{ username: `${user}@example.com`, password: tokens[user] ?? "" },
    ...{ max: 1, fetch_types: false, onnotice: () => undefined },
    ...options,
  });
}

function wire(user: User, given: Pick<WireClientOptions, "tell" | "parameters"> = {}) {
  const { port } = gateway.endpoint;
  return connectWire({
    ...{ port, database: "demo", user: `${user}@example.com`, password: tokens[user] ?? "" },
    ...given,
  });
}

// --- invariant 6 ---

const pidOf = async (sql: postgres.Sql) => (await sql<{ pid: number }[]>`select pg_backend_pid() as pid`)[0]?.pid ?? 0;

async function isThere(pid: number): Promise<boolean> {
  return (await direct`select from pg_stat_activity where pid = ${pid}`).length > 0;
}

test("each session has a backend of its own, which ends with it and serves nobody after", async () => {
  const seen = new Set<number>();
  for (const user of ["ann", "olga", "ann", "dora"] as const) {
    const sql = as(user);
    const pid = await pidOf(sql);
    expect(seen).not.toContain(pid);
    seen.add(pid);
    await sql.end();
    await until("its backend ends", async () => !(await isThere(pid)));
  }
  const many = Array.from({ length: 12 }, (_, index) => as(users[index % 3] ?? "ann"));
  const pids = await Promise.all(many.map(pidOf));
  expect(new Set([...pids, ...seen]).size).toBe(16);
  // A backend stays whose it is, whatever is asked at once.
  for (let round = 0; round < 3; round++) expect(await Promise.all(many.map(pidOf))).toEqual(pids);
  await Promise.all(many.map((sql) => sql.end()));
  for (const pid of pids) await until("its backend ends", async () => !(await isThere(pid)));
});

test("settings, temporary tables, prepared statements and cursors of one are not there for another", async () => {
  const traces = "select current_setting('work_mem') as memory, pg_backend_pid() as pid";
  const dora = as("dora");
  const run = (text: string) => dora.unsafe(text).simple();
  await run("set work_mem = '7MB'");
  await run("create temp table mine (x int)");
  await run("prepare mine as select 1");
  await run("begin");
  await run("declare mine cursor with hold for select 1");
  await run("commit");
  expect((await run(traces))[0]).toMatchObject({ memory: "7MB" });
  expect(await run("execute mine")).toHaveLength(1);
  const attempts = ["select x from mine", "select x from pg_temp.mine", "execute mine", "fetch 1 from mine"];
  const findsNothing = async (sql: postgres.Sql) => {
    expect((await sql.unsafe(traces).simple())[0]).toMatchObject({ memory: "4MB" });
    for (const text of attempts) {
      const code = await sql
        .unsafe(text)
        .simple()
        .then(
          () => `${text} worked`,
          (error) => error.code,
        );
      expect(["42501", "42P01", "26000", "34000"]).toContain(code);
    }
  };
  const during = as("olga");
  await findsNothing(during);
  const pid = await pidOf(dora);
  await dora.end();
  await until("its backend ends", async () => !(await isThere(pid)));
  // Not even for the same person, in a session of its own.
  const after = as("dora");
  await findsNothing(during);
  await findsNothing(after);
  await Promise.all([during.end(), after.end()]);
});

// --- invariant 8 ---

test("a client that stops reading stops its upstream, and the gateway's memory stays bounded", async () => {
  // Paused from the start: what the gateway sends it is never read.
  const client = await connectUpstream({
    ...{ host: "127.0.0.1", ...gateway.endpoint, tls: "disable", parameters: {} },
  });
  const beforeKb = residentKb(gateway.pid);
  // 1 GB of rows.
  const query = "select repeat('x', 100000) from generate_series(1, 10000)";
  const writer = new MessageWriter();
  encodeFrontendMessage(writer, { type: "Query", query });
  client.write(writer.take());
  const blocked = () => direct`select pid from pg_stat_activity where query = ${query} and wait_event = 'ClientWrite'`;
  await until("the target waits to write", async () => (await blocked()).length === 1);
  // It goes on waiting: nothing is taken from it behind the client's back.
  for (let looks = 0; looks < 10; looks++) {
    await Bun.sleep(50);
    expect(await blocked()).toHaveLength(1);
  }
  expect(residentKb(gateway.pid) - beforeKb).toBeLessThan(100 * 1_024);
  const [backend] = await blocked();
  client.destroy();
  await until("its backend ends", async () => !(await isThere(backend?.pid)));
}, 30_000);

test("a COPY into a target that stalls stops its client, and goes on when the target does", async () => {
  await direct.unsafe(`create table copied (line text);
    create function stalls() returns trigger language plpgsql as $$
      begin perform pg_advisory_xact_lock(77); return new; end $$;
    create trigger stalls before insert on copied for each row execute function stalls()`);
  const { host, user: username, password, database } = target;
  const lock = postgres({ host, port: target.port, username, password, database, max: 1, onnotice: () => undefined });
  await lock.unsafe("begin; select pg_advisory_xact_lock(77)").simple();
  const { endpoint, pid } = gateway;
  const client = await connectWire({ ...endpoint, user: "dora@example.com", password: tokens.dora ?? "" });
  const data: FrontendMessage = { type: "CopyData", data: Buffer.from(`${"x".repeat(99_999)}\n`) };
  client.send(query("copy copied from stdin"), data);
  let sentBytes = 100_000;
  // What it has not taken yet would wait at the gateway in any case.
  await until(
    "COPY stalls at its first line",
    async () => (await direct`select from pg_stat_activity where wait_event_type = 'Lock'`).length === 1,
  );
  const beforeKb = residentKb(pid);
  let stopped = 0;
  // Up to 2 GB; what is not taken waits here, in the client.
  for (let sent = 0; sent < 20_000 && stopped < 40; sent++) {
    client.send(data);
    sentBytes += 100_000;
    while (client.bufferedBytes > 1_000_000 && stopped < 40) {
      const waiting = client.bufferedBytes;
      await Bun.sleep(25);
      stopped = client.bufferedBytes === waiting ? stopped + 1 : 0;
    }
  }
  expect(stopped).toBe(40);
  // Buffers of sockets and the gateway's own: far from what the client has to give.
  expect(sentBytes).toBeLessThan(60_000_000);
  expect(residentKb(pid) - beforeKb).toBeLessThan(60 * 1_024);
  await lock.unsafe("commit").simple();
  await lock.end();
  client.send({ type: "CopyDone" });
  expect(await client.until("ReadyForQuery")).toContain(`COPY ${sentBytes / 100_000}`);
  client.end();
}, 60_000);

test("a client may ask what a cursor's rows look like, and goes on", async () => {
  const client = await connectWire({
    ...{ port: gateway.endpoint.port, database: "demo", user: "ann@example.com", password: tokens.ann ?? "" },
  });
  const ask: FrontendMessage = { type: "Describe", kind: "portal", name: "c" };
  const ready = "ReadyForQuery";
  expect(
    await client.exchange(query("begin"), query("declare c cursor for select id, email from customers"), ask, sync),
  ).toEqual(["BEGIN", ready, "DECLARE CURSOR", ready, "RowDescription", ready]);
  expect(await client.exchange(query("fetch 1 from c"), query("commit"))).toEqual([
    ...["RowDescription", "DataRow", "FETCH 1", ready],
    ...["COMMIT", ready],
  ]);
  client.destroy();
});

test("a cursor that is declared and fetched in one text is judged and masked as its query", async () => {
  const ann = as("ann");
  const fetched = "begin; declare d cursor for select id, email from customers order by id; fetch 1 from d; commit";
  const clear = await direct`select email from customers order by id limit 1`;
  const results = await ann.unsafe(fetched).simple();
  const row = results.flat().find((found) => "email" in found);
  expect(row?.id).toBe(1);
  expect(row?.email).toBeString();
  expect(row?.email).not.toBe(clear[0]?.email);
  const laundered = fetched.replace("email from", "upper(email) as email from");
  await expect(ann.unsafe(laundered).simple()).rejects.toMatchObject({ code: "42501" });
  const other = "begin; fetch 1 from e; declare e cursor for select id from customers; commit";
  await expect(ann.unsafe(other).simple()).rejects.toMatchObject({ code: "42501" });
  await ann.end();
});

// --- names, as the target resolves them when a statement's turn comes ---

describe("names that change between the messages of a pipeline", () => {
  const run = (text: string) => [parse(text), bind(), execute()];
  const answered = (tag: string) => ["ParseComplete", "BindComplete", tag];
  const laundered = "select upper(ssn) from customers limit 1";
  /** In a failed transaction block that looked at a schema without labels. */
  const failed = async (user: User) => {
    const client = await wire(user);
    await client.exchange(query("begin"));
    await client.exchange(query("set search_path = plain"));
    expect(await client.exchange(query(laundered))).toContain("SELECT 1");
    expect(await client.exchange(query("select 1/0"))).toContain("ERROR 22012");
    return client;
  };
  const ways: Record<string, FrontendMessage[]> = {
    "ROLLBACK in the same batch": [...run("rollback"), ...run(laundered), sync],
    "COMMIT in the same batch": [...run("commit"), ...run(laundered), sync],
    "ROLLBACK in a batch before it": [...run("rollback"), sync, ...run(laundered), sync],
    "ROLLBACK as a query before it": [query("rollback"), ...run(laundered), sync],
    "a query behind a batch": [...run("rollback"), query(laundered), sync],
    "a portal that was bound before": [
      parse("rollback"),
      bind(),
      parse(laundered, "s"),
      execute(),
      ...run("execute s"),
      sync,
    ],
  };

  beforeAll(async () => {
    await direct`create schema plain`;
    await direct`create table plain.customers (ssn text)`;
    await direct`insert into plain.customers values ('nobody')`;
  });

  for (const [way, messages] of Object.entries(ways)) {
    test(`after a failed transaction: ${way}`, async () => {
      const client = await failed("ann");
      const answers = await client.exchange(...messages);
      expect(answers).not.toContain("SELECT 1");
      expect(answers).not.toContain("DataRow");
      expect(answers.some((answer) => /^ERROR/.test(answer))).toBe(true);
      expect(await client.exchange(query("rollback"), query("select count(*) from orders"))).toContain("SELECT 1");
      client.end();
    });
  }

  test("after a failed transaction: a COPY whose client sent Sync before its data", async () => {
    const client = await failed("olga");
    client.send(...run("rollback"), ...run("copy orders from stdin"), sync);
    await client.until("CopyInResponse");
    const answers = await client.exchange({ type: "CopyDone" }, ...run(laundered), sync);
    expect(answers).toContain("COPY 0");
    expect(answers.filter((answer) => /^ERROR|DataRow/.test(answer))).toEqual(["ERROR 42501"]);
    client.end();
  });

  test("what a batch changed is taken back with it", async () => {
    const client = await wire("ann");
    const answers = await client.exchange(
      ...run("set search_path = plain"),
      ...run(laundered),
      ...run("select 1/0"),
      sync,
    );
    expect(answers).toContain("SELECT 1");
    expect(answers).toContain("ERROR 22012");
    expect(await client.exchange(...run(laundered), sync)).toEqual(["ERROR 42501", "ReadyForQuery"]);
    client.end();
  });

  test("what a batch made can be used in it, before it is committed", async () => {
    const client = await wire("dora");
    const texts = ["create temp table made (x int)", "insert into made values (7)", "select x from made"];
    expect(await client.exchange(...texts.flatMap(run), sync)).toEqual([
      ...[
        ...answered("CREATE TABLE"),
        ...answered("INSERT 0 1"),
        "ParseComplete",
        "BindComplete",
        "DataRow",
        "SELECT 1",
      ],
      "ReadyForQuery",
    ]);
    const undone = ["create temp table gone (x int)", "insert into gone values (1)", "select 1/0"];
    expect(await client.exchange(...undone.flatMap(run), sync)).toContain("ERROR 22012");
    expect(await client.exchange(query("select x from gone"))).toEqual(["ERROR 42P01", "ReadyForQuery"]);
    client.end();
  });
});

describe("a name is judged as what the target takes it for", () => {
  const [nameA, nameB] = ["A", "B"].map((letter) => "p".repeat(63) + letter) as [string, string];
  const close = (kind: "statement" | "portal", name: string): FrontendMessage => ({ type: "Close", kind, name });
  const update = "update orders set status = 'refunded' where id = 1";
  const clear = "select upper(email) from customers";
  const cases: readonly [what: string, user: User, path: string, last: string, ...FrontendMessage[][]][] = [
    [
      "portals whose names are one in 63 bytes",
      ...(["ann", "public", "ERROR 42622"] as const),
      [query("begin")],
      [parse("select name from customers"), bind("", nameA), close("portal", nameB), sync],
      [parse("select ssn from customers"), bind("", nameB), sync],
      [execute(nameA), sync],
    ],
    [
      "statements whose names are one in 63 bytes",
      ...(["olga", "public", "ERROR 42622"] as const),
      [parse("select 1", nameA), close("statement", nameB), parse(update, nameB), sync],
      [bind(nameA), execute(), sync],
    ],
    [
      "EXECUTE of EXECUTE",
      ...(["olga", "public", "ERROR 0A000"] as const),
      [parse(update, "one"), parse("execute one", "two"), sync],
      [query("execute two")],
    ],
    [
      "a portal of EXECUTE of EXECUTE, made anew before it runs",
      ...(["ann", "public", "ERROR 34000"] as const),
      [query("begin")],
      [
        parse("select name from customers", "s"),
        parse("execute s", "e"),
        parse("execute e", "f"),
        bind("f", "p"),
        sync,
      ],
      [close("statement", "s"), parse("select email from customers", "s"), sync],
      [execute("p"), sync],
    ],
    [
      "FETCH from a portal of EXECUTE",
      ...(["olga", "public", "ERROR 0A000"] as const),
      [query("begin")],
      [parse("select id from orders", "s"), parse("execute s", "e"), bind("e", "p"), sync],
      [close("statement", "s"), parse(`${update} returning id`, "s"), sync],
      [query("fetch all from p")],
    ],
    [
      "a portal of EXECUTE whose name was given to another text",
      ...(["ann", "public", "ERROR 0A000"] as const),
      [query("begin; prepare x as select id from orders")],
      [parse("execute x"), bind("", "p"), sync],
      [query("deallocate x; prepare x as select ssn from customers")],
      [execute("p"), sync],
    ],
    [
      "a portal of EXECUTE whose name was given to the same text again",
      ...(["ann", "public", "ERROR 0A000"] as const),
      [query("begin")],
      [parse("select id from orders", "x"), parse("execute x"), bind("", "p"), sync],
      [close("statement", "x"), parse("select id from orders", "x"), sync],
      [execute("p"), sync],
    ],
    [
      "EXECUTE of DECLARE",
      ...(["ann", "public", "ERROR 0A000"] as const),
      [query("begin; declare c cursor for select name from customers")],
      [query("close c")],
      [parse("declare c cursor for select ssn from customers", "d"), sync],
      [query("execute d")],
    ],
    [
      "a cursor that was closed",
      ...(["ann", "public", "ERROR 34000"] as const),
      [query("begin; declare c cursor for select name from customers")],
      [query("close c")],
      [execute("c"), sync],
    ],
    [
      "EXECUTE of SET",
      ...(["ann", "sandbox", "ERROR 0A000"] as const),
      [parse("set search_path = public", "s"), sync],
      [query("execute s")],
    ],
    [
      "SET and EXECUTE in one message",
      ...(["ann", "sandbox", "ERROR 42501"] as const),
      [query(`prepare s as ${clear}`)],
      [query("set search_path = public; execute s")],
    ],
  ];

  test.each(cases)("%s", async (_, user, path, last, ...exchanges) => {
    await direct.unsafe("create schema if not exists sandbox; grant usage on schema sandbox to public").simple();
    await direct.unsafe("create table if not exists sandbox.customers (id int, name text, email text, ssn text)");
    const client = await wire(user, { parameters: { search_path: path } });
    const answers: string[][] = [];
    for (const messages of exchanges) answers.push(await client.exchange(...messages));
    expect(answers.at(-1)?.[0]).toBe(last);
    expect(answers.flat()).not.toContain("DataRow");
    client.end();
    expect(await direct`select from orders where id = 1 and status = 'refunded'`).toHaveLength(0);
  });

  test("what a query fails to name is not what a batch behind it runs", async () => {
    const client = await wire("olga");
    await client.exchange(parse("delete from orders where id > 100", "x"), sync);
    const answers = await client.exchange(query("prepare x as select 1"), bind("x"), execute(), sync);
    expect(answers[0]).toBe("ERROR 42P05");
    expect((await lastRecorded("olga")).match(/"via":"bind","text":"([^"]*)"/)?.[1]).toBe(
      "delete from orders where id > 100",
    );
    client.end();
    await direct.unsafe("rollback").catch(() => undefined);
  });

  test.each([
    ["EXECUTE", "execute x", [query("deallocate x; prepare x as select country from customers")]],
    ["FETCH", "fetch all from c", [query("close c; declare c cursor for select country from customers")]],
    ["a search path that finds another table", "execute x", [query("set search_path = sandbox")]],
  ])("a portal of %s that began goes on with its masks", async (_, text, between) => {
    await direct.unsafe("create schema if not exists sandbox; grant usage on schema sandbox to public").simple();
    await direct.unsafe("create table if not exists sandbox.customers (id int, name text, email text, ssn char(11))");
    const client = await wire("ann", {
      tell: (message) => (message.type === "DataRow" ? `row ${message.fields[0]}` : message.type),
    });
    const email = "select email from customers order by id limit 3";
    await client.exchange(query(`begin; prepare x as ${email}; declare c cursor for ${email}`));
    const rows = await client.exchange(parse(text), bind("", "p"), execute("p", 1), sync);
    await client.exchange(...between);
    rows.push(...(await client.exchange(execute("p"), sync)));
    const shown = rows.filter((one) => one.startsWith("row "));
    expect(shown).toHaveLength(3);
    for (const row of shown) expect(row).toMatch(/^row .\*+@/);
    client.end();
  });

  test("a short text that executes a long one a thousand times is judged and recorded once over", async () => {
    const client = await wire("ann");
    await client.exchange(query(`prepare x as select length('${"x".repeat(1_000_000)}')`));
    const startedMs = performance.now();
    expect(await client.exchange(query("execute x;".repeat(900)))).toContain("SELECT 1");
    // Nine hundred megabytes of text would take a minute.
    expect(performance.now() - startedMs).toBeLessThan(20_000);
    client.end();
  }, 60_000);

  test("a cursor is fetched by Execute in parts, and other sessions go on", async () => {
    const client = await wire("ann");
    await client.exchange(query("declare c cursor with hold for select id from orders"));
    for (let part = 0; part < 3; part++) {
      expect((await client.exchange(execute("c", 2), sync)).slice(-4)).toEqual([
        ...["DataRow", "DataRow", "PortalSuspended", "ReadyForQuery"],
      ]);
    }
    expect(await client.exchange(query("select 1"))).toContain("SELECT 1");
    client.end();
  });

  test("a cursor's rows by Execute are judged and masked as those by FETCH", async () => {
    const client = await wire("ann", {
      tell: (message) => (message.type === "DataRow" ? String(message.fields[0]) : message.type),
    });
    await client.exchange(query("begin; declare c cursor for select email from customers where id = 1"));
    const rows = (await client.exchange(execute("c"), sync)).filter((one) => one.includes("@"));
    expect(rows).toEqual([expect.stringMatching(/^.\*+@/)]);
    client.end();
  });
});

describe("what a transaction did to names and is not committed", () => {
  const rename = (from: string, to: string) => query(`alter table customers rename column ${from} to ${to}`);

  test("does not make a label forget its column", async () => {
    const [dora, ann] = [await wire("dora"), await wire("ann")];
    await dora.exchange(rename("ssn", "ssn_old"));
    await dora.exchange(query("begin"), query("alter table customers drop column ssn_old"));
    await dora.exchange(query("select id from customers where id = 1"));
    await dora.exchange(query("rollback"));
    expect(await ann.exchange(query("select upper(ssn_old) from customers where id = 1"))).toContain("ERROR 42501");
    await dora.exchange(rename("ssn_old", "ssn"));
    dora.end();
    ann.end();
  });

  test("is another thing than a swap: the new table keeps its label when it is renamed itself", async () => {
    const [dora, ann] = [await wire("dora"), await wire("ann")];
    await dora.exchange(query("create table swapped (email text)"), query("select email from swapped"));
    await direct
      .unsafe("alter table customers rename to customers_old; create table customers as select * from customers_old")
      .simple();
    const told = async (text: string) => (await ann.exchange(query(text))).at(-2);
    await Bun.sleep(limits.catalogRefreshMs + 100);
    expect(await told("select upper(ssn) from customers")).toBe("ERROR 42501");
    await dora.exchange(query("alter table customers rename column ssn to number"));
    expect(await told("select upper(number) from customers")).toBe("ERROR 42501");
    await dora.exchange(query("alter table customers rename to clients"));
    expect(await told("select upper(number) from clients")).toBe("ERROR 42501");
    expect(await told("select upper(ssn) from customers_old")).toBe("ERROR 42501");
    await direct.unsafe("drop table clients, swapped; alter table customers_old rename to customers").simple();
    await Bun.sleep(limits.catalogRefreshMs + 100);
    dora.end();
    ann.end();
  }, 20_000);

  test("leaves its label to a table that had a labelled column's values for its time", async () => {
    const [dora, ann] = [await wire("dora"), await wire("ann")];
    await dora.exchange(query("begin"), query("create table heir () inherits (customers)"));
    await dora.exchange(query("alter table heir no inherit customers"));
    await dora.exchange(query("commit"));
    expect(await dora.exchange(query("select upper(ssn) from heir"))).toContain("ERROR 42501");
    expect(await ann.exchange(query("select upper(ssn) from heir"))).toContain("ERROR 42501");
    await dora.exchange(query("drop table heir"));
    dora.end();
    ann.end();
  });

  const flush: FrontendMessage = { type: "Flush" };
  const begun = (text: string) => [parse(text), bind(), execute(), flush];
  const swap = ["alter table plain_copy rename to plain_old", "alter table customers rename to plain_copy"];

  test.each<[string, (dora: Awaited<ReturnType<typeof wire>>) => Promise<() => Promise<unknown>>]>([
    [
      "its batch was not ended yet",
      async (dora) => {
        for (const text of swap) {
          dora.send(...begun(text));
          await dora.until("ALTER TABLE");
        }
        return () => dora.exchange(sync);
      },
    ],
    [
      "it waited for a lock",
      async (dora) => {
        const other = await direct.reserve();
        await other.unsafe("begin; lock table customers in access share mode");
        await dora.exchange(query(swap[0] ?? ""));
        dora.send(query(swap[1] ?? ""));
        await Bun.sleep(100);
        return async () => {
          await other.unsafe("commit");
          other.release();
          await dora.until("ReadyForQuery");
        };
      },
    ],
  ])(
    "is read again by another session that read names while %s",
    async (_, begin) => {
      await direct.unsafe("create table plain_copy as select * from customers where false").simple();
      const [dora, ann] = [await wire("dora"), await wire("ann")];
      const end = await begin(dora);
      // Names are read for any command once they may have changed.
      await ann.exchange(query("select id from orders where id = 1"));
      await end();
      expect(await ann.exchange(query("select upper(ssn) from plain_copy where id = 1"))).toContain("ERROR 42501");
      dora.end();
      ann.end();
      await direct.unsafe("alter table plain_copy rename to customers; drop table plain_old").simple();
      await Bun.sleep(limits.catalogRefreshMs + 100);
    },
    20_000,
  );

  test("is not taken from what another session read meanwhile", async () => {
    const [dora, ann] = [await wire("dora"), await wire("ann")];
    await dora.exchange(query("begin"), rename("ssn", "other"), rename("name", "ssn"), rename("other", "name"));
    const swapped = query("select upper(name) from customers where id = 1");
    expect(await dora.exchange(swapped)).toContain("ERROR 42501");
    await dora.exchange(query("rollback"), query("begin"), rename("ssn", "other"), rename("name", "ssn"));
    await dora.exchange(rename("other", "name"), query("select id from customers where id = 1"));
    await Bun.sleep(limits.catalogRefreshMs + 200);
    await ann.exchange(query("select 1"));
    expect(await dora.exchange(swapped)).toContain("ERROR 42501");
    await dora.exchange(query("rollback"));
    dora.end();
    ann.end();
  }, 20_000);
});

test("rows that another table keeps in a column are masked as a whole, and their fields are no way in", async () => {
  await direct
    .unsafe(`create table history (id int, was customers, more customers[]);
    insert into history select 1, c, array[c] from customers c where id = 1`)
    .simple();
  const tell = (message: BackendMessage) =>
    message.type === "DataRow" ? message.fields.map((field) => String(field)).join() : tellBriefly(message);
  const ann = await wire("ann", { tell });
  await Bun.sleep(limits.catalogRefreshMs + 100);
  expect(await ann.exchange(query("select id, was, more from history"))).toContain("1,null,null");
  for (const text of ["(was).ssn", "(was).*", "was::text", "more[1]", "(more[1]).ssn", "row_to_json(history)"])
    expect(await ann.exchange(query(`select ${text} from history`))).toContain("ERROR 42501");
  ann.end();
  await direct.unsafe("drop table history").simple();
});

// --- invariants 2 and 3 ---

test("a view hands a write on to what it is over, and so does a view over it", async () => {
  await direct
    .unsafe(`create view sett as select name, setting from pg_settings; create view sett2 as select * from sett;
    create view some_orders as select id, status from orders where id < 5; grant all on sett, sett2, some_orders to public`)
    .simple();
  const olga = as("olga");
  for (const view of ["sett", "sett2"]) {
    const write = olga.unsafe(`update ${view} set setting = 'x' where name = 'search_path'`);
    await expect(write).rejects.toMatchObject({ code: "42501" });
  }
  expect((await olga.unsafe("update some_orders set status = status where id = 1")).count).toBe(1);
  await olga.end();
});

describe("an error that a transaction put off to its end is withheld", () => {
  const declare = "declare c cursor with hold for select id from casting";
  const remove = "delete from customers where id = 3";
  const immediate = "set constraints all immediate";
  const put = "set constraints public.accounts_ssn_fkey deferred";
  const runs = (text: string) => [parse(text), bind(), execute()];
  test.each<[string, User, ...FrontendMessage[]]>([
    ["a holdable cursor at COMMIT", "ann", query("begin"), query(declare), query("commit")],
    ["a holdable cursor at Sync", "ann", parse(declare), bind(), execute(), sync],
    ["a constraint at COMMIT", "olga", query("begin"), query(remove), query("commit")],
    ["a constraint at Sync", "olga", parse(remove), bind(), execute(), sync],
    ["a constraint at SET CONSTRAINTS", "olga", query("begin"), query(remove), query(immediate)],
    ["one that SET CONSTRAINTS put off", "olga", query("begin"), query(put), query(remove), query(immediate)],
    [
      "one behind another statement",
      "olga",
      query("begin"),
      query(remove),
      query(`select id from orders; ${immediate}`),
    ],
    ["one in a batch", "olga", ...runs("begin"), ...runs(remove), ...runs(immediate), sync],
  ])("%s", async (_, user, ...messages) => {
    await direct.unsafe(`create or replace view casting as select id from customers where ssn::text::int > 0;
      create table if not exists accounts (ssn text references customers (ssn) deferrable initially deferred);
      delete from orders where customer_id = 3; insert into accounts select ssn from customers where id = 3`);
    const tell = (message: BackendMessage) => (message.type === "ErrorResponse" ? `${message.fields.M}` : message.type);
    const client = await wire(user, { tell });
    const answers = await client.exchange(...messages);
    expect(answers).toContain("CommandComplete");
    expect(answers.at(-2)).toMatch(/^the target reported SQLSTATE 2.*withheld/);
    // The next transaction has its own errors.
    await client.exchange(query("rollback"));
    expect(await client.exchange(query("select 'x'::int"))).toContain('invalid input syntax for type integer: "x"');
    client.end();
  });
});

test("a withheld error names no relation but those that the statement names", async () => {
  const tell = (message: BackendMessage) => {
    if (message.type !== "ErrorResponse") return message.type;
    const { C, t } = message.fields;
    return `${C} ${t}`;
  };
  await direct.unsafe(`create unique index once on customers (id);
    create table child (id int references customers (id)); insert into child values (1)`);
  const client = await wire("olga", { tell });
  const told = async (sql: string) => (await client.exchange(query(sql))).at(-2);
  expect(await told("update customers set id = 2 where id = 1")).toBe("23505 customers");
  expect(await told("delete from customers where id = 1")).toBe("23503 undefined");
  client.end();
  await direct.unsafe("drop table child; drop index once");
});

/** The events of a user's last session, as the API gives them. */
async function lastRecorded(user: User): Promise<string> {
  const api = async (path: string) => {
    const headers = { Authorization: `Bearer ${tokens[user]}` };
    const answer = await fetch(`${gateway.api}/v1/sessions${path}`, { headers });
    expect(answer.status).toBe(200);
    return answer.text();
  };
  const { sessions } = JSON.parse(await api(`?who=${user}@example.com&limit=1`)) as { sessions: { id: string }[] };
  return api(`/${sessions[0]?.id}/events`);
}

test("each command has one outcome, however it ended", async () => {
  const client = await wire("ann");
  const some = "select id from orders order by id";
  await client.exchange(query("begin"));
  await client.exchange(parse(some, "s"), bind("s", "closed"), execute("closed", 1), sync);
  await client.exchange(
    { type: "Close", kind: "portal", name: "closed" },
    bind("s", "ended"),
    execute("ended", 1),
    sync,
  );
  await client.exchange(bind("s", "unused"), sync);
  await client.exchange(parse("close all", "ca"), bind("ca", "named"), execute("named"), sync);
  await client.exchange(query("declare c cursor for select id from customers"), execute("c", 1), sync);
  await client.exchange(query("commit"));
  const number = { ...bind("n"), ...{ parameters: [Buffer.from("no number")] } } as FrontendMessage;
  await client.exchange(parse("select $1::int", "n"), number, execute(), sync);
  await client.exchange(query("begin"), bind("s", "left"), execute("left", 1), sync);
  client.end();
  const events = await eventsOf("ann");
  const told = events
    .filter(({ type }) => type === "intent")
    .map(({ command, text }) => {
      const outcomes = events.filter((event) => event.type === "outcome" && event.command === command);
      return [text, ...outcomes.map(({ status, sqlstate }) => sqlstate ?? status)];
    });
  expect(told).toEqual([
    ["begin", "ok"],
    [some, "ok"],
    [some, "ok"],
    [some, "skipped"],
    ["close all", "ok"],
    ["declare c cursor for select id from customers", "ok"],
    ["select id from customers", "ok"],
    ["commit", "ok"],
    ["select $1::int", "22P02"],
    ["begin", "ok"],
    [some, "ok"],
  ]);
});

test("what a command executes by name is recorded with it", async () => {
  const client = await wire("dora");
  await client.exchange(parse("select id from orders where id = $1", "w"), sync);
  expect(await client.exchange(query("execute w(1)"))).toContain("SELECT 1");
  client.end();
  const events = (await lastRecorded("dora"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(events.find(({ text }) => text === "execute w(1)")).toMatchObject({
    standsFor: ["select id from orders where id = $1"],
  });
});

async function eventsOf(user: User) {
  await until("it has ended", async () => (await lastRecorded(user)).includes('"session.closed"'));
  return (await lastRecorded(user))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

test("a query that waits for a lock shows nothing of what was renamed meanwhile, and one of another table goes on", async () => {
  const swap = [
    query("alter table customers rename column ssn to swapped"),
    query("alter table customers rename column name to ssn"),
    query("alter table customers rename column swapped to name"),
  ];
  const dora = await wire("dora");
  const ann = await wire("ann");
  const other = await wire("ann");
  await direct.unsafe("create table elsewhere (id int); grant select on elsewhere to public");
  try {
    await dora.exchange(query("begin"), ...swap, query("lock table elsewhere"));
    const asked = [
      ann.exchange(query("select name || '' as n from customers")),
      other.exchange(query("select count(*) from elsewhere")),
    ];
    await until(
      "both wait",
      async () => (await direct`select from pg_stat_activity where wait_event_type = 'Lock'`).length >= 2,
    );
    await dora.exchange(query("commit"));
    expect(await asked[0]).toEqual(["FATAL 08P01"]);
    expect(await asked[1]).toContain("SELECT 1");
  } finally {
    await dora.exchange(query("rollback"), query("begin"), ...swap, query("commit"));
    for (const one of [dora, ann, other]) one.end();
  }
});

test.each([
  [
    "schemas take each other's names",
    ["alter schema near rename to aside", "alter schema far rename to near"],
    "near.here",
  ],
  ["what a role owned goes, and uncovers another", ["drop owned by owner_of_here"], "here"],
])("nor anything where %s", async (_, changes, table) => {
  await direct.unsafe(`create schema near; create table near.here (name text, ssn text);
    create schema far; create table far.here (name text, ssn text); insert into far.here values ('f', 'marker far');
    create table public.here (name text, ssn text); insert into public.here values ('p', 'marker public');
    create role owner_of_here; alter table near.here owner to owner_of_here;
    grant usage on schema near, far to public; grant all on near.here, far.here, public.here to public`);
  const [dora, other, ann] = [await wire("dora"), await wire("dora"), await wire("ann")];
  try {
    await ann.exchange(query("set search_path = near, public"), query("select 1"));
    await dora.exchange(query("begin"), query("lock table near.here"));
    const asked = ann.exchange(query(`select upper(ssn) as u from ${table}`));
    await until(
      "it waits",
      async () => (await direct`select from pg_stat_activity where wait_event_type = 'Lock'`).length === 1,
    );
    // What needs the lock itself is by who has it.
    const by = changes.length === 1 ? dora : other;
    for (const change of changes) expect(await by.exchange(query(change))).not.toContain("ErrorResponse");
    await dora.exchange(query("commit"));
    expect(await asked).toEqual(["FATAL 08P01"]);
  } finally {
    for (const one of [dora, other, ann]) one.end();
    await direct.unsafe(`drop schema if exists near, far, aside cascade; drop table public.here;
      drop owned by owner_of_here; drop role owner_of_here`);
  }
});

test("what a portal was bound to is recorded with what fetches of it, and the portal was not skipped", async () => {
  const client = await wire("ann");
  const bound = { ...bind("f", "p"), ...{ parameters: [Buffer.from("7")] } } as FrontendMessage;
  await client.exchange(query("begin"), parse("select $1::int as n", "f"), bound, sync);
  expect(await client.exchange(query("fetch all from p"), query("commit"))).toContain("FETCH 1");
  client.end();
  const events = await eventsOf("ann");
  expect(events.find(({ text }) => text === "fetch all from p")).toMatchObject({ params: ["7"] });
  const { command } = events.find(({ text }) => text === "select $1::int as n") ?? {};
  expect(events.find((event) => event.type === "outcome" && event.command === command)).toMatchObject({ status: "ok" });
});

test("an error that a commit at the end of a batch meets is recorded", async () => {
  await direct.unsafe(`create table deferring (n int unique deferrable initially deferred);
    grant all on deferring to public`);
  const client = await wire("olga");
  const insert = parse("insert into deferring values (1), (1)");
  expect(await client.exchange(insert, bind(), execute(), sync)).toContain("ERROR 23505");
  client.end();
  const told = (await eventsOf("olga")).filter(({ type, fields }) => type === "notice" && fields.C === "23505");
  expect(told).toHaveLength(1);
});

test("a key that a caller writes is in no event of the recording, whatever brings it there", async () => {
  const key = `ghp_${"Ab1".repeat(12)}`;
  const client = await wire("dora");
  await client.exchange(query("create table keys (key text, bytes bytea)"));
  const said = [
    await client.exchange(query(`set sallyport.reason = '${key}'`)),
    await client.exchange(query(`select '${key}' as "${key}"`)),
    await client.exchange(query(`select '${key}'::int`)),
    await client.exchange(query(`select "${key}" from keys`)),
    await client.exchange(query(`insert into keys values ('${key}', '${key}')`), query("select key, bytes from keys")),
    await client.exchange(
      query("copy keys (key) from stdin"),
      { type: "CopyData", data: Buffer.from(`${key}\n`) },
      { type: "CopyDone" },
    ),
    await client.exchange(query("copy keys to stdout")),
    // As asyncpg does it: both ways in binary form.
    await client.exchange(
      parse("select array[$1::text, repeat('x', 53)]"),
      {
        ...bind(),
        ...{ parameterFormats: [1], parameters: [Buffer.from(key)], resultFormats: [1] },
      } as FrontendMessage,
      execute(),
      sync,
    ),
  ];
  expect(said.map((answers) => answers.filter((one) => /^(?:DataRow|CopyData|ERROR|[A-Z]+ \d|SET)/.test(one)))).toEqual(
    [
      ["SET"],
      ["DataRow", "SELECT 1"],
      ["ERROR 22P02"],
      ["ERROR 42703"],
      ["INSERT 0 1", "DataRow", "SELECT 1"],
      ["COPY 1"],
      ["CopyData", "CopyData", "COPY 2"],
      ["DataRow", "SELECT 1"],
    ],
  );
  client.end();
  const recorded = await lastRecorded("dora");
  expect(recorded.match(/<redacted>/g)?.length).toBeGreaterThan(12);
  expect(recorded).not.toContain(key);
  expect(recorded).not.toContain(Buffer.from(key).toString("hex"));
});

// --- invariant 5; it ends the gateway ---

test("each recorded verdict comes again from the recording alone, with its rules and masks", async () => {
  const [ann, robot] = [as("ann"), as("robot")];
  await ann`select id, email from customers where id = ${1}`;
  await ann.unsafe("drop table customers").catch(() => undefined);
  await ann.unsafe("select upper(email) from customers").catch(() => undefined);
  await ann.unsafe("set sallyport.reason = 'ticket 7'").simple();
  await ann.unsafe("select count(*) from orders").simple();
  // Held for somebody's approval, and so still when the gateway is killed.
  const held = new Promise((told) => {
    const sql = as("robot", { onnotice: told });
    sql.unsafe("update orders set status = 'x' where id = 1").catch(() => undefined);
  });
  await held;
  await gateway.kill();
  await Promise.allSettled([ann.end({ timeout: 0 }), robot.end({ timeout: 0 })]);
  const recording = await Recording.open({ url: gateway.storeUrl, durability: "strict", gateway: "check" });
  const policy = new Policy(await loadBundle({ bundle }));
  const verdicts = new Set<string>();
  for (const { id } of await recording.calls.listSessions({ limit: 1_000 })) {
    for await (const { intent, input } of recordedInputs(readEvents(recording.calls, id))) {
      if (input === undefined) throw new Error("out of order");
      const { now, command, ...base } = input;
      const { decision } = policy.forSession(base).judge(command, command, now);
      expect(intent.revision).toBe(policy.revision.digest);
      expect(intent.rules.length).toBeGreaterThan(0);
      expect(decision).toEqual({
        ...{ verdict: intent.verdict, rules: [...intent.rules], masks: [...intent.masks] },
        ...{ diagnostics: intent.diagnostics, ...(intent.approval && { approval: intent.approval }) },
      } as typeof decision);
      verdicts.add(intent.verdict);
    }
  }
  await recording.close();
  expect([...verdicts].sort()).toEqual(["allow", "approve", "deny", "mask"]);
});
