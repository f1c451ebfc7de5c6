/**
 * Random queries against a real server: whatever the analysis calls complete, no value of a labelled column reaches a
 * result but in a column that was predicted to be it, or the use was reported as more than output.
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
    return this.#pick(["id", "name", "ssn", "a", "b", "x", "people", "orders"]);
  }
  #column(): string {
    return this.#pick<() => string>([
      () => this.#name(),
      () => `${this.#alias()}.${this.#name()}`,
      () => `(${this.#alias()}).${this.#name()}`,
      () => `${this.#name()}(${this.#alias()})`,
      () => this.#alias(),
      () => `${this.#alias()}.lower`,
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
    ])();
  }
  #target(depth: number): string {
    return this.#pick<() => string>([
      () => "*",
      () => `${this.#alias()}.*`,
      () => this.#column(),
      () => this.#column(),
      () => `${this.#value(depth)} as ${this.#name()}`,
      () => this.#value(depth),
    ])();
  }
  #item(depth: number): string {
    const alias = this.#alias();
    if (depth <= 0)
      return this.#pick([`people ${alias}`, "people", `orders ${alias}`, `v ${alias}`, `w ${alias}`, "c"]);
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
    ]);
  }
  #plain(depth: number): string {
    const targets = Array.from({ length: 1 + Math.floor(this.#random() * 2) }, () => this.#target(depth)).join(", ");
    const distinct = this.#random() < 0.1 ? "distinct " : "";
    return `select ${distinct}${targets} from ${this.#from(depth)}`;
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
    if (this.#random() < 0.1) return `${recursive}(${this.#plain(depth)}) union all (${this.#plain(depth)})`;
    return `${recursive}${this.#plain(depth)}`;
  }
  query(): string {
    return `${this.#query(Math.floor(this.#random() * 3))} limit 20`;
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
      create table people (id int, name text, ssn text);
      create table orders (id int, x text, ssn text);
      insert into people values (1, 'n', '${sentinel}');
      insert into orders values (1, 'x', 'open');
      create view v as select id, name, ssn as a from people;
      create view w as select id, upper(ssn) as b from people`);
    const catalog = await loadCatalog(async (text) => (await query(text)).rows);
    const { labels } = bindLabels(catalog, new Map([["public.people.ssn", ["pii"]]]), new Map());
    const context: NameContext = { catalog, searchPath: catalog.searchPath, labels };
    const generator = new Generator(randomFrom(seed));
    let judged = 0;
    for (let index = 0; index < queriesMax; index++) {
      const text = generator.query();
      const answer = await query(text).catch(() => undefined);
      if (answer === undefined) continue;
      const { command, statements } = analyse(text, context);
      if (!command.complete) continue;
      const used = command.statements[0]?.columns.filter((column) => column.labels.length > 0) ?? [];
      if (used.some(({ use }) => use !== "output")) continue;
      judged += 1;
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
