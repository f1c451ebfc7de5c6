/** What policy is told of a command: the corpus of evasions, by use, feature, function and completeness. */
import { describe, expect, test } from "bun:test";
import { loweredLimits } from "../../../scripts/lowered-limits.ts";
import type { AnalysedCommand } from "../analysed.ts";
import { analyse } from "./analyse.ts";
import { AnalysisCache } from "./cache.ts";
import { Catalog, type CatalogRelation, type NameContext } from "./catalog.ts";
import { bindLabels } from "./labels.ts";
import { normalise } from "./normalise.ts";

const types: Readonly<Record<string, number>> = { int: 23, text: 25, coded: 30_000 };
let nextOid = 20_000;

/** "id int, ssn text" as a relation of the catalog. */
function relation(name: string, columns: string, more: Partial<CatalogRelation> = {}): CatalogRelation {
  const [schema = "", table = ""] = name.split(".");
  nextOid += 1;
  return {
    oid: nextOid,
    schema,
    name: table,
    kind: "r",
    parents: [],
    definition: null,
    columns: columns.split(", ").map((column, index) => {
      const [columnName = "", type = ""] = column.split(" ");
      return { attnum: index + 1, name: columnName, typeOid: types[type] ?? 0, typeModifier: -1, generated: null };
    }),
    ...more,
  };
}

/** Views whose columns show something of labelled ones by the conditions under which they have a value. */
function derivingViews(): CatalogRelation[] {
  const texts: [string, string, string][] = [
    ["ranked_view", "place int", "SELECT rank() OVER w AS place FROM people WINDOW w AS (ORDER BY ssn)"],
    ["exists_view", "found int", "SELECT EXISTS (SELECT FROM people p WHERE p.ssn ~~ '1%') AS found FROM orders"],
    ["counting_view", "n int", "SELECT (SELECT count(*) FROM people q WHERE q.ssn < p.ssn) AS n FROM people p"],
    [
      "json_array_view",
      "id int, j json",
      "SELECT id, JSON_ARRAYAGG(1) OVER w AS j FROM people WINDOW w AS (ORDER BY ssn)",
    ],
    [
      "json_object_view",
      "id int, j json",
      "SELECT id, JSON_OBJECTAGG(id : 1) OVER (w ROWS 1 PRECEDING) AS j FROM people WINDOW w AS (ORDER BY ssn)",
    ],
    [
      "ordinal_view",
      "id int, ord int",
      "SELECT p.id, t.ord FROM people p, ROWS FROM (string_to_table(p.ssn, ''), generate_series(1, 2)) WITH ORDINALITY t(x, y, ord)",
    ],
    [
      "lateral_view",
      "n int",
      "SELECT s.n FROM people p, LATERAL (SELECT count(*) AS n FROM people q WHERE q.ssn < p.ssn) s",
    ],
    [
      "outer_view",
      "name text, there int",
      "SELECT p.name, o.id AS there FROM people p LEFT JOIN orders o ON p.ssn ~~ '1%'",
    ],
  ];
  for (const [name, definition] of [
    ["using_view", "SELECT h.id, p.id IS NOT NULL AS hit FROM hashed_table h LEFT JOIN people p USING (ssn)"],
    ["natural_view", "SELECT h.id, p.name IS NOT NULL AS hit FROM hashed_table h NATURAL LEFT JOIN people p"],
    [
      "nested_view",
      "SELECT o.id, h.id IS NOT NULL AS hit FROM orders o LEFT JOIN (hashed_table h JOIN people p ON h.ssn = p.ssn) ON h.id = o.id",
    ],
    [
      "filtered_view",
      "SELECT o.id, p.id IS NOT NULL AS hit FROM orders o LEFT JOIN (SELECT id FROM people WHERE ssn ~~ '9%') p ON p.id = o.id",
    ],
    [
      "cte_view",
      "WITH x AS (SELECT id FROM people WHERE ssn ~~ '9%') SELECT o.id, EXISTS (SELECT 1 FROM x WHERE x.id = o.id) AS hit FROM orders o",
    ],
    ["choosing_view", "SELECT id FROM people WHERE ssn ~~ '9%'"],
    ["over_view", "SELECT o.id, EXISTS (SELECT 1 FROM choosing_view c WHERE c.id = o.id) AS hit FROM orders o"],
  ] as const)
    texts.push([name, name === "choosing_view" ? "id int" : "id int, hit bool", definition]);
  return texts.map(([name, columns, definition]) =>
    relation(`public.${name}`, columns, { kind: "v", definition: `${definition};` }),
  );
}

const people = relation("public.people", "id int, name text, ssn text");
const builtIn = [
  "lower",
  "upper",
  "md5",
  "count",
  "min",
  "string_agg",
  "unnest",
  "now",
  "row_to_json",
  "set_config",
  "query_to_xml",
  "pg_notify",
  "generate_series",
  "string_to_table",
  "name",
  "text",
  "json_object",
];
const parted = relation("public.parted", "id int, ssn text", { kind: "p", partitionKey: [2] });
const byId = relation("public.by_id", "id int, ssn text", { kind: "p", partitionKey: [1] });
/** One of a table that is partitioned by what is not labelled, and partitioned by what is. */
const deep = relation("public.deep", "id int, ssn text", { kind: "p", partitionKey: [2], parents: [byId.oid] });
const byExpression = relation("public.by_expression", "id int, ssn text", { kind: "p", partitionKey: [0] });
const partitions = [
  deep,
  relation("public.part_of", "id int, ssn text", { parents: [parted.oid] }),
  relation("public.sub_parted", "id int, ssn text", { kind: "p", partitionKey: [1], parents: [parted.oid] }),
  relation("public.part_by_id", "id int, ssn text", { parents: [byId.oid] }),
  relation("public.part_deep", "id int, ssn text", { parents: [deep.oid] }),
  relation("public.part_by_expression", "id int, ssn text", { parents: [byExpression.oid] }),
  relation("public.of_parted", "id int", { kind: "v", definition: "SELECT parted.id FROM parted;" }),
  relation("public.partly", "id int, hit bool", {
    kind: "v",
    definition: "SELECT o.id, EXISTS (SELECT FROM part_of p WHERE p.id = o.id) AS hit FROM orders o;",
  }),
];

const snapshot = {
  relations: [
    people,
    relation("public.orders", "id int, person_id int, note text"),
    relation("public.child", "id int, name text, ssn text, extra text", { parents: [people.oid] }),
    relation("public.plain_view", "id int, who text", { kind: "v", definition: "SELECT id, ssn AS who FROM people;" }),
    relation("public.hashed_view", "digest text", { kind: "v", definition: "SELECT md5(ssn) FROM people;" }),
    relation("public.odd_view", "x text", { kind: "v", definition: "SELECT nowhere.x FROM nowhere;" }),
    relation("public.calling_view", "x int", { kind: "v", definition: "SELECT user_function(1) AS x;" }),
    relation("public.hashes", "id int, ssn text, copied text", {
      columns: [
        { attnum: 1, name: "ssn", typeOid: 25, typeModifier: -1, generated: null },
        { attnum: 2, name: "copied", typeOid: 25, typeModifier: -1, generated: "upper(ssn)" },
      ],
    }),
    ...derivingViews(),
    parted,
    byId,
    byExpression,
    ...partitions,
    relation("public.ruled", "id int", { hasRules: true }),
    relation("public.hashed_table", "id int, ssn text"),
    relation("public.secrets", "id int, code coded"),
    relation("evil.people", "id int, name text, ssn text"),
    relation("pg_catalog.pg_stats", "schemaname text, most_common_vals text"),
  ],
  schemas: ["public", "evil", "pg_catalog"],
  functions: [
    ...builtIn.map((name) => `pg_catalog.${name}`),
    "public.user_function",
    "public.describe",
    "public.json_value",
    "public.json_object",
    "public.json_arrayagg",
    "public.merge_action",
  ],
  operators: [{ schema: "public", name: "<<<", function: "public.operator_function" }],
  searchPath: ["pg_catalog", "public"],
  signature: "",
};
const catalog = new Catalog(snapshot);
const given = new Map([
  ["public.people.ssn", ["pii"]],
  ["public.hashes.ssn", ["pii"]],
  ["public.parted.ssn", ["pii"]],
  ["public.by_expression.ssn", ["pii"]],
  ["public.deep.ssn", ["pii"]],
  ["public.secrets.code", ["pii"]],
]);
const { labels } = bindLabels(catalog, given, new Map());
const context: NameContext = { catalog, searchPath: catalog.searchPath, labels };

function run(sql: string): AnalysedCommand {
  return analyse(sql, context);
}

/** Uses of labelled columns, over all statements. */
function uses(sql: string): string[] {
  const found = run(sql).command.statements.flatMap(({ columns }) =>
    columns.filter((column) => column.labels.length > 0).map(({ use }) => use),
  );
  return [...new Set(found)].sort();
}

describe("a labelled column", () => {
  test.each([
    ["select ssn from people", ["output"]],
    ["select p.ssn as harmless from people p", ["output"]],
    ["select (p).ssn from people p", ["output"]],
    ["select ssn(p) from people p", ["output"]],
    ["table people", ["output"]],
    ["select who from plain_view", ["output"]],
    ["select ssn from child", ["output"]],
    ["with c as (select ssn from people) select * from c", ["output"]],
    ["select l.ssn from orders o, lateral (select p.ssn from people p where p.id = o.person_id) l", ["output"]],
    ["update people set name = 'x' where id = 1 returning ssn", ["output"]],
    ["select name from people", []],
    ["select count(*) from people", []],
    ["select 1 from orders where exists (select * from people)", []],
    ["select ssn || '' from people", ["derived"]],
    ['select ssn collate "C" from people', ["derived"]],
    ["select ssn::varchar from people", ["derived"]],
    ["select md5(ssn) from people", ["derived"]],
    ["select min(ssn) from people", ["derived"]],
    ["select unnest(array[ssn]) from people", ["derived"]],
    ["select case when ssn = 'x' then 1 end from people", ["derived"]],
    ["select (select ssn from people limit 1)", ["derived"]],
    ["select array(select ssn from people)", ["derived"]],
    ["select p from people p", ["derived"]],
    ["select p::text from people p", ["derived"]],
    ["select row_to_json(p) from people p", ["derived"]],
    ["select p.row_to_json from people p", ["derived"]],
    ["select count(p.*) from people p", ["derived"]],
    ["select row(p.*) from people p", ["derived"]],
    ["select s from (select ssn from people) s", ["derived"]],
    ["select p from people p, user_function(1) f", ["derived"]],
    ["select digest from hashed_view", ["output"]],
    ["select copied from hashes", ["output"]],
    ["select most_common_vals from pg_stats", ["output"]],
    ["select ssn from people union all select note from orders", ["derived"]],
    ["select ssn from people union select note from orders", ["derived", "order"]],
    ["select x.id from (select id, ssn from people) x", ["derived"]],
    ["with c as (select ssn from people) select 1", ["derived"]],
    ["select id from people where ssn like '1%'", ["predicate"]],
    ["select id from people where id in (select 1 from people where ssn = 'x')", ["predicate"]],
    ["select x.id from (select id, ssn from people) x where x.ssn = '1'", ["predicate"]],
    ["select a.id from people a join people b on a.ssn = b.ssn", ["predicate"]],
    ["select id from people a join (select ssn from people) b using (ssn)", ["predicate"]],
    ["select (array(select o from orders o))[length(ssn)].* from people", ["derived"]],
    ["select (select ssn from json_array_elements_text('[1]') as ssn) from people", ["derived"]],
    ["select id, (select ssn from json_array_elements_text('[1]') as value) from people", ["derived"]],
    ["select (select ssn from (select case when true then '' else ''::ssn end) s) from people", ["derived"]],
    [
      "select (select ssn from (select (case when true then '' else x.foo end)::ssn from (select '' foo) x) s) from people",
      ["derived"],
    ],
    ["select (select ssn from (select x.foo::text::ssn from (select '' foo) x) s) from people", ["derived"]],
    ["select (select ssn from (select (select '')::ssn) s) from people", ["derived"]],
    ["select (select ssn from (select ''::ssn) s) from people", []],
    ["select id, (select 1)::ssn from people order by ssn", ["order"]],
    ["select id, 1::ssn from people order by ssn", []],
    ["select p.id from people p natural join (select (select '1' as ssn union select '2')) s", ["predicate"]],
    ["select rank() over w from people window w as (order by ssn)", ["derived", "order"]],
    ["select rank() over (w rows 1 preceding) from people window v as (order by ssn), w as (v)", ["derived", "order"]],
    ["select json_arrayagg(1) over w from people window w as (order by ssn)", ["derived", "order"]],
    [
      "select json_objectagg(id: 1) over (w rows 1 preceding) from people window w as (order by ssn)",
      ["derived", "order"],
    ],
    ["select json_arrayagg(id order by ssn) from people", ["derived", "order"]],
    ["select json_objectagg(id: name) filter (where ssn like '1%') from people", ["derived", "predicate"]],
    ["select json_arrayagg(ssn) from people", ["derived"]],
    ["select json_arrayagg(id order by name) filter (where id > 1) over (order by id) from people", []],
    ["select j from json_array_view", ["output"]],
    ["select j from json_object_view", ["output"]],
    ["select id from json_array_view", []],
    ["select ord from ordinal_view", ["output"]],
    ["select id from ordinal_view", []],
    ["select place from ranked_view", ["output"]],
    ["select found from exists_view", ["output"]],
    ["select n from counting_view", ["output"]],
    ["select n from lateral_view", ["output"]],
    ["select there from outer_view", ["output"]],
    ["select name from outer_view", []],
    ["select tableoid from parted", ["derived"]],
    ["select tableoid from part_by_id", []],
    ["select tableoid from by_id", ["derived"]],
    ["update parted set id = 1 where id = 2 returning tableoid", ["derived"]],
    ["update parted set id = 1 where id = 2 returning new.tableoid", ["derived"]],
    ["select id from part_of", ["predicate"]],
    ["select count(*) from only part_of", ["predicate"]],
    ["select id from part_deep", ["predicate"]],
    ["select id from part_by_expression", ["predicate"]],
    ["select id from part_by_id", []],
    ["select id from deep", []],
    ["select 1 where exists (select from part_of where id = 1)", ["predicate"]],
    ["delete from part_of where id = 1", ["predicate"]],
    ["copy part_of (id) to stdout", ["predicate"]],
    ["create table t as select id from part_of", ["predicate"]],
    ["truncate part_of", []],
    ["vacuum part_of", []],
    ["lock part_of", []],
    ["drop table part_of", []],
    ["select id from parted", []],
    ["explain (analyze) select id from parted", ["predicate"]],
    ["explain select id from of_parted", ["predicate"]],
    ["explain analyze select id from by_id", ["predicate"]],
    ["explain analyze select id from part_by_id", []],
    ["explain analyze select id from people", []],
    ["select id from of_parted", []],
    ["select hit from partly", ["output"]],
    ["select id from partly", []],
    ["alter table parted attach partition orders for values from ('a') to ('b')", ["predicate"]],
    ["alter table by_id attach partition people for values from (1) to (2)", []],
    ["alter table by_expression attach partition people for values from (1) to (2)", ["predicate"]],
    ["alter table sub_parted attach partition people for values from (1) to (2)", ["predicate"]],
    ["create table part partition of parted for values from ('a') to ('b')", ["predicate"]],
    ["create table part partition of by_id for values from (1) to (2)", []],
    ["create table part partition of sub_parted for values from (1) to (2)", []],
    ["alter table people alter ssn set not null", ["derived"]],
    ["select id, (select ssn from user_set() as ssn limit 1) from people", ["derived"]],
    ["select id from people where exists (select 1 from user_set() as ssn where ssn like '9%')", ["predicate"]],
    ["select ssn as k, count(*) from people, user_set() u group by k", ["order", "output"]],
    ["select (select xmin from plain_view limit 1) from (select ssn as xmin from people) c", ["derived"]],
    ["with c(ctid) as (select ssn from people) select (select ctid from plain_view limit 1) from c", ["derived"]],
    [
      "select (select xmin from orders o join (select 1 y) s on true limit 1) from (select ssn as xmin from people) c",
      ["derived"],
    ],
    ["select (select xmin from orders limit 1) from (select ssn as xmin from people) c", ["derived"]],
    ["select hit from using_view", ["output"]],
    ["select hit from natural_view", ["output"]],
    ["select hit from nested_view", ["output"]],
    ["select hit from filtered_view", ["output"]],
    ["select hit from cte_view", ["output"]],
    ["select hit from over_view", ["output"]],
    ["select id from choosing_view", []],
    ["alter table people alter ssn type varchar(11)", ["derived"]],
    ["alter table orders add check (((null::people).ssn) > 'x')", ["derived"]],
    ["create domain d as people check ((value).ssn < '5')", ["derived"]],
    ["create domain d as people check ((value).name < '5')", []],
    ["alter domain d add check (value < 'x')", ["derived"]],
    ["select id from people order by ssn", ["order"]],
    ["select name as ssn from people order by ssn", []],
    ["select ssn as name from people order by name", ["order", "output"]],
    ["select ssn from people order by 1", ["order", "output"]],
    ["select distinct ssn from people", ["order", "output"]],
    ["select count(*) from people group by ssn", ["order"]],
    ["select count(*) from people group by rollup (name, ssn)", ["order"]],
    ["select count(*) over (partition by ssn) from people", ["derived", "order"]],
    ["select id from people group by id having min(ssn) > '1'", ["predicate"]],
    ["select count(*) filter (where ssn = 'x') from people", ["derived", "predicate"]],
    ["select id from people limit (select upper(ssn) from people)", ["derived", "predicate"]],
    ["explain select * from people where ssn = 'x'", ["output", "predicate"]],
    ["create table t as select ssn from people", ["derived"]],
    ["create temp view t as select ssn from people", ["derived"]],
    ["select ssn into t from people", ["derived"]],
    ["insert into orders (note) select ssn from people", ["derived"]],
    ["update orders set note = p.ssn from people p where p.id = person_id", ["derived"]],
    ["insert into people values (1, 'a', 'b')", ["write"]],
    ["insert into people (id) values (1)", []],
    ["insert into people (id) values (1) on conflict (ssn) do nothing", ["predicate"]],
    ["insert into people (id, ssn) values (1, 'x') on conflict (id) do update set ssn = excluded.ssn", ["write"]],
    ["update people set name = ssn where id = 1", ["derived"]],
    ["delete from people where ssn = '1'", ["predicate"]],
    ["merge into orders o using people p on p.ssn = o.note when matched then delete", ["predicate"]],
    ["copy people to stdout", ["output"]],
    ["copy people (id, name) to stdout", []],
    ["copy (select md5(ssn) from people) to stdout", ["derived"]],
    ["copy people from stdin", ["write"]],
    ["prepare p as select md5(ssn) from people", ["derived"]],
    ["declare c cursor for select ssn from people where ssn = 'x'", ["output", "predicate"]],
    ["create index on people (ssn)", ["derived"]],
    ["create index on people (upper(ssn))", ["derived"]],
    ["alter table people alter column name type text using ssn", ["derived"]],
    ["alter table people add constraint c check (ssn <> '1')", ["derived"]],
    ["alter table orders add foreign key (note) references people (ssn)", ["derived"]],
    ["alter table orders add foreign key (note) references people (id)", []],
    ["alter table orders add foreign key (note) references people", ["derived"]],
    ["alter table orders add foreign key (note) references evil.people", []],
    ["alter table orders add column extra text references people", ["derived"]],
    ["create table t (a text references people)", ["derived"]],
    [
      "create table t (a text, b int references people (id), foreign key (a) references people match full)",
      ["derived"],
    ],
    ["create table t (a text references people (id), b text references orders)", []],
    ["create table if not exists people (a text references people)", ["derived"]],
    ["create schema s create table t (a text references people)", ["derived"]],
    ["select ssn from people where false union all select 'x' order by ssn", ["derived", "order"]],
    [
      "with recursive t(a, b) as (select 1, '' union all select a + 1, p.ssn from t join people p on p.id = a) select a from t where b > '1'",
      ["derived", "predicate"],
    ],
  ])("%s", (sql, expected) => {
    expect(uses(sql)).toEqual(expected);
  });

  test("is found under the name that the search path gives", () => {
    const [shadowed] = analyse("select ssn from people", { ...context, searchPath: ["pg_catalog", "evil"] }).command
      .statements;
    expect(shadowed?.relations).toEqual([{ schema: "evil", name: "people", access: "read", labels: [] }]);
  });
  test("keeps its label when it is renamed, and the column that takes its name gets it, too", () => {
    const renamed = { ...people, columns: people.columns.map((c) => (c.name === "ssn" ? { ...c, name: "note" } : c)) };
    const added = { attnum: 4, name: "ssn", typeOid: 25, typeModifier: -1, generated: null };
    const after = new Catalog({ ...snapshot, relations: [{ ...renamed, columns: [...renamed.columns, added] }] });
    const { bindings } = bindLabels(catalog, given, new Map());
    const found = bindLabels(after, given, bindings).labels;
    expect([...found.values()].map(({ column }) => column).sort()).toEqual(["public.people.note", "public.people.ssn"]);
  });
  test("of a child reaches the parent, whose queries give the child's rows", () => {
    const found = bindLabels(catalog, new Map([["public.child.ssn", ["pii"]]]), new Map()).labels;
    expect([...found.values()].map(({ column }) => column)).toContain("public.people.ssn");
  });
});

describe("what cannot be accounted for is incomplete", () => {
  test.each([
    "select * from nowhere",
    "select nothing from people",
    "select id from people a, people b",
    "select unknown_function(1)",
    "select * from odd_view",
    "select query_to_xml('select ssn from people', true, false, '')",
    "select set_config(name, 'x', false) from people",
    "select set_config('search_path', 'evil', true)",
    "set local search_path = evil",
    "set search_path = evil; select ssn from people",
    "create temp table people (id int); select * from people",
    "set search_path = evil; select 'a' || 'b'",
    "set search_path = evil; select 'a'::d",
    "select p.id from people p natural join (select (select * from (select '1' as ssn) q)) s",
    "alter function f(int) set schema pg_catalog",
    "alter function pg_catalog.query_to_xml(text, bool, bool, text) rename to harmless",
    "alter routine lower rename to l",
    "alter function lower(text) set schema public",
    "alter view pg_catalog.pg_stats rename to s",
    "alter view pg_stats set schema public",
    "alter schema information_schema rename to i",
    "alter schema evil rename to information_schema",
    "alter extension dblink set schema allowed",
    "alter type text rename to t",
    "alter domain information_schema.sql_identifier set schema public",
    "set search_path = evil; select (1).leak",
    "set search_path = evil; select json_scalar('x')",
    "set search_path = evil; select s.leak from (select 1) s",
    "insert into ruled values (1)",
    "delete from ruled where id = 1",
    "do $$ begin end $$",
    "explain analyze execute p",
    "create table t as execute p",
    "create function f() returns int language sql as 'select 1'",
    "create trigger t after insert on people execute function f()",
    "create rule r as on insert to people do instead delete from orders",
    "create policy p on people using (id in (select person_id from orders))",
    "delete from people where current of c",
    "create schema s create view v as select * from people",
    "selec 1",
    `select ${"(".repeat(10_000)}1${")".repeat(10_000)}`,
    `select 1${"+1".repeat(20_000)}`,
    `select E'\\'' ${"(".repeat(10_000)}1${")".repeat(10_000)}`,
    `select ${"/*".repeat(500_000)}`,
    `select ${"/**/".repeat(500_000)} 1`,
    "select 1;\0 drop table people",
    "select '\ud800'",
  ])("%.60s", (sql) => {
    expect(run(sql).command.complete).toBe(false);
  });
});

test.each([
  "alter function user_function(int) rename to other",
  "alter function public.user_function(int) set schema evil",
  "alter schema evil rename to other",
  "alter view plain_view rename to other",
  "alter type public.coded rename to other",
  "alter aggregate evil.total(int) rename to other",
  "alter table pg_temp.mine rename to other",
])("what users made may have another name: %s", (sql) => {
  expect(run(sql).command.incomplete).toEqual([]);
});

test("a labelled column of a view that its own values decide whether it is there is not that column itself", () => {
  const texts: readonly (readonly [text: string, derived: boolean])[] = [
    ["SELECT p.id, q.ssn FROM people p LEFT JOIN people q ON q.id = p.id AND p.ssn ~~ '1%'", true],
    ["SELECT p.id, q.ssn FROM orders p LEFT JOIN people q ON q.id = p.id AND q.ssn ~~ '1%'", true],
    ["SELECT p.id, q.ssn FROM people q RIGHT JOIN orders p ON q.id = p.id AND q.ssn ~~ '1%'", true],
    [
      "SELECT p.id, q.ssn FROM orders p LEFT JOIN (SELECT id, ssn FROM people WHERE ssn ~~ '1%') q ON q.id = p.id",
      true,
    ],
    ["SELECT p.id, q.ssn FROM orders p LEFT JOIN people q ON q.id = p.id", false],
    ["SELECT p.id, p.ssn FROM people p LEFT JOIN orders q ON p.ssn ~~ '1%'", false],
  ];
  for (const [text, derived] of texts) {
    const view = relation("public.deciding", "id int, ssn text", { kind: "v", definition: `${text};` });
    const catalog = new Catalog({ ...snapshot, relations: [...snapshot.relations, view] });
    const { labels } = bindLabels(catalog, new Map([["public.people.ssn", ["pii"]]]), new Map());
    expect([text, labels.get(`${view.oid}.2`)?.derived]).toEqual([text, derived]);
  }
});

test("what information_schema calls itself is PostgreSQL's own, and changes nothing", () => {
  const changed = { ...snapshot, functions: [...snapshot.functions, "information_schema._pg_expandarray"] };
  const sql = "select (information_schema._pg_expandarray(array[id])).n from people";
  const { command, plain } = analyse(sql, { ...context, catalog: new Catalog(changed) });
  expect([command.complete, command.statements[0]?.functions, plain]).toEqual([
    true,
    ["information_schema._pg_expandarray"],
    true,
  ]);
});

test("what a user made is a user's, however its schema is called", () => {
  for (const schema of ["information_schema._pg_x", "pg_catalog.x", "x_information_schema"]) {
    const changed = { ...snapshot, functions: [...snapshot.functions, `${schema}._pg_leak`] };
    const sql = `select "${schema}"._pg_leak(1)`;
    const { plain } = analyse(sql, { ...context, catalog: new Catalog(changed) });
    expect([schema, plain]).toEqual([schema, false]);
  }
});

test("so is what an extension put among PostgreSQL's own", () => {
  const added = ["pg_catalog.xpath_table", "information_schema._pg_more", "pg_catalog.string_to_table"];
  const catalog = new Catalog({
    ...snapshot,
    functions: [...snapshot.functions, ...added],
    addedFunctions: added,
  });
  const analysed = (sql: string) => analyse(sql, { ...context, catalog });
  for (const [sql, name] of [
    ["select xpath_table('people')", "pg_catalog.xpath_table"],
    ["select id from people where id < information_schema._pg_more()", "information_schema._pg_more"],
  ] as const) {
    const { command, plain } = analysed(sql);
    expect([command.statements[0]?.functions, plain]).toEqual([[`added.${name}`, name], false]);
  }
  // Its columns' names are its own.
  const called = "select value from people, string_to_table(ssn, '-') as t";
  expect(analysed(called).command.statements[0]?.functions).toContain("added.pg_catalog.string_to_table");
});

test("a function that gets another name is one of those that the list of allowed ones is asked about", () => {
  for (const sql of [
    "alter function user_function(int) rename to allowed",
    "alter routine public.user_function set schema evil",
  ]) {
    expect(run(sql).command.statements[0]?.functions).toEqual(["public.user_function"]);
  }
});

test("so are all functions of a schema that gets another name", () => {
  const functions = ["evil.leak", "evil.total", "evil_too.leak"];
  const changed = { ...snapshot, functions: [...snapshot.functions, ...functions] };
  const { command } = analyse("alter schema evil rename to allowed", { ...context, catalog: new Catalog(changed) });
  expect(command.statements[0]?.functions).toEqual(["evil.leak", "evil.total"]);
});

test.each<[string, AnalysedCommand["statements"][number]["redefines"]]>([
  ["alter table people rename to persons", ["people", "persons"]],
  ["alter table people rename ssn to s", ["people", "s"]],
  ["alter schema evil rename to other", "anything"],
  ["alter function user_function(int) rename to other", "anything"],
  ["drop schema evil cascade", "anything"],
  ["drop owned by ann", "anything"],
  ["revoke usage on schema evil from ann", "anything"],
  ["revoke evil_readers from ann", "anything"],
  ["alter table people inherit evil.people, owner to ann", ["people", "people"]],
  ["grant select on people to ann", []],
  ["create role ann", undefined],
  ["create index on people (id)", undefined],
  ["create temp table people (id int)", undefined],
  ["comment on table people is 'x'", undefined],
])("what others may have to read again: %s", (sql, names) => {
  expect(run(sql).statements[0]?.redefines).toEqual(names);
});

describe("a type that users made", () => {
  const mine = (sql: string, types: readonly string[], relations: readonly CatalogRelation[] = []) => {
    const searchPath = ["pg_temp_3", ...snapshot.searchPath];
    const changed = { ...snapshot, types, relations: [...snapshot.relations, ...relations], searchPath };
    return analyse(sql, { ...context, searchPath, catalog: new Catalog(changed) }).command;
  };
  const usesOf = (...of: Parameters<typeof mine>) =>
    mine(...of).statements.flatMap(({ columns }) =>
      columns.filter(({ column }) => column === "ssn").map(({ use }) => use),
    );

  test.each([
    ["select ssn::text from people", ["pg_temp_3.text"]],
    ["select cast(ssn as text) from people", ["pg_temp_3.text"]],
    ["explain analyze select ssn::text::text from people", ["pg_temp_3.text"]],
    ["declare c cursor for select ssn::text from people", ["pg_temp_3.text"]],
  ])("hides the built-in one: %s", (sql, types) => {
    expect(usesOf(sql, types)).toEqual(["derived"]);
  });
  test("so do a temporary table's rows", () => {
    expect(usesOf("select ssn::text from people", [], [relation("pg_temp_3.text", "id int")])).toEqual(["derived"]);
  });
  test.each([
    ["select ssn::text from people", ["pg_temp_3.other", "public.text"]],
    ["select ssn::pg_catalog.text from people", ["pg_temp_3.text"]],
    ["select ssn(p) from people p", ["pg_temp_3.text", "evil.ssn"]],
    ["select (p).ssn from people p", ["public.ssn"]],
    ["select p.ssn from people p", ["public.ssn"]],
  ])("is not meant by %s", (sql, types) => {
    expect(usesOf(sql, types)).toEqual(["output"]);
    expect(mine(sql, types).incomplete).toEqual([]);
  });
  test.each(["public.ssn", "pg_temp_3.ssn"])("is called by its name before a column is: %s", (type) => {
    expect(usesOf("select ssn(p) from people p", [type])).toEqual(["derived"]);
    expect(mine("select ssn(p) from people p", [type]).complete).toBe(false);
  });
});

test("a temporary relation that COMMIT drops leaves its name to another", () => {
  const mine = (name: string) => {
    const relations = [...snapshot.relations, relation(`pg_temp_3.${name}`, "id int, ssn text")];
    const searchPath = ["pg_temp_3", ...snapshot.searchPath];
    return { ...context, searchPath, catalog: new Catalog({ ...snapshot, relations, searchPath }) };
  };
  const text = "select 1; commit; select ssn || '' from people";
  expect(analyse(text, mine("people")).command.complete).toBe(false);
  expect(analyse(text, mine("scratch")).command.complete).toBe(true);
});

test("one text is another kind of command where its names mean something else", () => {
  const path = (...searchPath: string[]) => ({ ...context, searchPath });
  const fingerprint = (searchPath: string[]) =>
    analyse("select * from people", path(...searchPath)).command.fingerprint;
  expect(fingerprint(["evil", "public"])).not.toBe(fingerprint(["public"]));
  expect(fingerprint(["public", "evil"])).toBe(fingerprint(["public"]));
});

test.each([
  ["select id from plain_view", ["people", "plain_view"]],
  ["select id from child", ["child", "people"]],
  ["update child set name = 'x' where id = 1", ["child", "people"]],
  ["drop table child", ["child"]],
  ["drop view plain_view", ["plain_view"]],
])("the relations of %s are those whose rows it gives or takes", (sql, names) => {
  expect(run(sql).command.statements[0]?.relations.map(({ name }) => name)).toEqual(names);
});

describe("the labels of a relation's rows", () => {
  const root = relation("public.root", "id int");
  const branch = relation("public.branch", "id int", { parents: [root.oid] });
  const leaf = relation("public.leaf", "id int, secret text", { parents: [branch.oid] });
  const twig = relation("public.twig", "id int, other text", { parents: [root.oid] });
  const above = relation("public.above", "id int", { kind: "v", definition: "SELECT root.id FROM root;" });
  const trees = new Catalog({ ...snapshot, relations: [...snapshot.relations, root, branch, leaf, twig, above] });
  const labelled = new Map([
    ["public.leaf.secret", ["pii"]],
    ["public.twig.other", ["inner"]],
  ]);
  const own = { ...context, catalog: trees, labels: bindLabels(trees, labelled, new Map()).labels };
  const labelsOf = (sql: string) =>
    analyse(sql, own).command.statements[0]?.relations.map(({ name, labels }) => [name, ...labels].join(" "));

  test.each([
    ["select id from root", ["root inner pii"]],
    ["update root set id = 1 where id = 2", ["root inner pii"]],
    ["delete from branch where id = 1", ["branch pii", "root"]],
    ["alter table root add check (id > 0)", ["root inner pii"]],
    ["truncate root", ["root inner pii"]],
    ["copy root from stdin", ["root inner pii"]],
    ["select id from above", ["above inner pii", "root inner pii"]],
    ["select id from twig", ["root", "twig inner"]],
    ["select id from only root", ["root"]],
    ["update only root set id = 1 where id = 2", ["root"]],
    ["select a.id from only root a join root b on true", ["root inner pii"]],
    ["select a.id from root a join only root b on true", ["root inner pii"]],
    ["select a.id from only root a join above b on true", ["above inner pii", "root inner pii"]],
    ["select a.id from only root a join twig b on true", ["root", "twig inner"]],
  ])("of %s are %j", (sql, expected) => {
    expect(labelsOf(sql)).toEqual(expected);
  });
});

test("a command that takes too many steps is not understood", () => {
  const doubled = (depth: number) => {
    const queries = Array.from(
      { length: depth },
      (_, index) => `c${index + 1} as (select * from c${index} a, c${index} b)`,
    );
    return run(`with c0 as (select 1 as x), ${queries.join()} select 1 from c${depth}`).command.complete;
  };
  expect(doubled(5)).toBe(true);
  // As PostgreSQL, which takes 1,664 columns at most.
  expect(doubled(20)).toBe(false);
  {
    using _ = loweredLimits({ analysisStepsMax: 1_000 });
    expect(doubled(2)).toBe(true);
    expect(doubled(6)).toBe(false);
    // All statements of a command have them together.
    expect(run(Array(30).fill("select id, name from people").join(";")).command.complete).toBe(false);
  }
});

test("what an older server would take for a name is not taken for syntax", () => {
  // The catalog of these tests has no such function, as PostgreSQL 15 has none.
  expect(run("select system_user").command.complete).toBe(false);
});

test.each([
  "create table t as with d as (delete from people returning id) select id from d",
  "with u as (update people set name = 'x' returning id) select id into t from u",
  "create schema s grant all on people to x",
  "create schema s create table t (id int) create trigger g before insert on t execute function f()",
])("what a definition carries along is not understood: %s", (sql) => {
  expect(run(sql).command.complete).toBe(false);
});

describe("in a database of another encoding", () => {
  const ofEncoding = (encoding: string, more: readonly CatalogRelation[] = []) => {
    const other = new Catalog({ ...snapshot, relations: [...snapshot.relations, ...more], encoding });
    return (sql: string) => analyse(sql, { ...context, catalog: other }).command.incomplete;
  };
  const latin = ofEncoding("LATIN1");

  test.each([
    'select upper(É) from people as c(a, "É", "é") where a = 1',
    'select (select upper(Öl.z) from (select 1 as z) "Öl") from people as "öl"(a, b, z)',
    'select (select upper("¦") from people as c(a, b, "￤")) from (select name as "¦" from people) k',
    `select 1 as "${"a".repeat(62)}é"`,
    'select 1 as U&"\\00e9"',
    "select 1 as U&\"!00e9\" uescape '!'",
    `select '$$', $é$ $$ $é$`,
    "select $¦$ $￤$, ssn || '' from people -- $¦$",
    "with é as (select 1) select 1",
    "select p.name from people as p(é)",
    "select 1 from (people p join orders o on true) é",
    "select name::é from people",
    "select rank() over é from people window é as (order by name)",
    "select 1 from json_table('{}'::text, '$' columns (é text path '$'))",
    "prepare é as select 1",
    "declare é cursor for select 1",
    "fetch É",
    "select name ~~ 'x' as a, (row(1)).é from people",
  ])("%s is not understood", (sql) => {
    expect(latin(sql)).toContainEqual(expect.stringContaining("encoding LATIN1 reads in its own way"));
  });
  test.each([
    "select 'é', E'é', $$é$$, $a$é$a$, U&'\\00e9' as x from people where name = 'É' -- é",
    "/* é */ select name from people where name in ('José', 'É')",
    "insert into orders (note) values ('é')",
    "comment on table people is 'é'",
    "notify x, 'é'",
    "create type mood as enum ('é')",
    "alter type mood add value 'é' before 'ö'",
    'select 1 as U&"\\0061"',
  ])("%s is", (sql) => {
    expect(latin(sql)).toEqual([]);
  });
  test("a letter that ends in a backslash may be anywhere", () => {
    expect(ofEncoding("JOHAB")("select E'é'")).toHaveLength(1);
    expect(ofEncoding("JOHAB")("select 'e'")).toEqual([]);
  });
  test("a view may have such names, if the parser here does not cut them", () => {
    const view = (name: string) =>
      relation("public.v", `${name} text`, { kind: "v", definition: `SELECT p.name AS "${name}" FROM people p;` });
    expect(ofEncoding("LATIN1", [view("é".repeat(29))])("select * from v")).toEqual([]);
    expect(ofEncoding("LATIN1", [view("é".repeat(32))])("select * from v")).toEqual([
      "view public.v could not be understood",
    ]);
  });
  test("one of UTF8 has any", () => {
    expect(run("select 1 as é").command.complete).toBe(true);
  });
});

test("which values a named constraint is about is told of every column", () => {
  const command =
    "insert into people (id) values (1) on conflict on constraint people_ssn_key do update set name = 'x'";
  const columns = run(command).command.statements[0]?.columns ?? [];
  expect(columns.filter(({ use }) => use === "predicate").map(({ column }) => column)).toContain("ssn");
});

describe("what is understood is complete", () => {
  test.each([
    "",
    "-- nothing",
    "begin; select 1; commit",
    "set statement_timeout = 5; select ssn from people",
    "update people set name = 'x' where id = 1 returning ctid, old.ctid, xmin",
    "select current_date, extract(year from now())",
    "select 'it''s', $$;$$, /* a /* b */ c */ 1",
    "create table t (id int primary key, ref int references people (id), at text default now())",
    "drop table people, orders",
    "alter table people rename ssn to note",
    "grant select on people to someone",
    "listen x",
    "show all",
    "set constraints all deferred",
    "set constraints public.a, b immediate; select name from people",
  ])("%s", (sql) => {
    expect(run(sql).command.incomplete).toEqual([]);
  });
});

describe("statements", () => {
  test.each([
    ["DeLeTe/**/FROM people", "DELETE", "write", false],
    ["/* a /* b */ c */ DELETE FROM people where id = 1", "DELETE", "write", true],
    ["with d as (delete from people returning *) select 1 from d", "SELECT", "write", false],
    ["explain analyze delete from people", "EXPLAIN", "write", false],
    ["explain delete from people", "EXPLAIN", "read", false],
    ["copy (delete from people returning id) to stdout", "COPY", "write", false],
    ["update people set name = 'x' where true", "UPDATE", "write", false],
    ["insert into orders select * from orders", "INSERT", "write", false],
    ["truncate people", "TRUNCATE", "write", false],
    ["delete from people where id = 1 or true", "DELETE", "write", false],
    ["delete from people where id = 1 and true", "DELETE", "write", true],
    ["delete from people where not (id = 1)", "DELETE", "write", true],
    ["delete from people using (values (1)) v (x) where v.x = 1", "DELETE", "write", false],
    ["delete from people using (values (1)) v (x) where people.id = v.x", "DELETE", "write", true],
    ["update people p set name = 'x' from (values (1)) v (x) where x = 1", "UPDATE", "write", false],
    ["update people p set name = 'x' from (values (1)) v (x) where x = p.id", "UPDATE", "write", true],
    ["update people set name = 'x' where exists (select from orders o where o.id = 1)", "UPDATE", "write", false],
    ["update people set name = 'x' where exists (select from people where people.id = 1)", "UPDATE", "write", false],
    ["update people p set name = 'x' where exists (select from orders o where o.id = p.id)", "UPDATE", "write", true],
    ["update people set name = 'x' where id in (select id from orders)", "UPDATE", "write", true],
    ["update people set name = 'x' where ctid = '(0,1)'", "UPDATE", "write", true],
    ["merge into people using (select 1) s on true when matched then delete", "MERGE", "write", false],
    ["merge into people p using orders o on o.id = p.id when matched then delete", "MERGE", "write", true],
    ["merge into people p using orders o on true when matched and p.id = 1 then delete", "MERGE", "write", true],
    ["merge into people p using orders o on true when not matched then do nothing", "MERGE", "write", true],
    ["select 1", "SELECT", "read", true],
    ["select * from people", "SELECT", "read", false],
    ["with u as (update people set name = 'x' where id = 1 returning id) select id from u", "SELECT", "write", true],
    [
      "with d as (delete from people where id = 1 returning id) select d.id from d join d e using (id)",
      "SELECT",
      "write",
      true,
    ],
    ["with i as (insert into orders values (1) returning id) select id from i", "SELECT", "write", true],
    ["with i as (insert into orders select * from orders returning id) select id from i", "SELECT", "write", false],
    ["with u as (update people set name = 'x' returning id) select id from u where id = 1", "SELECT", "write", false],
    [
      "with u as (update people set name = 'x' where id = 1 returning id) select u.id from u, orders",
      "SELECT",
      "write",
      false,
    ],
    ["with u as (update people set name = 'x' where id = 1 returning id) table public.u", "SELECT", "write", false],
    [
      "with d as (delete from people where id = 1 returning *) insert into child select id, name from d",
      "INSERT",
      "write",
      true,
    ],
    ["with o as (table orders) insert into child select id, note from o", "INSERT", "write", false],
    [
      "with d as (delete from people where id = 1 returning id), i as (insert into child select id from d returning id) table i",
      ...(["SELECT", "write", true] as const),
    ],
    [
      "with o as (table orders), i as (insert into child select id from o returning id) table i",
      ...(["SELECT", "write", false] as const),
    ],
    ["with o as (select id from orders where id = 1) select * from o", "SELECT", "read", true],
    ["with o as (select id from orders) select * from o", "SELECT", "read", false],
    ["with o as (select id from orders where id = 1), p as (table o union table o) table p", "SELECT", "read", true],
    [
      "with o as (select id from orders where id = 1), p as (table o union table people) table p",
      "SELECT",
      "read",
      false,
    ],
    ["with orders as (select * from orders) table orders", "SELECT", "read", false],
    ["with o as (select 1) select * from (with o as (table orders) table o) i", "SELECT", "read", false],
    [
      "with o as (select 1) select * from (with recursive o as (select 1 union table o) table o) i",
      "SELECT",
      "read",
      false,
    ],
    [
      "with o as (select 1) select * from (with recursive p as (table o), o as (table orders) table p) i",
      "SELECT",
      "read",
      false,
    ],
    ["with recursive p as (table o), o as (select 1) table p", "SELECT", "read", true],
    ["with o as (select 1) select * from (with p as (table o), o as (table orders) table p) i", "SELECT", "read", true],
    ["copy (with o as (table orders) table o) to stdout", "COPY", "read", false],
    ["grant select on people to x", "GRANT", "dcl", true],
    ["alter system set fsync = off", "ALTER SYSTEM", "dcl", true],
    ["drop table people", "DROP TABLE", "ddl", true],
    ["alter table people owner to x", "ALTER TABLE", "dcl", true],
    ["alter role a rename to b", "RENAME", "dcl", true],
    ["create table t (id int)", "CREATE TABLE", "ddl", true],
    ["set constraints all immediate", "SET CONSTRAINTS", "session", true],
    ["rollback to savepoint a", "ROLLBACK TO", "transaction", true],
  ])("%s", (sql, verb, statementClass, bounded) => {
    const [statement] = run(sql).command.statements;
    expect([statement?.verb, statement?.class, statement?.bounded] as unknown).toEqual([verb, statementClass, bounded]);
  });

  test.each([
    ["copy people to program 'x'", "copy.program"],
    ["copy people to '/tmp/x'", "copy.file"],
    ["copy people from stdin", "copy.from.stdin"],
    ["set role x", "set.role"],
    ["set session authorization x", "set.session_authorization"],
    ["set Search_Path = x", "set:search_path"],
    ["reset all", "reset.all"],
    ["listen x", "listen"],
    ["unlisten x", "unlisten"],
    ["select set_config('role', 'x', false)", "set.role"],
    ["alter role x set row_security = off", "set:row_security"],
    ["alter role all in database d set Default_Transaction_Isolation = 'serializable'", "transaction.snapshot"],
    ["alter role x set default_transaction_isolation to default", "transaction.snapshot"],
    ["alter role x set transaction isolation level serializable", "transaction.snapshot"],
    ["alter role x in database d reset log_statement", "reset:log_statement"],
    ["alter user x reset all", "reset.all"],
    ["alter role x set role to y", "set.role"],
    ["alter role x set session authorization y", "set.session_authorization"],
    ["alter database d set row_security from current", "set:row_security"],
    ["alter system set row_security = off", "set:row_security"],
    ["alter system reset row_security", "reset:row_security"],
    ["create function f() returns int language sql set row_security = off as 'select 1'", "set:row_security"],
    ["create procedure f() language sql set role to y as 'select 1'", "set.role"],
    ["alter function f() set default_transaction_isolation = 'serializable'", "transaction.snapshot"],
    ["alter routine f() reset all", "reset.all"],
    ["notify x, 'y'", "notify"],
    ["lock people", "lock"],
    ["select p from people p", "whole_row:public.people"],
    ["create temp table t (id int)", "temp"],
    ["create role x password 'y'", "password"],
    ["prepare transaction 'x'", "two_phase"],
    ["select 1 from people for update", "for_update"],
    ["with d as (delete from people returning 1) select 1", "data_modifying_cte"],
  ])("%s has feature %s", (sql, feature) => {
    expect(run(sql).command.statements[0]?.features).toContain(feature);
  });

  test.each([
    ["select lower('x')", ["pg_catalog.lower"]],
    ["select user_function(1)", ["public.user_function"]],
    ["select 1 <<< 2", ["public.operator_function"]],
    ["select * from calling_view", ["public.user_function"]],
    ["select p.describe from people p", ["public.describe"]],
    ["select (select p from people p).describe", ["public.describe"]],
    ["select f.describe from user_function(1) f", ["public.describe", "public.user_function"]],
    ["create index on people (user_function(id))", ["public.user_function"]],
    ["call user_function(1)", ["public.user_function"]],
    ["select (1).user_function.* from people", ["public.user_function"]],
    ["select (1).user_function.describe.* from people", ["public.describe", "public.user_function"]],
    ["create table t (a int default (1).user_function)", ["public.user_function"]],
    ["create table t (a int check (t.user_function > 1))", ["public.user_function"]],
    ["alter table people alter name type text using people.describe", ["public.describe"]],
    ["create table t (a int, check (a <<< 1))", ["public.operator_function"]],
    ["create table t (a int, exclude using gist (a with <<<))", ["public.operator_function"]],
    ["create domain d as text check (value <<< 'a')", ["public.operator_function"]],
    ["create index on people (id) where name <<< 'a'", ["public.operator_function"]],
    ["select json_value('{}', '$')", ["public.json_value"]],
    ["select json_object('a': 1)", ["public.json_object"]],
    ["select json_object('{a}', '{b}')", ["pg_catalog.json_object", "public.json_object"]],
    ["select json_arrayagg(id) from orders", ["public.json_arrayagg"]],
    [
      "merge into orders o using people p on o.id = p.id when matched then delete returning merge_action()",
      ["public.merge_action"],
    ],
  ])("%s calls %j", (sql, functions) => {
    expect(run(sql).command.statements[0]?.functions).toEqual(functions);
  });

  test.each([
    "drop table people",
    "drop trigger t on people",
    "drop policy p on public.people",
    "drop rule r on people",
    "comment on table people is ''",
    "comment on column people.name is ''",
    "comment on constraint c on public.people is ''",
    "security label on column public.people.name is ''",
    "alter policy p on people using (true)",
  ])("the relation of %s is the one its name means", (sql) => {
    expect(run(sql).command.statements[0]?.relations).toEqual([
      expect.objectContaining({ schema: "public", name: "people", access: "ddl" }),
    ]);
  });
  test("a user's function may have changed what names mean", () => {
    expect(run("select user_function(1)").statements[0]).toMatchObject({ changesCatalog: true, changesSession: true });
  });
  test.each(["rollback", "rollback to s", "rollback prepared 'x'", "commit prepared 'x'"])("so may %s", (sql) => {
    expect(run(sql).statements[0]).toMatchObject({ changesCatalog: true, changesSession: true });
  });
});

describe("set_config of constants", () => {
  test.each([
    ["select set_config('TimeZone', 'UTC', false)", "timezone", "UTC", false],
    ["select pg_catalog.set_config('search_path', 'a, b', false) as x", "search_path", "a, b", true],
    ["select set_config('client_encoding', 'LATIN1', false)", "client_encoding", "LATIN1", true],
    ["select set_config('sallyport.reason', 'a report', false)", "sallyport.reason", "a report", false],
  ])("%s sets what SET would, and gives its row", (sql, name, value, changesSession) => {
    const { plain, statements, command } = run(sql);
    expect(statements[0]).toMatchObject({ setting: { name, value }, changesSession });
    expect(statements[0]?.outputColumns).toHaveLength(1);
    expect([plain, command.incomplete, command.statements[0]?.functions]).toEqual([false, [], []]);
  });
  test.each([
    "select set_config('jit', 'on', false), 1",
    "select set_config('jit', $1, false)",
    "select set_config('jit', 'on'::text, false)",
    "select set_config('jit', 'on', false) from generate_series(1, 2)",
    "select set_config('jit', 'on', false) where set_config('x', 'y', false) = ''",
    "prepare p as select set_config('jit', 'on', false)",
    "explain analyze select set_config('jit', 'on', false)",
  ])("and nothing else: %s", (sql) => {
    const { statements, command } = run(sql);
    expect(statements[0]?.setting).toBeUndefined();
    expect(command.statements[0]?.functions).toContain("pg_catalog.set_config");
  });
});

describe("the text inside PREPARE and DECLARE", () => {
  test.each([
    ["prepare p as select 1", "select 1"],
    ["prepare p (int, text) as select $1", "select $1"],
    ['prepare "x as select 1 --" as\n delete from people', "delete from people"],
    ["prepare p /* as select 1; */ as delete from people -- end", "delete from people -- end"],
  ])("%s", (sql, text) => {
    expect(run(sql).statements[0]?.prepared?.text).toBe(text);
  });
  test("is the cursor's query", () => {
    const [statement] = run('declare "for select 1 --" cursor with hold for select ssn from people').statements;
    expect(statement?.cursor).toEqual({ name: "for select 1 --", hold: true, text: "select ssn from people" });
  });
});

describe("the cache", () => {
  test.each([
    ["select id from people where id = 5", "select id from people where id = 0"],
    ["select id from people where name <> 'a = 1' and id>=77", "select id from people where name <> '' and id>=0"],
    ["update people set name='x' where id = 1", "update people set name='' where id = 0"],
    ["select 1 where 1 = 1.5", "select 1 where 1 = 1.5"],
    ["select 1 where 1 = 12345678901", "select 1 where 1 = 12345678901"],
    ["select set_config(setting_name => 'role')", "select set_config(setting_name => 'role')"],
    ["select 1 limit 5", "select 1 limit 5"],
    ["select 'a = 5'", "select 'a = 5'"],
  ])("%s stands for %s", (sql, canonical) => {
    expect(normalise(sql)).toBe(canonical);
  });
  test.each([
    "select 'it''s' where a = 'b'",
    "select 1 -- = 5",
    'select "a" = 5',
    "select $1 = 5",
    "select E'\\'' = '1'",
    "select a = '\0'",
  ])("leaves %j alone", (sql) => {
    expect(normalise(sql)).toBeUndefined();
  });
  test("gives one object for texts that differ in compared literals, and another for another context", () => {
    const cache = new AnalysisCache();
    const first = cache.analyse("select name from people where id = 1", context);
    expect(cache.analyse("select name from people where id = 2", context)).toBe(first);
    expect(cache.analyse("select name from people where id < 2", context)).not.toBe(first);
    expect(cache.analyse("select name from people where id = 1", { ...context })).not.toBe(first);
  });
  test("holds as many texts, and as much of their analysis, as its limits, and forgets the oldest", () => {
    const texts = ["select 1 as a", "select 1 as b", "select 1 as c"];
    const keeps = (lowered: Parameters<typeof loweredLimits>[0]) => {
      using _ = loweredLimits(lowered);
      const cache = new AnalysisCache();
      const first = texts.map((sql) => cache.analyse(sql, context));
      return texts.map((sql, index) => cache.analyse(sql, context) === first[index]);
    };
    // Each is 13 characters, and one statement with one column.
    const length = 3 * (13 + 3 * 150);
    expect(keeps({ analysisCacheEntriesMax: 3, analysisCacheLengthMax: length })).toEqual([true, true, true]);
    // One over: the first is gone, and comes back in the place of the next.
    expect(keeps({ analysisCacheEntriesMax: 2 })[0]).toBe(false);
    expect(keeps({ analysisCacheLengthMax: length - 1 })[0]).toBe(false);
  });
  test("takes other statements than plain reads and writes by their very text", () => {
    const cache = new AnalysisCache();
    const settings = ["set sallyport.reason = 'a'", "set sallyport.reason = 'b'"].map((sql) =>
      cache.analyse(sql, context),
    );
    expect(settings.map(({ statements }) => statements[0]?.setting?.value)).toEqual(["a", "b"]);
  });
  test.each([
    "prepare p as delete from people where id < ",
    "declare c cursor for select id from people where id = ",
    "set sallyport.reason = ",
    "set standard_conforming_strings = ",
    "select id from people where id = 1 drop = ",
    "select nosuch from people where id = ",
    "select id from people where id = ",
    "explain select id from people where id = ",
  ])("no text is taken for another, though it is that one's canonical form: %s", (start) => {
    for (const [canonical, literal] of [
      ["0", "99"],
      ["''", "'x'"],
    ] as const) {
      for (const order of [
        [canonical, literal, canonical],
        [literal, canonical, literal],
      ]) {
        const cache = new AnalysisCache();
        for (const value of order) {
          const { command, ...rest } = cache.analyse(start + value, context);
          const { command: alone, ...own } = analyse(start + value, context);
          expect(rest).toEqual(own);
          expect(command.statements).toEqual(alone.statements);
        }
      }
    }
  });
  test("a literal that is no literal of that kind is judged as it is", () => {
    const cache = new AnalysisCache();
    expect(cache.analyse("select id from people where id = 1 drop", context).error?.message).toContain("drop");
  });
});

test("a fingerprint does not depend on literals or the length of IN lists, and does on everything else", () => {
  const of = (sql: string) => run(sql).command.fingerprint;
  expect(of("select id from people where id in (1, 2)")).toBe(of("select id from people  where id in (7,8,9)"));
  expect(of("select id from people where id = 1")).not.toBe(of("select id from people where id > 1"));
});

test("positions of errors count characters from one", () => {
  expect(run("select é fromm x y").error).toEqual({ message: 'syntax error at or near "x"', position: 16 });
});
