/**
 * Random queries and writes against a real server: whatever the analysis calls complete, no value of a labelled column
 * reaches a result but in a column that was predicted to be it, or a table without labels, or the use was reported as
 * more than output.
 */
import { expect, test } from "bun:test";
import postgres from "postgres";
import { startPostgres } from "../../../scripts/postgres/server.ts";
import { analyse } from "./analyse.ts";
import type { NameContext } from "./catalog.ts";
import { bindLabels } from "./labels.ts";
import { loadCatalog } from "./load-catalog.ts";

const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000);
const queriesMax = Number(process.env.FUZZ_QUERIES ?? 1_500);
const sentinel = "SECRETVALUE";

/** Mulberry32. */
function randomFrom(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

class Generator {
  readonly #random: () => number;
  constructor(random: () => number) {
    this.#random = random;
  }
  #pick<T>(choices: readonly [T, ...T[]]): T {
    return choices[Math.floor(this.#random() * choices.length)] ?? choices[0];
  }
  #name(): string {
    return this.#pick(["id", "name", "ssn", "ssn", "a", "b", "x", "made", "people", "orders", "leak", "p"]);
  }
  #column(): string {
    return this.#pick<() => string>([
      () => this.#name(),
      () => `${this.#alias()}.${this.#name()}`,
      () => `(${this.#alias()}).${this.#name()}`,
      () => `${this.#name()}(${this.#alias()})`,
      () => this.#alias(),
      () => `${this.#alias()}.lower`,
      () => `${this.#pick(["old", "new", "excluded", "public.people", "public.orders"])}.${this.#name()}`,
      () => `(${this.#alias()}.${this.#name()}).${this.#name()}`,
    ])();
  }
  #alias(): string {
    return this.#pick(["p", "q", "r", "people", "a", "x"]);
  }
  #value(depth: number): string {
    if (depth <= 0) return this.#pick<() => string>([() => this.#column(), () => "1", () => "'x'"])();
    return this.#pick<() => string>([
      () => this.#column(),
      () => this.#column(),
      () => `${this.#column()}::text`,
      () => `${this.#column()}::varchar`,
      () => `upper(${this.#value(depth - 1)}::text)`,
      () => `coalesce(${this.#value(depth - 1)}::text, 'n')`,
      () => `case when ${this.#column()} is null then 'n' else ${this.#value(depth - 1)}::text end`,
      () => `(select ${this.#value(depth - 1)} from ${this.#from(depth - 1)} limit 1)`,
      () => `array(select ${this.#value(depth - 1)}::text from ${this.#from(depth - 1)})`,
      () => `row(${this.#value(depth - 1)}, 1)`,
      () => `row_to_json(${this.#alias()})`,
      () => `max(${this.#column()}::text) over ()`,
      () => `min(${this.#value(depth - 1)}::text) over ${this.#pick(["w", "(w)", "(partition by 1)", "(order by 1)"])}`,
      () => `string_agg(${this.#column()}::text, ',')`,
      () => `(array_agg(${this.#alias()}))[1]`,
      () => `((array_agg(${this.#alias()}))[1]).${this.#name()}`,
      () => `(select ${this.#alias()} from ${this.#from(depth - 1)} limit 1).${this.#name()}`,
      () => `json_object('k': ${this.#column()}::text)`,
      () => `json_value(to_jsonb(${this.#column()}), '$')`,
      () => `exists (${this.#query(depth - 1)})`,
      () => `${this.#column()} in (${this.#query(depth - 1)})`,
      () => `(array[${this.#column()}::text])[1]`,
      () => `nullif(${this.#column()}::text, 'q')`,
      () => `greatest(${this.#column()}::text, '')`,
      () => `leak(${this.#alias()})`,
    ])();
  }
  #target(depth: number): string {
    return this.#pick<() => string>([
      () => "*",
      () => `${this.#alias()}.*`,
      () => this.#column(),
      () => this.#column(),
      () => `${this.#column()} as ${this.#name()}`,
      () => `${this.#value(depth)} as ${this.#name()}`,
      () => this.#value(depth),
      () => `(${this.#value(depth)}).*`,
    ])();
  }
  #item(depth: number): string {
    const alias = this.#alias();
    if (depth <= 0)
      return this.#pick([
        ...([`people ${alias}`, "people", `orders ${alias}`, `v ${alias}`, `w ${alias}`, "c", "c"] as const),
        ...[`people ${alias}(ssn, id)`, `only people ${alias}`, `kid ${alias}`, `parts ${alias}`, `made ${alias}`],
        ...[`people as ${alias} tablesample bernoulli (100)`, `nested ${alias}`, `m ${alias}`],
      ]);
    const lateral = this.#pick(["", "", "lateral "]);
    return this.#pick<() => string>([
      () => this.#item(0),
      () => this.#item(0),
      () => `${lateral}(${this.#query(depth - 1)}) ${alias}`,
      () => `${lateral}(${this.#query(depth - 1)}) ${alias}(a, b)`,
      () => `${lateral}(${this.#query(depth - 1)}) as ${alias}(x)`,
      () => `unnest(array[${this.#value(0)}::text]) ${alias}`,
      () => `(values (${this.#value(0)}::text)) ${alias}(x)`,
      () => `jsonb_each_text(to_jsonb(${this.#alias()})) ${alias}`,
      () => `json_table(to_jsonb(${this.#alias()}), '$' columns (ssn text path '$.ssn', x text path '$.x')) ${alias}`,
      () =>
        `rows from (unnest(array[${this.#value(0)}::text]), generate_series(1, 2)) with ordinality ${alias}(x, a, b)`,
      () => `${lateral}(values (${this.#value(0)}, ${this.#value(0)})) ${alias}(ssn, id)`,
      () => `${lateral}(select ${this.#column()}) ${alias}(${this.#name()})`,
      () => `xmltable('/a' passing xmlelement(name a, ${this.#value(0)}) columns x text path '.') ${alias}`,
    ])();
  }
  #from(depth: number): string {
    const first = this.#item(depth);
    if (this.#random() < 0.5) return first;
    const second = this.#item(depth);
    return this.#pick([
      `${first}, ${second}`,
      `${first} cross join ${second}`,
      `${first} join ${second} using (id)`,
      `${first} left join ${second} using (ssn)`,
      `${first} right join ${second} using (ssn)`,
      `${first} full join ${second} using (ssn)`,
      `${first} natural join ${second}`,
      `${first} join ${second} on true`,
      `(${first} cross join ${second}) as ${this.#alias()}`,
      `(${first} join ${second} using (id)) as ${this.#alias()}`,
      `${first} join ${second} using (id) as ${this.#alias()}`,
      `${first} full join ${second} using (id)`,
      `${first} left join ${second} on ${this.#value(0)} is null`,
    ]);
  }
  #tail(depth: number): string {
    const one = () => this.#value(Math.max(0, depth - 1));
    return [
      this.#random() < 0.15 ? ` where ${one()} is not null` : "",
      this.#random() < 0.1
        ? ` group by ${this.#pick(["1", "id", `${this.#column()}`, "grouping sets ((1), ())"])}`
        : "",
      this.#random() < 0.05 ? ` having count(${one()}) > 0` : "",
      this.#random() < 0.1 ? ` window w as (${this.#pick(["partition", "order"])} by ${one()})` : "",
      this.#random() < 0.1 ? ` order by ${this.#pick(["1", "id", this.#column()])}` : "",
      this.#random() < 0.05 ? " offset 0" : "",
    ].join("");
  }
  #plain(depth: number): string {
    const targets = Array.from({ length: 1 + Math.floor(this.#random() * 2) }, () => this.#target(depth)).join(", ");
    const distinct = this.#random() < 0.1 ? this.#pick(["distinct ", `distinct on (${this.#column()}) `]) : "";
    return `select ${distinct}${targets} from ${this.#from(depth)}${this.#tail(depth)}`;
  }
  #query(depth: number): string {
    const cte =
      this.#random() < 0.2 && depth > 0
        ? `with c${this.#pick(["", "(a)", "(a, b)"])} as (${this.#query(depth - 1)}) `
        : "";
    const recursive =
      cte === "" && this.#random() < 0.1
        ? `with recursive c(x, a) as (select id, ${this.#value(0)}::text from people union all select x + 1, ${this.#value(0)}::text from c, people p where x < 3) `
        : cte;
    if (this.#random() < 0.1) {
      const operator = this.#pick(["union all", "union", "except", "intersect all"]);
      return `${recursive}(${this.#plain(depth)}) ${operator} (${this.#plain(depth)})`;
    }
    if (recursive === "" && depth > 0 && this.#random() < 0.1)
      return `with c as (${this.#write(depth - 1)}) ${this.#plain(depth)}`;
    return `${recursive}${this.#plain(depth)}`;
  }
  /** Of rows that are there, in tables whose columns say what may be written. */
  #write(depth: number): string {
    const value = () => this.#value(depth);
    const alias = this.#alias();
    const table = this.#pick(["orders", "orders", "people", "parts", "kid", "v"]);
    const column = this.#pick(["x", "name", "ssn"]);
    const source = () => this.#item(depth);
    const statement = this.#pick<() => string>([
      () => `update ${table} ${alias} set ${column} = ${value()} where ${alias}.id = 1`,
      () => `update ${table} ${alias} set ${column} = ${value()} from ${this.#from(depth)} where ${alias}.id = 1`,
      () => `update ${table} ${alias} set name = 'w' from ${this.#from(depth)} where ${alias}.id = 1`,
      () =>
        `update ${table} ${alias} set (${column}, id) = (select ${value()}, 1 from ${source()}) where ${alias}.id = 1`,
      () => `delete from ${table} ${alias} where ${alias}.id = 1`,
      () => `delete from ${table} ${alias} using ${this.#from(depth)} where ${alias}.id = 1`,
      () => `insert into ${table} as ${alias} (id, ${column}) values (7, ${value()})`,
      () => `insert into ${table} as ${alias} (id, ${column}) ${this.#plain(depth)}`,
      () => `insert into orders as ${alias} (id, x) values (1, 'y') on conflict (id) do update set x = ${value()}`,
      () => `insert into orders as ${alias} (id, x) values (1, 'y') on conflict (id) do update set x = 'z'`,
      () =>
        `merge into ${table} ${alias} using ${source()} on ${alias}.id = 1 when matched then update set ${column} = ${value()}`,
      () => `merge into ${table} ${alias} using ${source()} on ${alias}.id = 1 when matched then do nothing`,
      () =>
        `merge into orders ${alias} using ${source()} on ${alias}.id = 9 when not matched then insert (id, x) values (8, ${value()})`,
    ])();
    const targets = Array.from({ length: 1 + Math.floor(this.#random() * 2) }, () => this.#target(depth)).join(", ");
    const names = this.#pick(["", "", "with (old as o) ", "with (new as p, old as q) "]);
    return `${statement} returning ${names}${targets}`;
  }
  query(): string {
    const depth = Math.floor(this.#random() * 3);
    if (this.#random() < 0.25) return this.#write(Math.min(depth, 1));
    return `${this.#query(depth)} limit 20`;
  }
}

test(`values of labelled columns only where they were predicted (FUZZ_SEED=${seed})`, async () => {
  const server = await startPostgres({ version: "embedded" });
  const { host, port, user, password, database } = server;
  const sql = postgres({ host, port, user, password, database, max: 1, onnotice: () => {} });
  const query = async (text: string) => {
    const rows = await sql.unsafe(text).raw();
    return {
      columns: rows.columns,
      rows: rows.map((row) => row.map((value) => value && Buffer.from(value).toString())),
    };
  };
  try {
    await sql.unsafe(`
      set statement_timeout = 2000;
      create table people (id int, name text, ssn text, p int);
      create table kid (x text) inherits (people);
      create table orders (id int primary key, name text, x text, ssn text);
      create table parts (id int, name text, x text, ssn text) partition by range (id);
      create table parts_1 partition of parts for values from (0) to (5);
      create table parts_2 partition of parts default;
      create table made (id int, ssn text, a text generated always as (upper(ssn)) stored,
        b text generated always as (ssn || '!') virtual);
      create table nested (id int, p people, a people[], x text);
      insert into people values (1, 'n', '${sentinel}');
      insert into kid values (1, 'n', '${sentinel}', 2, 'k');
      insert into orders values (1, 'n', 'x', 'open');
      insert into parts values (1, 'n', 'x', '${sentinel}'), (9, 'n', 'x', '${sentinel}');
      insert into made values (1, '${sentinel}');
      insert into nested values (1, row(1, 'n', 'open', 3), '{}', 'x');
      create function leak(people) returns text language sql as 'select ($1).ssn';
      create view v as select id, name, ssn as a from people;
      create view w as select id, upper(ssn) as b from people;
      create materialized view m as select id, ssn as x, name as ssn from people`);
    const catalog = await loadCatalog(async (text) => (await query(text)).rows);
    const labelled = ["public.people.ssn", "public.parts.ssn", "public.made.ssn"];
    const { labels } = bindLabels(catalog, new Map(labelled.map((name) => [name, ["pii"]])), new Map());
    const context: NameContext = { catalog, searchPath: catalog.searchPath, labels };
    const kept = `select concat_ws(' ', (select string_agg(o::text, ' ') from orders o),
      (select string_agg(concat_ws(' ', p.id, p.name, p.x), ' ') from parts p), (select string_agg(p.name, ' ') from people p))`;
    const generator = new Generator(randomFrom(seed));
    let judged = 0;
    for (let index = 0; index < queriesMax; index++) {
      const text = generator.query();
      const { command, statements } = analyse(text, context);
      if (!command.complete) continue;
      const used = command.statements[0]?.columns.filter((column) => column.labels.length > 0) ?? [];
      if (used.some(({ use }) => use !== "output" && use !== "write")) continue;
      if (command.statements[0]?.functions.some((name) => !name.startsWith("pg_catalog."))) continue;
      await query("begin");
      const answer = await query(text).catch(() => undefined);
      const stored = answer && (await query(kept)).rows[0]?.[0];
      await query("rollback");
      if (answer === undefined) continue;
      judged += 1;
      expect({ text, stored: stored?.toUpperCase().includes(sentinel) }).toEqual({ text, stored: false });
      const predicted = statements[0]?.outputColumns;
      answer.columns.forEach(({ table, number }, at) => {
        const expected = predicted?.[at];
        const label = labels.has(`${table}.${number}`) || labels.has(`${expected?.oid}.${expected?.attnum}`);
        if (label)
          expect({ text, at, oid: expected?.oid, attnum: expected?.attnum }).toEqual({
            text,
            at,
            oid: table,
            attnum: number,
          });
        if (label) return;
        const shown = answer.rows.some((row) => row[at]?.toUpperCase().includes(sentinel));
        expect({ text, at, shown }).toEqual({ text, at, shown: false });
      });
    }
    expect(judged).toBeGreaterThan(queriesMax / 50);
  } finally {
    await sql.end();
    await server.stop();
  }
}, 120_000);
