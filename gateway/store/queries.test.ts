import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Database, openDatabase } from "./database.ts";
import { type NewApproval, storeQueries as store } from "./queries.ts";
import { chunks, seals, sessions } from "./schema.ts";

let folder: string;
let db: Database;
let path: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-store-"));
  path = join(folder, "data", "store.db");
  db = await openDatabase({ url: `file:${path}`, durability: "strict" });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const approval = (id: string, extra: Partial<NewApproval> = {}): NewApproval => ({
  id,
  session: "s",
  command: 1,
  issuer: "https://idp",
  subject: "ann",
  email: "ann@example.com",
  target: "db",
  text: "update t set a = 1",
  digest: "sha256:a",
  fingerprint: "f",
  revision: "r",
  from: ["dba"],
  count: 1,
  created: 1_000,
  expires: 5_000,
  ...extra,
});
const by = (subject: string) => ({ issuer: "https://idp", subject, email: `${subject}@example.com` });
const use = { digest: "sha256:a", revision: "r", issuer: "https://idp", subject: "ann", target: "db", at: 2_000 };
const code = (promise: Promise<unknown>) =>
  promise.then(
    () => "none",
    (error: { code: string }) => error.code,
  );

test("the store's file is its owner's alone", () => {
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("what is no store is not opened as one, and keeps its mode", async () => {
  const text = join(folder, "notes.txt");
  writeFileSync(text, "not a database", { mode: 0o644 });
  const inner = join(folder, "inner");
  mkdirSync(inner, { mode: 0o755 });
  for (const [at, mode] of [[text, 0o644] as const, [inner, 0o755] as const]) {
    expect(await code(openDatabase({ url: `file:${at}`, durability: "strict" }))).toBe("store.unavailable");
    expect(statSync(at).mode & 0o777).toBe(mode);
  }
});

test("an approval is used once, and only for what it was given for", async () => {
  await store.createApproval(db, approval("a1"));
  expect(await store.consumeApproval(db, { ...use, id: "a1" })).toBe(false);
  await store.decideApproval(db, { id: "a1", decision: "approve", by: by("bob"), at: 1_500 });
  expect(await store.consumeApproval(db, { ...use, id: "a1", digest: "sha256:b" })).toBe(false);
  expect(await store.consumeApproval(db, { ...use, id: "a1", subject: "eve" })).toBe(false);
  expect(await store.consumeApproval(db, { ...use, id: "a1", revision: "other" })).toBe(false);
  const both = await Promise.all([
    store.consumeApproval(db, { ...use, id: "a1" }),
    store.consumeApproval(db, { ...use, id: "a1" }),
  ]);
  expect(both.filter(Boolean)).toHaveLength(1);
});

test("an approval of two needs two people", async () => {
  await store.createApproval(db, approval("a2", { count: 2 }));
  expect((await store.decideApproval(db, { id: "a2", decision: "approve", by: by("bob"), at: 1_500 })).state).toBe(
    "pending",
  );
  expect(await code(store.decideApproval(db, { id: "a2", decision: "approve", by: by("bob"), at: 1_500 }))).toBe(
    "approval.not_pending",
  );
  expect((await store.decideApproval(db, { id: "a2", decision: "approve", by: by("cat"), at: 1_500 })).state).toBe(
    "approved",
  );
});

test("nobody approves their own, and not after it expired or was denied", async () => {
  await store.createApproval(db, approval("a3"));
  expect(await code(store.decideApproval(db, { id: "a3", decision: "approve", by: by("ann"), at: 1_500 }))).toBe(
    "approval.forbidden",
  );
  expect(await code(store.decideApproval(db, { id: "a3", decision: "approve", by: by("bob"), at: 5_000 }))).toBe(
    "approval.not_pending",
  );
  await store.decideApproval(db, { id: "a3", decision: "deny", by: by("bob"), at: 1_500, reason: "no" });
  expect(await code(store.decideApproval(db, { id: "a3", decision: "approve", by: by("cat"), at: 1_500 }))).toBe(
    "approval.not_pending",
  );
  expect((await store.getApproval(db, "a3"))?.decisions[0]?.reason).toBe("no");
});

test("two subjects with one e-mail are one person, whatever was read before", async () => {
  await store.createApproval(db, approval("a4", { count: 2 }));
  const decide = (subject: string, email: string) =>
    store.decideApproval(db, { id: "a4", decision: "approve", by: { ...by(subject), email }, at: 1_500 });
  expect(await code(decide("ann-2", "ANN@example.com"))).toBe("approval.forbidden");
  await decide("dan", "dan@example.com");
  expect(await code(decide("dan-2", "Dan@example.com"))).toBe("approval.not_pending");
  expect((await store.getApproval(db, "a4"))?.state).toBe("pending");
});

test("a fingerprint is seen once it was recorded, for its identity and target", async () => {
  expect(await store.fingerprintSeen(db, "i", "t", "f")).toBe(false);
  await store.recordFingerprint(db, "i", "t", "f");
  await store.recordFingerprint(db, "i", "t", "f");
  expect(await store.fingerprintSeen(db, "i", "t", "f")).toBe(true);
  expect(await store.fingerprintSeen(db, "i", "u", "f")).toBe(false);
});

test("label bindings are added and removed one by one, however many there are", async () => {
  const bound = (name: string, attnum: number) => ({ name, oid: 5, attnum });
  const of = (database: string) => store.labelBindings(db, "t", database);
  await store.saveLabelBindings(db, "t", "d", { added: [bound("a", 1), bound("b", 2)], removed: [] });
  await store.saveLabelBindings(db, "t", "d", { added: [bound("b", 2), bound("c", 3)], removed: ["a"] });
  await store.saveLabelBindings(db, "t", "e", { added: [bound("b", 2)], removed: ["b", "c"] });
  expect(await of("d")).toEqual([bound("b", 2), bound("c", 3)]);
  const many = Array.from({ length: 10_001 }, (_, index) => bound(`m${index}`, index));
  await store.saveLabelBindings(db, "t", "e", { added: many, removed: [] });
  expect(await of("e")).toHaveLength(10_002);
  await store.saveLabelBindings(db, "t", "e", { added: [], removed: many.map(({ name }) => name) });
  expect(await of("e")).toEqual([bound("b", 2)]);
});

describe("a session that was sealed is missed", () => {
  const none = Buffer.alloc(32);
  /** Sessions a to e, all sealed; then the table of sessions made anew as somebody could who can write the file. */
  async function rewritten(name: string, change: (run: (statement: string) => Promise<unknown>) => Promise<unknown>) {
    const at = await openDatabase({ url: `file:${join(folder, `${name}.db`)}`, durability: "group" });
    const who = { gateway: "g", issuer: "i", subject: "s", email: "e", kind: "human", target: "t", head: none };
    for (const [index, id] of ["a", "b", "c", "d", "e"].entries()) {
      await at.insert(sessions).values({ ...who, id, openedAt: 1_000 + index });
      await at.insert(seals).values({ n: index + 1, session: id, events: 1, head: none, previous: none, hash: none });
    }
    const run = (statement: string) => at.$client.execute(statement);
    const [made] = (await run("select sql from sqlite_master where name = 'sessions'")).rows;
    const loose = String(made?.sql).replace("`sessions`", "loose").replace("PRIMARY KEY", "");
    await run(loose.replaceAll("NOT NULL", ""));
    await run("insert into loose select * from sessions");
    await run("drop table sessions");
    await run("alter table loose rename to sessions");
    await change(run);
    return store.sealedSessionsMissing(at);
  }

  test("when it was taken out, or is in no page of the list", async () => {
    expect(await rewritten("whole", async () => undefined)).toEqual([]);
    expect(await rewritten("out", (run) => run("delete from sessions where id in ('b', 'd')"))).toEqual(["b", "d"]);
    expect(await rewritten("no-time", (run) => run("update sessions set opened_at = null where id = 'c'"))).toEqual([
      "c",
    ]);
    const unlike = (run: (statement: string) => Promise<unknown>) =>
      run("update sessions set opened_at = 'never' where id = 'c'");
    expect(await rewritten("text", unlike)).toEqual(["c"]);
  });

  test.each([
    ["null", "null"],
    ["twice", "'a'"],
  ])("when a row without an id of its own hides it: %s", async (name, id) => {
    const hide = async (run: (statement: string) => Promise<unknown>) => {
      await run("delete from sessions where id = 'b'");
      await run(`insert into sessions (id) values (${id})`);
    };
    expect(await code(rewritten(name, hide))).toBe("recording.failed");
  });
});

test("a page of chunks ends once it is long, however few they are", async () => {
  const session = "long";
  for (const first of [1, 2, 3, 4]) {
    await db.insert(chunks).values({ session, first, last: first, codec: "raw", data: Buffer.alloc(3_000_000) });
  }
  const page = async (from: number) => (await store.chunkPage(db, session, from)).map(({ first }) => first);
  expect([await page(1), await page(3), await page(4), await page(5)]).toEqual([[1, 2], [3, 4], [4], []]);
});

test("approvals are listed as who may see them sees them: theirs, and those for their groups, whatever others have", async () => {
  await store.createApproval(db, approval("own", { subject: "lis", created: 1 }));
  await store.createApproval(db, approval("for", { from: ["ops", 'li\'s "group"'], count: 2, created: 2 }));
  for (let n = 0; n < 20; n++) await store.createApproval(db, approval(`other${n}`, { created: 10_000 + n }));
  await store.decideApproval(db, { id: "for", decision: "approve", by: by("zoe"), at: 1_500 });
  await store.decideApproval(db, { id: "for", decision: "approve", by: by("bob"), at: 1_400 });
  const seen = (groups: string[], limit = 10) =>
    store.listApprovals(db, { seenBy: { issuer: "https://idp", subject: "lis", groups }, limit });
  expect(
    (await seen(['li\'s "group"', "x"])).map(({ id, decisions }) => [id, decisions.map((one) => one.subject)]),
  ).toEqual([
    ["for", ["bob", "zoe"]],
    ["own", []],
  ]);
  expect((await seen([])).map(({ id }) => id)).toEqual(["own"]);
  expect(await seen(["dba"], 5)).toHaveLength(5);
  expect(await store.listApprovals(db, { state: "approved", limit: 100 })).toContainEqual(
    expect.objectContaining({ id: "for" }),
  );
});
