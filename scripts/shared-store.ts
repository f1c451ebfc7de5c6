/**
 * A store that is reached over the network, for tests: libSQL's protocol over HTTP (Hrana 2, JSON) in front of a SQLite
 * file, as much of it as the driver sends. Each stream is a connection of its own, as on a libSQL server.
 */
import { Database } from "bun:sqlite";
import { randomUUID } from "node:crypto";

type Value =
  | { readonly type: "null" }
  | { readonly type: "integer" | "text"; readonly value: string }
  | { readonly type: "float"; readonly value: number }
  | { readonly type: "blob"; readonly base64: string };
interface Statement {
  readonly sql?: string;
  readonly sql_id?: number;
  readonly args?: readonly Value[];
}
type Condition =
  | { readonly type: "ok" | "error"; readonly step: number }
  | { readonly type: "not"; readonly cond: Condition }
  | { readonly type: "and" | "or"; readonly conds: readonly Condition[] };
interface Step {
  readonly condition?: Condition | null;
  readonly stmt: Statement;
}
type Request =
  | { readonly type: "close" }
  | { readonly type: "execute"; readonly stmt: Statement }
  | { readonly type: "batch"; readonly batch: { readonly steps: readonly Step[] } }
  | { readonly type: "store_sql"; readonly sql_id: number; readonly sql: string }
  | { readonly type: "close_sql"; readonly sql_id: number };

function bound(value: Value): null | bigint | number | string | Uint8Array {
  switch (value.type) {
    case "null":
      return null;
    case "integer":
      return BigInt(value.value);
    case "blob":
      return Buffer.from(value.base64, "base64");
    default:
      return value.value;
  }
}

function shown(value: unknown): Value {
  if (value === null) return { type: "null" };
  if (value instanceof Uint8Array) return { type: "blob", base64: Buffer.from(value).toString("base64") };
  if (typeof value === "number" && !Number.isInteger(value)) return { type: "float", value };
  return { type: typeof value === "string" ? "text" : "integer", value: String(value) };
}

class Stream {
  readonly #file: Database;
  readonly #texts = new Map<number, string>();

  constructor(path: string) {
    this.#file = new Database(path, { create: true });
  }

  get isInTransaction(): boolean {
    return this.#file.inTransaction;
  }

  answer(request: Request): unknown {
    switch (request.type) {
      case "store_sql":
        this.#texts.set(request.sql_id, request.sql);
        return { type: "store_sql" };
      case "close_sql":
        this.#texts.delete(request.sql_id);
        return { type: "close_sql" };
      case "execute":
        return { type: "execute", result: this.#execute(request.stmt) };
      case "batch":
        return { type: "batch", result: this.#batch(request.batch.steps) };
      case "close":
        this.close();
        return { type: "close" };
    }
  }

  /** What is open is rolled back. */
  close(): void {
    this.#file.close();
  }

  #execute({ sql, sql_id = -1, args = [] }: Statement) {
    const statement = this.#file.prepare(sql ?? this.#texts.get(sql_id) ?? "");
    try {
      const values = args.map(bound);
      const { columnNames } = statement;
      if (columnNames.length === 0) {
        const { changes, lastInsertRowid } = statement.run(...values);
        return { cols: [], rows: [], affected_row_count: changes, last_insert_rowid: String(lastInsertRowid) };
      }
      const rows = (statement.values(...values) as unknown[][]).map((row) => row.map(shown));
      const cols = columnNames.map((name) => ({ name, decltype: null }));
      return { cols, rows, affected_row_count: 0, last_insert_rowid: null };
    } finally {
      statement.finalize();
    }
  }

  #batch(steps: readonly Step[]) {
    const results: unknown[] = [];
    const errors: unknown[] = [];
    const holds = (condition: Condition): boolean => {
      switch (condition.type) {
        case "ok":
          return results[condition.step] != null;
        case "error":
          return errors[condition.step] != null;
        case "not":
          return !holds(condition.cond);
        case "and":
          return condition.conds.every(holds);
        case "or":
          return condition.conds.some(holds);
      }
    };
    for (const { condition, stmt } of steps) {
      let result: unknown = null;
      let error: unknown = null;
      if (condition == null || holds(condition)) {
        try {
          result = this.#execute(stmt);
        } catch (cause) {
          error = spelled(cause);
        }
      }
      results.push(result);
      errors.push(error);
    }
    return { step_results: results, step_errors: errors };
  }
}

const spelled = (cause: unknown) => ({
  message: (cause as Error).message,
  code: (cause as { code?: string }).code ?? "UNKNOWN",
});

export interface SharedStore {
  readonly url: string;
  stop(): void;
}

/** @param path of the file that it keeps */
export function serveSharedStore(path: string): SharedStore {
  const setup = new Database(path, { create: true });
  setup.run("pragma journal_mode = wal");
  setup.close();
  const streams = new Map<string, Stream>();
  /** Whose transaction goes on over several requests: the others wait, as SQLite's lock would have them. */
  let holder: Stream | undefined;
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      if (new URL(request.url).pathname !== "/v2/pipeline") return new Response("", { status: 404 });
      const { baton, requests } = (await request.json()) as { baton?: string | null; requests: Request[] };
      const stream = baton ? streams.get(baton) : new Stream(path);
      if (stream === undefined) return Response.json({ message: "no such stream" }, { status: 400 });
      if (baton) streams.delete(baton);
      while (holder !== undefined && holder !== stream) await Bun.sleep(1);
      const results = [];
      for (const one of requests) {
        try {
          results.push({ type: "ok", response: stream.answer(one) });
        } catch (cause) {
          results.push({ type: "error", error: spelled(cause) });
        }
      }
      const isClosed = requests.some(({ type }) => type === "close");
      holder = !isClosed && stream.isInTransaction ? stream : undefined;
      if (isClosed) return Response.json({ baton: null, results });
      const next = randomUUID();
      streams.set(next, stream);
      return Response.json({ baton: next, results });
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}`,
    stop() {
      for (const stream of streams.values()) stream.close();
      server.stop(true);
    },
  };
}
