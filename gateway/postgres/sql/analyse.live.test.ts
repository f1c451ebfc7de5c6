/** Predictions against what real servers answer: result columns by (table OID, attribute), over a corpus of queries. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import postgres from "postgres";
import { hasPostgres15 } from "../../../scripts/postgres/installed.ts";
import { type PostgresVersion, type RunningPostgres, startPostgres } from "../../../scripts/postgres/server.ts";
import { analyse } from "./analyse.ts";
import type { NameContext } from "./catalog.ts";
import { bindLabels } from "./labels.ts";
import { loadCatalog } from "./load-catalog.ts";

const schema = `
create table people (id int primary key, name text, ssn text, code varchar(10), plain varchar, born date, tags text[], info jsonb);
create table orders (id int primary key, person_id int references people, total numeric(10,2), note text, name text);
create table "Mixed Case" ("Id" int, "select" text);
create table parent (id int, secret text);
create table child (extra int) inherits (parent);
create table measured (at date, id int, secret text) partition by range (at);
create table measured_2024 partition of measured for values from ('2024-01-01') to ('2025-01-01');
create table computed (id int, ssn text, shadow text generated always as (upper(ssn)) stored);
create table other (ssn text, name text);
create table dropped (a int, b text, c int);
alter table dropped drop column b;
create type address as (street text, town text);
create table homes (id int, addr address);
create view v_plain as select id, ssn, name as label from people;
create view v_derived as select id, md5(ssn) as digest from people;
create view v_over as select * from v_plain;
create view v_union as select ssn from people union all select ssn from other;
create materialized view m_people as select id, ssn from people;
create schema side;
create table side.people (id int, ssn text, remark text);
create function mine(int) returns int language sql as 'select $1';
create function many() returns table(a int, ssn text) language sql as 'select id, ssn from public.people';
create function leak(people) returns text language sql as 'select $1.ssn';
create procedure doing(int) language sql as 'select 1';
`;

/** Queries whose every result column must be predicted exactly. */
const exact = [
  "select 1",
  "select ssn from people",
  "select * from people",
  "select p.* from people p",
  "select p.ssn as x, upper(p.ssn) from people p",
  'select "ssn" from "people"',
  'select U&"\\0073sn" from people',
  "table people",
  "select people.ssn from public.people",
  "select public.people.ssn from public.people",
  "select (p).ssn from people p",
  "select (p).* from people p",
  "select ssn(p) from people p",
  "select p from people p",
  "select p::text from people p",
  "select row_to_json(p) from people p",
  "select ssn::text from people",
  "select ssn::varchar from people",
  "select cast(ssn as text) from people",
  "select ssn::text::text from people",
  "select code::varchar from people",
  "select code::text from people",
  "select plain::varchar from people",
  "select id::int, id::integer, id::bigint from people",
  'select ssn collate "C" from people',
  "select ssn || '' from people",
  "select s.ssn from (select ssn from people) s",
  "select s.x from (select ssn x from people) s",
  "select s.a from (select ssn, id from people) s(a, b)",
  "select * from (select id, ssn from people) s",
  "select s.* from (select id, upper(ssn) u from people) s",
  "select s.lower from (select lower(ssn) from people) s",
  "select s.ssn from (select * from (select * from people) t) s",
  "select s from (select ssn from people) s",
  "with c as (select ssn from people) select ssn from c",
  "with c(z) as (select ssn from people) select z, c.z from c",
  "with a as (select * from people), b as (select * from a) select b.ssn from b",
  "with recursive t as (select ssn from people) select * from t",
  "with recursive t(n) as (select 1 union all select n + 1 from t where n < 3) select n from t",
  "with recursive t(id, s) as (select id, ssn from people union all select id + 1, s from t where id < 0) select * from t",
  "with people as (select 'x'::text as ssn) select ssn from people",
  "with people as (select * from people) select ssn from people",
  "with c as materialized (select ssn from people) select * from c",
  "select l.ssn from orders o, lateral (select p.ssn from people p where p.id = o.person_id) l",
  "select l.s from people p, lateral (select p.ssn as s) l",
  "select l.s from people p cross join lateral (select p.ssn as s) l",
  "select l.* from people p left join lateral (select o.total, p.name from orders o where o.person_id = p.id) l on true",
  "select * from people p join orders o on o.person_id = p.id",
  "select * from people join orders using (id)",
  "select id, people.id, orders.id from people join orders using (id)",
  "select id from people left join orders using (id)",
  "select id from people right join orders using (id)",
  "select id from people full join orders using (id)",
  "select ssn from people join other using (ssn)",
  "select ssn from people full join other using (ssn)",
  "select * from people natural join other",
  "select * from people join orders using (id) join computed using (id)",
  "select j.* from (people join orders using (id)) j",
  "select j.ssn from (people p join orders o on true) j(a, b, ssn)",
  "select name from people join orders using (name)",
  "select * from people cross join orders",
  "select p.ssn, q.ssn from people p, people q",
  "select ssn from people union all select ssn from other",
  "select ssn from people union select name from people",
  "select u.ssn from (select ssn from people union all select ssn from other) u",
  "select ssn from people intersect select ssn from other",
  "select ssn from people except select ssn from other order by 1",
  "values (1, 'a'), (2, 'b')",
  "select column1 from (values (1), (2)) v",
  "select v.a from (values (1), (2)) v(a)",
  "select distinct ssn from people",
  "select distinct on (ssn) ssn, id from people",
  "select ssn from people group by ssn",
  "select ssn, count(*) from people group by 1",
  "select name n from people group by n",
  "select id, ssn from people group by id",
  "select s.ssn from (select ssn from people group by ssn) s",
  "select ssn from people order by ssn limit 3",
  "select name as ssn from people order by ssn",
  "select min(ssn) from people",
  "select string_agg(ssn, ',' order by id) from people",
  "select row_number() over (partition by ssn order by id) from people",
  "select first_value(ssn) over w from people window w as (order by id)",
  "select count(*) filter (where ssn = 'x') from people",
  "select case when ssn = 'x' then 1 else 0 end from people",
  "select coalesce(ssn, name) from people",
  "select (select ssn from people limit 1)",
  "select array(select ssn from people)",
  "select exists (select * from people)",
  "select id from people where ssn in (select ssn from other)",
  "select id from people p where exists (select 1 from other o where o.ssn = p.ssn)",
  "select ctid, tableoid, xmin from people",
  "select tags[1], tags from people",
  "select info -> 'a', info ->> 'b' from people",
  "select extract(year from born), born at time zone 'utc' from people",
  "select current_date, current_user, localtimestamp(2)",
  "select * from generate_series(1, 3)",
  "select g from generate_series(1, 3) g",
  "select g.n from generate_series(1, 3) as g(n)",
  "select * from generate_series(1, 3) with ordinality",
  "select key, value from jsonb_each('{}'::jsonb)",
  "select e.key, p.ssn from people p, jsonb_each_text(p.info) e",
  "select value from jsonb_array_elements('[]'::jsonb)",
  "select x.a, x.b from jsonb_to_recordset('[]') as x(a int, b text)",
  "select a.ssn, a.a from many() a",
  "select u, p.ssn from people p, unnest(p.tags) u",
  "select p from people p, many() m",
  "select unnest(string_to_array(ssn, null)) from people",
  "select regexp_split_to_table(ssn, '') from people",
  "select grouping(name), name from people group by rollup (name)",
  'select "Id", "select" from "Mixed Case"',
  "select * from dropped",
  "select dropped.c from dropped",
  "select * from parent",
  "select secret from child",
  "select * from only parent",
  "select * from measured",
  "select secret from measured_2024",
  "select shadow from computed",
  "select * from v_plain",
  "select label, ssn from v_plain",
  "select * from v_derived",
  "select * from v_over",
  "select * from v_union",
  "select * from m_people",
  "select side.people.ssn from side.people",
  "select a.remark, b.ssn from side.people a join people b using (id)",
  "select (addr).street, addr, homes.addr from homes",
  "select (h.addr).town from homes h",
  "select addr(h) from homes h",
  "select nspname from pg_namespace",
  "select c.relname, n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace",
  "select table_name from information_schema.tables",
  "insert into other values ('x', 'y') returning ssn, name",
  "insert into other (ssn) values ('x') returning *",
  "insert into other as o select ssn, name from people returning o.ssn, upper(o.name)",
  "insert into people (id, ssn) values (1, 'x') on conflict (id) do update set ssn = excluded.ssn returning id, ssn",
  "update people set name = 'x' where id = 1 returning ssn, people",
  "update people p set name = o.note from orders o where o.person_id = p.id returning p.ssn, o.note",
  "update people set name = 'x' where false returning *",
  "update people p set name = o.note from orders o where false returning *",
  "delete from people where false returning *",
  "delete from people p using orders o where false returning p.ssn, o.*",
  "with d as (delete from people where false returning *) select ssn from d",
  "with d as (insert into other values ('1', '2') returning ssn as x) select x from d",
  "with d as (update people set name = 'x' where false returning ssn, md5(ssn)) select * from d",
  "select x.ssn from (select p.* from people p) x, (select q.ssn as ssn2 from people q) y",
  "select ssn from people tablesample bernoulli (10)",
  "select p.ssn from people p for update",
  "select nullif(ssn, ''), greatest(ssn, name), row(ssn), array[ssn] from people",
  "select z.nullif from (select nullif(ssn, '') from people) z",
  "select z.coalesce, z.case, z.array, z.row from (select coalesce('a'), case when true then 1 end, array[1], row(1)) z, people",
  "select xmlelement(name a, ssn) from people",
  "select z.int4 from (select '1'::int) z",
  "select z.id from (select id::text from people) z",
  "select sub.exists from (select exists (select 1)) sub",
];
/** The server keeps the column where that cannot be proved here: predicted as computed, which denies more. */
const stricter = [
  "select ssn from people join (select 'x'::text as ssn) q using (ssn)",
  'select ssn::text collate "default" from people',
];
const since17 = [
  "merge into people p using other o on p.ssn = o.ssn when matched then update set name = o.name returning p.ssn, o.name",
  "merge into people p using other o on p.ssn = o.ssn when matched then do nothing returning *",
  "merge into people p using other o on p.ssn = o.ssn when matched then delete returning merge_action(), p.*",
  "select j.a from people p, json_table(p.ssn::jsonb, '$' columns (a text path '$')) j",
  "select json_object('a': ssn), json_array(ssn), ssn is json from people",
];
const since18 = [
  "update people set name = 'x' where false returning old.ssn, new.ssn, old, new.name",
  "update people set name = 'x' where false returning with (old as o, new as n) o.ssn, n.*",
  "update people set name = 'x' where false returning ctid, tableoid, old.ctid, new.xmin",
  "delete from people where false returning old.*",
];

const versions: PostgresVersion[] = hasPostgres15 ? ["15", "embedded"] : ["embedded"];
describe.each(versions)("PostgreSQL %s", (version) => {
  let server: RunningPostgres;
  let sql: postgres.Sql;
  let context: NameContext;

  beforeAll(async () => {
    server = await startPostgres({ version });
    const { host, port, user, password, database } = server;
    sql = postgres({ host, port, user, password, database, max: 1, onnotice: () => {} });
    await sql.unsafe(schema);
    const catalog = await loadCatalog(async (text) =>
      (await sql.unsafe(text).simple().raw()).map((row) =>
        row.map((value) => value && Buffer.from(value).toString("utf8")),
      ),
    );
    const given = new Map([
      ["public.people.ssn", ["pii"]],
      ["public.parent.secret", ["pii"]],
      ["public.measured.secret", ["pii"]],
      ["public.computed.ssn", ["pii"]],
    ]);
    context = { catalog, searchPath: catalog.searchPath, labels: bindLabels(catalog, given, new Map()).labels };
  }, 60_000);
  afterAll(async () => {
    await sql?.end();
    await server?.stop();
  });

  test.each(stricter)("reports a labelled column it cannot place as derived: %s", (query) => {
    const { command } = analyse(query, context);
    const uses = command.statements[0]?.columns.filter(({ column }) => column === "ssn").map(({ use }) => use);
    expect(uses).toContain("derived");
    expect(uses).not.toContain("output");
  });

  const queries = version === "15" ? exact : [...exact, ...since17, ...since18];
  test.each(queries)("predicts %s", async (query) => {
    const { command, statements, error } = analyse(query, context);
    expect(error).toBeUndefined();
    expect(command.incomplete).toEqual([]);
    const described = await sql.unsafe(query).describe();
    const actual = described.columns.map(({ table, number }) => `${table}.${(number << 16) >> 16}`);
    const predicted = statements[0]?.outputColumns?.map(({ oid, attnum }) => `${oid}.${attnum}`);
    expect(predicted).toEqual(actual);
  });

  test("a type that takes the name of a built-in one or of a column is told from it", async () => {
    await sql
      .begin(async (inside) => {
        await inside.unsafe(`
        insert into people (id, ssn) values (1, 'secret');
        create domain pg_temp.text as pg_catalog.text check (value <> 'secret');
        create domain ssn as people check (((value).ssn) <> 'secret');
        create domain tags as pg_catalog.text[] check (cardinality(value) > 9);
        create type addr as enum ('a')`);
        const catalog = await loadCatalog(async (text) =>
          (await inside.unsafe(text).simple().raw()).map((row) =>
            row.map((value) => value && Buffer.from(value).toString()),
          ),
        );
        expect(catalog.snapshot.types?.toSorted()).toEqual([
          `${catalog.searchPath[0]}.text`,
          "public.addr",
          "public.ssn",
          "public.tags",
        ]);
        const own = { ...context, catalog, searchPath: catalog.searchPath };
        for (const query of [
          "select ssn::text from people",
          "select ssn(p) from people p",
          "select cast(p.ssn as text) from people p",
        ]) {
          await expect(inside.savepoint((saved) => saved.unsafe(`explain (analyze) ${query}`))).rejects.toMatchObject({
            code: "23514",
          });
          const { columns = [] } = analyse(query, own).command.statements[0] ?? {};
          expect(columns.filter(({ column }) => column === "ssn").map(({ use }) => use)).toEqual(["derived"]);
        }
        throw new Error("undo");
      })
      .catch((error) => expect(error.message).toBe("undo"));
  });

  test("of a database in EUC_JP, names that are one there are not taken for two", async () => {
    await sql.unsafe("create database euc encoding 'EUC_JP' locale 'C' template template0");
    const { host, port, user, password } = server;
    await using there = {
      sql: postgres({ host, port, user, password, database: "euc", max: 1 }),
      [Symbol.asyncDispose]: () => there.sql.end(),
    };
    await there.sql.unsafe("create table people (id int, ssn text); insert into people values (1, 'secret')");
    const catalog = await loadCatalog(async (text) =>
      (await there.sql.unsafe(text).simple().raw()).map((row) =>
        row.map((value) => value && Buffer.from(value).toString()),
      ),
    );
    const labels = bindLabels(catalog, new Map([["public.people.ssn", ["pii"]]]), new Map()).labels;
    for (const query of [
      `select (select upper("¦") from people as c(a, "￤")) as x from (select 'x'::text as "¦") k`,
      "select $¦$ $￤$, upper(ssn) as x from people -- $¦$",
    ]) {
      expect(await there.sql.unsafe(query)).toMatchObject([{ x: "SECRET" }]);
      expect(analyse(query, { catalog, labels, searchPath: catalog.searchPath }).command.complete).toBe(false);
    }
  });
});
