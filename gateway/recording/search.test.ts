/** Search over a real store, that its gateway writes meanwhile. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loweredLimits } from "../../scripts/lowered-limits.ts";
import { sessionOpened } from "../../scripts/session-stand-ins.ts";
import type { GatewayError } from "../errors.ts";
import { openBeside } from "../store/database.ts";
import { storeQueries } from "../store/queries.ts";
import type { SessionOpened } from "./events.ts";
import { parseStatementQuery } from "./search.ts";
import { SearchThread } from "./search-thread.ts";
import { VerifyThread } from "./verify-thread.ts";
import { Recording } from "./writer.ts";

const fits = (query: string, statement: string) => {
  const { mayMatch, matches } = parseStatementQuery(query);
  const line = JSON.stringify({ type: "intent", text: statement }).toLowerCase();
  return mayMatch(line) && matches(statement);
};

describe("a text", () => {
  test("has words that a statement has all of, whole, in any order and case", () => {
    expect(fits("orders SELECT", "select id\nfrom Orders")).toBe(true);
    expect(fits("order", "select id from orders")).toBe(false);
    expect(fits("orders customers", "select id from orders")).toBe(false);
    expect(fits("straße 4711", "select * from t where a = 'STRASSE' or b = 'Straße' and c=4711")).toBe(true);
    expect(fits("id=7", "select 7 from orders where id > 3")).toBe(true);
  });
  test("has phrases as they are written, whatever space is between their words", () => {
    expect(fits('"from orders where"', "select id from\n\torders  where id = 1")).toBe(true);
    expect(fits('"orders from"', "select id from orders")).toBe(false);
    expect(fits("\"id = '7'\"", "select 1 where id = '7'")).toBe(true);
    expect(fits('"a""b"', 'select "a""b"')).toBe(true);
  });
  test("has beginnings of words", () => {
    expect(fits("cust*", "select name from customers")).toBe(true);
    expect(fits("tomers*", "select name from customers")).toBe(false);
    expect(fits("sel* customers", "select name from customers")).toBe(true);
  });
  test("without anything to look for is refused in words that help", () => {
    for (const text of ["", "  ", "***", "= '", '""', '" "']) {
      expect(() => parseStatementQuery(text)).toThrow(
        expect.objectContaining({ code: "api.invalid", hint: expect.stringContaining("phrase") }),
      );
    }
  });
});

const folder = mkdtempSync(join(tmpdir(), "sallyport-search-"));
const url = `file:${join(folder, "store.db")}`;
const search = new SearchThread({ url });
let recording: Recording;

/** Its purpose is no statement. */
const opened = (session: string, subject: string, at: number): SessionOpened => ({
  ...sessionOpened(session, subject, at),
  context: { reason: "customers", prompt: "", ticket: "", trace: "" },
});
const intent = (command: number, text: string, params: string[] = []) => ({
  ...({ type: "intent", at: 1, judgedAt: 1, command, via: "query", text, params, digest: "sha256:d" } as const),
  ...({ analysis: null, novel: false, verdict: "allow", masks: [], diagnostics: "full" } as const),
  ...{ rules: [], revision: "sha256:r", forwarded: true },
});

beforeAll(async () => {
  recording = await Recording.open({ url, durability: "strict", gateway: "g" });
  const statements: [string, string, [string, string[]][]][] = [
    ["s1", "ann", [["select name from customers", []]]],
    [
      "s2",
      "bob",
      [
        ["select 1", []],
        ["update orders set note = $1", ["Refund for ACME"]],
      ],
    ],
    ["s3", "bob", Array.from({ length: 2_000 }, (_, n) => [`select ${n} from orders where id = ${n}`, []])],
    // Words of several statements are no statement's.
    [
      "s4",
      "ann",
      [
        ["select note", []],
        ["table customers", []],
      ],
    ],
  ];
  for (const [at, [id, subject, all]] of statements.entries()) {
    const session = recording.session(opened(id, subject, at));
    for (const [index, [text, params]] of all.entries()) session.append(intent(index + 1, text, params));
    await session.committed();
    // The last one goes on.
    if (id !== "s4") await session.close({ type: "session.closed", at: 9, reason: "client" });
  }
});
afterAll(async () => {
  await recording?.close();
  rmSync(folder, { recursive: true, force: true });
});

async function found(text: string, filter: Parameters<SearchThread["search"]>[0] = { limit: 10 }) {
  const { sessions, next } = await search.search(filter, text);
  return [...sessions.map(({ id }) => id), next];
}

test("finds the sessions whose statements or parameters have it, the latest first, also one that goes on", async () => {
  expect(await found("select")).toEqual(["s4", "s3", "s2", "s1", null]);
  expect(await found("customers")).toEqual(["s4", "s1", null]);
  expect(await found("note customers")).toEqual([null]);
  expect(await found('"from orders where id = 1999"')).toEqual(["s3", null]);
  expect(await found("acme refund")).toEqual(["s2", null]);
  // No phrase reaches from a text into a parameter.
  expect(await found('"$1 refund"')).toEqual([null]);
  expect(await found("nowhere")).toEqual([null]);
});

test("keeps to the filter and the page", async () => {
  expect(await found("select", { limit: 10, subject: "bob" })).toEqual(["s3", "s2", null]);
  expect(await found("select", { limit: 2 })).toEqual(["s4", "s3", "s3"]);
  expect(await found("select", { limit: 2, before: "s3" })).toEqual(["s2", "s1", "s1"]);
  expect(await found("select", { limit: 2, before: "s1" })).toEqual([null]);
});

test("a search whose time is over says where the next goes on", async () => {
  using _ = loweredLimits({ searchMsMax: 0 });
  expect(await found("customers")).toEqual(["s4", "s4"]);
  expect(await found("customers", { limit: 10, before: "s4" })).toEqual(["s3"]);
  expect(await found("customers", { limit: 10, before: "s2" })).toEqual(["s1", "s1"]);
});

test("a text without a word and a store that is not there are errors, and the next search works", async () => {
  await expect(found("*")).rejects.toMatchObject({ code: "api.invalid" });
  const elsewhere = new SearchThread({ url: `file:${join(folder, "none.db")}` });
  await expect(elsewhere.search({ limit: 1 }, "select")).rejects.toMatchObject({ code: "store.unavailable" });
  expect(await found("customers")).toEqual(["s4", "s1", null]);
  expect(readdirSync(folder).some((name) => name.startsWith("none"))).toBe(false);
});

test("one search too many is refused, and one that ended makes room", async () => {
  using _ = loweredLimits({ searchesMax: 2 });
  const two = [found("customers"), found("orders")];
  await expect(found("select")).rejects.toMatchObject({ code: "api.busy" });
  await Promise.all(two);
  expect(await found("customers")).toEqual(["s4", "s1", null]);
});

test("one recording too many to verify is refused, and one that was verified makes room", async () => {
  using _ = loweredLimits({ verificationsMax: 2 });
  const verification = new VerifyThread({ url });
  const verify = (id: string) => verification.verify(id, recording.publicKey);
  const two = [verify("s1"), verify("s3")];
  await expect(verify("s2")).rejects.toMatchObject({ code: "api.busy" });
  expect(await Promise.all(two)).toMatchObject([{ ok: true }, { ok: true, events: 2_002 }]);
  expect(await verify("none")).toMatchObject({ ok: false });
});

test("one thread with one connection does all searches", async () => {
  const other = new SearchThread({ url });
  await other.search({ limit: 1 }, "customers");
  const open = () => readdirSync("/proc/self/task").length + readdirSync("/proc/self/fd").length;
  const before = open();
  for (let count = 0; count < 20; count++) await other.search({ limit: 1 }, "customers");
  expect(open()).toBeLessThan(before + 10);
});

test("who has read a store beside its writer leaves the process its locks, so that nobody takes the log away", async () => {
  const path = join(folder, "locked.db");
  const own = await Recording.open({ url: `file:${path}`, durability: "group", gateway: "g" });
  const session = own.session(opened("s", "ann", 1));
  await own.calls.getSession("s");
  const beside = await openBeside({ url: `file:${path}` });
  expect(await storeQueries.listSessions(beside, { limit: 5 })).toHaveLength(1);
  beside.$client.close();
  // As `sqlite3 store.db 'select …'` does.
  const program = `
    const { Database } = require("bun:sqlite");
    const database = new Database(${JSON.stringify(path)});
    database.query("select count(*) from sessions").all();
    database.close();`;
  expect(await Bun.spawn([process.execPath, "-e", program], { stderr: "inherit" }).exited).toBe(0);
  expect(existsSync(`${path}-wal`)).toBe(true);
  await session.close({ type: "session.closed", at: 2, reason: "client" });
  await own.close();
});

test("a recording whose log was taken away says so, and takes no more", async () => {
  const path = join(folder, "taken.db");
  const own = await Recording.open({ url: `file:${path}`, durability: "group", gateway: "g" });
  const failed = Promise.withResolvers<GatewayError>();
  own.onFailure(failed.resolve);
  const session = own.session(opened("s", "ann", 1));
  rmSync(`${path}-wal`);
  await own.calls.getSession("s").catch(() => undefined);
  expect(await failed.promise).toMatchObject({
    code: "recording.failed",
    cause: expect.stringContaining("taken away"),
  });
  expect(() => session.append(intent(1, "select 1"))).toThrow(expect.objectContaining({ code: "recording.failed" }));
  await own.close();
});
