/**
 * What keeps values of a labelled column keeps the label, once nothing in the catalog leads there any more: on real
 * servers, with a real store, over restarts of the gateway and beside another one.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import postgres from "postgres";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { hasPostgres15 } from "../../scripts/postgres/installed.ts";
import { type PostgresVersion, type RunningPostgres, startPostgres } from "../../scripts/postgres/server.ts";
import type { PostgresTarget } from "../config.ts";
import type { PolicyRevision } from "../session/dependencies.ts";
import { type Database, openDatabase } from "../store/database.ts";
import { type LabelBindingChange, storeQueries } from "../store/queries.ts";
import { Catalogs } from "./catalogs.ts";
import type { NameContext } from "./sql/catalog.ts";

const versions: PostgresVersion[] = hasPostgres15 ? ["15", "embedded"] : ["embedded"];
const policyOf = (...names: string[]) => {
  const labels = new Map(names.map((name) => [name, ["pii"]]));
  return { labelsOf: () => labels } as unknown as PolicyRevision;
};
const labelled = policyOf("public.people.ssn", "public.typed_row.ssn");

describe.each(versions)("PostgreSQL %s", (version) => {
  let server: RunningPostgres;
  let folder: string;
  let db: Database;
  let admin: postgres.Sql;
  const connections: postgres.Sql[] = [];
  let stores = 0;
  let target = "";

  function connect() {
    const { host, port, user, password, database } = server;
    const sql = postgres({ host, port, user, password, database, max: 1, onnotice: () => {} });
    connections.push(sql);
    const run = async (text: string) =>
      (await sql.unsafe(text).simple().raw()).map((row) => row.map((value) => value && Buffer.from(value).toString()));
    return { sql, run };
  }
  /** Knows of nothing but what the store has. */
  function startGateway(policy = labelled) {
    const state = { policy, beforeBindings: async () => {}, failure: undefined as Error | undefined };
    const store = {
      labelBindings: async (name: string, database: string) => {
        await state.beforeBindings();
        return storeQueries.labelBindings(db, name, database);
      },
      saveLabelBindings: async (name: string, database: string, change: LabelBindingChange) => {
        if (state.failure) throw state.failure;
        return storeQueries.saveLabelBindings(db, name, database, change);
      },
    };
    const catalogs = new Catalogs(store, { current: () => state.policy });
    return {
      relabel: (names: PolicyRevision) => {
        state.policy = names;
      },
      failSaves: (failure: Error | undefined) => {
        state.failure = failure;
      },
      /** Once, as a session asks for what is bound. */
      beforeBindings: (what: () => Promise<void>) => {
        state.beforeBindings = () => {
          state.beforeBindings = async () => {};
          return what();
        };
      },
      /** A session that has read names; told of each change by `changed`. */
      session: () => {
        const analyser = catalogs.forSession({ name: target } as PostgresTarget, server.database);
        const { sql, run } = connect();
        let open = false;
        let opened = false;
        const read = async () => {
          if (opened) analyser.invalidate();
          opened = true;
          await analyser.refresh(run, open);
        };
        return {
          read,
          /** Runs it, then reads names as before the next statement. */
          ddl: async (text: string) => {
            if (/^begin/.test(text)) open = true;
            await sql.unsafe(text).simple();
            if (/^(?:commit|rollback)$/.test(text)) open = false;
            await read();
          },
          isLabelled: (column: string) =>
            [...(analyser.context as NameContext).labels.values()].find((one) => one.column === `public.${column}`),
        };
      },
    };
  }
  const stored = async () => (await storeQueries.labelBindings(db, target, server.database)).map(({ name }) => name);

  beforeAll(async () => {
    server = await startPostgres({ version });
    folder = mkdtempSync(join(tmpdir(), "sallyport-bindings-"));
    db = await openDatabase({ url: `file:${join(folder, "store.db")}`, durability: "group" });
    admin = connect().sql;
    connections.splice(0);
  }, 60_000);
  afterEach(async () => {
    // What a failed test leaves open would keep the next one waiting.
    for (const sql of connections.splice(0)) await sql.end({ timeout: 1 });
  });
  afterAll(async () => {
    await admin?.end();
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  async function fresh() {
    target = `target-${stores++}`;
    await admin
      .unsafe(`drop schema public cascade; create schema public;
      create table people (id int, ssn text) partition by list (id);
      create table part partition of people for values in (1);
      create table parent (id int, ssn text);
      create type typed_row as (id int, ssn text);
      create table typed of typed_row;
      create view source as select id, ssn from people;
      create materialized view kept as select * from source`)
      .simple();
  }

  test.each<[string, string, string, string]>([
    ["DETACH PARTITION", "part.ssn", "", "alter table people detach partition part"],
    ["DETACH PARTITION CONCURRENTLY", "part.ssn", "", "alter table people detach partition part concurrently"],
    [
      "NO INHERIT",
      "heir.ssn",
      "alter table people rename to old_people; alter table parent rename to people; create table heir () inherits (people)",
      "alter table heir no inherit people",
    ],
    ["NOT OF", "typed.ssn", "", "alter table typed not of"],
    [
      "a new text of the view that a materialised one was made of",
      "kept.ssn",
      "",
      "create or replace view source as select 1 as id, ''::text as ssn",
    ],
  ])("%s leaves the label, for a gateway that starts later too", async (_, column, before, change) => {
    await fresh();
    if (before !== "") await admin.unsafe(before).simple();
    const one = startGateway().session();
    await one.read();
    expect(one.isLabelled(column)).toMatchObject({ labels: ["pii"], derived: false });
    await admin.unsafe(change).simple();
    await one.read();
    expect(one.isLabelled(column)).toMatchObject({ labels: ["pii"], derived: false });
    const later = startGateway().session();
    await later.read();
    expect(later.isLabelled(column)).toMatchObject({ labels: ["pii"], derived: false });
    // Under another name, too.
    const [table = "", name = ""] = column.split(".");
    const kind = table === "kept" ? "materialized view" : "table";
    await later.ddl(`alter ${kind} ${table} rename column ${name} to note`);
    expect(later.isLabelled(`${table}.note`)).toMatchObject({ labels: ["pii"] });
  });

  test("DROP EXPRESSION leaves the label of what was computed", async () => {
    await fresh();
    await admin
      .unsafe(`drop table people cascade; create table people (id int, ssn text,
        last4 text generated always as (right(ssn, 4)) stored)`)
      .simple();
    const one = startGateway().session();
    await one.read();
    await one.ddl("alter table people alter column last4 drop expression");
    const later = startGateway().session();
    await later.read();
    for (const session of [one, later])
      expect(session.isLabelled("people.last4")).toMatchObject({ labels: ["pii"], derived: true });
  });

  test("a column of rows that have a labelled column is labelled, however it has them", async () => {
    await fresh();
    await admin
      .unsafe(`create table orders (id int); create domain dom as people; create type pair as (a int, b dom); create type span as range (subtype = typed_row);
      create table log (id int, one people, many people[], d dom, ds dom[], nested pair, s span, ss span_multirange, plain orders)`)
      .simple();
    const one = startGateway().session();
    await one.read();
    for (const name of ["one", "many", "d", "ds", "nested", "s", "ss"])
      expect([name, one.isLabelled(`log.${name}`)]).toMatchObject([name, { labels: ["pii"], derived: true }]);
    for (const name of ["id", "plain"]) expect(one.isLabelled(`log.${name}`)).toBeUndefined();
    await one.ddl("alter table log add column more people");
    expect(one.isLabelled("log.more")).toBeDefined();
  });

  test("a view's own label stays through a rename, and what flowed into it is the view's for as long as it does", async () => {
    await fresh();
    const one = startGateway(policyOf("public.source.id", "public.people.ssn")).session();
    await one.read();
    await one.ddl("alter view source rename column id to number");
    await one.ddl("create or replace view source as select id as number, ''::text as ssn from people");
    expect(one.isLabelled("source.number")).toBeDefined();
    expect(one.isLabelled("source.ssn")).toBeUndefined();
  });

  test("a table that had a label within a transaction only keeps it", async () => {
    await fresh();
    const [gateway, other] = [startGateway(), startGateway()];
    const [one, another] = [gateway.session(), other.session()];
    await one.read();
    await another.read();
    await one.ddl("begin");
    await one.ddl("create table moved (id int, ssn text)");
    await one.ddl("alter table people attach partition moved for values in (2)");
    await one.ddl("alter table people detach partition moved");
    // Another gateway does not see the table, and takes its column for no gone one.
    await another.ddl("create table other (id int)");
    expect(one.isLabelled("moved.ssn")).toMatchObject({ labels: ["pii"] });
    await one.ddl("commit");
    await another.read();
    for (const session of [one, another]) expect(session.isLabelled("moved.ssn")).toMatchObject({ labels: ["pii"] });
  });

  test("what a transaction named and took back has no label", async () => {
    await fresh();
    const one = startGateway().session();
    await one.read();
    await one.ddl("begin");
    await one.ddl("alter table people rename column ssn to other");
    await one.ddl("alter table people rename column id to ssn");
    expect(one.isLabelled("people.ssn")).toBeDefined();
    await one.ddl("rollback");
    const later = startGateway().session();
    await later.read();
    for (const { isLabelled } of [one, later]) {
      expect(isLabelled("people.id")).toBeUndefined();
      expect(isLabelled("part.id")).toBeUndefined();
      expect(isLabelled("people.ssn")).toBeDefined();
    }
  });

  test("a binding goes with its column, its table, or the label's name", async () => {
    await fresh();
    const gateway = startGateway();
    const one = gateway.session();
    await one.read();
    const count = (await stored()).length;
    await one.ddl("create table gone partition of people for values in (3)");
    expect(await stored()).toHaveLength(count + 1);
    await one.ddl("alter table people detach partition gone");
    expect(await stored()).toHaveLength(count + 1);
    await one.ddl("alter table gone drop column ssn");
    expect(await stored()).toHaveLength(count);
    await one.ddl("create table gone2 partition of people for values in (3)");
    expect(await stored()).toHaveLength(count + 1);
    await one.ddl("drop table gone2");
    expect(await stored()).toHaveLength(count);
    await one.ddl("alter table people detach partition part");
    gateway.relabel(policyOf("public.typed_row.ssn"));
    await one.read();
    expect(one.isLabelled("part.ssn")).toBeUndefined();
    expect((await stored()).filter((name) => name.startsWith("public.people"))).toEqual([]);
    gateway.relabel(labelled);
    await one.read();
    expect(one.isLabelled("part.ssn")).toBeUndefined();
    expect(one.isLabelled("people.ssn")).toBeDefined();
  });

  test("a session that reads names while its policy is replaced takes no binding of the new one's away", async () => {
    await fresh();
    const gateway = startGateway(policyOf("public.typed_row.ssn"));
    const [one, another] = [gateway.session(), gateway.session()];
    gateway.beforeBindings(async () => {
      gateway.relabel(labelled);
      await another.read();
      expect(another.isLabelled("part.ssn")).toBeDefined();
    });
    await one.read();
    await another.ddl("alter table people detach partition part");
    expect(another.isLabelled("part.ssn")).toBeDefined();
  });

  test("nobody reads names by labels that could not be kept, and they are kept once they can be", async () => {
    await fresh();
    const gateway = startGateway();
    const [one, another] = [gateway.session(), gateway.session()];
    await one.read();
    gateway.failSaves(new Error("the disk"));
    await admin.unsafe("create table more partition of people for values in (6)").simple();
    await expect(one.read()).rejects.toThrow("the disk");
    await expect(another.read()).rejects.toThrow("the disk");
    expect(one.isLabelled("more.ssn")).toBeUndefined();
    gateway.failSaves(undefined);
    await one.ddl("alter table people detach partition part");
    await another.ddl("alter table people detach partition more");
    const later = startGateway().session();
    await later.read();
    for (const column of ["part.ssn", "more.ssn"]) expect(later.isLabelled(column)).toBeDefined();
  });

  test("two gateways that bind at once lose nothing of each other", async () => {
    await fresh();
    const [one, another] = [startGateway().session(), startGateway().session()];
    await Promise.all([one.read(), another.read()]);
    const sessions = [one, another];
    await Promise.all(
      sessions.map(async (session, index) => {
        for (let round = 0; round < 5; round++) {
          const name = `p${index}_${round}`;
          await session.ddl(`create table ${name} partition of people for values in (${10 * index + round + 10})`);
          await session.ddl(`alter table people detach partition ${name}`);
        }
      }),
    );
    const later = startGateway().session();
    await later.read();
    for (const index of [0, 1])
      for (let round = 0; round < 5; round++) expect(later.isLabelled(`p${index}_${round}.ssn`)).toBeDefined();
  });

  test("as many columns as the limit may have a label, and with one more names are not read", async () => {
    await fresh();
    const one = startGateway().session();
    await one.read();
    const count = (await stored()).length;
    {
      using _ = loweredLimits({ labelBindingsMax: count + 1 });
      await one.ddl("create table more partition of people for values in (4)");
      expect(one.isLabelled("more.ssn")).toBeDefined();
    }
    using _ = loweredLimits({ labelBindingsMax: count + 1 });
    await expect(one.ddl("create table most partition of people for values in (5)")).rejects.toMatchObject({
      code: "protocol.too_large",
      hint: expect.stringContaining("drop tables, or label fewer"),
    });
    await admin.unsafe("drop table most").simple();
    await one.read();
  });
});
