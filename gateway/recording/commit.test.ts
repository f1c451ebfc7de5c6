import { afterAll, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asc } from "drizzle-orm";
import { type Database, openDatabase } from "../store/database.ts";
import { chunks, sessions } from "../store/schema.ts";
import type { Written } from "./chunk.ts";
import { type CommitWriter, fileCommit, requestCommit } from "./commit.ts";

const folder = mkdtempSync(join(tmpdir(), "sallyport-commit-"));
afterAll(() => rmSync(folder, { recursive: true }));

const head = () => randomBytes(32);
const row = (id: string): Written["row"] => ({
  id,
  gateway: "g",
  issuer: "https://i",
  subject: "s",
  email: "e",
  kind: "agent",
  target: "t",
  openedAt: 1,
  head: head(),
});
const written = (session: string, first: number, last: number, isNew: boolean): Written => ({
  chunk: { session, first, last, codec: "raw", data: randomBytes(10) },
  row: isNew ? row(session) : undefined,
  events: last,
  head: head(),
  commands: last,
  verdicts: ",allow,",
});

/** New sessions beside known ones; known ones alone; none that says anything new of another. */
const commits = [
  [written("a", 1, 2, true), written("b", 1, 1, true)],
  [written("a", 3, 3, false), written("c", 1, 4, true), written("b", 2, 9, false)],
  [written("c", 5, 5, false)],
];

const databaseAt = (name: string) => openDatabase({ url: `file:${join(folder, name)}`, durability: "strict" });

const rowsOf = async (db: Database) => ({
  sessions: await db.select().from(sessions).orderBy(asc(sessions.id)),
  chunks: await db.select().from(chunks).orderBy(asc(chunks.session), asc(chunks.first)),
});

test("a file's prepared statements and a shared store's one request write the same rows", async () => {
  const file = await databaseAt("file.db");
  const shared = await databaseAt("shared.db");
  const ways: CommitWriter[] = [await fileCommit(file, join(folder, "file.db")), requestCommit(shared)];
  for (const way of ways) for (const commit of commits) await way.write(commit);
  const rows = await rowsOf(file);
  expect(rows.sessions).toMatchObject([
    { id: "a", events: 3, commands: 3, verdicts: ",allow,", head: commits[1]?.[0]?.head },
    { id: "b", events: 9, commands: 9, head: commits[1]?.[2]?.head },
    { id: "c", events: 5, commands: 5, head: commits[2]?.[0]?.head },
  ]);
  expect(rows.chunks).toHaveLength(6);
  expect(await rowsOf(shared)).toEqual(rows);
});

test("of a commit that fails in its middle nothing is written, and the file is left unlocked", async () => {
  const db = await databaseAt("half.db");
  const { write } = await fileCommit(db, join(folder, "half.db"));
  await write([written("a", 1, 1, true)]);
  expect(() => write([written("b", 1, 1, true), written("a", 1, 2, false)])).toThrow("UNIQUE");
  await write([written("a", 2, 2, false)]);
  expect(await rowsOf(db)).toMatchObject({ sessions: [{ id: "a", events: 2 }], chunks: [{ first: 1 }, { first: 2 }] });
});

test("a log that was cut, behind which SQLite goes on as if it were whole, is told at the next sync", async () => {
  const path = join(folder, "cut.db");
  const { write, sync } = await fileCommit(await databaseAt("cut.db"), path);
  // Its own pages stay in memory: nothing is read again that would show it.
  write([written("a", 1, 1, true)]);
  await sync();
  truncateSync(`${path}-wal`, 0);
  write([written("a", 2, 2, false)]);
  await expect(sync()).rejects.toThrow("cut.db-wal was cut");
});
