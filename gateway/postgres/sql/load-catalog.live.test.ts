/** The snapshot against real servers: what it holds, that it cannot be shadowed, and that it notices changes. */
import { afterAll, beforeAll, describe, expect, setSystemTime, test } from "bun:test";
import postgres from "postgres";
import { loweredLimits } from "../../../scripts/lowered-limits.ts";
import { hasPostgres15 } from "../../../scripts/postgres/installed.ts";
import { type PostgresVersion, type RunningPostgres, startPostgres } from "../../../scripts/postgres/server.ts";
import type { PostgresTarget } from "../../config.ts";
import type { LogFields } from "../../log.ts";
import type { PolicyRevision } from "../../session/dependencies.ts";
import { Catalogs } from "../catalogs.ts";
import type { Catalog } from "./catalog.ts";
import { loadCatalog, loadNames } from "./load-catalog.ts";

const versions: PostgresVersion[] = hasPostgres15 ? ["15", "embedded"] : ["embedded"];
describe.each(versions)("PostgreSQL %s", (version) => {
  let server: RunningPostgres;
  let sql: postgres.Sql;
  const run = async (text: string) =>
    (await sql.unsafe(text).simple().raw()).map((row) => row.map((value) => value && Buffer.from(value).toString()));
  const load = (previous?: Catalog) => loadCatalog(run, previous);

  beforeAll(async () => {
    server = await startPostgres({ version });
    const { host, port, user, password, database } = server;
    sql = postgres({ host, port, user, password, database, max: 1, onnotice: () => {} });
    await sql.unsafe(`
      create table parent (id int, "Odd ""name" varchar(10));
      create table child (doubled int generated always as (id * 2) stored) inherits (parent);
      create view seen as select id from parent;
      create view information_schema.seen as select id from parent;
      create function mine(int) returns bool language sql as 'select true';
      create function pair(int, int) returns bool language sql as 'select true';
      create function pg_catalog.more() returns bool language sql as 'select true';
      create function information_schema._pg_more() returns bool language sql as 'select true';
      create operator <<<< (leftarg = int, rightarg = int, function = pair);
      alter table parent add column gone int;
      alter table parent drop column gone;`);
  }, 60_000);
  afterAll(async () => {
    await sql?.end();
    await server?.stop();
  });

  test("holds relations, columns, parents, views, functions and users' operators", async () => {
    const catalog = await load();
    const parent = catalog.relation("public", "parent");
    const child = catalog.relation("public", "child");
    expect(parent?.columns.map(({ name, typeModifier }) => [name, typeModifier])).toEqual([
      ["id", -1],
      ['Odd "name', 14],
    ]);
    expect(child?.parents).toEqual([parent?.oid ?? 0]);
    expect(child?.columns.at(-1)?.generated).toBe("(id * 2)");
    expect(catalog.relation("public", "seen")?.definition).toContain("parent");
    expect(catalog.relation("information_schema", "seen")?.definition).toContain("parent");
    expect(catalog.relation("information_schema", "tables")?.definition).toBeNull();
    expect(catalog.relation("pg_catalog", "pg_stats")?.definition).toBeNull();
    expect(catalog.hasFunction("public", "mine")).toBe(true);
    expect(catalog.hasFunction("pg_catalog", "lower")).toBe(true);
    expect(catalog.snapshot.addedFunctions?.toSorted()).toEqual(["information_schema._pg_more", "pg_catalog.more"]);
    expect(catalog.operators("<<<<")).toEqual([{ schema: "public", name: "<<<<", function: "public.pair" }]);
    expect(catalog.operators("=")).toEqual([]);
    expect(catalog.searchPath).toEqual(["pg_catalog", "public"]);
    expect(await loadNames(run)).toEqual({ searchPath: ["pg_catalog", "public"], currentUser: server.user });
  });

  test("is the same object until something changed", async () => {
    const first = await load();
    expect(await load(first)).toBe(first);
    for (const change of [
      "alter table parent rename to renamed",
      "alter table renamed rename to parent",
      'alter table parent alter column "Odd ""name" type text',
      "create or replace view seen2 as select 1 as a",
      "create or replace view seen2 as select 2 as a",
      "create function another() returns int language sql as 'select 1'",
      "create schema fresh",
      "create temp table parent (id int)",
      "drop table pg_temp.parent",
      "set search_path = fresh, public",
      "reset search_path",
    ]) {
      const before = await load();
      await sql.unsafe(change);
      expect({ change, same: (await load(before)) === before }).toEqual({ change, same: false });
    }
  });

  test("is what a first reading gives after any change, of which only what it touched is read again", async () => {
    const asked: string[] = [];
    const counted = async (text: string) => {
      asked.push(text);
      return await run(text);
    };
    // A view's text that is known from before stays spelled for the path of then.
    const sorted = ({ snapshot: { relations, ...names } }: Catalog) => ({
      ...Object.fromEntries(Object.entries(names).map(([name, value]) => [name, [value].flat().sort()])),
      relations: relations.map(({ spelledFor: _, ...rest }) => rest).sort((one, other) => one.oid - other.oid),
    });
    await sql.unsafe("create schema aside; create function aside.far() returns int language sql as 'select 1'");
    let catalog = await load();
    for (const change of [
      "create table aside.fresh (id int, note text)",
      "alter table aside.fresh rename note to words",
      "create view aside.over as select words from aside.fresh",
      "alter table aside.fresh drop column id",
      "create domain aside.short as text",
      "alter type aside.short rename to brief",
      "create function aside.near(int, int) returns bool language sql as 'select true'",
      "create operator aside.|||| (leftarg = int, rightarg = int, function = aside.near)",
      "alter function aside.near(int, int) rename to nearer",
      "alter operator aside.|||| (int, int) set schema public",
      "alter schema aside rename to beside",
      "alter schema information_schema rename to renamed_schema",
      "alter schema renamed_schema rename to information_schema",
      "create temp table brief (id int)",
      "drop table brief",
      "drop operator ||||(int, int)",
      "drop function beside.nearer",
      "drop schema beside cascade",
    ]) {
      await sql.unsafe(change);
      catalog = await loadCatalog(counted, catalog);
      expect([change, sorted(catalog)]).toEqual([change, sorted(await load())]);
    }
    await sql.unsafe("create table fresh (id int)");
    asked.length = 0;
    catalog = await loadCatalog(counted, catalog);
    expect(asked.filter((text) => /from pg_catalog\.(?:pg_proc|pg_operator)\b/.test(text))).toEqual(asked.slice(0, 1));
    await sql.unsafe("drop table fresh");
  });

  test("of a database with as many relations as the limit is read, and with one more refused", async () => {
    const relations = Number(
      (await run(`select count(*) from pg_class where relkind = any ('{r,p,v,m,f,S,c}'::"char"[])`))[0]?.[0],
    );
    {
      using _ = loweredLimits({ catalogRelationsMax: relations });
      expect((await load()).relation("public", "parent")).toBeDefined();
    }
    using _ = loweredLimits({ catalogRelationsMax: relations - 1 });
    await expect(load()).rejects.toMatchObject({ code: "protocol.too_large" });
  });
  test("is looked at again once it is older than the limit, though the clock is set back", async () => {
    using _ = loweredLimits({ catalogRefreshMs: 1_000 });
    const policy = { labelsOf: () => new Map() } as unknown as PolicyRevision;
    const store = { labelBindings: async () => [], saveLabelBindings: async () => undefined };
    const analysers = new Catalogs(store, { current: () => policy });
    const analyser = analysers.forSession({ name: "app" } as PostgresTarget, server.database);
    await analyser.refresh(run, false);
    expect(analyser.stale).toBe(false);
    setSystemTime(Date.now() - 3_600_000);
    await Bun.sleep(1_050);
    expect(analyser.stale).toBe(true);
    await analyser.refresh(run, false);
    setSystemTime();
    expect(analyser.stale).toBe(false);
  });
  test("a label of a column that is not there is warned of, once for each set of them", async () => {
    const policyOf = (...names: string[]) =>
      ({ labelsOf: () => new Map(names.map((name) => [name, ["pii"]])) }) as unknown as PolicyRevision;
    let policy = policyOf("public.parent.id", "public.parent.iid");
    const store = { labelBindings: async () => [], saveLabelBindings: async () => undefined };
    const warned: unknown[] = [];
    const log = { warn: (_: string, fields?: LogFields) => void warned.push(fields) };
    const analysers = new Catalogs(store, { current: () => policy }, log);
    const target = { name: "app" } as PostgresTarget;
    const [database, columns] = ["d", ["public.parent.iid"]];
    for (let session = 0; session < 2; session++) await analysers.forSession(target, database).refresh(run, false);
    expect(warned).toEqual([{ target: "app", database, columns }]);
    policy = policyOf("public.parent.id");
    await analysers.forSession(target, database).refresh(run, false);
    expect(warned).toHaveLength(1);
  });
  test("cannot be answered by what the search path puts before pg_catalog", async () => {
    await sql.unsafe(`
      create schema evil;
      create table evil.pg_class (oid oid, relname name);
      create function evil.current_schemas(bool) returns name[] language sql as $$ select array['evil'::name] $$;
      create function evil.never(oid, oid) returns bool language sql as 'select false';
      create operator evil.= (leftarg = oid, rightarg = oid, function = evil.never);
      set search_path = evil, pg_catalog`);
    const catalog = await load();
    expect(catalog.searchPath.filter((name) => !name.startsWith("pg_temp"))).toEqual(["evil", "pg_catalog"]);
    expect(catalog.relation("public", "parent")?.columns).toHaveLength(2);
    // PostgreSQL itself looks for a view's text by the operators of the path.
    expect(catalog.relation("public", "seen")?.definition).toContain("public.parent");
    expect((await run("show search_path"))[0]).toEqual(["evil, pg_catalog"]);
    await sql.unsafe("reset search_path");
  });

  test("asks for the text of a view once, until what it names is changed; a name of its own schema hides nothing", async () => {
    await sql.unsafe(`
      create table base (a int, b int);
      create type kind as (a int, b int);
      create table typed of kind;
      create table parted (a int, b int) partition by range (b, (a + 1));
      create function doubled(int) returns int language sql as 'select $1 * 2';
      create view over_base as select a, doubled(b) as b2 from base;
      create view over_view as select a from over_base;`);
    let asked = 0;
    const watched = (previous?: Catalog) =>
      loadCatalog((text) => {
        if (text.includes("pg_get_viewdef")) asked += 1;
        return run(text);
      }, previous);
    let before = await watched();
    expect(before.relation("public", "typed")?.parents).toEqual([before.relation("public", "kind")?.oid ?? 0]);
    expect(before.relation("public", "parted")?.partitionKey).toEqual([2, 0]);
    const textOf = (name: string) => before.relation("public", name)?.definition;
    const after = async (change: string) => {
      await sql.unsafe(change);
      asked = 0;
      before = await watched(before);
      return asked;
    };
    expect(await after("create table elsewhere (a int); create temp table more (a int)")).toBe(0);
    expect(await after("create view new_view as select 1 as x")).toBe(1);
    expect(await after("alter table base rename a to aa")).toBe(1);
    expect(textOf("over_base")).toContain("aa");
    expect(await after("alter function doubled(int) rename to twice")).toBe(1);
    expect(textOf("over_base")).toContain("twice");
    expect(await after("create temp table base (a int, b int)")).toBe(0);
    expect(textOf("over_base")).toContain("public.base");
    expect(await after("alter view over_base rename to under_view")).toBe(1);
    expect(textOf("over_view")).toContain("under_view");
    expect(await after("create schema moved; alter table public.base set schema moved")).toBe(1);
    expect(await after("alter schema moved rename to gone")).toBe(1);
    expect(textOf("under_view")).toContain("gone.base");
    expect(await after("create table public.pg_authid (x int); create temp view of_temp as select a from more")).toBe(
      1,
    );
    const temporary = [...before.relations()].find(({ name }) => name === "of_temp");
    expect(temporary?.spelledFor).toEqual(["pg_catalog", temporary?.schema ?? ""]);
    await sql.unsafe("drop table public.pg_authid; drop table pg_temp.base, pg_temp.more cascade");
  });

  test("takes no lock on what views name", async () => {
    await sql.unsafe("create table held (a int); create view over_held as select a from held");
    const catalog = await load();
    await sql.unsafe("create table one_more (a int)");
    await sql.begin(async (transaction) => {
      await loadCatalog(
        async (text) =>
          (await transaction.unsafe(text).simple().raw()).map((row) =>
            row.map((value) => value && Buffer.from(value).toString()),
          ),
        catalog,
      );
      const locked = await transaction`select count(*)::int as n from pg_locks where relation = 'held'::regclass`;
      // The regclass above takes none.
      expect(locked[0]?.n).toBe(0);
    });
  });
});
