/** Messages of a client at random: legal ones, illegal ones, and legal ones where they are not. */
import type { FrontendMessage } from "../../gateway/postgres/messages.ts";
import { execute, parse, query, sync } from "../postgres/wire-client.ts";

/** Numbers from 0 to below 1, the same for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Run before each sequence, on both servers. */
export const setUp = `
  drop schema if exists fuzz cascade; create schema fuzz;
  create table fuzz.t (id int primary key, a text, n numeric, at timestamptz);
  insert into fuzz.t select g, 'text ' || g, g * 1.5, timestamptz '2026-01-01' + g * interval '1 day' from generate_series(1, 20) g;
  create table fuzz.u (id int references fuzz.t, b bytea);
  create view fuzz.v as select id, upper(a) as a from fuzz.t where id < 10;`;

/** Texts without a parameter. */
const plain = [
  ...["select 1", "select", "", ";", "-- only a comment", "select 'a'; select 2", "select 1; select 1 / 0; select 3"],
  ...[
    "select id, a from t order by id",
    "select * from t where id < 4 order by 1",
    "table t",
    "values (1, 'x'), (2, null)",
  ],
  ...[
    "select id, a, n, at from t order by id limit 3 offset 2",
    "select count(*), sum(n) from t",
    "select * from v order by 1",
  ],
  ...["with c as (select id from t where id < 3) select * from c order by 1", "select t.* from t join u using (id)"],
  ...["insert into t (id, a) values (21, 'new')", "insert into t (id, a) values (1, 'twice')", "delete from u"],
  ...["insert into t (id) values (30), (31) returning id", "update t set a = a || '!' where id = 2 returning a"],
  ...["insert into u values (99, null)", "delete from t where id = 20", "update t set n = n + 1 where id = 3"],
  ...[
    "begin",
    "commit",
    "rollback",
    "begin; select 1",
    "savepoint s",
    "rollback to s",
    "release s",
    "start transaction",
  ],
  ...["begin isolation level repeatable read", "set transaction read only", "commit and chain", "end"],
  ...["prepare q as select id from t where id < 5 order by 1", "execute q", "deallocate q", "deallocate all"],
  ...["execute s1", "execute s2", "fetch 1 from p1", "fetch all from p2", "close p1", "deallocate s1"],
  ...["prepare r (int) as select a from t where id = $1", "execute r (3)", "execute r (1 / 0)", "deallocate r"],
  ...[
    "declare c cursor for select id from t order by id",
    "fetch 2 from c",
    "fetch all from c",
    "move 1 in c",
    "close c",
  ],
  ...["declare d cursor with hold for select id from t order by id", "fetch 1 from d", "close d", "close all"],
  ...[
    "select * from nope",
    "select nope from t",
    "selec 1",
    "select (",
    "select 'open",
    "select $1",
    "select 1 where false",
  ],
  ...["set search_path to fuzz", "show search_path", "set work_mem = '5MB'", "reset work_mem", "show work_mem"],
  ...["set local statement_timeout = '9s'", "show statement_timeout", "discard plans", "explain select 1"],
  ...["create temp table tmp (x int)", "insert into tmp values (1)", "select * from tmp", "drop table tmp"],
  ...["create table made (x int)", "select * from made", "insert into made values (1)", "drop table made"],
  ...["alter table t add column extra int", "select extra from t where id = 1", "alter table t drop column extra"],
  ...[
    "listen ch",
    "unlisten ch",
    "copy t (id, a) to stdout",
    "copy (select id from t order by id limit 3) to stdout (format csv)",
  ],
  ...["copy t (id) to stdout (format binary)", "copy nope to stdout", "select pg_catalog.generate_series(1, 300)"],
  ...["update t set n = n where id = 4 returning a, old.a", "delete from u using t where u.id = t.id returning t.a"],
  ...[
    "merge into u using t on u.id = t.id when not matched and t.id < 3 then insert (id) values (t.id) returning t.a, u.id",
    "select x.a from (select t.*, row_number() over () from t) x order by 1",
    "with c as (select * from t) select c.a from c where c.id < 4 order by c.id",
    "select t from t where id = 1",
    "select a::varchar from t where id = 1",
    "select upper(a), a from t where id = 1",
  ],
  ...[
    "declare e scroll cursor for select id, a from t order by id",
    "fetch all from e",
    "fetch backward 2 from e",
    "fetch absolute 3 from e",
    "close e",
  ],
  ...[
    "alter table t rename a to other",
    "select other from t where id = 1",
    "alter table t rename other to a",
    "create materialized view m as select id, a from t",
    "create table kept as select a from t",
    "select * from kept",
    "drop table kept",
  ],
  ...[
    "select repeat('x', 3000) from generate_series(1, 30)",
    "select null, '', 'é', e'\\\\x'",
    "lock table t in share mode",
  ],
] as const;

/** Texts with what is bound to them. */
const parameterised: readonly (readonly [string, readonly (string | null)[]])[] = [
  ["select $1::int + 1", ["41"]],
  ["select $1::text, $2::int", ["text", null]],
  ["select a from t where id = $1", ["4"]],
  ["select id, at from t where id < $1 order by id", ["6"]],
  ["insert into t (id, a) values ($1, $2) returning id", ["40", "made"]],
  ["update t set a = $2 where id = $1", ["5", "set"]],
  ["select 10 / $1::int", ["0"]],
  ["select $1::int", ["no number"]],
];

const copyIns = [
  "copy t (id, a) from stdin",
  "copy u from stdin (format csv)",
  "copy t (id) from stdin with (on_error ignore)",
];
const copyLines = ["50\tfifty\n", "51\tfifty-one\n", "52\t\\N\n", "x\tno number\n", "1\ttwice\n", "\\.\n", "60\tsix"];

type Random = () => number;
const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
const text = Buffer.from.bind(Buffer);

/** One exchange: what is sent before the answers are read. Each ends so that as many ReadyForQuery are owed as it counts. */
export type Exchange = readonly FrontendMessage[];

// PREPARE's and DECLARE's are among them: the wire and SQL share their names.
const names = ["", "", "s1", "s2", "q"];
const portals = ["", "", "p1", "p2", "c", "d", "e"];

function parsed(random: Random, statement: string): FrontendMessage {
  const sql = random() < 0.5 ? pick(random, parameterised)[0] : pick(random, plain);
  return { type: "Parse", statement, query: sql, parameterTypeOids: random() < 0.1 ? [23] : [] };
}

function bound(random: Random, statement: string, portal: string, values: readonly (string | null)[]): FrontendMessage {
  const resultFormats = pick(random, [[], [], [0], [1], [0, 1]] as const);
  const parameters = values.map((value) => (value === null ? null : text(value)));
  return { type: "Bind", statement, portal, parameterFormats: [], parameters, resultFormats: [...resultFormats] };
}

function extendedStep(random: Random): FrontendMessage[] {
  const statement = pick(random, names);
  const portal = pick(random, portals);
  const rowsMax = pick(random, [0, 0, 0, 1, 2, 100]);
  const kind = random() < 0.5 ? "statement" : "portal";
  const named = kind === "statement" ? statement : portal;
  const withValues = pick(random, parameterised);
  const [, values] = withValues;
  const whole = random();
  if (whole < 0.3) {
    const [sql, given] = random() < 0.5 ? [pick(random, plain), []] : withValues;
    return [
      parse(sql, statement),
      ...(random() < 0.3 ? [{ type: "Describe", kind: "statement", name: statement } as const] : []),
      bound(random, statement, portal, given),
      ...(random() < 0.5 ? [{ type: "Describe", kind: "portal", name: portal } as const] : []),
      execute(portal, rowsMax),
    ];
  }
  return [
    pick<() => FrontendMessage>(random, [
      () => parsed(random, statement),
      () => parsed(random, statement),
      () => bound(random, statement, portal, random() < 0.5 ? [] : values),
      () => bound(random, statement, portal, random() < 0.5 ? [] : values),
      () => execute(portal, rowsMax),
      () => execute(portal, rowsMax),
      () => ({ type: "Describe", kind, name: named }),
      () => ({ type: "Close", kind, name: named }),
      () => ({ type: "Flush" }),
    ])(),
  ];
}

function copyIn(random: Random): FrontendMessage[] {
  const data = Array.from({ length: Math.floor(random() * 5) }, () => pick(random, copyLines)).join("");
  const cut = Math.floor(random() * (data.length + 1));
  const pieces = [data.slice(0, cut), data.slice(cut)].map(
    (piece) => ({ type: "CopyData", data: text(piece) }) as const,
  );
  const end =
    random() < 0.7 ? ({ type: "CopyDone" } as const) : ({ type: "CopyFail", message: "changed my mind" } as const);
  return [...pieces, end];
}

export function exchangeOf(random: Random): Exchange {
  const kind = random();
  if (kind < 0.4) return [query(pick(random, plain))];
  if (kind < 0.45) {
    return [query(pick(random, plain)), query(pick(random, plain))];
  }
  if (kind < 0.53) return [query(pick(random, copyIns)), ...copyIn(random)];
  const steps = Array.from({ length: 1 + Math.floor(random() * 4) }, () => extendedStep(random)).flat();
  return [...steps, sync];
}
